package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB) *Index {
	t.Helper()
	x, err := Open(filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// story writes entries as a ledger would number them.
type story struct{ items []Item }

func (s *story) add(e custos.Entry, op *custos.Operation) uint64 {
	i := uint64(len(s.items))
	e.At = t0.Add(time.Duration(i) * time.Minute)
	s.items = append(s.items, Item{Index: i, Entry: &e, Operation: op})
	return i
}

func (s *story) opened(caller custos.Principal, connection string) custos.SessionID {
	id := custos.NewSessionID()
	s.add(custos.Entry{Kind: custos.EntryOpened, Session: id, Opened: &custos.Opened{Caller: caller, Connection: connection, Protocol: "postgres"}}, nil)
	return id
}

func (s *story) ran(id custos.SessionID, text, verb string, objects ...string) uint64 {
	return s.add(custos.Entry{Kind: custos.EntrySubmitted, Session: id, Submit: &custos.Submitted{Class: "Query", Verbs: []string{verb}, Objects: objects, Effect: "allow"}},
		&custos.Operation{Class: "Query", Text: text})
}

func (s *story) settled(id custos.SessionID, op uint64, state custos.State) {
	s.add(custos.Entry{Kind: custos.EntrySettled, Session: id, Settled: &custos.Settled{Operation: op, State: state, Rows: 2}}, nil)
}

func (s *story) closed(id custos.SessionID) {
	s.add(custos.Entry{Kind: custos.EntryClosed, Session: id, Closed: &custos.Closed{Reason: "done"}}, nil)
}

var (
	ana      = custos.Principal{Issuer: "https://id", Subject: "1", Name: "ana", Kind: custos.KindPerson}
	bob      = custos.Principal{Issuer: "https://id", Subject: "2", Name: "bob", Kind: custos.KindPerson}
	reporter = custos.Principal{Issuer: "https://id", Subject: "skill:reporter", Kind: custos.KindSkill, OnBehalfOf: &ana}
)

// told is a small history with every kind of entry.
func told(t testing.TB, x *Index) (a, b, r custos.SessionID) {
	t.Helper()
	var s story
	a = s.opened(ana, "orders")
	one := s.ran(a, "select customer_id from public.customers where name = 'Ada'", "SELECT", "public.customers")
	s.settled(a, one, custos.StateOK)
	b = s.opened(bob, "orders")
	s.ran(b, "delete from payments", "DELETE", "payments")
	s.closed(a)
	r = s.opened(reporter, "billing")
	two := s.ran(r, "select sum(cents) from invoices", "SELECT", "invoices")
	s.settled(r, two, custos.StateError)
	s.add(custos.Entry{Kind: custos.EntryTurned, Session: custos.NewSessionID(), Opened: &custos.Opened{Caller: bob, Connection: "secret", Rule: "access", Reason: "no"}}, nil)
	s.add(custos.Entry{Kind: custos.EntrySubmitted, Session: b, Submit: &custos.Submitted{Class: "Query", Effect: "refuse", Rule: "no-drop"}},
		&custos.Operation{Text: "drop table payments", Params: []custos.Param{{Value: []byte("bound value")}, {Null: true}, {Binary: true, Value: []byte{1, 255}}}})
	s.add(custos.Entry{Kind: custos.EntryHeartbeat}, nil)
	if err := x.Apply(s.items); err != nil {
		t.Fatal(err)
	}
	return a, b, r
}

func TestSessions(t *testing.T) {
	x := open(t)
	a, _, r := told(t, x)
	all, next, err := x.Sessions(t.Context(), Filter{})
	if err != nil || len(all) != 4 || next != "" {
		t.Fatalf("%d sessions, next %q, %v", len(all), next, err)
	}
	if all[0].State != SessionTurnedAway || all[3].ID != a || all[3].State != SessionClosed || all[3].EndedAt == nil || all[3].Operations != 1 {
		t.Errorf("%+v", all)
	}
	if all[1].ID != r || all[1].Caller != "skill:reporter" || all[1].OnBehalfOf != "ana" || all[1].State != SessionOpen {
		t.Errorf("%+v", all[1])
	}
	for name, c := range map[string]struct {
		filter Filter
		want   int
	}{
		"viewer ana sees her own and her skill's": {Filter{Viewer: &Viewer{"https://id", "1"}}, 2},
		"viewer bob":                 {Filter{Viewer: &Viewer{"https://id", "2"}}, 2},
		"the same subject elsewhere": {Filter{Viewer: &Viewer{"https://evil", "1"}}, 0},
		"caller":                     {Filter{Caller: "ana"}, 2},
		"connection":                 {Filter{Connection: "billing"}, 1},
		"since":                      {Filter{Since: t0.Add(5 * time.Minute)}, 2},
		"until":                      {Filter{Until: t0.Add(time.Minute)}, 1},
		"viewer and connection":      {Filter{Viewer: &Viewer{"https://id", "1"}, Connection: "billing"}, 1},
	} {
		got, _, err := x.Sessions(t.Context(), c.filter)
		if err != nil || len(got) != c.want {
			t.Errorf("%s: %d sessions, want %d (%v)", name, len(got), c.want, err)
		}
	}
	if _, err := x.Session(t.Context(), a, Filter{Viewer: &Viewer{"https://id", "2"}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("bob sees ana's session: %v", err)
	}
	if s, err := x.Session(t.Context(), r, Filter{Viewer: &Viewer{"https://id", "1"}}); err != nil || s.ID != r {
		t.Errorf("ana does not see what was done for her: %v", err)
	}
}

func TestPaging(t *testing.T) {
	x := open(t)
	var s story
	for range 25 {
		id := s.opened(ana, "orders")
		s.ran(id, "select 1", "SELECT")
	}
	if err := x.Apply(s.items); err != nil {
		t.Fatal(err)
	}
	seen := map[custos.SessionID]bool{}
	pages := 0
	for f := (Filter{Limit: 10}); ; pages++ {
		items, next, err := x.Sessions(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range items {
			seen[i.ID] = true
		}
		if f.Cursor = next; next == "" {
			break
		}
	}
	if len(seen) != 25 || pages != 2 {
		t.Errorf("%d sessions, %d more pages", len(seen), pages)
	}
	if _, _, err := x.Sessions(t.Context(), Filter{Cursor: "1 OR 1=1"}); !errors.Is(err, ErrQuery) {
		t.Errorf("a made-up cursor: %v", err)
	}
}

func TestOperations(t *testing.T) {
	x := open(t)
	a, b, r := told(t, x)
	got, _, err := x.Operations(t.Context(), b, Filter{})
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got[0].Outcome != OutcomeUnsettled || got[1].Outcome != OutcomeRefused || got[1].Rule != "no-drop" {
		t.Errorf("%+v", got)
	}
	if p := got[1].Params; len(p) != 3 || p[0] != "bound value" || p[1] != "NULL" || p[2] != `\x01ff` {
		t.Errorf("parameters: %q", p)
	}
	got, _, _ = x.Operations(t.Context(), r, Filter{})
	if got[0].Outcome != "error" || got[0].Rows != 2 || got[0].Caller != "skill:reporter" {
		t.Errorf("%+v", got)
	}
	if _, err := x.Operation(t.Context(), a, got[0].Entry); !errors.Is(err, ErrNotFound) {
		t.Errorf("another session's operation: %v", err)
	}
	if o, err := x.Operation(t.Context(), r, got[0].Entry); err != nil || o.Text != "select sum(cents) from invoices" {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestSearch(t *testing.T) {
	x := open(t)
	_, b, _ := told(t, x)
	for query, want := range map[string]int{
		"":                           4,
		"customer":                   1,
		"customer_id":                1,
		"CUSTOMER_ID":                1,
		"payments":                   2,
		"payments -drop":             1,
		`"from payments"`:            1,
		`"payments from"`:            0,
		"bound":                      1,
		"who:ana":                    2,
		"who:skill:reporter":         1,
		"-who:ana":                   2,
		"who:ana verb:select":        2,
		"table:customers":            1,
		"table:public.customers":     1,
		"table:PUBLIC.Customers":     1,
		"table:public":               0,
		"connection:billing":         1,
		"outcome:refused":            1,
		"outcome:unsettled":          1,
		"effect:refuse":              1,
		"rule:no-drop":               1,
		"session:" + string(b):       2,
		"since:2026-03-01T12:05:00Z": 2,
		"until:2026-03-01T12:05:00Z": 2,
		`who:"ana"`:                  2,
		"sum(cents)":                 1,
		"sum*":                       1,
		"'; drop table sessions; --": 0,
		`NEAR("drop table")`:         0,
		"\x00":                       4,
		"drop OR delete":             0,
		"x::int":                     0,
	} {
		got, _, err := x.Search(t.Context(), Filter{Query: query})
		if err != nil || len(got) != want {
			t.Errorf("%q found %d, want %d (%v)", query, len(got), want, err)
		}
	}
	if got, _, _ := x.Search(t.Context(), Filter{Query: "payments", Viewer: &Viewer{"https://id", "1"}}); len(got) != 0 {
		t.Errorf("ana finds bob's operations: %+v", got)
	}
	for _, query := range []string{"since:yesterday", "since:99999999999999d", "session:x", `"open`, "colour:red", "who:", strings.Repeat("x ", 100)} {
		if _, _, err := x.Search(t.Context(), Filter{Query: query}); !errors.Is(err, ErrQuery) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

func FuzzSearch(f *testing.F) {
	x := open(f)
	told(f, x)
	for _, q := range []string{`"`, `a"b`, "NEAR(a b)", "a*", "^a", "-", "--", "a:b:c", `who:"`, "'", ") OR 1=1 --", "\x00\xff", "{a b}: c"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		if _, _, err := x.Search(context.Background(), Filter{Query: q}); err != nil && !errors.Is(err, ErrQuery) {
			t.Fatalf("%q: %v", q, err)
		}
	})
}

// plan tells how SQLite reads a page.
func plan(t *testing.T, x *Index, k *kind, n *narrowing, f *Filter) string {
	t.Helper()
	if err := f.narrow(n, k); err != nil {
		t.Fatal(err)
	}
	query, args, err := n.plan(t.Context(), x.read, k, f)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := x.read.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if len(steps) == 0 {
		t.Fatal("no plan")
	}
	return strings.Join(steps, "; ")
}

// A page is read off an index from where it begins to its end, whatever it is
// narrowed by: no plan scans a table, or sorts what it found.
func TestPagesAreReadOffAnIndex(t *testing.T) {
	x := open(t)
	a, _, _ := told(t, x)
	bounded := func(name, plan string) {
		t.Helper()
		// The words are a virtual table: walked from a row on, or looked up by row.
		rest := strings.NewReplacer("SCAN d VIRTUAL TABLE", "", "SCAN words EXISTS VIRTUAL TABLE INDEX 0:=", "").Replace(plan)
		if strings.Contains(rest, "SCAN") || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s: %s", name, plan)
		}
	}
	for name, f := range map[string]Filter{
		"all": {}, "next page": {Cursor: "100"}, "connection": {Connection: "orders"}, "viewer": {Viewer: &Viewer{"https://id", "1"}},
		"caller": {Caller: "ana"}, "state": {State: SessionOpen}, "times": {Since: t0, Until: t0.Add(time.Hour)},
		"everything": {Connection: "orders", Viewer: &Viewer{"https://id", "1"}, Caller: "ana", State: SessionClosed, Since: t0, Cursor: "7"},
	} {
		bounded("sessions: "+name, plan(t, x, &sessionKind, new(narrowing), &f))
		bounded("operations: "+name, plan(t, x, &operationKind, new(narrowing), &f))
	}
	for _, query := range []string{"", "select", "-select", "select -drop", "who:ana", "-who:ana", "who:ana customers table:customers -verb:delete", "since:1d", "until:1d",
		"session:" + string(a), "-session:" + string(a), "session:" + string(a) + " select who:ana"} {
		n := new(narrowing)
		if err := n.query(query, t0); err != nil {
			t.Fatal(err)
		}
		p := plan(t, x, &operationKind, n, &Filter{})
		bounded(query, p)
		if strings.HasPrefix(query, "session:") && !strings.Contains(p, "operations_by_session") {
			t.Errorf("%s: %s", query, p)
		}
	}
}

func TestEraseForgetsTheText(t *testing.T) {
	x := open(t)
	var s story
	id := s.opened(ana, "orders")
	s.ran(id, "select 'xyzzyplugh'", "SELECT")
	if err := x.Apply(s.items); err != nil {
		t.Fatal(err)
	}
	s.add(custos.Entry{Kind: custos.EntryErased, Session: id}, nil)
	if err := x.Apply(s.items); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := x.Search(t.Context(), Filter{Query: "xyzzyplugh"}); len(got) != 0 {
		t.Errorf("found: %+v", got)
	}
	if got, _, _ := x.Operations(t.Context(), id, Filter{}); len(got) != 1 || got[0].Text != "" {
		t.Errorf("%+v", got)
	}
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(x.path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("xyzzyplugh")) {
			t.Errorf("the erased text is in index.db%s", suffix)
		}
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a dir?&#", "index.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	told(t, x)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("index.db%s: %v, %v", suffix, info.Mode(), err)
		}
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if x, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if next, _ := x.Next(); next != 12 {
		t.Errorf("next %d", next)
	}
	if got, _, err := x.Search(t.Context(), Filter{Query: "customer"}); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is no index of this version is made anew when it is opened.
func TestOpenReplacesWhatIsNoIndex(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"another version": func(path string) error { return alter(path, "PRAGMA user_version = 99") },
		"no progress":     func(path string) error { return alter(path, "DELETE FROM progress") },
		"no table":        func(path string) error { return alter(path, "DROP TABLE progress") },
		"half made":       func(path string) error { return alter(path, "PRAGMA user_version = 0") },
		"garbage":         func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("garbage"), 5000), 0o600) },
		"cut":             func(path string) error { return os.Truncate(path, 6000) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			x, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			told(t, x)
			if err := errors.Join(x.Close(), damage(path)); err != nil {
				t.Fatal(err)
			}
			if x, err = Open(path); err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			if next, _ := x.Next(); next != 0 {
				t.Errorf("next %d", next)
			}
			told(t, x)
		})
	}
}

// alter runs SQL on a closed index.
func alter(path, query string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	_, err = db.Exec(query)
	return errors.Join(err, db.Close())
}

// An error that says nothing about the file leaves the file alone.
func TestOpenLeavesTheFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := os.MkdirAll(filepath.Join(path, "kept"), 0o700); err != nil {
		t.Fatal(err)
	}
	if x, err := Open(path); err == nil {
		x.Close()
		t.Fatal("a folder was opened as an index")
	} else if errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(path, "kept")); err != nil {
		t.Error(err)
	}
}

