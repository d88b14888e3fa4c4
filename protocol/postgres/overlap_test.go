package postgres_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// judging returns a world whose gateway reads the target's catalogue, and a
// client of it.
func judging(t *testing.T) (*gatetest.World, gatetest.Client) {
	w := gatetest.New(t, custos.Connection{Name: "orders", Protocol: postgres.Name, Address: target.Address, Database: target.Database, TLS: custos.TargetTLS{Mode: "disable"}},
		custos.Credential{Username: target.User, Password: target.Password})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	server := postgres.New(postgres.Options{Gate: w.Gate, Dialer: w, Parse: parse, Logger: w.Logger(), Catalogs: func() bool { return true }})
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		w.Ledger.Release()
		stop()
		<-ended
	})
	c, err := dialClient(t, l.Addr().String(), gatetest.Token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Do("select 'the catalogue is read'"); err != nil {
		t.Fatal(err)
	}
	return w, c
}

// A read goes out while its record is being made durable, and what comes back
// waits for that; so with every form of asking. What may change something goes
// out after it.
func TestReadOverlapsItsRecord(t *testing.T) {
	w, c := judging(t)
	conn := c.(client).conn
	if err := c.Do("create table overlapped (id int primary key, word text); create view overlapped_view as select * from overlapped"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Do("drop table overlapped cascade") })
	prepared, err := conn.Prepare(t.Context(), "known", "select word, 'known_word' from overlapped where id = $1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []struct {
		word     string
		overlaps bool
		do       func(word string) error
	}{
		{"simple_word", true, func(word string) error { return c.Do("select word, '" + word + "' from overlapped where id = 1") }},
		{"extended_word", true, func(word string) error {
			return conn.ExecParams(t.Context(), "select '"+word+"' from overlapped where id = $1", [][]byte{[]byte("1")}, nil, nil, nil).Read().Err
		}},
		{"bound", true, func(string) error {
			return conn.ExecPrepared(t.Context(), prepared.Name, [][]byte{[]byte("7")}, nil, nil).Read().Err
		}},
		{"insert into overlapped", false, func(word string) error { return c.Do(word + " values (2, 'x')") }},
		{"overlapped_view", false, func(word string) error { return c.Do("select * from " + word) }},
		{"pg_sleep", false, func(word string) error { return c.Do("select " + word + "(0)") }},
		{"twofold", false, func(word string) error { return c.Do("select '" + word + "'; delete from overlapped where id = 2") }},
	} {
		t.Run(run.word, func(t *testing.T) {
			var sent []byte
			// Until the gateway has read the catalogue anew, after a change of it,
			// nothing is known to be a read.
			for tries := 0; tries == 0 || run.overlaps && len(sent) == 0 && tries < 5; tries++ {
				w.Tap.Sent()
				w.Ledger.Hold()
				done := make(chan error, 1)
				go func() { done <- run.do(run.word) }()
				w.Ledger.AwaitWaiting()
				sent = w.Tap.Sent()
				for deadline := time.Now().Add(2 * time.Second); run.overlaps && len(sent) == 0 && time.Now().Before(deadline); {
					sent = append(sent, w.Tap.Sent()...)
				}
				select {
				case err := <-done:
					t.Errorf("it was answered before its record was durable: %v", err)
				case <-time.After(50 * time.Millisecond): // an answer that slips through is there by then
				}
				w.Ledger.Release()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if (len(sent) > 0) != run.overlaps {
				t.Errorf("before the record is durable the target got %q", sent)
			}
		})
	}
}

// Where the record of a read cannot be made durable, its answer stays here, and
// the client is told.
func TestAnswerOfAReadNeedsItsRecord(t *testing.T) {
	// A read overlaps its record only while the gateway knows the catalogue, which
	// a busy machine may have it read again in between.
	for range 5 {
		w, c := judging(t)
		w.Ledger.Break(false, true)
		err := c.Do("select 'unrecorded_answer'")
		if err == nil || !strings.Contains(err.Error(), "ledger-unavailable") {
			t.Errorf("the client was told: %v", err)
		}
		if bytes.Contains(w.Tap.Sent(), []byte("unrecorded_answer")) {
			return
		}
	}
	t.Error("the read did not overlap its record: the test proves nothing")
}
