package postgres_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/protocol/postgres"

	custos "github.com/custos-gateway/custos"
)

// FuzzSession says anything to a session on a real target: it ends or is
// answered, and every operation that was permitted has its outcome.
func FuzzSession(f *testing.F) {
	for _, m := range [][]pgproto3.FrontendMessage{
		{&pgproto3.Query{String: "select 1"}},
		{&pgproto3.Parse{Query: "select $1::int"}, &pgproto3.Bind{Parameters: [][]byte{[]byte("1")}}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Sync{}},
		{&pgproto3.Parse{Name: "a", Query: "x"}, &pgproto3.Bind{PreparedStatement: "a"}, &pgproto3.Sync{}, &pgproto3.Bind{PreparedStatement: "a"}, &pgproto3.Sync{}},
		{&pgproto3.Query{String: "copy pg_temp.t from stdin"}, &pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{}},
		{&pgproto3.Execute{Portal: "p"}, &pgproto3.Query{String: "begin; select 1/0"}, &pgproto3.Sync{}, &pgproto3.Flush{}},
		{&pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Sync{}},
	} {
		f.Add(must(encode(m...)))
	}
	for _, wire := range attacks {
		f.Add([]byte(wire))
	}
	w := gatetest.New(f, custos.Connection{Name: "orders", Protocol: postgres.Name, Address: target.Address, Database: target.Database, TLS: custos.TargetTLS{Mode: "disable"}},
		custos.Credential{Username: target.User, Password: target.Password})
	w.Tap.Discard()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- postgres.New(postgres.Options{Gate: w.Gate, Dialer: w, Parse: parse, Logger: slog.New(slog.DiscardHandler)}).Serve(ctx, l)
	}()
	f.Cleanup(func() {
		stop()
		<-ended
	})
	sessions := 0
	f.Fuzz(func(t *testing.T, wire []byte) {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		line := &line{t: t, conn: conn}
		line.send(startup("options", "-c statement_timeout=500 -c default_transaction_read_only=on"), &pgproto3.PasswordMessage{Password: gatetest.Token})
		line.until('Z')
		conn.Write(wire)
		conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the session neither answers nor ends: %q", wire)
		}
		sessions++
		w.Ledger.AwaitClosed(sessions)
		open := map[uint64]bool{}
		for _, e := range w.Ledger.Entries() {
			if e.Submit != nil && e.Submit.Effect == "allow" {
				open[e.Index] = true
			}
			if e.Settled != nil {
				delete(open, e.Settled.Operation)
			}
		}
		if len(open) > 0 {
			t.Errorf("%d operations have no outcome: %q", len(open), wire)
		}
	})
}
