// Package notify tells people of approvals over channels that an administrator
// configured: Slack, Microsoft Teams, e-mail, PagerDuty, and webhooks.
//
// A message says that somebody asks, for what kind of thing and where to answer.
// It holds no parameter, no answer and no secret, and the statement's text only
// where the rule that holds it says so. Nobody can answer by it: its link leads
// to where one signs in.
//
// That a message was delivered, or given up, is an entry of the ledger; a
// gateway that starts sends what has neither. So a message may come twice, and
// is never lost.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
)

// Events that people are told of.
const (
	Requested  = "requested"   // somebody asks
	BreakGlass = "break-glass" // somebody went ahead unasked
	Answered   = "answered"    // it was approved, denied or revoked, or is over otherwise
)

// Channel is a way to reach people.
type Channel struct {
	// Name is the channel's in the configuration.
	Name string
	// Events are those that are told; empty: all but Answered.
	Events []string
	// Groups are those whose approvals are told; empty: everybody's. A broken
	// glass is told over every channel.
	Groups []string
	Sender
}

// Sender sends a message in the words of a service. An error is ErrRefused
// where it is of no use to try again. No error holds a secret.
type Sender interface {
	Send(ctx context.Context, m *Message) error
}

// ErrRefused is the kind of error of a message that the other side will never
// take as it is.
var ErrRefused = errors.New("the other side refuses it")

// later is the error of a message that is to be tried again after a while.
type later struct {
	error
	after time.Duration
}

// Options are what a Notifier is made of. All are required but Link, After and
// Left.
type Options struct {
	Ledger approval.Ledger
	// Channels are those that are configured now.
	Channels func() []Channel
	// Link is where an approval is answered; nil, or "" of it: there is none.
	Link   func(id string) string
	Now    func() time.Time
	Logger *slog.Logger
	// After is time.After, for tests.
	After func(time.Duration) <-chan time.Time
	// Left is what an earlier run left, as Replay found it.
	Left Replay
}

// How a message is tried: so often, the first time again after a second, then
// twice as long each time; about eight minutes in all.
const (
	attempts    = 10
	firstWait   = time.Second
	longestWait = 4 * time.Minute
	sendTimeout = 15 * time.Second
	atOnce      = 8    // messages that are being sent
	keptFailed  = 1000 // undelivered messages that are kept to be looked at
)

// Notifier tells people. It is safe for concurrent use.
type Notifier struct {
	o     Options
	slots chan struct{}

	mu     sync.Mutex
	queue  []delivery
	more   chan struct{} // has one item while something is in the queue
	failed []Undelivered
}

// delivery is one message on its way over one channel.
type delivery struct {
	channel string
	message Message
}

// Undelivered is a message that was given up.
type Undelivered struct {
	custos.Notified
	At time.Time `json:"at"`
	// Lost: the message cannot be sent again, for what it was about is long
	// over.
	Lost bool `json:"lost,omitempty"`

	message *Message
}

// New returns a Notifier.
func New(o Options) *Notifier {
	if o.After == nil {
		o.After = time.After
	}
	n := &Notifier{o: o, slots: make(chan struct{}, atOnce), more: make(chan struct{}, 1)}
	if o.Left != nil {
		n.failed = o.Left.failed(n)
		for _, a := range o.Left.pending() {
			n.tell(a, o.Left[a.ID].told)
		}
	}
	return n
}

// Tell tells the people whom it concerns what became of an approval. It does
// not wait.
func (n *Notifier) Tell(a custos.Approval) { n.tell(a, nil) }

func (n *Notifier) tell(a custos.Approval, told map[string]bool) {
	event := eventOf(&a)
	if event == "" {
		return
	}
	m := n.message(&a, event)
	for _, c := range n.o.Channels() {
		if c.hears(event, &a) && !told[c.Name+" "+event] {
			n.put(delivery{c.Name, m})
		}
	}
}

// eventOf is what is told of an approval as it is; "": nothing.
func eventOf(a *custos.Approval) string {
	switch a.State {
	case custos.ApprovalPending:
		if len(a.Answers) > 0 {
			return "" // one of several has agreed
		}
		return Requested
	case custos.ApprovalApproved:
		if a.BreakGlass {
			return BreakGlass
		}
		return Answered
	case custos.ApprovalUsed:
		return ""
	}
	return Answered
}

