package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	custos "github.com/custos-gateway/custos"
)

// Approver asks people. Each step is on record before it returns.
type Approver interface {
	// Ask files a request, or returns what was filed for the same before and
	// is pending, or approved and not used. within is how long it lives; 0:
	// as long as the approver likes.
	Ask(a custos.Approval, within time.Duration) (custos.Approval, error)
	// Granted names the access that was approved for a caller on a connection
	// and lasts, and that covers an operation with these effects; "": none.
	// Access that nobody agreed to counts where breakGlass is set. It is asked
	// for every operation.
	Granted(caller *custos.Principal, connection string, effects []string, breakGlass bool) (id string)
	// Await returns when an approval is no longer pending, or with ctx.
	Await(ctx context.Context, id string) (custos.Approval, error)
	// Use lets an operation through by an approval, durably: one that is
	// approved, and bound to digest. That of one operation serves once.
	Use(id, digest string, session custos.SessionID, operation uint64) error
	// Withdraw ends a pending approval of one operation.
	Withdraw(id string) error
}

// standardHold is how long an operation is held for a caller of whose kind
// nothing is configured: what tools of AI agents wait for at most is two
// minutes.
const standardHold = time.Minute

func (g *Gate) hold(kind custos.Kind) time.Duration {
	if d, ok := g.Hold[kind]; ok {
		return d
	}
	return standardHold
}

// granted names the access by which an operation that policy holds goes
// through; "": none.
func (s *Session) granted(d *custos.Decision, op *custos.Operation) string {
	return s.gate.Approver.Granted(s.caller, s.conn.Name, effectsOf(op), d.Approvers != nil && d.Approvers.BreakGlass)
}

func effectsOf(op *custos.Operation) []string {
	if op.Facts == nil {
		return nil
	}
	return op.Facts.Effects
}

// held asks people about an operation that policy holds, and waits for them.
// The operation goes on with what it returns: a permit, on record as released
// by the approval, or a refusal. A crash before that leaves an operation that
// was not sent, and the approval as it was.
func (s *Session) held(ctx context.Context, r *Request, d custos.Decision) (*Permit, error) {
	g := s.gate
	p, err := s.intend(*r, d)
	if err == nil {
		err = g.Ledger.Durable(p.entry)
	}
	if err != nil {
		return nil, s.refusal(unavailable("ledger-unavailable", err), true)
	}
	refusal, err := s.awaitRelease(ctx, r, d, p)
	if err == nil && refusal == nil {
		return p, nil
	}
	s.notSent(p)
	if err != nil {
		return nil, s.refusal(unavailable("approval-unavailable", err), true)
	}
	refusal.Session, refusal.Entry, refusal.Recorded = s.id, p.entry, true
	return nil, refusal
}

// notSent puts on record that nothing of an operation was sent.
func (s *Session) notSent(p *Permit) {
	if err := p.Settle(Outcome{State: custos.StateNotSent}); err != nil && !errors.Is(err, errSettled) {
		s.gate.Logger.Error("settle held operation", "session", s.id, "entry", p.entry, "cause", err)
	}
}

// Question is leave that is asked for before something is run.
type Question struct {
	Caller     *custos.Principal // whose token was verified
	Connection string
	// Statement is what is to be run, byte for byte.
	Statement string
	// Purpose is what it is for, in the caller's words.
	Purpose string
	// Client is the caller's address.
	Client string
}

// Ask files a request for an operation before it is run, and does not wait. It
// returns what policy decides; with Approve, the approval, by which the very
// same operation of the same caller goes through once. What policy refuses is
// on record as refused, and returned as a *custos.Refusal: nobody can be asked
// for it. What it allows needs nobody, and nothing is recorded of it.
func (s *Session) Ask(ctx context.Context, r *Request, purpose string) (custos.Approval, custos.Decision, error) {
	g := s.gate
	d := s.decide(r)
	switch {
	case d.Effect == custos.Allow:
		return custos.Approval{}, d, nil
	case d.Effect == custos.Approve && g.Approver == nil:
		d.Effect = custos.Refuse
	case d.Effect == custos.Approve:
		if id := s.granted(&d, r.Operation); id != "" {
			d.Effect, d.Reason = custos.Allow, "approval "+id+" covers it"
			return custos.Approval{}, d, nil
		}
	}
	if err := g.Space.ForOperation(); err != nil {
		return custos.Approval{}, d, s.refusal(unavailable("space", err), true)
	}
	p, err := s.intend(*r, d)
	if err == nil {
		err = g.Ledger.Durable(p.entry)
	}
	if err != nil {
		return custos.Approval{}, d, s.refusal(unavailable("ledger-unavailable", err), true)
	}
	if d.Effect != custos.Approve {
		return custos.Approval{}, d, &custos.Refusal{Decision: d, Session: s.id, Entry: p.entry, Recorded: true}
	}
	defer s.notSent(p)
	a, err := s.file(ctx, r, d, p, purpose)
	if err != nil {
		return custos.Approval{}, d, s.refusal(unavailable("approval-unavailable", err), true)
	}
	return a, d, nil
}

