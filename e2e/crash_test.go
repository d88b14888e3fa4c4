package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
)

// load runs statements, each with a marker of its own, until ctx ends, and
// keeps those that were answered.
type load struct {
	next     atomic.Int64
	mu       sync.Mutex
	answered map[string]bool
}

func (l *load) run(ctx context.Context, dsn string) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return // the gateway is down
		}
		for ctx.Err() == nil && l.one(ctx, conn) == nil {
		}
		conn.Close(context.Background())
	}
}

// one runs one marked statement in one of the ways that clients have.
func (l *load) one(ctx context.Context, conn *pgx.Conn) error {
	n := l.next.Add(1)
	marker := fmt.Sprintf("marker-%d-", n)
	var err error
	switch n % 5 {
	case 0:
		_, err = conn.Exec(ctx, "INSERT INTO heard VALUES ('"+marker+"')", pgx.QueryExecModeSimpleProtocol)
	case 1:
		_, err = conn.Exec(ctx, "INSERT INTO heard VALUES ($1)", pgx.QueryExecModeExec, marker)
	case 2:
		_, err = conn.Exec(ctx, "SELECT '"+marker+"', repeat('x', 100000)", pgx.QueryExecModeCacheStatement)
	case 3:
		_, err = conn.Exec(ctx, "INSERT INTO heard VALUES ($1)", pgx.QueryExecModeCacheStatement, marker)
	case 4:
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader(marker+"\n"), "COPY heard FROM STDIN /* "+marker+" */")
	}
	if err == nil {
		l.mu.Lock()
		l.answered[marker] = true
		l.mu.Unlock()
	}
	return err
}

var markers = regexp.MustCompile(`marker-\d+-`)

// record is what the ledger has of each marker: the entries that submitted it,
// and their outcomes.
type record struct {
	submitted map[string][]uint64
	settled   map[uint64]custos.State
	open      map[custos.SessionID]bool
}

