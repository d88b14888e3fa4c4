package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	custos "github.com/custos-gateway/custos"
)

// Permit lets one operation, already on record, through to the target. The
// zero value, and nil, let nothing through.
type Permit struct {
	session   *Session
	entry     uint64
	submitted time.Time
	frame     []byte
	masks     []custos.Mask
	http      *http.Request
	judged    bool // the request's body is on record with the operation
	// overlaps: the permit was handed out before the record of its operation,
	// a read, was durable.
	overlaps bool
	sent     atomic.Bool
	settled  atomic.Bool

	mu     sync.Mutex // guards answer
	answer Answer
}

// Outcome is how an operation ended, as the protocol saw it.
type Outcome struct {
	State  custos.State
	Code   string // SQLSTATE, HTTP status or the like
	Rows   int64
	Masked int64
}

var (
	errSpent   = errors.New("the permit was used")
	errSettled = errors.New("the operation has an outcome")
	errNoGrant = errors.New("there is no permit")
)

// Entry is the index, in the ledger, of the operation's intent.
func (p *Permit) Entry() uint64 { return p.entry }

// Masks are what the caller may not see in the clear of the answer. Whoever
// passes an answer on hides it first; a protocol that cannot must not send.
func (p *Permit) Masks() []custos.Mask { return p.masks }

// Submitted is when the intent was recorded.
func (p *Permit) Submitted() time.Time { return p.submitted }

// spend marks the permit as sent; it does so once, and for its own session.
func (p *Permit) spend(s *Session) error {
	switch {
	case p == nil || p.session == nil || p.session != s:
		return errNoGrant
	case p.settled.Load():
		return errSettled
	case !p.sent.CompareAndSwap(false, true):
		return errSpent
	}
	return nil
}

// recorded returns when the record of the operation is durable.
func (p *Permit) recorded() error {
	if !p.overlaps {
		return nil
	}
	if err := p.session.gate.Ledger.Durable(p.entry); err != nil {
		return p.session.refusal(unavailable("ledger-unavailable", err), true)
	}
	return nil
}

// Send forwards the frame that was judged, once.
func (p *Permit) Send() error {
	if p == nil || p.session == nil {
		return errNoGrant
	}
	return p.session.Send([]*Permit{p})
}

// Input records a further piece of the operation's input, waits until the
// record is durable, and forwards it: rows of a COPY, a request's body, what
// is typed into a terminal. The permit must have been sent and not settled.
func (p *Permit) Input(ctx context.Context, chunk []byte) error {
	if err := p.record(ctx, chunk); err != nil {
		return err
	}
	s := p.session
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return s.write(chunk)
}