// Damage further in is told when it is met, with what to do.
func TestDamageIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	told(t, x)
	var root int64
	if err := x.write.QueryRow("SELECT rootpage FROM sqlite_master WHERE name = 'operations'").Scan(&root); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, 4096), (root-1)*4096)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if x, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if _, _, err := x.Search(t.Context(), Filter{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "ask again in a while") {
		t.Errorf("search: %v", err)
	}
	s := story{items: make([]Item, 12)}
	s.settled("", 1, custos.StateError)
	if err := x.Apply(s.items[12:]); !errors.Is(err, ErrDamaged) {
		t.Errorf("apply: %v", err)
	}
}

func TestWait(t *testing.T) {
	x := open(t)
	done := make(chan error)
	go func() { done <- x.Wait(t.Context(), 12) }()
	told(t, x)
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Wait(ctx, 100); err == nil {
		t.Error("it waited for what will not come, and was content")
	}
}

func BenchmarkSessionsPage(b *testing.B) {
	for _, n := range []int{1000, 50000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := open(b)
			var s story
			for range n {
				s.opened(ana, "orders")
			}
			if err := x.Apply(s.items); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := x.Sessions(b.Context(), Filter{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	var s story
	for range 100 {
		id := s.opened(reporter, "orders")
		for i := range 10 {
			s.settled(id, s.ran(id, fmt.Sprintf("select customer_id, name from public.customers where id = %d", i), "SELECT", "public.customers"), custos.StateOK)
		}
		s.closed(id)
	}
	x := open(b)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		if err := x.Reset(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := x.Apply(s.items); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(s.items)*b.N)/b.Elapsed().Seconds(), "entries/s")
}
