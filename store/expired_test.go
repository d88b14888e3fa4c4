package store

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

func TestExpired(t *testing.T) {
	x, err := Open(filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var s story
	var want []custos.SessionID
	marked := func(kind custos.EntryKind, id custos.SessionID) {
		s.add(custos.Entry{Kind: kind, Session: id, Note: &custos.Note{By: "root"}}, nil)
	}
	open, elsewhere, erased, held, freed := s.opened(ana, "orders"), s.opened(ana, "billing"), s.opened(ana, "orders"), s.opened(bob, "orders"), s.opened(bob, "orders")
	for range 5 {
		id := s.opened(reporter, "orders")
		want = append(want, id)
		s.closed(id)
	}
	for _, id := range []custos.SessionID{elsewhere, erased, held, freed} {
		s.closed(id)
	}
	marked(custos.EntryErased, erased)
	marked(custos.EntryHeld, held)
	marked(custos.EntryHeld, freed)
	marked(custos.EntryFreed, freed)
	want = append(want, freed)
	before := t0.Add(time.Duration(len(s.items)) * time.Minute)
	late := s.opened(ana, "orders")
	s.closed(late)
	if err := x.Apply(s.items); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 2, 100} {
		var got []custos.SessionID
		for after := (*Session)(nil); ; {
			page, err := x.Expired(t.Context(), "orders", before, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for i := range page {
				got = append(got, page[i].ID)
			}
			after = &page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v, want %v; %v is open", limit, got, want, open)
		}
	}
	var plan string
	var n int
	if err := x.read.QueryRow("EXPLAIN QUERY PLAN SELECT id FROM sessions s WHERE s.connection = 'a' AND s.ended < 1 AND s.erased IS NULL AND s.held IS NULL AND s.state = 'closed' AND (s.ended, s.entry) > (1, 1) ORDER BY s.ended, s.entry").Scan(&n, &n, &n, &plan); err != nil {
		t.Fatal(err)
	}
	if want := "SEARCH s USING INDEX sessions_to_erase (connection=? AND ended>? AND ended<?)"; plan != want {
		t.Errorf("the plan is %s, want %s", plan, want)
	}
	for id, want := range map[custos.SessionID][2]bool{erased: {true, false}, held: {false, true}, freed: {}} {
		if got, err := x.Session(t.Context(), id, Filter{}); err != nil || (got.Erased != nil) != want[0] || (got.Held != nil) != want[1] {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
