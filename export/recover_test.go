package export_test

import (
	"testing"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/export/exporttest"
)

func entriesOf(t *testing.T, h *exporttest.House, from uint64) []*custos.Entry {
	t.Helper()
	var all []*custos.Entry
	if err := h.Ledger.Scan(from, h.Ledger.Size(), func(_ uint64, leaf, _ []byte) error {
		e, err := custos.ParseEntry(leaf)
		all = append(all, e)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A gateway dies with two sessions open: what it left has an end afterwards,
// and what was closed stays as it was.
func TestRecoverClosesWhatWasLeftOpen(t *testing.T) {
	h := exporttest.New(t)
	done := h.Session(exporttest.Bob)
	done.Run("SELECT 1", "one")
	done.Close()
	cut := h.Session(exporttest.Ana)
	cut.Run("SELECT 2", "two")
	refused := cut.Submit("DROP TABLE t", custos.Refuse)
	large := cut.Submit("SELECT large", custos.Allow)
	cut.Answer(large, exporttest.Large(), exporttest.Large())
	small := cut.Submit("SELECT small", custos.Allow)
	idle := h.Session(exporttest.Skill)
	h.Close()
	h.Open()
	before := h.Ledger.Size()

	found, err := export.Recover(h.Ledger, h.Recordings, h.Now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found.Sessions != 2 || found.Operations != 2 {
		t.Errorf("found %+v", found)
	}
	got := entriesOf(t, h, before)
	if len(got) != 5 {
		t.Fatalf("%d entries were added", len(got))
	}
	for i, want := range []uint64{large, small} {
		s := got[i].Settled
		if s == nil || s.Operation != want || s.State != custos.StateInterrupted || got[i].Session != cut.ID {
			t.Errorf("entry %d is %+v, not the outcome of %d", i, got[i], want)
		}
	}
	if d := got[0].Settled.Recording; d == nil || d.Bytes == 0 {
		t.Error("what was kept of the large answer is not cited")
	} else if err := h.Recordings.Check(cut.ID, large, *d); err != nil {
		t.Error(err)
	}
	if c := got[2].Closed; c == nil || got[2].Session != cut.ID || c.Operations != 4 {
		t.Errorf("entry 2 is %+v, not the end of a session of 4 operations", got[2])
	}
	if c := got[3].Closed; c == nil || got[3].Session != idle.ID || c.Operations != 0 {
		t.Errorf("entry 3 is %+v, not the end of the idle session", got[3])
	}
	if got[4].Kind != custos.EntryRecovered {
		t.Errorf("entry 4 is %+v", got[4])
	}
	for _, e := range got {
		if e.Settled != nil && e.Settled.Operation == refused {
			t.Error("a refused operation got an outcome")
		}
	}
	again, err := export.Recover(h.Ledger, h.Recordings, h.Now, nil)
	if err != nil || again.Sessions != 0 || h.Ledger.Size() != before+5 {
		t.Errorf("the second time it found %+v, %v", again, err)
	}
}

// A crash after any entry of a recovery: the next one does the rest, and
// nothing twice.
func TestRecoverGoesOnAfterACrash(t *testing.T) {
	for stop := 0; stop < 4; stop++ {
		h := exporttest.New(t)
		s := h.Session(exporttest.Ana)
		a, b := s.Submit("SELECT 1", custos.Allow), s.Submit("SELECT 2", custos.Allow)
		// What the crashed recovery did:
		left := []custos.Entry{
			{Kind: custos.EntrySettled, Session: s.ID, Settled: &custos.Settled{Operation: a, State: custos.StateInterrupted}},
			{Kind: custos.EntrySettled, Session: s.ID, Settled: &custos.Settled{Operation: b, State: custos.StateInterrupted}},
			{Kind: custos.EntryClosed, Session: s.ID, Closed: &custos.Closed{Operations: 2}},
		}
		for i := range left[:stop] {
			h.Keep(&left[i], nil)
		}
		if _, err := export.Recover(h.Ledger, h.Recordings, h.Now, nil); err != nil {
			t.Fatal(err)
		}
		settled, closed := map[uint64]int{}, 0
		for _, e := range entriesOf(t, h, 0) {
			if e.Settled != nil {
				settled[e.Settled.Operation]++
			}
			if e.Closed != nil {
				closed++
			}
		}
		if settled[a] != 1 || settled[b] != 1 || closed != 1 {
			t.Errorf("after a crash at %d: outcomes %v, %d ends", stop, settled, closed)
		}
	}
}
