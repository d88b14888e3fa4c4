package gate

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
)

// Session is one caller on one connection. It reads from the target; it
// writes by permits only. It is safe for concurrent use.
type Session struct {
	gate   *Gate
	id     custos.SessionID
	caller *custos.Principal
	conn   *custos.Connection
	client string
	rec    Recording
	target *Target
	ctx    context.Context
	cancel context.CancelCauseFunc
	expiry *time.Timer
	meter  *meter
	// giveBack returns the credential; it may be nil.
	giveBack func()

	mu        sync.Mutex // guards what follows
	leaf      []byte     // scratch
	plain     []byte     // scratch
	sealed    []byte     // scratch
	unsettled map[*Permit]struct{}
	counts    custos.Counts
	used      custos.Usage // scratch
	repeats   repeats
	closed    bool

	sendMu sync.Mutex // orders writes to the target
	out    []byte     // scratch
}

// ID is the session's name.
func (s *Session) ID() custos.SessionID { return s.id }

// Caller is who opened it.
func (s *Session) Caller() *custos.Principal { return s.caller }

// Connection is what it is open on.
func (s *Session) Connection() *custos.Connection { return s.conn }

// Greeting is what Login let Serve know.
func (s *Session) Greeting() any { return s.target.Greeting }

// Context ends with the session. Its cause says why.
func (s *Session) Context() context.Context { return s.ctx }

// Read reads from the target's line.
func (s *Session) Read(p []byte) (int, error) {
	if s.target.Conn == nil {
		return 0, errors.New("read target: it is not a stream")
	}
	return s.target.Conn.Read(p)
}

func (s *Session) opened(k Knock) *custos.Opened {
	return &custos.Opened{Caller: *s.caller, Connection: s.conn.Name, Protocol: s.conn.Protocol, Client: k.Client, Asserted: k.Asserted, Agent: s.conn.Agent}
}

// open makes the recording's key, puts the session on record, and only then
// borrows the credential and logs in. A crash after the record leaves a
// session without an end, which the next start closes as interrupted.
func (s *Session) open(k Knock) error {
	g := s.gate
	fail := func(rule string, err error) error {
		g.Logger.Error("open session", "session", s.id, "connection", s.conn.Name, "step", rule, "cause", err)
		return &custos.Refusal{Decision: unavailable(rule, err), Session: s.id, Retry: true}
	}
	rec, err := g.Recorder.Start(s.id)
	if err != nil {
		return fail("recording-unavailable", err)
	}
	s.rec = rec
	opened := s.opened(k)
	opened.Key = rec.KeyDigest()
	if _, err := g.keep(&custos.Entry{Kind: custos.EntryOpened, Session: s.id, Opened: opened}, nil); err != nil {
		rec.Close()
		return fail("ledger-unavailable", err)
	}
	s.unsettled = map[*Permit]struct{}{}
	if s.target, err = s.login(k); err != nil {
		s.finish("login to the target failed")
		// The cause names addresses and users that are not the caller's to
		// know: it is in the log only.
		fail("target-unavailable", err)
		return &custos.Refusal{Decision: unavailable("target-unavailable", errNoLogin), Session: s.id, Retry: true}
	}
	s.expiry = time.AfterFunc(s.caller.Expires.Add(g.TokenGrace).Sub(g.Now()), func() { s.cancel(ErrExpired) })
	return nil
}

var errNoLogin = errors.New("the gateway could not log in to the target")

func (s *Session) login(k Knock) (*Target, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.gate.LoginTimeout)
	defer cancel()
	cred, err := s.gate.Vault.Lend(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	s.giveBack = cred.Return
	conn, err := s.gate.Dialer.Dial(ctx, s.conn)
	if err != nil {
		return nil, err
	}
	t, err := k.Login(ctx, conn, s.conn, cred, k.Hello)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return t, nil
}

