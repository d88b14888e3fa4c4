package notify

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

// book is a ledger in memory.
type book struct {
	mu      sync.Mutex
	entries []*custos.Entry
	more    chan struct{}
}

func newBook() *book { return &book{more: make(chan struct{}, 1000)} }

func (b *book) Append(leaf, _ []byte) (uint64, error) {
	e, err := custos.ParseEntry(leaf)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, e)
	b.more <- struct{}{}
	return uint64(len(b.entries) - 1), err
}

func (b *book) Durable(uint64) error { return nil }

// notified returns the n-th thing that is on record of who was told.
func (b *book) notified(n int) custos.Notified {
	for range n {
		<-b.more
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return *b.entries[len(b.entries)-1].Notified
}

// line is a channel that answers with errors, in turn, then with none.
type line struct {
	mu   sync.Mutex
	errs []error
	sent []Message
}

func (l *line) Send(_ context.Context, m *Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, *m)
	if len(l.errs) == 0 {
		return nil
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return err
}

func (l *line) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sent)
}

var at = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a Notifier that runs, and never waits.
type world struct {
	*Notifier
	book  *book
	mu    sync.Mutex
	waits []time.Duration
}

func start(t *testing.T, b *book, left Replay, channels ...Channel) *world {
	t.Helper()
	w := &world{book: b}
	w.Notifier = New(Options{
		Ledger: b, Channels: func() []Channel { return channels }, Link: func(id string) string { return "https://gw.test/approvals/" + id },
		Now: func() time.Time { return at }, Logger: slog.New(slog.DiscardHandler), Left: left,
		After: func(d time.Duration) <-chan time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.waits = append(w.waits, d)
			c := make(chan time.Time)
			close(c)
			return c
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func asked() custos.Approval {
	return custos.Approval{
		ID: "abc", Caller: custos.Principal{Subject: "s", Name: "skill:reporter", OnBehalfOf: &custos.Principal{Subject: "bob"}}, Connection: "orders",
		Rule: "writes", Verbs: []string{"DELETE"}, Objects: []string{"public.customers"}, Groups: []string{"dba"}, State: custos.ApprovalPending,
		Expires: at.Add(time.Hour), Estimate: &custos.Estimate{Rows: 40},
	}
}

func TestTriedAgain(t *testing.T) {
	l := &line{errs: []error{errors.New("down"), later{errors.New("busy"), time.Minute}, later{errors.New("busy"), 24 * time.Hour}}}
	w := start(t, newBook(), nil, Channel{Name: "a", Sender: l})
	w.Tell(asked())
	if got := w.book.notified(1); got.Attempts != 4 || got.Failed != "" || got.Channel != "a" || got.Approval != "abc" || got.Event != Requested {
		t.Errorf("on record: %+v", got)
	}
	if len(w.waits) != 3 || w.waits[0] < firstWait || w.waits[1] != time.Minute || w.waits[2] != longestWait {
		t.Errorf("it waited %v", w.waits)
	}
	if l.sent[0].ID != l.sent[3].ID {
		t.Error("a second try looks like another message")
	}
}

// TestGivenUp has a message be given up, be on the list of those, and be sent
// again by hand; the list outlives the gateway.
func TestGivenUp(t *testing.T) {
	for name, errs := range map[string][]error{
		"for trying too often": slices.Repeat([]error{errors.New("down\x1b[2J")}, attempts),
		"for a refusal":        {ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			l := &line{errs: errs}
			w := start(t, newBook(), nil, Channel{Name: "a", Sender: l})
			w.book.entries = append(w.book.entries, &custos.Entry{Kind: custos.EntryAsked, Approval: ptr(asked())})
			w.Tell(asked())
			if got := w.book.notified(1); got.Attempts != len(errs) || got.Failed == "" || strings.Contains(got.Failed, "\x1b") {
				t.Errorf("on record: %+v", got)
			}
			left := Replay{}
			for _, e := range w.book.entries {
				left.Entry(e)
			}
			again := start(t, w.book, left, Channel{Name: "a", Sender: l})
			for _, n := range []*Notifier{w.Notifier, again.Notifier} {
				if u := n.Undelivered(); len(u) != 1 || u[0].Approval != "abc" || u[0].Lost {
					t.Errorf("undelivered: %+v", u)
				}
			}
			if n := again.Again(); n != 1 {
				t.Errorf("%d are sent again", n)
			}
			if got := w.book.notified(1); got.Failed != "" || len(again.Undelivered()) > 0 {
				t.Errorf("the second time: %+v", got)
			}
			left = Replay{}
			for _, e := range w.book.entries {
				left.Entry(e)
			}
			if u := start(t, newBook(), left, Channel{Name: "a", Sender: l}).Undelivered(); len(u) > 0 {
				t.Errorf("after a new start: %+v", u)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestNothingIsLost starts a gateway on what another left: who was not told is
// told, and nobody twice.
func TestNothingIsLost(t *testing.T) {
	left := Replay{}
	other, glass, over := asked(), asked(), asked()
	other.ID, glass.ID, over.ID = "other", "glass", "over"
	glass.BreakGlass, glass.State = true, custos.ApprovalApproved
	for _, e := range []*custos.Entry{
		{Kind: custos.EntryAsked, Approval: ptr(asked())},
		{Kind: custos.EntryAsked, Approval: &other},
		{Kind: custos.EntryAsked, Approval: &glass},
		{Kind: custos.EntryAsked, Approval: &over},
		{Kind: custos.EntryNotified, Notified: &custos.Notified{Approval: "abc", Channel: "a", Event: Requested, Attempts: 1}},
		{Kind: custos.EntryEnded, Approval: &custos.Approval{ID: "over", State: custos.ApprovalExpired}},
	} {
		left.Entry(e)
	}
	a, b := &line{}, &line{}
	w := start(t, newBook(), left, Channel{Name: "a", Sender: a}, Channel{Name: "b", Sender: b})
	w.book.notified(5)
	ids := func(l *line) (all []string) {
		for _, m := range l.sent {
			all = append(all, m.ID)
		}
		slices.Sort(all)
		return all
	}
	if got := ids(a); !slices.Equal(got, []string{"glass.break-glass", "other.requested"}) {
		t.Errorf("a is told %v", got)
	}
	if got := ids(b); !slices.Equal(got, []string{"abc.requested", "glass.break-glass", "other.requested"}) {
		t.Errorf("b is told %v", got)
	}
}

// TestWhoIsTold has each channel hear what it is for, and everybody of broken
// glass.
func TestWhoIsTold(t *testing.T) {
	denied, glass, used, half := asked(), asked(), asked(), asked()
	denied.State = custos.ApprovalDenied
	glass.State, glass.BreakGlass, glass.For = custos.ApprovalApproved, true, time.Hour
	used.State = custos.ApprovalUsed
	half.Answers = []custos.ApprovalAnswer{{Approve: true}}
	for name, test := range map[string]struct {
		c    Channel
		a    custos.Approval
		want bool
	}{
		"a request":                      {Channel{}, asked(), true},
		"of its group":                   {Channel{Groups: []string{"x", "dba"}}, asked(), true},
		"of another group":               {Channel{Groups: []string{"x"}}, asked(), false},
		"broken glass, of another group": {Channel{Groups: []string{"x"}}, glass, true},
		"an end":                         {Channel{}, denied, false},
		"an end, wanted":                 {Channel{Events: []string{Answered}}, denied, true},
		"a request, not wanted":          {Channel{Events: []string{Answered, BreakGlass}}, asked(), false},
		"the use of it":                  {Channel{Events: []string{Answered}}, used, false},
		"one of two agrees":              {Channel{}, half, false},
	} {
		event := eventOf(&test.a)
		if got := event != "" && test.c.hears(event, &test.a); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestMessageHoldsNoMore looks at a message of an approval whose every text is
// hostile: nothing of the statement is in it unless its rule allows that.
func TestMessageHoldsNoMore(t *testing.T) {
	n := New(Options{Now: func() time.Time { return at }, Channels: func() []Channel { return nil }})
	a := asked()
	a.Objects = []string{"public.\"x\r\nBcc: all@example.com\u202e\"", "t2"}
	a.Caller.Name = "<!channel> [click](https://evil.test)\n\n" + strings.Repeat("x", 500)
	m := n.message(&a, Requested)
	for _, text := range append([]string{m.Title}, flat(m.Facts)...) {
		if strings.ContainsAny(text, "\r\n\u202e") || len([]rune(text)) > maxFact {
			t.Errorf("%q", text)
		}
	}
	if m.Statement != "" {
		t.Errorf("it holds the statement: %q", m.Statement)
	}
	a.Statement = "DELETE FROM t\nWHERE x = '\x1b[2J'" + strings.Repeat("y", 2000)
	if m = n.message(&a, Requested); !strings.HasPrefix(m.Statement, "DELETE FROM t\nWHERE x = ' [2J'") || len([]rune(m.Statement)) != maxStatement {
		t.Errorf("%q", m.Statement)
	}
}

func flat(facts [][2]string) (all []string) {
	for _, f := range facts {
		all = append(all, f[0], f[1])
	}
	return all
}

// TestRemovedChannel has a channel be taken out of the configuration while a
// message waits for it.
func TestRemovedChannel(t *testing.T) {
	b := newBook()
	l := &line{}
	channels := []Channel{{Name: "a", Sender: l}}
	n := New(Options{Ledger: b, Channels: func() []Channel { return channels }, Now: func() time.Time { return at }, Logger: slog.New(slog.DiscardHandler)})
	n.Tell(asked())
	channels = nil
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { n.Run(ctx); close(done) }()
	if got := b.notified(1); got.Failed == "" || l.count() > 0 {
		t.Errorf("%+v", got)
	}
	cancel()
	<-done
}
