package export

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
)

// Recovered is what Recover found and closed.
type Recovered struct {
	Sessions, Operations int
}

// lost is a session that nobody closed.
type lost struct {
	opened     uint64
	operations int64
	// unsettled has the state of each operation without an outcome.
	unsettled map[uint64]custos.State
}

// reasonInterrupted is why such a session ended.
const reasonInterrupted = "interrupted: the gateway ended without closing it"

// Recover closes the sessions that the gateway's last run left open: each of
// their operations without an outcome gets the outcome "interrupted", with
// what was kept of its answer, and each session an end. It must run before
// the first session is opened.
//
// A crash in it leaves some of that undone, and the next Recover does it: it
// goes by what the ledger says, and the ledger says what was done.
//
// each, if it is not nil, is given every entry, as it is gone through.
func Recover(log *ledger.Log, recordings *recording.Store, now func() time.Time, each func(index uint64, e *custos.Entry)) (*Recovered, error) {
	open := map[custos.SessionID]*lost{}
	if err := log.Scan(0, log.Size(), func(index uint64, leaf, _ []byte) error {
		e, err := custos.ParseEntry(leaf)
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if each != nil {
			each(index, e)
		}
		track(open, index, e)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("recover sessions: %w", err)
	}
	found := new(Recovered)
	if len(open) == 0 {
		return found, nil
	}
	ids := slices.SortedFunc(maps.Keys(open), func(a, b custos.SessionID) int { return cmp.Compare(open[a].opened, open[b].opened) })
	var last uint64
	keep := func(e *custos.Entry) (err error) {
		e.At = now()
		last, err = log.Append(e.AppendJSON(nil), nil)
		return err
	}
	for _, id := range ids {
		s := open[id]
		for _, index := range slices.Sorted(maps.Keys(s.unsettled)) {
			settled := &custos.Settled{Operation: index, State: s.unsettled[index]}
			kept, err := recordings.Salvage(id, index)
			if err != nil {
				return nil, fmt.Errorf("recover sessions: keep what there is of the answer to entry %d: %w", index, err)
			}
			settled.Recording = kept
			if err := keep(&custos.Entry{Kind: custos.EntrySettled, Session: id, Settled: settled}); err != nil {
				return nil, fmt.Errorf("recover sessions: %w", err)
			}
			found.Operations++
		}
		if err := keep(&custos.Entry{Kind: custos.EntryClosed, Session: id,
			Closed: &custos.Closed{Reason: reasonInterrupted, Operations: s.operations}}); err != nil {
			return nil, fmt.Errorf("recover sessions: %w", err)
		}
		found.Sessions++
	}
	if err := keep(&custos.Entry{Kind: custos.EntryRecovered, Note: &custos.Note{
		Text: fmt.Sprintf("closed %d sessions, %d operations without an outcome", found.Sessions, found.Operations)}}); err != nil {
		return nil, fmt.Errorf("recover sessions: %w", err)
	}
	if err := log.Durable(last); err != nil {
		return nil, fmt.Errorf("recover sessions: %w", err)
	}
	return found, nil
}

// track keeps the account of who is open.
func track(open map[custos.SessionID]*lost, index uint64, e *custos.Entry) {
	s := open[e.Session]
	switch {
	case e.Kind == custos.EntryOpened:
		open[e.Session] = &lost{opened: index, unsettled: map[uint64]custos.State{}}
	case s == nil:
	case e.Kind == custos.EntryClosed:
		delete(open, e.Session)
	case e.Kind == custos.EntrySubmitted && e.Submit != nil:
		s.operations++
		switch e.Submit.Effect {
		case custos.Allow.String():
			s.unsettled[index] = custos.StateInterrupted
		case custos.Approve.String():
			s.unsettled[index] = custos.StateNotSent // held, until it is released
		}
	case e.Kind == custos.EntryReleased && e.Released != nil:
		s.unsettled[e.Released.Operation] = custos.StateInterrupted
	case e.Kind == custos.EntrySettled && e.Settled != nil:
		delete(s.unsettled, e.Settled.Operation)
	}
}