func (c *Channel) hears(event string, a *custos.Approval) bool {
	if len(c.Events) > 0 && !slices.Contains(c.Events, event) || len(c.Events) == 0 && event == Answered {
		return false
	}
	return event == BreakGlass || len(c.Groups) == 0 || len(a.Groups) == 0 || slices.ContainsFunc(a.Groups, func(g string) bool { return slices.Contains(c.Groups, g) })
}

func (n *Notifier) put(d delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queue = append(n.queue, d)
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends. What is under way then is sent by the next start.
func (n *Notifier) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.more:
		}
		n.mu.Lock()
		queue := n.queue
		n.queue = nil
		n.mu.Unlock()
		for _, d := range queue {
			all.Go(func() { n.deliver(ctx, d) })
		}
	}
}

// deliver tries until it succeeds or is given up, and puts on record which. A
// crash before that has the next start send it again.
func (n *Notifier) deliver(ctx context.Context, d delivery) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		err := n.send(ctx, &d)
		if ctx.Err() != nil {
			return
		}
		if err == nil || errors.Is(err, ErrRefused) || attempt == attempts {
			n.settle(&d, attempt, err)
			return
		}
		n.o.Logger.Warn("tell people of an approval: trying again", "channel", d.channel, "approval", d.message.Approval, "attempt", attempt, "cause", err)
		pause := wait + time.Duration(rand.Int64N(int64(wait)/4+1))
		if l, ok := errors.AsType[later](err); ok {
			pause = max(pause, min(l.after, longestWait))
		}
		wait = min(2*wait, longestWait)
		select {
		case <-ctx.Done():
			return
		case <-n.o.After(pause):
		}
	}
}

// errNoChannel is the end of a message whose channel is configured no more.
var errNoChannel = fmt.Errorf("%w: there is no such channel any more", ErrRefused)

func (n *Notifier) send(ctx context.Context, d *delivery) error {
	channels := n.o.Channels()
	i := slices.IndexFunc(channels, func(c Channel) bool { return c.Name == d.channel })
	if i < 0 {
		return errNoChannel
	}
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return channels[i].Send(ctx, &d.message)
}

// settle puts on record how it ended.
func (n *Notifier) settle(d *delivery, attempt int, err error) {
	m := d.message
	e := custos.Entry{Kind: custos.EntryNotified, At: n.o.Now(), Notified: &custos.Notified{Approval: m.Approval, Channel: d.channel, Event: m.Event, Attempts: attempt}}
	if err != nil {
		e.Notified.Failed = plain(err.Error(), 300)
		n.o.Logger.Error("tell people of an approval: given up; custos approval undelivered shows what was", "channel", d.channel, "approval", m.Approval, "attempts", attempt, "cause", err)
		n.mu.Lock()
		n.failed = append(n.failed, Undelivered{Notified: *e.Notified, At: e.At, message: &m})
		n.failed = n.failed[max(0, len(n.failed)-keptFailed):]
		n.mu.Unlock()
	}
	i, err := n.o.Ledger.Append(e.AppendJSON(nil), nil)
	if err == nil {
		err = n.o.Ledger.Durable(i)
	}
	if err != nil {
		n.o.Logger.Error("record that people were told of an approval", "approval", m.Approval, "cause", err)
	}
}

// Undelivered lists the messages that were given up, the newest first.
func (n *Notifier) Undelivered() []Undelivered {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]Undelivered, len(n.failed))
	for i, u := range n.failed {
		u.Lost = u.message == nil
		out[len(out)-1-i] = u
	}
	return out
}

// Again sends the messages once more that were given up, and returns how many
// these are. Those that are lost stay on the list.
func (n *Notifier) Again() int {
	n.mu.Lock()
	failed := n.failed
	n.failed = nil
	var again []delivery
	for _, u := range failed {
		if u.message == nil {
			n.failed = append(n.failed, u)
		} else {
			again = append(again, delivery{u.Channel, *u.message})
		}
	}
	n.mu.Unlock()
	for _, d := range again {
		n.put(d)
	}
	return len(again)
}
