package postgres_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/internal/testtarget"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// slowLine is a line whose first write takes until somebody has read all of
// the answer to it, and reads on: pgconn does, in the background, when it
// finds a write slow.
type slowLine struct {
	net.Conn
	ctx     context.Context
	mu      sync.Mutex
	read    []byte
	readsOn chan struct{}
	first   sync.Once
}

var readyForQuery = []byte{'Z', 0, 0, 0, 5, 'I'}

func (l *slowLine) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	l.first.Do(func() {
		select {
		case <-l.readsOn:
		case <-l.ctx.Done():
		}
	})
	return n, err
}

func (l *slowLine) Read(b []byte) (int, error) {
	l.mu.Lock()
	if l.read != nil && bytes.HasSuffix(l.read, readyForQuery) {
		close(l.readsOn)
		l.read = nil
	}
	l.mu.Unlock()
	n, err := l.Conn.Read(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.readsOn:
	default:
		l.read = append(l.read, b[:n]...)
	}
	return n, err
}

type slowDialer struct{ gate.Dialer }

func (d slowDialer) Dial(ctx context.Context, c *custos.Connection) (net.Conn, error) {
	conn, err := d.Dialer.Dial(ctx, c)
	return &slowLine{Conn: conn, ctx: ctx, readsOn: make(chan struct{})}, err
}

// A busy machine makes a write of the login slow. The answer to the first
// operation still reaches the caller.
func TestSlowLogin(t *testing.T) {
	trusting := testtarget.StartPostgres(t, testtarget.Options{Auth: "trust"})
	w := gatetest.New(t, custos.Connection{Name: "orders", Protocol: postgres.Name, Address: trusting.Address, Database: trusting.Database,
		TLS: custos.TargetTLS{Mode: "disable"}}, custos.Credential{Username: trusting.User})
	w.Gate.Dialer = slowDialer{w.Gate.Dialer}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var one int
	if err := serveWorld(t, w).connect(t).QueryRow(ctx, "SELECT 1").Scan(&one); err != nil || one != 1 {
		t.Errorf("SELECT 1 is %d, %v", one, err)
	}
}
