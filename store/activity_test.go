package store

import (
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

func TestActivity(t *testing.T) {
	x := open(t)
	_, b, _ := told(t, x)
	count := func(v *Viewer) *Activity {
		t.Helper()
		a, err := x.Activity(t.Context(), Filter{Since: t0, Until: t0.Add(20 * time.Minute), Viewer: v}, 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := count(nil)
	// An entry a minute: operations at 1, 4, 7 and 10 minutes, the last refused.
	if len(a.Spans) != 4 || a.Spans[0].Allowed != 2 || a.Spans[1].Allowed != 1 || a.Spans[2].Refused != 1 || a.Spans[3].all() != 0 || a.Spans[0].Rows != 2 {
		t.Errorf("%+v", a.Spans)
	}
	if len(a.Callers) != 3 || a.Callers[0].Name != "bob" || a.Callers[0].Allowed != 1 || a.Callers[0].Refused != 1 {
		t.Errorf("callers: %+v", a.Callers)
	}
	if len(a.Connections) != 2 || a.Connections[0].Name != "orders" || a.Connections[0].all() != 3 {
		t.Errorf("connections: %+v", a.Connections)
	}
	// ana sees her own and what the skill did on her behalf.
	a = count(&Viewer{Issuer: ana.Issuer, Subject: ana.Subject})
	if len(a.Callers) != 2 || a.Spans[0].Allowed != 1 || a.Spans[1].Allowed != 1 || a.Spans[2].all() != 0 {
		t.Errorf("ana's: %+v", a)
	}
	if a := count(&Viewer{Issuer: "https://other", Subject: ana.Subject}); len(a.Callers) != 0 {
		t.Errorf("a namesake's: %+v", a)
	}
	for _, f := range []Filter{{}, {Since: t0, Until: t0}, {Since: t0, Until: t0.Add(-time.Hour)}} {
		if _, err := x.Activity(t.Context(), f, time.Minute); err == nil {
			t.Errorf("%v until %v is taken", f.Since, f.Until)
		}
	}

	at := t0.Add(30 * time.Minute)
	var more []Item
	for i, rules := range [][]string{{"a", "b"}, {"a"}, nil} {
		more = append(more, Item{Index: uint64(12 + i), Entry: &custos.Entry{Kind: custos.EntrySubmitted, At: at, Session: b,
			Submit: &custos.Submitted{Class: "Query", Effect: "approve", DryRun: rules}}, Operation: &custos.Operation{Text: "x"}})
	}
	if err := x.Apply(more); err != nil {
		t.Fatal(err)
	}
	found, err := x.DryRuns(t.Context(), t0)
	if err != nil || len(found) != 2 || found[0] != (DryRun{"a", 2}) || found[1] != (DryRun{"b", 1}) {
		t.Errorf("dry-runs: %+v, %v", found, err)
	}
	if found, err := x.DryRuns(t.Context(), at.Add(time.Second)); err != nil || len(found) != 0 {
		t.Errorf("later: %+v, %v", found, err)
	}
	if a, err := x.Activity(t.Context(), Filter{Since: at, Until: at.Add(time.Minute)}, time.Minute); err != nil || a.Spans[0].Held != 3 {
		t.Errorf("held: %+v, %v", a, err)
	}
}
