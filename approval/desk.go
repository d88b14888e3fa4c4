// Package approval asks people about operations that a rule holds, and about
// access for a time.
//
// What it knows, the ledger knows first: each step of an approval is an entry,
// durable before anybody is told, and a gateway that starts goes on from there.
// An approval is bound to its digest, is used once, expires, and is never
// answered by who asked, nor by the person that they act for.
package approval

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
)

// Errors of answers and of use.
var (
	ErrUnknown  = errors.New("there is no such approval")
	ErrOwn      = errors.New("nobody answers what they asked for themselves")
	ErrReviewer = errors.New("you are not among those who are asked")
	ErrTwice    = errors.New("you have answered it")
	ErrOver     = errors.New("it is no longer pending")
	ErrReason   = errors.New("a reason is required to deny; say why")
	ErrUnbound  = errors.New("the approval is for something else")
	ErrUsed     = errors.New("the approval was used, or is not approved")
	ErrTooMany  = errors.New("too many approvals are pending")
)

// Ledger keeps entries; see gate.Ledger.
type Ledger interface {
	Append(leaf, attachment []byte) (index uint64, err error)
	Durable(index uint64) error
}

// Options are what a Desk is made of. Ledger and Now are required.
type Options struct {
	Ledger Ledger
	Now    func() time.Time
	// Reviewers are the groups that answer what no rule names groups for. It
	// is asked at each answer.
	Reviewers func() []string
	// Life is how long an approval can be answered, and used after, where the
	// rule says nothing; an hour.
	Life time.Duration
	// Pending bounds how many are pending at once; 10,000.
	Pending int
}

// kept is how long one that is over is still shown.
const kept = 24 * time.Hour

// Desk is where approvals lie. It is safe for concurrent use.
type Desk struct {
	o Options

	mu      sync.Mutex
	all     map[string]*item
	pending int
	changed chan struct{} // closed at every change
}

type item struct {
	custos.Approval
	done chan struct{} // closed when it is no longer pending
	over time.Time
}

// New returns a Desk with the approvals that an earlier run left, as Replay
// found them.
func New(o Options, left []custos.Approval) *Desk {
	o.Life, o.Pending = cmp.Or(o.Life, time.Hour), cmp.Or(o.Pending, 10_000)
	d := &Desk{o: o, all: map[string]*item{}, changed: make(chan struct{})}
	for _, a := range left {
		it := &item{Approval: a, done: make(chan struct{})}
		if a.State == custos.ApprovalPending {
			d.pending++
		} else {
			close(it.done)
			it.over = o.Now()
		}
		d.all[a.ID] = it
	}
	return d
}

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

func (d *Desk) keep(e *custos.Entry) error {
	e.At = d.o.Now()
	i, err := d.o.Ledger.Append(e.AppendJSON(nil), nil)
	if err == nil {
		err = d.o.Ledger.Durable(i)
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Kind, err)
	}
	return nil
}

// tell wakes who watches. The caller holds mu.
func (d *Desk) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// Ask files a request, or returns the one for the same that is pending or
// approved and not used. a needs no id, state or times.
func (d *Desk) Ask(a custos.Approval, within time.Duration) (custos.Approval, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.Now()
	for _, it := range d.all {
		if it.Digest == a.Digest && a.For == it.For && (it.State == custos.ApprovalPending || it.State == custos.ApprovalApproved) && now.Before(end(&it.Approval)) {
			return it.Approval, nil
		}
	}
	if d.pending >= d.o.Pending {
		return custos.Approval{}, fmt.Errorf("request approval: %w", ErrTooMany)
	}
	a.ID = strings.ToLower(rand.Text())
	a.State, a.Requested, a.Count = custos.ApprovalPending, now, max(a.Count, 1)
	a.Expires = now.Add(cmp.Or(within, d.o.Life))
	if err := d.keep(&custos.Entry{Kind: custos.EntryAsked, Session: a.Session, Approval: &a}); err != nil {
		return custos.Approval{}, fmt.Errorf("request approval: %w", err)
	}
	d.all[a.ID] = &item{Approval: a, done: make(chan struct{})}
	d.pending++
	d.tell()
	return a, nil
}

// Granted returns the access that was approved for a caller on a connection
// and is not over; "": none.
func (d *Desk) Granted(caller *custos.Principal, connection string) (id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.Now()
	for _, it := range d.all {
		if it.For > 0 && it.State == custos.ApprovalApproved && it.Connection == connection && it.Caller.Same(caller) && sameBehalf(&it.Caller, caller) && now.Before(it.Until) {
			return it.ID
		}
	}
	return ""
}

func sameBehalf(a, b *custos.Principal) bool {
	return a.OnBehalfOf == nil && b.OnBehalfOf == nil || a.OnBehalfOf.Same(b.OnBehalfOf)
}

