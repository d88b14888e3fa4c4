package store

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	custos "github.com/custos-gateway/custos"
)

var vocabulary = []string{"alpha", "beta", "gamma", "delta"}

// history draws a ledger: sessions of several callers that overlap, operations
// of every outcome, erasures, and a clock that is set back now and then.
func history(rt *rapid.T) []Item {
	callers := []custos.Principal{ana, bob, reporter}
	states := []custos.State{custos.StateOK, custos.StateError, custos.StateInterrupted}
	word := rapid.SampledFrom(vocabulary)
	var s story
	var open []custos.SessionID
	var unsettled []uint64
	now := t0
	for range rapid.IntRange(1, 60).Draw(rt, "entries") {
		now = now.Add(time.Duration(rapid.Int64Range(-2_500_000, 4_000_000).Draw(rt, "µs")) * time.Microsecond)
		what := rapid.IntRange(0, 9).Draw(rt, "what")
		switch {
		case what == 0 || len(open) == 0:
			open = append(open, s.opened(rapid.SampledFrom(callers).Draw(rt, "caller"), word.Draw(rt, "connection")))
		case what == 1:
			s.closed(rapid.SampledFrom(open).Draw(rt, "closed"))
		case what == 2:
			s.add(custos.Entry{Kind: custos.EntryErased, Session: rapid.SampledFrom(open).Draw(rt, "erased")}, nil)
		case what <= 4 && len(unsettled) > 0:
			s.settled("", rapid.SampledFrom(unsettled).Draw(rt, "settled"), rapid.SampledFrom(states).Draw(rt, "state"))
		case what == 5:
			s.add(custos.Entry{Kind: custos.EntryTurned, Session: custos.NewSessionID(), Opened: &custos.Opened{Caller: bob, Connection: word.Draw(rt, "connection")}}, nil)
		case what == 6:
			s.add(custos.Entry{Kind: custos.EntrySubmitted, Session: rapid.SampledFrom(open).Draw(rt, "session"),
				Submit: &custos.Submitted{Class: "Query", Effect: "refuse", Rule: word.Draw(rt, "rule")}}, nil)
		default:
			text := strings.Join(rapid.SliceOfN(word, 1, 3).Draw(rt, "text"), " ")
			unsettled = append(unsettled, s.ran(rapid.SampledFrom(open).Draw(rt, "session"), text, strings.ToUpper(word.Draw(rt, "verb")), "public."+word.Draw(rt, "table")))
		}
		s.items[len(s.items)-1].Entry.At = now
	}
	return s.items
}

// model is what an index of a history should say, found the plain way.
type model struct {
	sessions   []Session
	principals map[custos.SessionID]custos.Principal
	operations []Operation
}

func modelOf(items []Item) *model {
	m := &model{principals: map[custos.SessionID]custos.Principal{}}
	session := func(id custos.SessionID) *Session {
		return &m.sessions[slices.IndexFunc(m.sessions, func(s Session) bool { return s.ID == id })]
	}
	for _, item := range items {
		e := item.Entry
		switch e.Kind {
		case custos.EntryOpened, custos.EntryTurned:
			state := SessionOpen
			if e.Kind == custos.EntryTurned {
				state = SessionTurnedAway
			}
			m.principals[e.Session] = e.Opened.Caller
			m.sessions = append(m.sessions, Session{ID: e.Session, Opened: item.Index, Connection: e.Opened.Connection, StartedAt: e.At, State: state})
		case custos.EntryClosed:
			session(e.Session).State = SessionClosed
		case custos.EntrySubmitted:
			session(e.Session).Operations++
			m.operations = append(m.operations, *OperationOf(item.Index, e, item.Operation))
		case custos.EntrySettled:
			for i := range m.operations {
				if m.operations[i].Entry == e.Settled.Operation {
					m.operations[i].Settle(e)
				}
			}
		case custos.EntryErased:
			for i := range m.operations {
				if m.operations[i].Session == e.Session {
					m.operations[i].Text = ""
				}
			}
		}
	}
	slices.Reverse(m.sessions)
	slices.Reverse(m.operations)
	return m
}

