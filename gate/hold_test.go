package gate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
)

// holder holds what has "write" in it, beside what a world refuses.
type holder struct {
	*world
	approvers *custos.Approvers
	version   string
}

func (h *holder) Judge(p *custos.Principal, c *custos.Connection, op *custos.Operation, u *custos.Usage, at time.Time) custos.Decision {
	d := h.world.Judge(p, c, op, u, at)
	if d.Effect == custos.Allow && strings.Contains(op.Text, "write") {
		d = custos.Decision{Effect: custos.Approve, Rule: "writes", Reason: "a person must agree", Approvers: h.approvers, Policy: h.version}
	}
	return d
}

func newHolding(t *testing.T) (*holder, *Session, *approval.Desk) {
	t.Helper()
	w, g := newWorld(t)
	h := &holder{world: w, version: "1"}
	desk := approval.New(approval.Options{Ledger: w.book, Now: time.Now, Reviewers: func() []string { return []string{"dba"} }}, nil)
	g.Policy, g.Approver, g.Hold = h, desk, map[custos.Kind]time.Duration{"": time.Minute}
	return h, w.open(t, g), desk
}

var reviewer = &custos.Principal{Issuer: "i", Subject: "rita", Kind: custos.KindPerson, Groups: []string{"dba"}}

func effects(text string, all ...string) Request {
	r := op(text)
	r.Operation.Facts = &custos.Facts{Effects: all}
	return r
}

// TestAskedBeforehand has an operation asked for, approved, and then run: by
// whom it was asked for, as it was, once.
func TestAskedBeforehand(t *testing.T) {
	h, s, desk := newHolding(t)
	heard := h.heard()
	r := op("write 1")
	r.Preview = func(context.Context, bool) *custos.Estimate { return &custos.Estimate{Rows: 7} }
	a, d, err := s.Ask(t.Context(), &r, "ticket 7")
	if err != nil || d.Effect != custos.Approve || a.State != custos.ApprovalPending || a.Purpose != "ticket 7" || a.Estimate.Rows != 7 {
		t.Fatalf("%+v, %+v, %v", a, d, err)
	}
	if got := h.book.kinds(); !strings.HasSuffix(got, "operation.submitted=approve approval.requested operation.settled=not-sent") {
		t.Errorf("on record: %s", got)
	}
	if _, err := desk.Answer(a.ID, reviewer, true, ""); err != nil {
		t.Fatal(err)
	}
	permits, err := s.Submit(t.Context(), nil, []Request{op("write 1")})
	if err != nil || s.Send(permits) != nil {
		t.Fatalf("what was approved: %v", err)
	}
	s.gate.Hold[""] = time.Millisecond
	if _, err := s.Submit(t.Context(), nil, []Request{op("write 1")}); err == nil {
		t.Error("the same went through a second time")
	}
	s.Close("")
	if got := heard(); got != "write 1" {
		t.Errorf("the target heard %q", got)
	}
}

func TestWhatNeedsNobodyAndWhatNobodyCanBeAskedFor(t *testing.T) {
	h, s, desk := newHolding(t)
	before := h.book.kinds()
	r := op("read")
	if a, d, err := s.Ask(t.Context(), &r, "x"); err != nil || d.Effect != custos.Allow || a.ID != "" || h.book.kinds() != before {
		t.Errorf("allowed: %+v, %+v, %v", a, d, err)
	}
	r = op("drop it")
	_, _, err := s.Ask(t.Context(), &r, "x")
	if refusal, ok := errors.AsType[*custos.Refusal](err); !ok || refusal.Rule != "no-drop" || !refusal.Recorded {
		t.Errorf("refused: %v", err)
	}
	h.book.sync = errors.New("no space left on device")
	r = op("write 1")
	if _, _, err := s.Ask(t.Context(), &r, "x"); err == nil {
		t.Error("it was asked for with the ledger failing")
	}
	if all, _ := desk.List(); len(all) > 0 {
		t.Errorf("on the desk: %+v", all)
	}
}