// Request asks leave for an operation.
type Request struct {
	Operation *custos.Operation
	// Frame is the very bytes that ask the target for it. They are kept by
	// reference until the permit is sent.
	Frame []byte
	// HTTP is the request itself, where the protocol is HTTP. Later changes
	// to its head do not reach the target.
	HTTP *http.Request
	// Refused is the protocol's own refusal, of what it lets through for
	// nobody. It goes on record as a refusal of policy's does.
	Refused *custos.Decision
	// Reads reports that it can change nothing at the target, whatever it comes
	// upon there. It may be sent while its record is being made durable; no byte
	// of its answer is let through before it is.
	Reads bool
	// Defines reports that it runs nothing yet: what it defines is judged
	// again when it runs, and held then.
	Defines bool
	// Held is told, once, that people are asked about the operation, before
	// Submit waits for them. The wait ends with the context that it returns.
	// It may be nil.
	Held func(*custos.Approval) context.Context
	// Patience is how long its client waits for an answer at most, where that is
	// known. The hold ends with it; what was asked for stays asked for.
	Patience time.Duration
	// Preview finds out, for the people who are asked, how much it would change,
	// in a bounded time and without changing anything; exact: it may count. It
	// may be nil.
	Preview func(ctx context.Context, exact bool) *custos.Estimate
}

// decide asks policy, unless the protocol itself refuses.
func (s *Session) decide(r *Request) custos.Decision {
	if r.Refused != nil {
		d := *r.Refused
		d.Effect = custos.Refuse
		return d
	}
	now := s.gate.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.usage(r.Operation, now)
	u.Granted = s.gate.Approver != nil && s.gate.Approver.Granted(s.caller, s.conn.Name, effectsOf(r.Operation), false) != ""
	d := s.gate.Policy.Judge(s.caller, s.conn, r.Operation, u, now)
	if r.Defines && d.Effect == custos.Approve {
		d.Effect = custos.Allow
	}
	return d
}

// Submit decides on each request, puts all on record, and waits until the
// record is durable, except where all are reads that are let through: those
// wait for it in Permit.Answer and Permit.Settle. It appends to dst the permits of the requests that were
// allowed before the first that was not. The error is then that one's
// *custos.Refusal, and what follows it was neither judged nor recorded, as
// nothing of it may be sent. An operation that has to wait for people waits in
// here if it is the first; before one that is not the first Submit returns,
// without an error, so that what comes before it can be sent. This is the only
// function that makes a Permit.
func (s *Session) Submit(ctx context.Context, dst []*Permit, requests []Request) ([]*Permit, error) {
	if err := s.gate.Space.ForOperation(); err != nil {
		return dst, s.refusal(unavailable("space", err), true)
	}
	granted := len(dst)
	var last uint64
	recorded, overlaps := false, true
	var refused *custos.Refusal
	for i := range requests {
		decision := s.decide(&requests[i])
		if decision.Effect == custos.Approve && s.gate.Approver != nil {
			if i > 0 {
				break
			}
			permit, err := s.held(ctx, &requests[i], decision)
			if err != nil {
				return dst, err
			}
			return append(dst, permit), nil
		}
		permit, err := s.intend(requests[i], decision)
		if err != nil {
			return s.withdraw(dst, granted), s.refusal(unavailable("ledger-unavailable", err), true)
		}
		last, recorded = permit.entry, true
		overlaps = overlaps && requests[i].Reads && decision.Effect == custos.Allow
		if decision.Effect != custos.Allow {
			refused = &custos.Refusal{Decision: decision, Session: s.id, Entry: permit.entry, Recorded: true}
			break
		}
		dst = append(dst, permit)
	}
	for _, p := range dst[granted:] {
		p.overlaps = overlaps
	}
	if recorded && !overlaps {
		if err := s.gate.Ledger.Durable(last); err != nil {
			return s.withdraw(dst, granted), s.refusal(unavailable("ledger-unavailable", err), true)
		}
	}
	if err := context.Cause(s.ctx); err != nil {
		return s.withdraw(dst, granted), s.refusal(custos.Decision{Rule: "session", Reason: err.Error(), Hint: "open a new session"}, true)
	}
	if refused != nil {
		return dst, refused
	}
	return dst, ctx.Err()
}

func (s *Session) refusal(d custos.Decision, retry bool) *custos.Refusal {
	return &custos.Refusal{Decision: d, Session: s.id, Retry: retry}
}

