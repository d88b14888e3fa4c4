package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

// book is a ledger in memory that can be told to fail, and that tells, for
// each entry, whether it was durable.
type book struct {
	mu      sync.Mutex
	entries []*custos.Entry
	durable uint64 // count
	fail    error
	sync    error
}

func (b *book) Append(leaf, _ []byte) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return 0, b.fail
	}
	e, err := custos.ParseEntry(leaf)
	if err != nil {
		return 0, err
	}
	b.entries = append(b.entries, e)
	return uint64(len(b.entries) - 1), nil
}

func (b *book) Durable(i uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sync != nil {
		return b.sync
	}
	b.durable = max(b.durable, i+1)
	return nil
}

func (b *book) kinds() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, e := range b.entries {
		k := string(e.Kind)
		if e.Settled != nil {
			k += "=" + string(e.Settled.State)
		}
		if e.Submit != nil && e.Submit.Effect != "allow" {
			k += "=" + e.Submit.Effect
		}
		out = append(out, k)
	}
	return strings.Join(out, " ")
}

type paper struct{}

func (paper) Start(custos.SessionID) (Recording, error) { return paper{}, nil }
func (paper) KeyDigest() string                         { return "00" }
func (paper) Seal(dst, b []byte) []byte                 { return append(dst, b...) }
func (paper) Answer(uint64, time.Time) Answer           { return &sheet{} }
func (paper) Close() error                              { return nil }

type sheet struct{ b []byte }

func (s *sheet) Write(_ time.Time, b []byte) error { s.b = append(s.b, b...); return nil }

// Finish of an answer that says so fails as a full disk does: a part is kept.
func (s *sheet) Finish() ([]byte, *custos.Digest, error) {
	if strings.Contains(string(s.b), "too much") {
		return nil, &custos.Digest{SHA256: "ab", Bytes: 3}, errors.New("no space left on device")
	}
	return s.b, nil, nil
}

func (s *sheet) Bytes() int64 { return int64(len(s.b)) }

// world is everything around the gate, each part of it changeable by a test.
type world struct {
	book    *book
	target  net.Conn // the target's end of the line
	expires time.Time
	space   error
	lent    int
	usage   []custos.Usage
	dial    func() (net.Conn, error)
	http    http.RoundTripper
}

func (w *world) Verify(_ context.Context, token string) (*custos.Principal, error) {
	if token != "good" {
		return nil, errors.New("the signature is wrong")
	}
	return &custos.Principal{Issuer: "i", Subject: "ana", Groups: []string{"dba"}, Expires: w.expires}, nil
}

func (w *world) Enter(p *custos.Principal, c *custos.Connection) custos.Decision {
	if c.Admits(p) {
		return custos.Decision{Effect: custos.Allow}
	}
	return custos.Decision{Rule: "access", Reason: "no"}
}

func (w *world) Judge(_ *custos.Principal, _ *custos.Connection, op *custos.Operation, u *custos.Usage, _ time.Time) custos.Decision {
	w.usage = append(w.usage, *u)
	if strings.Contains(op.Text, "drop") {
		return custos.Decision{Rule: "no-drop"}
	}
	return custos.Decision{Effect: custos.Allow}
}

func (w *world) Lend(context.Context, *custos.Connection) (custos.Credential, error) {
	w.lent++
	return custos.Credential{Username: "app", Password: "hunter2"}, nil
}

func (w *world) Dial(context.Context, *custos.Connection) (net.Conn, error) {
	if w.dial != nil {
		return w.dial()
	}
	here, there := net.Pipe()
	w.target = there
	return here, nil
}

func (w *world) Connection(name string) (*custos.Connection, bool) {
	return &custos.Connection{Name: "orders", Protocol: "test", Access: []custos.Access{{Groups: []string{"dba"}}}}, name == "orders"
}

func (w *world) ForSession() error   { return w.space }
func (w *world) ForOperation() error { return w.space }

