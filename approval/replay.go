package approval

import (
	"time"

	custos "github.com/custos-gateway/custos"
)

// Replay finds the approvals that are not over in the ledger's entries, which
// it is given in order.
type Replay map[string]*custos.Approval

// Entry takes one entry.
func (r Replay) Entry(e *custos.Entry) {
	switch a := e.Approval; {
	case e.Kind == custos.EntryAsked && a != nil:
		r[a.ID] = a
	case (e.Kind == custos.EntryAnswered || e.Kind == custos.EntryEnded) && a != nil:
		if of := r[a.ID]; of != nil {
			of.State, of.Until = a.State, a.Until
			of.Answers = append(of.Answers, a.Answers...)
		}
	case e.Kind == custos.EntryReleased && e.Released != nil:
		if of := r[e.Released.Approval]; of != nil && of.For == 0 {
			of.State = custos.ApprovalUsed
		}
	}
}

// Left returns those that still matter at a time.
func (r Replay) Left(now time.Time) []custos.Approval {
	var left []custos.Approval
	for _, a := range r {
		switch {
		case a.State == custos.ApprovalPending, a.State == custos.ApprovalApproved && now.Before(end(a)):
			left = append(left, *a)
		}
	}
	return left
}

// end is when an approval ends by itself.
func end(a *custos.Approval) time.Time {
	if !a.Until.IsZero() {
		return a.Until
	}
	return a.Expires
}