func (m *model) who(id custos.SessionID) []string {
	p := m.principals[id]
	names := []string{p.Name, p.Subject}
	if p.OnBehalfOf != nil {
		names = append(names, p.OnBehalfOf.Name, p.OnBehalfOf.Subject)
	}
	return names
}

func (m *model) sees(v *Viewer, id custos.SessionID) bool {
	p := m.principals[id]
	return v == nil || p.Issuer == v.Issuer && p.Subject == v.Subject ||
		p.OnBehalfOf != nil && p.OnBehalfOf.Issuer == v.Issuer && p.OnBehalfOf.Subject == v.Subject
}

func (m *model) session(f *Filter, s *Session, at time.Time) bool {
	return m.sees(f.Viewer, s.ID) && (f.Caller == "" || slices.Contains(m.who(s.ID), f.Caller)) &&
		(f.Connection == "" || s.Connection == f.Connection) && (f.State == "" || s.State == f.State) &&
		(f.Since.IsZero() || !at.Before(f.Since)) && (f.Until.IsZero() || at.Before(f.Until))
}

func (m *model) operation(terms []term, o *Operation, s *Session) bool {
	for _, t := range terms {
		var is bool
		switch t.field {
		case "":
			is = strings.Contains(" "+o.Text+" ", " "+t.value+" ")
		case "who":
			is = slices.Contains(m.who(o.Session), t.value)
		case "connection":
			is = s.Connection == t.value
		case "session":
			is = string(o.Session) == t.value
		case "table":
			is = slices.Contains(o.Objects, t.value) || slices.Contains(o.Objects, "public."+t.value)
		case "verb":
			is = slices.Contains(o.Verbs, strings.ToUpper(t.value))
		case "outcome":
			is = o.Outcome == t.value
		case "effect":
			is = o.Effect == t.value
		case "rule":
			is = o.Rule == t.value
		}
		if is == t.not {
			return false
		}
	}
	return true
}

func drawFilter(rt *rapid.T) Filter {
	if rapid.Bool().Draw(rt, "everything") {
		return Filter{Limit: rapid.IntRange(1, 20).Draw(rt, "limit")}
	}
	f := Filter{
		Caller:     rapid.SampledFrom([]string{"", "", "ana", "2", "nobody"}).Draw(rt, "caller"),
		Connection: rapid.SampledFrom([]string{"", "", "alpha"}).Draw(rt, "connection"),
		State:      rapid.SampledFrom([]string{"", "", SessionOpen, SessionClosed, SessionTurnedAway}).Draw(rt, "state"),
		Limit:      rapid.IntRange(1, 20).Draw(rt, "limit"),
	}
	if rapid.Bool().Draw(rt, "narrowed to a viewer") {
		f.Viewer = &Viewer{"https://id", rapid.SampledFrom([]string{"1", "2", "3"}).Draw(rt, "viewer")}
	}
	for _, at := range []*time.Time{&f.Since, &f.Until} {
		if rapid.Bool().Draw(rt, "narrowed in time") {
			*at = t0.Add(time.Duration(rapid.Int64Range(-5_000_000, 60_000_000).Draw(rt, "µs")) * time.Microsecond)
		}
	}
	return f
}