func newWorld(t *testing.T) (*world, *Gate) {
	t.Helper()
	w := &world{book: &book{}, expires: time.Now().Add(time.Hour)}
	g, err := New(Config{Ledger: w.book, Recorder: paper{}, Identifier: w, Policy: w, Vault: w, Dialer: w,
		Directory: w, Space: w, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Sessions: 2})
	if err != nil {
		t.Fatal(err)
	}
	return w, g
}

func (w *world) knock() Knock {
	return Knock{Protocol: "test", Connection: "orders", Token: "good", Client: "127.0.0.1:1",
		Login: func(_ context.Context, c net.Conn, _ *custos.Connection, _ custos.Credential, _ any) (*Target, error) {
			return &Target{Conn: c, HTTP: w.http, Upkeep: [][]byte{[]byte("ping")}}, nil
		}}
}

func (w *world) open(t *testing.T, g *Gate) *Session {
	t.Helper()
	s, err := g.Open(t.Context(), w.knock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close("end of test") })
	return s
}

func op(text string) Request {
	return Request{Operation: &custos.Operation{Class: "Query", Text: text}, Frame: []byte(text)}
}

// heard collects what reaches the target until the line closes.
func (w *world) heard() func() string {
	done := make(chan string)
	target := w.target
	go func() {
		b, _ := io.ReadAll(target)
		done <- string(b)
	}()
	return func() string { return <-done }
}

func TestZeroPermitLetsNothingThrough(t *testing.T) {
	for _, p := range []*Permit{nil, {}} {
		_, roundTrip := p.RoundTrip()
		for what, err := range map[string]error{
			"Send": p.Send(), "Input": p.Input(t.Context(), []byte("x")), "Answer": p.Answer([]byte("x")),
			"Settle": p.Settle(Outcome{}), "RoundTrip": roundTrip,
		} {
			if err == nil {
				t.Errorf("%s of %v: no error", what, p)
			}
		}
	}
}