// readRecord reads a stopped gateway's ledger, as its next start would.
func (s *site) readRecord() *record {
	s.t.Helper()
	signer, _, err := ledger.LoadOrCreateKey(filepath.Join(s.data(), "keys", "ledger.key"), "custos")
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := ledger.Open(ledger.Options{Dir: filepath.Join(s.data(), "ledger"), Signer: signer, Now: time.Now})
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	recordings, err := recording.Open(filepath.Join(s.data(), "recordings"), filepath.Join(s.data(), "keys", "recording.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	r := &record{submitted: map[string][]uint64{}, settled: map[uint64]custos.State{}, open: map[custos.SessionID]bool{}}
	keys := map[custos.SessionID]*recording.Key{}
	err = log.Scan(0, log.Size(), func(i uint64, leaf, attachment []byte) error {
		e, err := custos.ParseEntry(leaf)
		if err != nil {
			return err
		}
		switch {
		case e.Kind == custos.EntryOpened:
			r.open[e.Session] = true
		case e.Kind == custos.EntryClosed:
			delete(r.open, e.Session)
		case e.Settled != nil:
			r.settled[e.Settled.Operation] = e.Settled.State
		case e.Submit != nil:
			key := keys[e.Session]
			if key == nil {
				if key, err = recordings.Key(e.Session); err != nil {
					return err
				}
				keys[e.Session] = key
			}
			op, err := key.Operation(e, attachment)
			if err != nil {
				return err
			}
			text := op.Text
			for _, p := range op.Params {
				text += " " + string(p.Value)
			}
			for _, m := range markers.FindAllString(text, -1) {
				r.submitted[m] = append(r.submitted[m], i)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// check holds the record against what the target heard and what the clients
// were answered.
func (s *site) check(r *record, l *load) {
	s.t.Helper()
	heard := markers.FindAllString(s.target.Log(), -1)
	if len(heard) == 0 {
		s.t.Fatal("the target heard nothing")
	}
	for _, m := range heard {
		if len(r.submitted[m]) == 0 {
			s.t.Errorf("the target heard %s, and there is no record of it", m)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for m := range l.answered {
		done := false
		for _, i := range r.submitted[m] {
			done = done || r.settled[i] == custos.StateOK
		}
		if !done {
			s.t.Errorf("%s was answered, and its outcome is not on record", m)
		}
	}
}

func rounds(t *testing.T, few int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("CUSTOS_CRASHES")); err == nil && n > 0 {
		return n
	}
	return few
}

const clients = 6

// TestCrashUnderLoad kills the gateway at random moments while clients work.
// Whatever the target heard has its record; whatever was answered has its
// outcome; and the next start closes what was open.
func TestCrashUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills the gateway a dozen times under load")
	}
	s := newSite(t, "log_statement = 'all'")
	s.direct("orders", "CREATE TABLE heard (marker text)")
	l := &load{answered: map[string]bool{}}
	dsn := s.dsn("ana")
	n := rounds(t, 12)
	for round := range n {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range clients {
			group.Go(func() { l.run(ctx, dsn) })
		}
		before := l.next.Load()
		for l.next.Load() < before+50 && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // the load, not the clock, says when
		}
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		s.stop(syscall.SIGKILL)
		cancel()
		group.Wait()
		if round == 0 || round == n-1 || t.Failed() {
			s.check(s.readRecord(), l)
		}
		if t.Failed() {
			return
		}
		s.start()
	}
	s.stop(syscall.SIGTERM)
	r := s.readRecord()
	s.check(r, l)
	if len(r.open) > 0 {
		t.Errorf("%d sessions have no end on record", len(r.open))
	}
	for m, entries := range r.submitted {
		for _, i := range entries {
			if r.settled[i] == "" {
				t.Errorf("%s, entry %d, has no outcome, not even that it was interrupted", m, i)
			}
		}
	}
	s.verify()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d statements, %d answered, %d crashes", l.next.Load(), len(l.answered), n)
	if len(l.answered) == 0 {
		t.Error("no statement was answered")
	}
	s.start()
}

// TestTargetDies kills the target under the clients: every session ends, and
// what was under way is on record as interrupted.
func TestTargetDies(t *testing.T) {
	s := newSite(t, "log_statement = 'all'")
	s.direct("orders", "CREATE TABLE heard (marker text)")
	conn, err := pgx.Connect(t.Context(), s.dsn("ana"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 'marker-1-', pg_sleep(600)")
		failed <- err
	}()
	for !strings.Contains(s.target.Log(), "marker-1-") {
		time.Sleep(5 * time.Millisecond)
	}
	if err := s.target.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("the statement succeeded on a dead target")
	}
	s.stop(syscall.SIGTERM)
	r := s.readRecord()
	if i := r.submitted["marker-1-"]; len(i) != 1 || r.settled[i[0]] != custos.StateError && r.settled[i[0]] != custos.StateInterrupted {
		t.Errorf("the record: %v, %v", i, r.settled)
	}
	if len(r.open) > 0 {
		t.Errorf("%d sessions have no end on record", len(r.open))
	}
	s.verify()
}

// TestClientDies cuts the client's line in the middle of a statement.
func TestClientDies(t *testing.T) {
	s := newSite(t, "log_statement = 'all'")
	conn, err := pgx.Connect(t.Context(), s.dsn("ana"))
	if err != nil {
		t.Fatal(err)
	}
	go conn.Exec(context.Background(), "SELECT 'marker-1-', pg_sleep(600)")
	for !strings.Contains(s.target.Log(), "marker-1-") {
		time.Sleep(5 * time.Millisecond)
	}
	conn.PgConn().Conn().Close()
	// The target is told to stop what nobody waits for.
	for !strings.Contains(s.target.Log(), "canceling statement") && !strings.Contains(s.target.Log(), "terminating connection") {
		time.Sleep(5 * time.Millisecond)
	}
	s.stop(syscall.SIGTERM)
	r := s.readRecord()
	if i := r.submitted["marker-1-"]; len(i) != 1 || r.settled[i[0]] == "" || r.settled[i[0]] == custos.StateOK {
		t.Errorf("the record: %v, %v", i, r.settled)
	}
	s.verify()
}
