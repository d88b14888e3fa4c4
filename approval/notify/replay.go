package notify

import (
	"cmp"
	"slices"
	"time"

	custos "github.com/custos-gateway/custos"
)

// Replay finds in the ledger's entries, which it is given in order, what people
// were not told yet: an approval each, by id.
type Replay map[string]*replayed

type replayed struct {
	approval custos.Approval
	told     map[string]bool // channel and event
	failed   []Undelivered
	ended    time.Time
}

// forgotten is how long after its end an approval's undelivered messages are
// kept.
const forgotten = 7 * 24 * time.Hour

// Entry takes one entry.
func (r Replay) Entry(e *custos.Entry) {
	switch a := e.Approval; {
	case e.Kind == custos.EntryAsked && a != nil:
		r[a.ID] = &replayed{approval: *a, told: map[string]bool{}}
		if len(r)%sweepEvery == 0 {
			r.forget(e.At)
		}
	case (e.Kind == custos.EntryAnswered || e.Kind == custos.EntryEnded) && a != nil:
		if of := r[a.ID]; of != nil {
			of.approval.State, of.approval.Until = a.State, a.Until
			of.approval.Answers = append(of.approval.Answers, a.Answers...)
			of.ended = e.At
		}
	case e.Kind == custos.EntryReleased && e.Released != nil:
		if of := r[e.Released.Approval]; of != nil && of.approval.For == 0 {
			of.approval.State, of.ended = custos.ApprovalUsed, e.At
		}
	case e.Kind == custos.EntryNotified && e.Notified != nil:
		if of := r[e.Notified.Approval]; of != nil {
			of.notified(e)
		}
	}
}

// sweepEvery is after how many more approvals those that are long over are
// forgotten.
const sweepEvery = 4096

// forget keeps the replay of a long ledger small.
func (r Replay) forget(now time.Time) {
	for id, of := range r {
		if !of.ended.IsZero() && now.Sub(of.ended) > forgotten {
			delete(r, id)
		}
	}
}

func (of *replayed) notified(e *custos.Entry) {
	n := e.Notified
	of.told[n.Channel+" "+n.Event] = true
	of.failed = slices.DeleteFunc(of.failed, func(u Undelivered) bool { return u.Channel == n.Channel && u.Event == n.Event })
	if n.Failed != "" {
		of.failed = append(of.failed, Undelivered{Notified: *n, At: e.At})
	}
}

// pending are the approvals of which somebody may have to be told yet: those
// that wait for an answer, and glass that is broken.
func (r Replay) pending() []custos.Approval {
	var all []custos.Approval
	for _, of := range r {
		if a := of.approval; a.State == custos.ApprovalPending || a.BreakGlass && a.State == custos.ApprovalApproved {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b custos.Approval) int { return a.Requested.Compare(b.Requested) })
	return all
}

// failed are the messages that were given up. What is about an approval that is
// not over can be sent again.
func (r Replay) failed(n *Notifier) []Undelivered {
	var all []Undelivered
	for _, of := range r {
		for _, u := range of.failed {
			if eventOf(&of.approval) == u.Event {
				m := n.message(&of.approval, u.Event)
				u.message = &m
			}
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b Undelivered) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Approval+a.Channel, b.Approval+b.Channel))
	})
	return all[max(0, len(all)-keptFailed):]
}