func drawQuery(rt *rapid.T, m *model) string {
	var terms []string
	for range rapid.IntRange(0, 3).Draw(rt, "terms") {
		value := rapid.SampledFrom(vocabulary).Draw(rt, "value")
		field := rapid.SampledFrom([]string{"", "", "", "phrase", "who", "connection", "session", "table", "verb", "outcome", "effect", "rule"}).Draw(rt, "field")
		switch field {
		case "phrase":
			field, value = "", `"`+value+" "+rapid.SampledFrom(vocabulary).Draw(rt, "next")+`"`
		case "who":
			value = rapid.SampledFrom([]string{"ana", "bob", "skill:reporter"}).Draw(rt, "who")
		case "session":
			value = string(custos.NewSessionID())
			if len(m.sessions) > 0 {
				value = string(rapid.SampledFrom(m.sessions).Draw(rt, "session").ID)
			}
		case "outcome":
			value = rapid.SampledFrom([]string{"ok", "error", OutcomeUnsettled, OutcomeRefused}).Draw(rt, "outcome")
		case "effect":
			value = rapid.SampledFrom([]string{"allow", "refuse"}).Draw(rt, "effect")
		}
		if field != "" {
			value = field + ":" + value
		}
		terms = append(terms, rapid.SampledFrom([]string{"", "", "-"}).Draw(rt, "not")+value)
	}
	return strings.Join(terms, " ")
}

// pages reads all pages of a list, and checks that each but the last is full.
func pages[T any](rt *rapid.T, f Filter, read func(Filter) ([]T, string, error)) (all []T) {
	for {
		items, next, err := read(f)
		if err != nil {
			rt.Fatal(err)
		}
		all = append(all, items...)
		if next == "" {
			return all
		}
		if len(items) != f.Limit {
			rt.Fatalf("a page of %d where %d were asked for", len(items), f.Limit)
		}
		f.Cursor = next
	}
}

// Whatever a list is narrowed by and whichever list is walked for it, its
// pages hold what a plain look at every entry finds.
func TestListsAgreeWithAPlainLook(t *testing.T) {
	x := open(t)
	long := shortList
	defer func() { shortList = long }()
	rapid.Check(t, func(rt *rapid.T) {
		items := history(rt)
		m := modelOf(items)
		if err := x.Reset(); err != nil {
			rt.Fatal(err)
		}
		if err := x.Apply(items); err != nil {
			rt.Fatal(err)
		}
		shortList = rapid.SampledFrom([]int{1, 5, long}).Draw(rt, "short list")
		f := drawFilter(rt)
		var want, got []string
		for _, s := range m.sessions {
			if m.session(&f, &s, s.StartedAt) {
				want = append(want, fmt.Sprint(s.ID, s.State, s.Operations))
			}
		}
		for _, s := range pages(rt, f, func(f Filter) ([]Session, string, error) { return x.Sessions(t.Context(), f) }) {
			got = append(got, fmt.Sprint(s.ID, s.State, s.Operations))
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("sessions %+v:\ngot  %v\nwant %v", f, got, want)
		}

		f.Query, want, got = drawQuery(rt, m), nil, nil
		terms, err := split(f.Query)
		if err != nil {
			rt.Fatal(err)
		}
		for _, o := range m.operations {
			s := &m.sessions[slices.IndexFunc(m.sessions, func(s Session) bool { return s.ID == o.Session })]
			if m.session(&f, s, o.At) && m.operation(terms, &o, s) {
				want = append(want, fmt.Sprint(o.Entry, o.Text, o.Outcome))
			}
		}
		for _, o := range pages(rt, f, func(f Filter) ([]Operation, string, error) { return x.Search(t.Context(), f) }) {
			got = append(got, fmt.Sprint(o.Entry, o.Text, o.Outcome))
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("search %+v:\ngot  %v\nwant %v", f, got, want)
		}
	})
}

