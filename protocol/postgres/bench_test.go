package postgres_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// idleTarget lets anybody in and says nothing more, at the least expense.
func idleTarget(t testing.TB) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 512)
			conn.Read(b)
			conn.Write([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02Z\x00\x00\x00\x05I"))
			t.Cleanup(func() { conn.Close() }) // it is held, and not read
		}
	}()
	return l.Addr().String()
}

// An idle session is cheap: all that the process holds for it, its stacks too.
func TestIdleSessions(t *testing.T) {
	const sessions, most = 500, 64 << 10
	w := gatetest.New(t, custos.Connection{Name: "orders", Protocol: postgres.Name, Address: idleTarget(t), TLS: custos.TargetTLS{Mode: "disable"}},
		custos.Credential{Username: "app", Password: "unused"})
	g := serveWorld(t, w)
	login := must(encode(startup(), &pgproto3.PasswordMessage{Password: gatetest.Token}))
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	for range sessions {
		conn := g.dial(t)
		conn.Write(login)
		// Up to the ReadyForQuery: 9, 5 of no parameters, 13 and 6 bytes.
		if _, err := io.ReadFull(conn, make([]byte, 9+13+6)); err != nil {
			t.Fatal(err)
		}
	}
	each := int(used()-before) / sessions
	t.Logf("%d bytes for each of %d idle sessions", each, sessions)
	if each > most {
		t.Errorf("an idle session takes %d bytes, want at most %d", each, most)
	}
}

// BenchmarkQuery is one client's round trip, direct and through the gateway,
// the real ledger's fsync included.
func BenchmarkQuery(b *testing.B) {
	g := start(b)
	g.Tap.Discard()
	for name, dsn := range map[string]string{"direct": target.DSN(), "custos": g.dsn()} {
		for _, mode := range []string{"simple_protocol", "cache_statement"} {
			b.Run(fmt.Sprintf("%s/%s", mode, name), func(b *testing.B) {
				conn := connectTo(b, dsn+" default_query_exec_mode="+mode)
				b.ReportAllocs()
				for b.Loop() {
					var n int
					if err := conn.QueryRow(b.Context(), "select $1::int", 1).Scan(&n); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRows is an answer of a million rows.
func BenchmarkRows(b *testing.B) {
	g := start(b)
	g.Tap.Discard()
	for name, dsn := range map[string]string{"direct": target.DSN(), "custos": g.dsn()} {
		b.Run(name, func(b *testing.B) {
			conn := connectTo(b, dsn).PgConn()
			b.ReportAllocs()
			for b.Loop() {
				r := conn.ExecParams(b.Context(), "select i, 'some text of a row' from generate_series(1, 1000000) i", nil, nil, nil, nil)
				for r.NextRow() {
				}
				if _, err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCopyIn is 100 MB of input, each piece durable before it goes on.
func BenchmarkCopyIn(b *testing.B) {
	g := start(b)
	g.Tap.Discard()
	for name, dsn := range map[string]string{"direct": target.DSN(), "custos": g.dsn()} {
		b.Run(name, func(b *testing.B) {
			conn := connectTo(b, dsn)
			mustExec(b, conn, "create temp table t(a text)")
			b.SetBytes(100 << 20)
			for b.Loop() {
				if _, err := conn.PgConn().CopyFrom(b.Context(), io.LimitReader(lines{}, 100<<20), "copy t from stdin"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// lines are lines of 128 bytes without end.
type lines struct{}

func (lines) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
		if i%128 == 127 {
			p[i] = '\n'
		}
	}
	return len(p) &^ 127, nil
}