// intend appends the intent of one operation with its decision.
func (s *Session) intend(r Request, d custos.Decision) (*Permit, error) {
	op := r.Operation
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	var salt [16]byte
	rand.Read(salt[:])
	s.plain = op.AppendSealed(append(s.plain[:0], salt[:]...))
	digest := sha256.Sum256(s.plain)
	entry := custos.Entry{Kind: custos.EntrySubmitted, Submit: &custos.Submitted{
		Class: op.Class, Verbs: op.Verbs, Objects: op.Objects, Writes: op.Writes,
		Digest: hex.EncodeToString(digest[:]), Effect: d.Effect.String(), Rule: d.Rule, Policy: d.Policy,
		Masks: maskRules(d.Masks), DryRun: d.DryRun,
	}}
	p := &Permit{session: s, frame: r.Frame, masks: d.Masks}
	if r.HTTP != nil {
		p.http = r.HTTP.Clone(r.HTTP.Context())
		body, ok := r.HTTP.Body.(*Judged)
		p.judged = ok && strings.HasSuffix(op.Text, body.text)
	}
	var err error
	if p.entry, err = s.append(&entry, s.plain); err != nil {
		return nil, err
	}
	p.submitted = entry.At
	s.shrink()
	taken := custos.Counts{Operations: 1}
	if d.Effect == custos.Refuse {
		taken.Refused = 1
	} else {
		s.unsettled[p] = struct{}{} // also while it is held: the session's end comes after its outcome
	}
	if d.Effect == custos.Allow && op.Writes {
		taken.Writes = 1
	}
	s.count(entry.At, taken)
	return p, nil
}

// maskRules names the rules of masks, each once.
func maskRules(masks []custos.Mask) []string {
	var names []string
	for i := range masks {
		if name := masks[i].Rule; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// append seals plaintext and appends the entry that cites it. The caller
// holds mu.
func (s *Session) append(e *custos.Entry, plaintext []byte) (uint64, error) {
	e.At, e.Session = s.gate.Now(), s.id
	var attachment []byte
	if plaintext != nil {
		s.sealed = s.rec.Seal(s.sealed[:0], plaintext)
		attachment = s.sealed
	}
	return s.appendSealed(e, attachment)
}

func (s *Session) appendSealed(e *custos.Entry, attachment []byte) (uint64, error) {
	if attachment != nil {
		sum := sha256.Sum256(attachment)
		e.Attachment = &custos.Digest{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(attachment))}
	}
	s.leaf = e.AppendJSON(s.leaf[:0])
	return s.gate.Ledger.Append(s.leaf, attachment)
}

// keptScratch bounds, in bytes, the scratch space that an idle session holds.
const keptScratch = 8 << 10

func (s *Session) shrink() {
	for _, b := range []*[]byte{&s.leaf, &s.plain, &s.sealed} {
		if cap(*b) > keptScratch {
			*b = nil
		}
	}
}

// withdraw settles permits that will not be handed out.
func (s *Session) withdraw(dst []*Permit, from int) []*Permit {
	for _, p := range dst[from:] {
		p.Settle(Outcome{State: custos.StateNotSent})
	}
	return dst[:from]
}

// Send forwards the frames of permits, in order, as one write. Each permit
// sends once. After an error the line is unusable. Send returns when the record
// of what was sent is durable.
func (s *Session) Send(permits []*Permit) error {
	if len(permits) == 0 {
		return nil
	}
	if err := s.forward(permits); err != nil {
		return err
	}
	return permits[len(permits)-1].recorded()
}

func (s *Session) forward(permits []*Permit) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	s.out = s.out[:0]
	for _, p := range permits {
		if err := p.spend(s); err != nil {
			return err
		}
		s.out = append(s.out, p.frame...)
		p.frame = nil
	}
	err := s.write(s.out)
	if cap(s.out) > keptScratch {
		s.out = nil
	}
	return err
}

// Upkeep forwards a frame of the protocol's closed list, byte for byte.
func (s *Session) Upkeep(frame []byte) error {
	for _, f := range s.target.Upkeep {
		if string(f) == string(frame) {
			s.sendMu.Lock()
			defer s.sendMu.Unlock()
			return s.write(frame)
		}
	}
	return fmt.Errorf("send upkeep: the frame is not on the protocol's list")
}