// dump is all that an index holds.
func dump(rt *rapid.T, x *Index) string {
	var b strings.Builder
	// The numbers of the lists' names are as it came.
	named := "SELECT n.name, l.entry FROM %s l JOIN names n ON n.number = l.name ORDER BY 1, 2"
	queries := map[string]string{"session_lists": fmt.Sprintf(named, "session_lists"), "operation_lists": fmt.Sprintf(named, "operation_lists")}
	for _, table := range []string{"progress", "seconds", "sessions", "operations", "session_lists", "operation_lists", "words"} {
		rows, err := x.read.Query(cmp.Or(queries[table], "SELECT * FROM "+table))
		if err != nil {
			rt.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			rt.Fatal(err)
		}
		fmt.Fprintln(&b, table, columns)
		for rows.Next() {
			values := make([]any, len(columns))
			to := make([]any, len(columns))
			for i := range values {
				to[i] = &values[i]
			}
			if err := rows.Scan(to...); err != nil {
				rt.Fatal(err)
			}
			fmt.Fprintln(&b, values...)
		}
		if err := rows.Err(); err != nil {
			rt.Fatal(err)
		}
	}
	return b.String()
}

// However the entries are cut into batches, and whatever is applied twice, the
// index is the same: one that kept up, and one that was rebuilt.
func TestRebuildIsTheSame(t *testing.T) {
	whole, parts := open(t), open(t)
	rapid.Check(t, func(rt *rapid.T) {
		items := history(rt)
		if err := cmp.Or(whole.Reset(), parts.Reset(), whole.Apply(items)); err != nil {
			rt.Fatal(err)
		}
		for at := 0; at < len(items); {
			from := rapid.IntRange(0, at).Draw(rt, "from")
			to := rapid.IntRange(at+1, len(items)).Draw(rt, "to")
			if err := parts.Apply(items[from:to]); err != nil {
				rt.Fatal(err)
			}
			at = to
		}
		if got, want := dump(rt, parts), dump(rt, whole); got != want {
			rt.Fatalf("got  %s\nwant %s", got, want)
		}
		if err := whole.Apply([]Item{{Index: uint64(len(items)) + 1, Entry: &custos.Entry{}}}); err == nil {
			rt.Fatal("a gap was taken")
		}
	})
}

// At many sessions every page of every list is still found from its cursor, and
// all pages together hold each session once.
func TestPagesOfManySessions(t *testing.T) {
	x, err := Open(filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	const sessions, each = manySessions, 1000
	var s story
	for i := range each {
		caller := bob
		if i%100 == 0 {
			caller = reporter
		}
		s.opened(caller, "orders")
	}
	if err := x.Apply(s.items); err != nil {
		t.Fatal(err)
	}
	// The rest are copies, further on.
	for _, q := range []string{
		`INSERT INTO sessions SELECT s.entry + n.value * ?1, s.id || n.value, caller, issuer, subject, kind, groups, behalf, behalf_issuer, behalf_subject,
			connection, protocol, client, started, ended, state, reason, rule, operations, erased, held, skill, asserted FROM sessions s CROSS JOIN generate n`,
		`INSERT INTO session_lists SELECT l.name, l.entry + n.value * ?1 FROM session_lists l CROSS JOIN generate n`,
	} {
		generate := `WITH RECURSIVE generate (value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM generate WHERE value < ?2 - 1) `
		if _, err := x.write.Exec(generate+q, each, sessions/each); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		filter Filter
		want   int
	}{
		"all":          {Filter{}, sessions},
		"ana's":        {Filter{Viewer: &Viewer{"https://id", "1"}}, sessions / 100},
		"bob's, open":  {Filter{Viewer: &Viewer{"https://id", "2"}, State: SessionOpen}, sessions / 100 * 99},
		"bob's, ended": {Filter{Caller: "bob", State: SessionClosed}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			seen, last := 0, uint64(sessions)
			for f := c.filter; ; {
				f.Limit = 5000
				items, next, err := x.Sessions(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range items {
					if i.Opened >= last {
						t.Fatalf("entry %d after %d", i.Opened, last)
					}
					last = i.Opened
				}
				seen += len(items)
				if f.Cursor = next; next == "" {
					break
				}
			}
			if seen != c.want {
				t.Errorf("%d sessions, want %d", seen, c.want)
			}
		})
	}
}
