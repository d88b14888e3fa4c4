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
	"sync/atomic"
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
	ErrReason   = errors.New("a reason is required; say why")
	ErrUnbound  = errors.New("the approval is for something else")
	ErrUsed     = errors.New("the approval was used, or is not approved")
	ErrNoAccess = errors.New("it is no access that lasts")
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
	// Told is told of what happened, after it is on record: of an approval that
	// was requested, and of each state that it comes to. It must not wait, nor
	// ask the desk. It may be nil.
	Told func(custos.Approval)
}

// kept is how long one that is over is still shown.
const kept = 24 * time.Hour

// Desk is where approvals lie. It is safe for concurrent use.
type Desk struct {
	o Options

	granting atomic.Int64 // how many of all give access

	mu       sync.Mutex
	all      map[string]*item
	byDigest map[string]*item   // the newest for each
	access   map[holder][]*item // what gives access, by whom to
	pending  int
	changed  chan struct{} // closed at every change
}

// holder is who has access.
type holder struct{ issuer, subject, connection string }

type item struct {
	custos.Approval
	filed chan struct{} // closed when its request is on record, or failed to get there
	done  chan struct{} // closed when it is no longer pending
	over  time.Time
	// ending: that it is over is being put on record.
	ending bool
}

// New returns a Desk with the approvals that an earlier run left, as Replay
// found them.
func New(o Options, left []custos.Approval) *Desk {
	o.Life, o.Pending = cmp.Or(o.Life, time.Hour), cmp.Or(o.Pending, 10_000)
	d := &Desk{o: o, all: map[string]*item{}, byDigest: map[string]*item{}, access: map[holder][]*item{}, changed: make(chan struct{})}
	for _, a := range left {
		it := &item{Approval: a, filed: make(chan struct{}), done: make(chan struct{})}
		close(it.filed)
		d.all[a.ID], d.byDigest[a.Digest] = it, it
		if a.State == custos.ApprovalPending {
			d.pending++
			continue
		}
		close(it.done)
		d.gives(it)
	}
	return d
}

// write appends an entry. What it returns waits until it is durable.
func (d *Desk) write(e *custos.Entry) (durable func() error) {
	e.At = d.o.Now()
	i, err := d.o.Ledger.Append(e.AppendJSON(nil), nil)
	return func() error {
		if err == nil {
			err = d.o.Ledger.Durable(i)
		}
		if err != nil {
			return fmt.Errorf("record %s: %w", e.Kind, err)
		}
		return nil
	}
}

func (d *Desk) keep(e *custos.Entry) error { return d.write(e)() }

// tell wakes who watches, and tells what became of it. The caller holds mu.
func (d *Desk) tell(it *item) {
	close(d.changed)
	d.changed = make(chan struct{})
	if d.o.Told != nil {
		d.o.Told(it.Approval)
	}
}

// Ask files a request, or returns the one for the same that is pending or
// approved and not used. a needs no id, state or times. Many may ask at once:
// they wait for the ledger together.
func (d *Desk) Ask(a custos.Approval, within time.Duration) (custos.Approval, error) {
	d.mu.Lock()
	for {
		it := d.byDigest[a.Digest]
		if it == nil || !d.serves(it, &a) {
			break
		}
		select {
		case <-it.filed:
			defer d.mu.Unlock()
			return it.Approval, nil
		default:
		}
		d.mu.Unlock()
		<-it.filed
		d.mu.Lock()
	}
	now := d.o.Now()
	if d.pending >= d.o.Pending {
		d.mu.Unlock()
		return custos.Approval{}, fmt.Errorf("request approval: %w", ErrTooMany)
	}
	a.ID = strings.ToLower(rand.Text())
	a.State, a.Requested, a.Count = custos.ApprovalPending, now, max(a.Count, 1)
	a.Expires = now.Add(cmp.Or(within, d.o.Life))
	if a.BreakGlass {
		a.State, a.Until, a.Count = custos.ApprovalApproved, now.Add(a.For), 0
	}
	it := &item{Approval: a, filed: make(chan struct{}), done: make(chan struct{})}
	d.byDigest[a.Digest] = it
	d.pending++
	durable := d.write(&custos.Entry{Kind: custos.EntryAsked, Session: a.Session, Approval: &a})
	d.mu.Unlock()
	err := durable()
	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(it.filed)
	if err != nil {
		d.pending--
		d.forget(it)
		return custos.Approval{}, fmt.Errorf("request approval: %w", err)
	}
	d.all[a.ID] = it
	if a.BreakGlass {
		d.pending--
		close(it.done)
		d.gives(it)
	}
	d.tell(it)
	return it.Approval, nil
}