// TestClosedWhileHeld ends a session in which an operation is held: on record,
// its outcome comes before the session's end.
func TestClosedWhileHeld(t *testing.T) {
	h, s, _ := newHolding(t)
	asked, ended := make(chan struct{}), make(chan error, 1)
	r := op("write 1")
	r.Held = func(*custos.Approval) context.Context { close(asked); return s.Context() }
	go func() {
		_, err := s.Submit(t.Context(), nil, []Request{r})
		ended <- err
	}()
	<-asked
	s.Close("stopped")
	if err := <-ended; err == nil {
		t.Error("it was let through")
	}
	kinds := h.book.kinds()
	settled, closed := strings.Index(kinds, "operation.settled=not-sent"), strings.Index(kinds, "session.closed")
	if settled < 0 || closed < settled || strings.Count(kinds, "operation.settled") != 1 {
		t.Errorf("on record: %s", kinds)
	}
}

// TestPatience has the client's own patience end a hold before the gate's does:
// what was asked for stays asked for.
func TestPatience(t *testing.T) {
	_, s, desk := newHolding(t)
	r := op("write 1")
	r.Patience = time.Millisecond
	_, err := s.Submit(t.Context(), nil, []Request{r})
	refusal, ok := errors.AsType[*custos.Refusal](err)
	if !ok || !refusal.Retry || refusal.Approval == "" {
		t.Fatalf("%v", err)
	}
	if a, err := desk.Get(refusal.Approval); err != nil || a.State != custos.ApprovalPending {
		t.Errorf("%v, %v", a.State, err)
	}
}

// TestAccess has operations go through by access: as far as its effects reach,
// with a broken glass only where the rules allow it, and policy sees it.
func TestAccess(t *testing.T) {
	for name, test := range map[string]struct {
		access  custos.Approval
		allowed bool // a broken glass is
		request Request
		want    bool
		granted bool
	}{
		"to everything":                    {custos.Approval{}, false, op("write"), true, true},
		"to what it does":                  {custos.Approval{Effects: []string{"a", "b"}}, false, effects("write", "a"), true, true},
		"to something else":                {custos.Approval{Effects: []string{"a"}}, false, effects("write", "a", "b"), false, false},
		"to effects, and none are known":   {custos.Approval{Effects: []string{"a"}}, false, op("write"), false, false},
		"a broken glass":                   {custos.Approval{BreakGlass: true}, true, op("write"), true, false},
		"a broken glass that is not heard": {custos.Approval{BreakGlass: true}, false, op("write"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			h, s, desk := newHolding(t)
			h.approvers = &custos.Approvers{BreakGlass: test.allowed}
			test.access.Caller, test.access.Connection, test.access.For = *s.Caller(), "orders", time.Hour
			a, err := desk.Ask(test.access, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !a.BreakGlass {
				if _, err := desk.Answer(a.ID, reviewer, true, ""); err != nil {
					t.Fatal(err)
				}
			}
			s.gate.Hold[""] = time.Millisecond
			permits, err := s.Submit(t.Context(), nil, []Request{test.request})
			if (err == nil) != test.want || len(permits) == 1 != test.want {
				t.Errorf("%v", err)
			}
			if got := h.usage[0].Granted; got != test.granted {
				t.Errorf("policy is told %v", got)
			}
		})
	}
}

// TestStopAllEndsWhatIsHeld ends the sessions of one caller: what is held in
// them is given up, and never runs.
func TestStopAllEndsWhatIsHeld(t *testing.T) {
	h, s, desk := newHolding(t)
	heard := h.heard()
	asked := make(chan struct{})
	r := op("write 1")
	r.Held = func(*custos.Approval) context.Context { close(asked); return s.Context() }
	ended := make(chan error, 1)
	go func() {
		_, err := s.Submit(s.Context(), nil, []Request{r})
		ended <- err
	}()
	<-asked
	if got := s.gate.StopAll(func(p *custos.Principal) bool { return p.Subject == "nobody" }, ErrStopped); len(got) > 0 {
		t.Errorf("it stopped %v", got)
	}
	if got := s.gate.StopAll(func(p *custos.Principal) bool { return p.Subject == "ana" }, ErrStopped); len(got) != 1 || got[0] != s.ID() {
		t.Errorf("it stopped %v", got)
	}
	if err := <-ended; err == nil {
		t.Error("it goes on")
	}
	if all, _ := desk.List(); len(all) != 1 || all[0].State != custos.ApprovalWithdrawn {
		t.Errorf("on the desk: %+v", all)
	}
	s.Close("")
	if got := heard(); got != "" {
		t.Errorf("the target heard %q", got)
	}
}