// Await returns when an approval is no longer pending, or with ctx.
func (d *Desk) Await(ctx context.Context, id string) (custos.Approval, error) {
	d.mu.Lock()
	it := d.all[id]
	d.mu.Unlock()
	if it == nil {
		return custos.Approval{}, ErrUnknown
	}
	select {
	case <-ctx.Done():
	case <-it.done:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return it.Approval, ctx.Err()
}

// Use lets one operation through by an approval: it is on record, durably,
// when Use returns nil. An approval of one operation is used up by it. A crash
// in it leaves an approval that is used and an operation that was not sent, or
// neither.
func (d *Desk) Use(id, digest string, session custos.SessionID, operation uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.all[id]
	switch {
	case it == nil:
		return ErrUnknown
	case it.State != custos.ApprovalApproved || !d.o.Now().Before(end(&it.Approval)):
		return ErrUsed
	case it.For == 0 && it.Digest != digest:
		return ErrUnbound
	}
	if err := d.keep(&custos.Entry{Kind: custos.EntryReleased, Session: session, Released: &custos.Released{Operation: operation, Approval: id}}); err != nil {
		return err
	}
	if it.For == 0 {
		it.State, it.over = custos.ApprovalUsed, d.o.Now()
		d.tell()
	}
	return nil
}

// Answer is one reviewer's word. The first that denies ends it; as many as it
// asks for must agree.
func (d *Desk) Answer(id string, by *custos.Principal, approve bool, reason string) (custos.Approval, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.all[id]
	if it == nil {
		return custos.Approval{}, ErrUnknown
	}
	groups := it.Groups
	if len(groups) == 0 && d.o.Reviewers != nil {
		groups = d.o.Reviewers()
	}
	now := d.o.Now()
	switch {
	case it.Concerns(by):
		return it.Approval, ErrOwn
	case by.Kind != custos.KindPerson || by.OnBehalfOf != nil || !by.InAny(groups):
		return it.Approval, ErrReviewer
	case it.State != custos.ApprovalPending || !now.Before(it.Expires):
		return it.Approval, ErrOver
	case !approve && strings.TrimSpace(reason) == "":
		return it.Approval, ErrReason
	case slices.ContainsFunc(it.Answers, func(a custos.ApprovalAnswer) bool { return a.By.Same(by) }):
		return it.Approval, ErrTwice
	}
	answer := custos.ApprovalAnswer{By: *by, Approve: approve, Reason: reason, At: now}
	state, until := custos.ApprovalPending, it.Until
	switch {
	case !approve:
		state = custos.ApprovalDenied
	case len(it.Answers)+1 >= it.Count:
		state = custos.ApprovalApproved
		if it.For > 0 {
			until = now.Add(it.For)
		}
	}
	err := d.keep(&custos.Entry{Kind: custos.EntryAnswered, Session: it.Session,
		Approval: &custos.Approval{ID: id, State: state, Until: until, Answers: []custos.ApprovalAnswer{answer}}})
	if err != nil {
		return it.Approval, fmt.Errorf("answer approval: %w", err)
	}
	it.Answers = append(slices.Clip(it.Answers), answer)
	it.Until = until
	d.become(it, state)
	return it.Approval, nil
}

// become gives it a state. The caller holds mu.
func (d *Desk) become(it *item, state custos.ApprovalState) {
	if it.State == custos.ApprovalPending && state != custos.ApprovalPending {
		d.pending--
		close(it.done)
	}
	it.State = state
	if state != custos.ApprovalPending && state != custos.ApprovalApproved {
		it.over = d.o.Now()
	}
	d.tell()
}

// Withdraw ends a pending approval of one operation whose caller is gone.
func (d *Desk) Withdraw(id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.all[id]
	if it == nil || it.State != custos.ApprovalPending || it.For > 0 {
		return nil
	}
	return d.end(it, custos.ApprovalWithdrawn)
}

// end records that it is over. The caller holds mu.
func (d *Desk) end(it *item, state custos.ApprovalState) error {
	if err := d.keep(&custos.Entry{Kind: custos.EntryEnded, Session: it.Session, Approval: &custos.Approval{ID: it.ID, State: state}}); err != nil {
		return err
	}
	d.become(it, state)
	return nil
}

// Get returns one.
func (d *Desk) Get(id string) (custos.Approval, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if it := d.all[id]; it != nil {
		return it.Approval, nil
	}
	return custos.Approval{}, ErrUnknown
}

// List returns those that are pending, and those that were over within a day,
// the newest first. changed is closed at the next change.
func (d *Desk) List() (all []custos.Approval, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range d.all {
		all = append(all, it.Approval)
	}
	slices.SortFunc(all, func(a, b custos.Approval) int {
		return cmp.Or(b.Requested.Compare(a.Requested), cmp.Compare(a.ID, b.ID))
	})
	return all, d.changed
}

// Run ends what has expired, until ctx ends.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.Sweep()
		}
	}
}

// Sweep ends what has expired by now, and forgets what was over long ago.
func (d *Desk) Sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.o.Now()
	for id, it := range d.all {
		switch {
		case !it.over.IsZero():
			if now.Sub(it.over) > kept {
				delete(d.all, id)
			}
		case !now.Before(end(&it.Approval)):
			// With a ledger that fails it is tried again at the next sweep;
			// Use goes by the time as well.
			d.end(it, custos.ApprovalExpired)
		}
	}
}
