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
	// and lasts; "": none.
	Granted(caller *custos.Principal, connection string) (id string)
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
	// Nothing of it was sent, and the record says so.
	if e := p.Settle(Outcome{State: custos.StateNotSent}); e != nil && !errors.Is(e, errSettled) {
		g.Logger.Error("settle held operation", "session", s.id, "entry", p.entry, "cause", e)
	}
	if err != nil {
		return nil, s.refusal(unavailable("approval-unavailable", err), true)
	}
	refusal.Session, refusal.Entry, refusal.Recorded = s.id, p.entry, true
	return nil, refusal
}

// awaitRelease returns when the operation is released, or with why it is not.
func (s *Session) awaitRelease(ctx context.Context, r *Request, d custos.Decision, p *Permit) (*custos.Refusal, error) {
	g := s.gate
	digest := custos.BindingDigest(s.caller, s.conn.Name, d.Policy, r.Operation)
	if id := g.Approver.Granted(s.caller, s.conn.Name); id != "" {
		return s.release(r, d, p, id, digest)
	}
	a := custos.Approval{Session: s.id, Operation: p.entry, Digest: digest, Caller: *s.caller, Connection: s.conn.Name, Rule: d.Rule, Reason: d.Reason, Policy: d.Policy}
	var within time.Duration
	if d.Approvers != nil {
		a.Groups, a.Count, within = d.Approvers.Groups, d.Approvers.Count, d.Approvers.Within
	}
	a, err := g.Approver.Ask(a, within)
	if err != nil {
		return nil, err
	}
	if a.State == custos.ApprovalPending {
		if r.Held != nil {
			ctx = r.Held(&a)
		}
		wait, cancel := context.WithTimeout(ctx, g.hold(s.caller.Kind))
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
	return s.release(r, d, p, a.ID, digest)
}

// release judges once more what was approved, and lets it through. Policy may
// have changed since; then what was approved was something else.
func (s *Session) release(r *Request, before custos.Decision, p *Permit, id, digest string) (*custos.Refusal, error) {
	d := s.decide(r)
	if d.Effect == custos.Refuse {
		return &custos.Refusal{Decision: d, Approval: id}, nil
	}
	if d.Policy != before.Policy || custos.BindingDigest(s.caller, s.conn.Name, d.Policy, r.Operation) != digest {
		before.Reason, before.Hint = "the policy has changed since it was asked for", "run the same again, to ask under the policy that is in force"
		return &custos.Refusal{Decision: before, Approval: id, Retry: true}, nil
	}
	if err := context.Cause(s.ctx); err != nil {
		return &custos.Refusal{Decision: custos.Decision{Rule: "session", Reason: err.Error(), Hint: "open a new session"}, Retry: true}, nil
	}
	if err := s.gate.Approver.Use(id, digest, s.id, p.entry); err != nil {
		return nil, err
	}
	p.masks = d.Masks
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	s.unsettled[p] = struct{}{}
	if r.Operation.Writes {
		s.count(s.gate.Now(), custos.Counts{Writes: 1})
	}
	return nil, nil
}