func (p *Permit) record(ctx context.Context, chunk []byte) error {
	switch {
	case p == nil || p.session == nil:
		return errNoGrant
	case !p.sent.Load():
		return errors.New("send input: the operation was not sent")
	case p.settled.Load():
		return errSettled
	}
	s := p.session
	if err := s.gate.Space.ForOperation(); err != nil {
		return s.refusal(unavailable("space", err), true)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	i, err := s.append(&custos.Entry{Kind: custos.EntryInput, Input: &custos.Input{Operation: p.entry}}, chunk)
	s.shrink()
	s.mu.Unlock()
	if err == nil {
		err = s.gate.Ledger.Durable(i)
	}
	if err != nil {
		return s.refusal(unavailable("ledger-unavailable", err), true)
	}
	return ctx.Err()
}

// Answer records bytes that came back, as the caller will see them. They may
// go to the caller only after it returned nil.
func (p *Permit) Answer(b []byte) error {
	if p == nil || p.session == nil {
		return errNoGrant
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled.Load() {
		return errSettled
	}
	if p.answer == nil {
		if err := p.recorded(); err != nil {
			return err
		}
		p.answer = p.session.rec.Answer(p.entry, p.submitted)
	}
	if err := p.answer.Write(p.session.gate.Now(), b); err != nil {
		return fmt.Errorf("record answer: %w", err)
	}
	return nil
}

// Settle records the outcome. It must return before the end of the answer
// goes to the caller, so that whatever was answered has its outcome on record
// although the process may die the next moment. Where the answer could not be
// recorded to its end, the outcome is StateInterrupted, with what was kept, and
// Settle returns the error: the rest must not go to the caller.
func (p *Permit) Settle(o Outcome) error {
	if p == nil || p.session == nil {
		return errNoGrant
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.settled.CompareAndSwap(false, true) {
		return errSettled
	}
	s := p.session
	settled := custos.Settled{Operation: p.entry, State: o.State, Code: o.Code, Rows: o.Rows, Masked: o.Masked}
	var sealed []byte
	var incomplete error
	if p.answer == nil && p.sent.Load() {
		// Nothing came back, or nothing that was let through.
		incomplete = p.recorded()
	}
	if p.answer != nil {
		settled.Bytes = p.answer.Bytes()
		if sealed, settled.Recording, incomplete = p.answer.Finish(); incomplete != nil {
			// What was kept is cited all the same: the caller has seen it.
			settled.State = custos.StateInterrupted
			incomplete = fmt.Errorf("record answer: %w", incomplete)
		}
		p.answer = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsettled, p)
	e := custos.Entry{Kind: custos.EntrySettled, At: s.gate.Now(), Session: s.id, Settled: &settled}
	s.count(e.At, custos.Counts{Rows: o.Rows, Bytes: settled.Bytes})
	if _, err := s.appendSealed(&e, sealed); err != nil {
		return errors.Join(incomplete, fmt.Errorf("record outcome: %w", err))
	}
	return incomplete
}

// RoundTrip sends the HTTP request that was judged, once. Its body, where it was
// not part of what was judged (see Judged), goes out as Input: every piece is on
// record before it is forwarded. After a switch of protocols (RFC 9110, section 7.8)
// the answer's body is an io.ReadWriteCloser, whose writes are Input as well.
// What is read from the answer's body is the protocol's to pass to Answer.
func (p *Permit) RoundTrip() (*http.Response, error) {
	if p == nil || p.session == nil {
		return nil, errNoGrant
	}
	if p.http == nil || p.session.target.HTTP == nil {
		return nil, errors.New("send request: it is not an HTTP request")
	}
	if err := p.spend(p.session); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	r := p.http
	p.http = nil
	if r.Body != nil && r.Body != http.NoBody && !p.judged {
		r.Body = &inputBody{ReadCloser: r.Body, permit: p, ctx: r.Context()}
	}
	resp, err := p.session.target.HTTP.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	if rw, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &inputStream{ReadWriteCloser: rw, permit: p, ctx: r.Context()}
	}
	return resp, nil
}

// Judged is a request's body that stands at the end of its operation's text: it
// is on record with the operation, and is not recorded again as Input. One that
// does not stand there is.
type Judged struct {
	strings.Reader
	text string
}

// NewJudged returns a body of text.
func NewJudged(text string) *Judged {
	return &Judged{*strings.NewReader(text), text}
}

// Close is of io.Closer.
func (*Judged) Close() error { return nil }

// Pieces is a request's body that lies ready: it is put on record in pieces as
// long as it gives them, and not as short as a transport reads.
type Pieces interface {
	io.ReadCloser
	// Next returns the next piece, which stays as it is until the next call.
	// io.EOF: there is none.
	Next() ([]byte, error)
}

// inputBody is a request's body: the transport gets what is on record.
type inputBody struct {
	io.ReadCloser
	permit *Permit
	ctx    context.Context
	ready  []byte // on record, and not read yet
}

func (b *inputBody) Read(buf []byte) (int, error) {
	if pieces, ok := b.ReadCloser.(Pieces); ok {
		return b.readPieces(pieces, buf)
	}
	n, err := b.ReadCloser.Read(buf)
	if n > 0 {
		if e := b.permit.record(b.ctx, buf[:n]); e != nil {
			return 0, e
		}
	}
	return n, err
}

func (b *inputBody) readPieces(pieces Pieces, buf []byte) (int, error) {
	for len(b.ready) == 0 {
		piece, err := pieces.Next()
		if err == nil {
			err = b.permit.record(b.ctx, piece)
		}
		if err != nil {
			return 0, err
		}
		b.ready = piece
	}
	n := copy(buf, b.ready)
	b.ready = b.ready[n:]
	return n, nil
}

// inputStream is the line after a switch of protocols.
type inputStream struct {
	io.ReadWriteCloser
	permit *Permit
	ctx    context.Context
}

func (s *inputStream) Write(b []byte) (int, error) {
	if err := s.permit.record(s.ctx, b); err != nil {
		return 0, err
	}
	return s.ReadWriteCloser.Write(b)
}