// named is how many objects of an operation an approval names.
const named = 20

// file files a request for an operation that is on record.
func (s *Session) file(ctx context.Context, r *Request, d custos.Decision, p *Permit, purpose string) (custos.Approval, error) {
	op := r.Operation
	a := custos.Approval{Session: s.id, Operation: p.entry, Digest: custos.BindingDigest(s.caller, s.conn.Name, d.Policy, op),
		Caller: *s.caller, Connection: s.conn.Name, Rule: d.Rule, Reason: d.Reason, Policy: d.Policy, Purpose: purpose,
		Verbs: op.Verbs[:min(len(op.Verbs), named)], Objects: op.Objects[:min(len(op.Objects), named)]}
	var within time.Duration
	exact := false
	if by := d.Approvers; by != nil {
		a.Groups, a.Count, within, exact = by.Groups, by.Count, by.Within, by.Exact
		if by.Statement {
			a.Statement = op.Text
		}
	}
	if r.Preview != nil {
		a.Estimate = r.Preview(ctx, exact)
	}
	return s.gate.Approver.Ask(a, within)
}

// awaitRelease returns when the operation is released, or with why it is not.
func (s *Session) awaitRelease(ctx context.Context, r *Request, d custos.Decision, p *Permit) (*custos.Refusal, error) {
	g := s.gate
	if id := s.granted(&d, r.Operation); id != "" {
		return s.release(r, d, p, id, true)
	}
	a, err := s.file(ctx, r, d, p, "")
	if err != nil {
		return nil, err
	}
	if a.State == custos.ApprovalPending {
		if r.Held != nil {
			ctx = r.Held(&a)
		}
		budget := g.hold(s.caller.Kind)
		if r.Patience > 0 {
			budget = min(budget, r.Patience)
		}
		wait, cancel := context.WithTimeout(ctx, budget)
		a, err = g.Approver.Await(wait, a.ID)
		over := wait.Err() != nil && a.State == custos.ApprovalPending
		cancel()
		switch {
		case over && ctx.Err() != nil:
			if err := g.Approver.Withdraw(a.ID); err != nil {
				g.Logger.Error("withdraw approval", "session", s.id, "approval", a.ID, "cause", err)
			}
			d.Reason = "the hold was given up; nothing was sent"
			return &custos.Refusal{Decision: d, Approval: a.ID, Retry: true}, nil
		case over:
			d.Reason += fmt.Sprintf("; approval %s is pending", a.ID)
			d.Hint = "run the same again once it is approved: custos approval wait " + a.ID
			return &custos.Refusal{Decision: d, Approval: a.ID, Retry: true}, nil
		case err != nil && a.State == custos.ApprovalPending:
			return nil, err
		}
	}
	if a.State != custos.ApprovalApproved {
		d.Effect = custos.Refuse
		d.Reason, d.Hint = "the approval is "+string(a.State), "ask again, with what the reviewer wants to know"
		if n := len(a.Answers); n > 0 && a.State == custos.ApprovalDenied {
			d.Reason = "a reviewer denied it: " + a.Answers[n-1].Reason
		}
		return &custos.Refusal{Decision: d, Approval: a.ID}, nil
	}
	return s.release(r, d, p, a.ID, false)
}

// release judges once more what was approved, and lets it through. Policy may
// have changed since; then what was approved was something else. Access is
// looked for again.
func (s *Session) release(r *Request, before custos.Decision, p *Permit, id string, access bool) (*custos.Refusal, error) {
	d := s.decide(r)
	if d.Effect == custos.Refuse {
		return &custos.Refusal{Decision: d, Approval: id}, nil
	}
	if access {
		id = s.granted(&d, r.Operation)
	}
	if d.Policy != before.Policy || id == "" {
		before.Reason, before.Hint = "the policy, or the access, has changed since it was asked for", "run the same again, to ask under what is in force"
		return &custos.Refusal{Decision: before, Approval: id, Retry: true}, nil
	}
	if err := context.Cause(s.ctx); err != nil {
		return &custos.Refusal{Decision: custos.Decision{Rule: "session", Reason: err.Error(), Hint: "open a new session"}, Retry: true}, nil
	}
	// The digest is taken anew: what goes out is what was approved.
	digest := custos.BindingDigest(s.caller, s.conn.Name, d.Policy, r.Operation)
	if err := s.gate.Approver.Use(id, digest, s.id, p.entry); err != nil {
		return nil, err
	}
	p.masks = d.Masks
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if r.Operation.Writes {
		s.count(s.gate.Now(), custos.Counts{Writes: 1})
	}
	return nil, nil
}
