package postgres_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/custos-gateway/custos/gate/gatetest"
)

// line is a client that speaks in single messages.
type line struct {
	t    testing.TB
	conn net.Conn
	last []byte // the body of the last message
}

// patience bounds how long a test waits for what must come.
const patience = 30 * time.Second

func (g *gateway) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// raw is a line that has logged in.
func (g *gateway) raw(t testing.TB) *line {
	t.Helper()
	f := &line{t: t, conn: g.dial(t)}
	f.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "any", "database": "orders"}},
		&pgproto3.PasswordMessage{Password: gatetest.Token})
	f.until('Z')
	return f
}

func (f *line) send(messages ...pgproto3.FrontendMessage) {
	f.t.Helper()
	var b []byte
	var err error
	for _, m := range messages {
		if b, err = m.Encode(b); err != nil {
			f.t.Fatal(err)
		}
	}
	if _, err := f.conn.Write(b); err != nil {
		f.t.Fatal(err)
	}
}

// until reads up to a message of a type, and returns the types that came.
func (f *line) until(last byte) string {
	f.t.Helper()
	var types []byte
	for {
		var head [5]byte
		if _, err := io.ReadFull(f.conn, head[:]); err != nil {
			f.t.Fatalf("after %q: %v", types, err)
		}
		f.last = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(f.conn, f.last); err != nil {
			f.t.Fatalf("after %q: %v", types, err)
		}
		types = append(types, head[0])
		if head[0] == last {
			return string(types)
		}
		if head[0] == 'E' && last != 'Z' {
			f.t.Fatalf("after %q: %q", types, f.last)
		}
	}
}

// body reads the rest of a message, behind its type.
func (f *line) body() []byte {
	f.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(f.conn, size[:]); err != nil {
		f.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:])-4)
	if _, err := io.ReadFull(f.conn, body); err != nil {
		f.t.Fatal(err)
	}
	return body
}

// rest is what comes until the line is closed.
func (f *line) rest() []byte {
	b, _ := io.ReadAll(f.conn)
	return b
}

func (f *line) close() {
	f.send(&pgproto3.Terminate{})
	f.conn.Close()
}

// say sends bytes on a fresh line and returns the answer up to its end.
func (g *gateway) say(t testing.TB, wire []byte) []byte {
	t.Helper()
	conn := g.dial(t)
	conn.Write(wire)
	conn.(*net.TCPConn).CloseWrite()
	b, _ := io.ReadAll(conn)
	return b
}