// serves reports whether it is a request for the same as a, and not over. The
// caller holds mu.
func (d *Desk) serves(it *item, a *custos.Approval) bool {
	return a.For == it.For && a.BreakGlass == it.BreakGlass && slices.Equal(a.Effects, it.Effects) && !it.ending &&
		(it.State == custos.ApprovalPending || it.State == custos.ApprovalApproved) && d.o.Now().Before(end(&it.Approval))
}

// forget lets go of what names it. The caller holds mu.
func (d *Desk) forget(it *item) {
	delete(d.all, it.ID)
	if d.byDigest[it.Digest] == it {
		delete(d.byDigest, it.Digest)
	}
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
// neither. With a ledger that fails it is used up as well: whether the record
// is there is not known.
func (d *Desk) Use(id, digest string, session custos.SessionID, operation uint64) error {
	d.mu.Lock()
	it := d.all[id]
	if err := d.usable(it, digest); err != nil {
		d.mu.Unlock()
		return err
	}
	if it.For == 0 {
		it.State, it.over = custos.ApprovalUsed, d.o.Now()
	}
	durable := d.write(&custos.Entry{Kind: custos.EntryReleased, Session: session,
		Released: &custos.Released{Operation: operation, Approval: id, BreakGlass: it.BreakGlass}})
	d.mu.Unlock()
	if err := durable(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.For == 0 {
		d.tell(it)
	}
	return nil
}

// usable says why it lets nothing through. The caller holds mu.
func (d *Desk) usable(it *item, digest string) error {
	switch {
	case it == nil:
		return ErrUnknown
	case it.State != custos.ApprovalApproved || it.ending || !d.o.Now().Before(end(&it.Approval)):
		return ErrUsed
	case it.For == 0 && it.Digest != digest:
		return ErrUnbound
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
	now := d.o.Now()
	switch {
	case it.Concerns(by):
		return it.Approval, ErrOwn
	case !d.reviews(it, by):
		return it.Approval, ErrReviewer
	case it.State != custos.ApprovalPending || it.ending || !now.Before(it.Expires):
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
	switch state {
	case custos.ApprovalPending:
	case custos.ApprovalApproved:
		d.gives(it)
	default:
		it.over = d.o.Now()
		d.takes(it)
	}
	d.tell(it)
}

// Withdraw ends a pending approval of one operation whose caller is gone.
func (d *Desk) Withdraw(id string) error {
	d.mu.Lock()
	it := d.all[id]
	if it == nil || it.State != custos.ApprovalPending || it.For > 0 || it.ending {
		d.mu.Unlock()
		return nil
	}
	it.ending = true // nobody answers it any more
	durable := d.write(ended(it, custos.ApprovalWithdrawn))
	d.mu.Unlock()
	err := durable()
	d.mu.Lock()
	defer d.mu.Unlock()
	if it.ending = false; err != nil {
		return err
	}
	d.become(it, custos.ApprovalWithdrawn)
	return nil
}

func ended(it *item, state custos.ApprovalState, answers ...custos.ApprovalAnswer) *custos.Entry {
	return &custos.Entry{Kind: custos.EntryEnded, Session: it.Session, Approval: &custos.Approval{ID: it.ID, State: state, Answers: answers}}
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
	now := d.o.Now()
	var due []*item
	var durable []func() error
	for _, it := range d.all {
		switch {
		case !it.over.IsZero():
			if now.Sub(it.over) > kept {
				d.forget(it)
			}
		case !it.ending && !now.Before(end(&it.Approval)):
			it.ending = true
			due, durable = append(due, it), append(durable, d.write(ended(it, custos.ApprovalExpired)))
		}
	}
	d.mu.Unlock()
	for i, it := range due {
		err := durable[i]()
		d.mu.Lock()
		// With a ledger that fails it is tried again at the next sweep; Use goes
		// by the time as well.
		if it.ending = false; err == nil {
			d.become(it, custos.ApprovalExpired)
		}
		d.mu.Unlock()
	}
}