// write is the only place that writes to the target's line. The caller holds
// sendMu.
func (s *Session) write(b []byte) error {
	if err := context.Cause(s.ctx); err != nil {
		return fmt.Errorf("write target: %w", err)
	}
	if s.target.Conn == nil {
		return errors.New("write target: it is not a stream")
	}
	if _, err := s.target.Conn.Write(b); err != nil {
		return fmt.Errorf("write target: %w", err)
	}
	return nil
}

// Received records bytes that the target sent without being asked, such as a
// notification, before the caller sees them.
func (s *Session) Received(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	_, err := s.append(&custos.Entry{Kind: custos.EntryReceived}, b)
	s.shrink()
	return err
}

// Cancel asks the target to stop what it does, on record like any operation.
func (s *Session) Cancel(ctx context.Context) error {
	if s.target.Cancel == nil {
		return errors.New("cancel operation: the protocol has no way to")
	}
	permits, err := s.Submit(ctx, nil, []Request{{Operation: &custos.Operation{Class: "CancelRequest", Verbs: []string{"CANCEL"}}, Defines: true}})
	if err != nil {
		return err
	}
	p := permits[0]
	if err := p.spend(s); err != nil {
		return err
	}
	outcome := Outcome{State: custos.StateOK}
	if err = s.target.Cancel(ctx); err != nil {
		outcome.State = custos.StateInterrupted
	}
	return errors.Join(err, p.Settle(outcome))
}

// Close ends the session: the line is closed, what has no outcome gets one
// that says so, and the end is on record, durably. Reason says why, in words;
// empty takes the cause of the session's context. Close may be called again.
func (s *Session) Close(reason string) {
	if cause := context.Cause(s.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		reason = cause.Error()
	}
	if reason == "" {
		reason = "closed"
	}
	s.finish(reason)
	s.gate.forget(s)
}

// interruptTimeout bounds how long the end of a session waits for a target
// that is told to stop.
const interruptTimeout = 2 * time.Second

// interrupt tells a target that still works for the session to stop, so that
// a statement does not outlive who asked for it.
func (s *Session) interrupt() {
	busy := false
	s.mu.Lock()
	for p := range s.unsettled {
		busy = busy || p.sent.Load()
	}
	s.mu.Unlock()
	if !busy || s.target.Cancel == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), interruptTimeout)
	defer cancel()
	if err := s.target.Cancel(ctx); err != nil {
		s.gate.Logger.Warn("interrupt target", "session", s.id, "cause", err)
	}
}

// finish is the end of every session that got on record. A crash in it leaves
// a session without an end, which the next start closes as interrupted.
func (s *Session) finish(reason string) {
	s.cancel(errClosed)
	if s.expiry != nil {
		s.expiry.Stop()
	}
	if s.target != nil {
		s.interrupt()
		s.target.close()
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true // nothing is intended any more
	if s.giveBack != nil {
		defer s.giveBack()
	}
	left := slices.SortedFunc(maps.Keys(s.unsettled), func(a, b *Permit) int { return cmp.Compare(a.entry, b.entry) })
	s.mu.Unlock()
	for _, p := range left {
		outcome := Outcome{State: custos.StateInterrupted}
		if !p.sent.Load() {
			outcome.State = custos.StateNotSent
		}
		if err := p.Settle(outcome); err != nil && !errors.Is(err, errSettled) {
			s.gate.Logger.Error("settle operation", "session", s.id, "entry", p.entry, "cause", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.append(&custos.Entry{Kind: custos.EntryClosed, Closed: &custos.Closed{Reason: reason, Operations: s.counts.Operations}}, nil)
	if err == nil {
		err = s.gate.Ledger.Durable(i)
	}
	if err != nil {
		// The session stays open in the ledger; the next start closes it.
		s.gate.Logger.Error("record end of session", "session", s.id, "cause", err)
	}
	if err := s.rec.Close(); err != nil {
		s.gate.Logger.Error("close recording", "session", s.id, "cause", err)
	}
}