func TestSubmitGrantsThePrefixBeforeARefusal(t *testing.T) {
	w, g := newWorld(t)
	s := w.open(t, g)
	heard := w.heard()
	permits, err := s.Submit(t.Context(), nil, []Request{op("select 1;"), op("drop it;"), op("select 2;")})
	var r *custos.Refusal
	if !errors.As(err, &r) || r.Rule != "no-drop" || !r.Recorded || len(permits) != 1 {
		t.Fatalf("got %d permits, %v", len(permits), err)
	}
	if err := s.Send(permits); err != nil {
		t.Fatal(err)
	}
	if err := permits[0].Send(); err == nil {
		t.Error("a permit was sent twice")
	}
	if err := permits[0].Answer([]byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := permits[0].Settle(Outcome{State: custos.StateOK, Rows: 1}); err != nil {
		t.Fatal(err)
	}
	s.Close("done")
	if got := heard(); got != "select 1;" {
		t.Errorf("the target heard %q", got)
	}
	want := "session.opened operation.submitted operation.submitted=refuse operation.settled=ok session.closed"
	if got := w.book.kinds(); got != want {
		t.Errorf("ledger: %s\n   want %s", got, want)
	}
}

// A read may go out before its record is durable; no byte of its answer, and
// not its outcome, is let through before it is, and what is no read waits.
func TestReadsOverlapTheirRecord(t *testing.T) {
	read := func(text string) Request {
		r := op(text)
		r.Reads = true
		return r
	}
	w, g := newWorld(t)
	s := w.open(t, g)
	heard := w.heard()
	durable := func() uint64 {
		w.book.mu.Lock()
		defer w.book.mu.Unlock()
		return w.book.durable
	}
	fail := func(err error) {
		w.book.mu.Lock()
		defer w.book.mu.Unlock()
		w.book.sync = err
	}
	fail(errors.New("input/output error"))
	permits, err := s.Submit(t.Context(), nil, []Request{read("select 1;"), read("select 2;")})
	if err != nil || len(permits) != 2 {
		t.Fatalf("%d permits, %v", len(permits), err)
	}
	if err := s.Send(permits); err == nil {
		t.Error("sent, and nobody says that there is no record")
	}
	var r *custos.Refusal
	if err := permits[0].Answer([]byte("1")); !errors.As(err, &r) || r.Rule != "ledger-unavailable" {
		t.Errorf("an answer without a record: %v", err)
	}
	if err := permits[1].Settle(Outcome{State: custos.StateOK}); err == nil {
		t.Error("an outcome without a record")
	}
	for _, mixed := range [][]Request{{read("select 3;"), op("delete;")}, {read("select 4;"), read("drop;")}} {
		if permits, err := s.Submit(t.Context(), nil, mixed); !errors.As(err, &r) || len(permits) != 0 {
			t.Errorf("%d permits, %v", len(permits), err)
		}
	}
	fail(nil)
	permits, err = s.Submit(t.Context(), nil, []Request{read("select 5;")})
	if err != nil {
		t.Fatal(err)
	}
	if durable() > permits[0].Entry() {
		t.Error("Submit made it durable: nothing overlaps")
	}
	if err := s.Send(permits); err != nil || durable() <= permits[0].Entry() {
		t.Errorf("sent: %v, and its record is not durable", err)
	}
	if err := permits[0].Answer([]byte("5")); err != nil {
		t.Error(err)
	}
	if err := permits[0].Settle(Outcome{State: custos.StateOK}); err != nil {
		t.Error(err)
	}
	s.Close("done")
	if got := heard(); got != "select 1;select 2;select 5;" {
		t.Errorf("the target heard %q", got)
	}
}

func TestNothingIsForwardedWhenTheLedgerFails(t *testing.T) {
	for name, breakIt := range map[string]func(*book){
		"append": func(b *book) { b.fail = errors.New("no space left on device") },
		"sync":   func(b *book) { b.sync = errors.New("input/output error") },
	} {
		t.Run(name, func(t *testing.T) {
			w, g := newWorld(t)
			s := w.open(t, g)
			heard := w.heard()
			ready, err := s.Submit(t.Context(), nil, []Request{op("copy")})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(ready); err != nil {
				t.Fatal(err)
			}
			w.book.mu.Lock()
			breakIt(w.book)
			w.book.mu.Unlock()
			permits, err := s.Submit(t.Context(), nil, []Request{op("delete"), op("delete")})
			var r *custos.Refusal
			if !errors.As(err, &r) || r.Rule != "ledger-unavailable" || !r.Retry || len(permits) != 0 {
				t.Fatalf("got %d permits, %v", len(permits), err)
			}
			if err := ready[0].Input(t.Context(), []byte("rows")); err == nil {
				t.Error("input went through without a record")
			}
			if _, err := g.Open(t.Context(), w.knock()); err == nil {
				t.Error("a session was opened without a record")
			}
			s.Close("done")
			if got := heard(); got != "copy" {
				t.Errorf("the target heard %q", got)
			}
		})
	}
}

func TestNoCredentialIsLentBeforeTheSessionIsOnRecord(t *testing.T) {
	w, g := newWorld(t)
	w.book.sync = errors.New("input/output error")
	if _, err := g.Open(t.Context(), w.knock()); err == nil {
		t.Fatal("the session was opened")
	}
	if w.lent != 0 {
		t.Error("a credential was lent")
	}
}

func TestOpenTurnsAway(t *testing.T) {
	full := errors.New("2 MB left")
	for name, c := range map[string]struct {
		change func(*world, *Knock)
		rule   string
		ledger string
	}{
		"bad token":          {func(_ *world, k *Knock) { k.Token = "bad" }, "token", ""},
		"unknown connection": {func(_ *world, k *Knock) { k.Connection = "x" }, "access", "session.turned-away"},
		"other protocol":     {func(_ *world, k *Knock) { k.Protocol = "x" }, "access", "session.turned-away"},
		"full disk":          {func(w *world, _ *Knock) { w.space = full }, "space", "session.turned-away"},
		"dead target": {func(w *world, _ *Knock) {
			w.dial = func() (net.Conn, error) { return nil, errors.New("connection refused") }
		}, "target-unavailable", "session.opened session.closed"},
	} {
		t.Run(name, func(t *testing.T) {
			w, g := newWorld(t)
			k := w.knock()
			c.change(w, &k)
			_, err := g.Open(t.Context(), k)
			var r *custos.Refusal
			if !errors.As(err, &r) || r.Rule != c.rule {
				t.Fatalf("got %v, want rule %s", err, c.rule)
			}
			if got := w.book.kinds(); got != c.ledger {
				t.Errorf("ledger: %q, want %q", got, c.ledger)
			}
			if g.Live() != 0 {
				t.Errorf("%d sessions are left open", g.Live())
			}
		})
	}
}

// The gateway may stop, or an admin stop a session, while it is being opened.
func TestShutdownWhileOpening(t *testing.T) {
	w, g := newWorld(t)
	dialled := make(chan struct{})
	w.dial = func() (net.Conn, error) {
		close(dialled)
		here, _ := net.Pipe()
		return here, nil
	}
	k := w.knock()
	k.Login = func(ctx context.Context, _ net.Conn, _ *custos.Connection, _ custos.Credential, _ any) (*Target, error) {
		<-ctx.Done() // a target that says nothing
		return nil, ctx.Err()
	}
	opened := make(chan error)
	go func() {
		_, err := g.Open(context.Background(), k)
		opened <- err
	}()
	<-dialled
	g.Shutdown()
	if err := <-opened; err == nil {
		t.Error("a session was opened after the shutdown")
	}
	if _, err := g.Open(t.Context(), w.knock()); err == nil {
		t.Error("a session was opened after the shutdown")
	}
	if want := "session.opened session.closed session.turned-away"; w.book.kinds() != want {
		t.Errorf("ledger: %s\n   want %s", w.book.kinds(), want)
	}
}

func TestSessionLimit(t *testing.T) {
	w, g := newWorld(t)
	a, _ := w.open(t, g), w.open(t, g)
	if _, err := g.Open(t.Context(), w.knock()); err == nil {
		t.Fatal("a third session was opened")
	}
	a.Close("done")
	w.open(t, g)
}

func TestCloseSettlesWhatIsOpen(t *testing.T) {
	w, g := newWorld(t)
	s := w.open(t, g)
	heard := w.heard()
	permits, err := s.Submit(t.Context(), nil, []Request{op("a"), op("b")})
	if err != nil {
		t.Fatal(err)
	}
	if err := permits[0].Send(); err != nil {
		t.Fatal(err)
	}
	s.Close("the client went away")
	s.Close("again")
	want := "session.opened operation.submitted operation.submitted operation.settled=interrupted operation.settled=not-sent session.closed"
	if got := w.book.kinds(); got != want {
		t.Errorf("ledger: %s\n   want %s", got, want)
	}
	if err := permits[1].Send(); err == nil {
		t.Error("a permit outlived its session")
	}
	if got := heard(); got != "a" {
		t.Errorf("the target heard %q", got)
	}
	if n := w.book.durable; n != uint64(len(w.book.entries)) {
		t.Errorf("the end is not durable: %d of %d", n, len(w.book.entries))
	}
}

// A disk that fails while an answer is recorded: the outcome says so, and
// cites what was kept, which the caller may have seen.
func TestAnswerThatCannotBeRecorded(t *testing.T) {
	w, g := newWorld(t)
	s := w.open(t, g)
	w.heard()
	permits, err := s.Submit(t.Context(), nil, []Request{op("select 1;")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(permits); err != nil {
		t.Fatal(err)
	}
	if err := permits[0].Answer([]byte("too much")); err != nil {
		t.Fatal(err)
	}
	if err := permits[0].Settle(Outcome{State: custos.StateOK, Rows: 1}); err == nil {
		t.Error("the end of the answer may go to the caller")
	}
	s.Close("done")
	want := "session.opened operation.submitted operation.settled=interrupted session.closed"
	if got := w.book.kinds(); got != want {
		t.Fatalf("ledger: %s\n   want %s", got, want)
	}
	if got := w.book.entries[2].Settled; got.Recording == nil || got.Recording.SHA256 != "ab" || got.Bytes != 8 {
		t.Errorf("the outcome: %+v", got)
	}
}

// Policy is told what was taken: by the session, and by the caller on the
// connection over an hour and a day.
func TestUsage(t *testing.T) {
	w, g := newWorld(t)
	now := time.Now()
	g.Now = func() time.Time { return now }
	submit := func(s *Session, text string, writes bool) *Permit {
		t.Helper()
		r := op(text)
		r.Operation.Writes = writes
		permits, err := s.Submit(t.Context(), nil, []Request{r})
		if err != nil {
			if strings.Contains(text, "drop") {
				return nil
			}
			t.Fatal(err)
		}
		if err := permits[0].Settle(Outcome{State: custos.StateOK, Rows: 7}); err != nil {
			t.Fatal(err)
		}
		return permits[0]
	}
	s := w.open(t, g)
	submit(s, "select 1", false)
	submit(s, "update t", true)
	submit(s, "drop t", true)
	s.Close("done")
	now = now.Add(59 * time.Minute)
	s = w.open(t, g)
	submit(s, "select 1", false)
	submit(s, "select 1", false)
	now = now.Add(2 * time.Minute)
	submit(s, "select 1", false)
	now = now.Add(25 * time.Hour)
	submit(s, "select 2", false)
	first := custos.Counts{Operations: 3, Writes: 1, Refused: 1, Rows: 14}
	want := []custos.Usage{
		{Repeats: 1},
		{Session: custos.Counts{Operations: 1, Rows: 7}, Hour: custos.Counts{Operations: 1, Rows: 7}, Day: custos.Counts{Operations: 1, Rows: 7}, Repeats: 1},
		{Session: custos.Counts{Operations: 2, Writes: 1, Rows: 14}, Hour: custos.Counts{Operations: 2, Writes: 1, Rows: 14}, Day: custos.Counts{Operations: 2, Writes: 1, Rows: 14}, Repeats: 1},
		{Hour: first, Day: first, Repeats: 1},
		{Session: custos.Counts{Operations: 1, Rows: 7}, Hour: custos.Counts{Operations: 4, Writes: 1, Refused: 1, Rows: 21}, Day: custos.Counts{Operations: 4, Writes: 1, Refused: 1, Rows: 21}, Repeats: 2},
		// The hour has let go of the first session; the day has not.
		{Session: custos.Counts{Operations: 2, Rows: 14}, Hour: custos.Counts{Operations: 2, Rows: 14}, Day: custos.Counts{Operations: 5, Writes: 1, Refused: 1, Rows: 28}, Repeats: 3},
		{Session: custos.Counts{Operations: 3, Rows: 21}, Repeats: 1},
	}
	if len(w.usage) != len(want) {
		t.Fatalf("policy was asked %d times, want %d", len(w.usage), len(want))
	}
	for i := range want {
		if w.usage[i] != want[i] {
			t.Errorf("question %d:\n got %+v\nwant %+v", i, w.usage[i], want[i])
		}
	}
}

// A gate that is started on the ledger of another goes on counting.
func TestUsageOutlivesTheGate(t *testing.T) {
	w, g := newWorld(t)
	s := w.open(t, g)
	w.heard()
	run := func(s *Session, text string, writes bool, rows int64) {
		r := op(text)
		r.Operation.Writes = writes
		permits, err := s.Submit(t.Context(), nil, []Request{r})
		if err != nil {
			return // refused
		}
		if err := s.Send(permits); err != nil {
			t.Fatal(err)
		}
		if err := permits[0].Answer([]byte("four")); err != nil {
			t.Fatal(err)
		}
		if err := permits[0].Settle(Outcome{State: custos.StateOK, Rows: rows}); err != nil {
			t.Fatal(err)
		}
	}
	run(s, "select", false, 7)
	run(s, "insert", true, 1)
	run(s, "drop", true, 0)
	s.Close("done")
	var past Past
	for i, e := range w.book.entries {
		past.Entry(uint64(i), e)
	}
	c := g.Config
	c.Past = &past
	again, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	later := w.open(t, again)
	w.heard()
	run(later, "select", false, 0)
	want := custos.Counts{Operations: 3, Writes: 1, Refused: 1, Rows: 8, Bytes: 8}
	if got := w.usage[len(w.usage)-1]; got.Hour != want || got.Day != want || got.Session != (custos.Counts{}) {
		t.Errorf("usage %+v, want %+v by hour and day", got, want)
	}
	old := Past{Since: time.Now().Add(time.Hour)}
	for i, e := range w.book.entries {
		old.Entry(uint64(i), e)
	}
	if len(old.meters) != 0 {
		t.Error("what is too old counts")
	}
}

func TestSessionEndsWithItsToken(t *testing.T) {
	w, g := newWorld(t)
	w.expires = time.Now().Add(10 * time.Millisecond)
	s := w.open(t, g)
	<-s.Context().Done()
	if cause := context.Cause(s.Context()); !errors.Is(cause, ErrExpired) {
		t.Fatalf("cause: %v", cause)
	}
	if _, err := s.Submit(t.Context(), nil, []Request{op("a")}); err == nil {
		t.Error("an operation was permitted after the token had expired")
	}
	s.Close("")
	last := w.book.entries[len(w.book.entries)-1]
	if last.Closed == nil || last.Closed.Reason != ErrExpired.Error() {
		t.Errorf("the record of the end: %+v", last.Closed)
	}
}

func TestUpkeepIsAClosedList(t *testing.T) {
	w, g := newWorld(t)
	s := w.open(t, g)
	heard := w.heard()
	if err := s.Upkeep([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	for _, frame := range []string{"", "pin", "pingx", "drop"} {
		if err := s.Upkeep([]byte(frame)); err == nil {
			t.Errorf("%q was sent as upkeep", frame)
		}
	}
	s.Close("done")
	if got := heard(); got != "ping" {
		t.Errorf("the target heard %q", got)
	}
}

func TestPermitOfAnotherSession(t *testing.T) {
	w, g := newWorld(t)
	a, b := w.open(t, g), w.open(t, g)
	permits, err := a.Submit(t.Context(), nil, []Request{op("a")})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Send(permits); err == nil {
		t.Error("one session sent another's permit")
	}
}

// A body that stands in the operation's text is on record with it; one that only
// says so is recorded all the same.
func TestJudgedBodyIsOnRecordOnce(t *testing.T) {
	w, g := newWorld(t)
	echo := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { rw.Write(must(io.ReadAll(r.Body))) }))
	defer echo.Close()
	w.http = http.DefaultTransport
	s := w.open(t, g)
	u, _ := url.Parse(echo.URL)
	for text, recorded := range map[string]int{"POST / rows": 0, "POST / row": 1} {
		before := strings.Count(w.book.kinds(), string(custos.EntryInput))
		body := &http.Request{Method: "POST", URL: u, Header: http.Header{}, Body: NewJudged("rows")}
		permits, err := s.Submit(t.Context(), nil, []Request{{Operation: &custos.Operation{Class: "POST", Text: text}, HTTP: body}})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := permits[0].RoundTrip()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(must(io.ReadAll(resp.Body))); got != "rows" {
			t.Errorf("the target answered %q", got)
		}
		if err := permits[0].Settle(Outcome{State: custos.StateOK}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(w.book.kinds(), string(custos.EntryInput)) - before; n != recorded {
			t.Errorf("%s: %d entries of input, want %d", text, n, recorded)
		}
	}
}

// A body and an upgraded stream reach the target piece by piece, each piece
// on record first; what was judged is what is sent.
func TestHTTPUpgradeFitsThePermit(t *testing.T) {
	w, g := newWorld(t)
	echo := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprintf(rw, "%s %s", r.Header.Get("X-Judged"), must(io.ReadAll(r.Body)))
			return
		}
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
		line, _ := buf.ReadString('\n')
		fmt.Fprint(conn, "you said "+line)
	}))
	defer echo.Close()
	w.http = http.DefaultTransport
	s := w.open(t, g)
	u, _ := url.Parse(echo.URL)

	body := &http.Request{Method: "POST", URL: u, Header: http.Header{"X-Judged": {"yes"}}, Body: io.NopCloser(strings.NewReader("rows"))}
	permits, err := s.Submit(t.Context(), nil, []Request{{Operation: &custos.Operation{Class: "POST", Text: "POST /"}, HTTP: body}})
	if err != nil {
		t.Fatal(err)
	}
	body.Header.Set("X-Judged", "no")
	resp, err := permits[0].RoundTrip()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(must(io.ReadAll(resp.Body))); got != "yes rows" {
		t.Errorf("the target answered %q", got)
	}
	if _, err := permits[0].RoundTrip(); err == nil {
		t.Error("a request was sent twice")
	}
	if err := permits[0].Settle(Outcome{State: custos.StateOK}); err != nil {
		t.Fatal(err)
	}

	upgrade := &http.Request{Method: "GET", URL: u, Header: http.Header{"Upgrade": {"echo"}, "Connection": {"Upgrade"}}}
	permits, err = s.Submit(t.Context(), nil, []Request{{Operation: &custos.Operation{Class: "GET", Text: "GET /"}, HTTP: upgrade}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err = permits[0].RoundTrip()
	if err != nil {
		t.Fatal(err)
	}
	stream := resp.Body.(io.ReadWriteCloser)
	defer stream.Close()
	if _, err := io.WriteString(stream, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if got := must(bufio.NewReader(stream).ReadString('\n')); got != "you said hello\n" {
		t.Errorf("the target answered %q", got)
	}
	w.book.mu.Lock()
	w.book.sync = errors.New("input/output error")
	w.book.mu.Unlock()
	if _, err := io.WriteString(stream, "unrecorded\n"); err == nil {
		t.Error("the stream took bytes that are not on record")
	}
	want := "session.opened operation.submitted operation.input operation.settled=ok operation.submitted operation.input operation.input"
	if got := w.book.kinds(); got != want {
		t.Errorf("ledger: %s\n   want %s", got, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func BenchmarkSubmitSendSettle(b *testing.B) {
	w := &world{book: &book{}, expires: time.Now().Add(time.Hour)}
	here, there := net.Pipe()
	go io.Copy(io.Discard, there)
	w.dial = func() (net.Conn, error) { return here, nil }
	g, err := New(Config{Ledger: devNull{}, Recorder: paper{}, Identifier: w, Policy: w, Vault: w, Dialer: w,
		Directory: w, Space: w, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	s, err := g.Open(b.Context(), w.knock())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close("done")
	requests := []Request{op("select 1")}
	var permits []*Permit
	b.ReportAllocs()
	for b.Loop() {
		if permits, err = s.Submit(b.Context(), permits[:0], requests); err != nil {
			b.Fatal(err)
		}
		if err := s.Send(permits); err != nil {
			b.Fatal(err)
		}
		if err := permits[0].Settle(Outcome{State: custos.StateOK}); err != nil {
			b.Fatal(err)
		}
	}
}

type devNull struct{}

func (devNull) Append(_, _ []byte) (uint64, error) { return 0, nil }
func (devNull) Durable(uint64) error               { return nil }
