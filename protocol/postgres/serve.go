package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// served is one session between its client and its target. One goroutine takes
// what the client asks, another what the target answers; between them stands
// the queue of steps.
type served struct {
	server  *Server
	session *gate.Session
	client  net.Conn
	key     cancelKey
	poison  *greeting

	// Of the client's side.
	in          buffer
	batch       []*unit
	requests    []gate.Request
	permits     []*gate.Permit
	group       []*definition // since the last Sync, not confirmed
	unconfirmed int           // bytes of definitions since names were last sure
	discard     bool          // up to the next Sync
	unsynced    bool          // the target has messages that no Sync followed
	copied      []byte        // CopyData gathered, not yet forwarded

	// Of the target's side.
	out      buffer
	rest     int   // of a frame that is passed on as it comes
	restType byte  // its type
	owner    *work // whose answer the segment is
	segment  int   // where it begins in the buffer

	clientMu sync.Mutex  // orders writes to the client
	closing  atomic.Bool // the session is being closed from here

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	queue   queue
	names   names
	pending int   // definitions and the like that the target has not confirmed
	skips   bool  // the target skips up to the next Sync
	status  byte  // of the last ReadyForQuery
	copying *work // what takes input now
	ended   error // why the target's side ended
	told    bool  // the client got the target's own last words
}

var (
	errTarget = errors.New("the line to the target broke")
	errClient = errors.New("client closed the connection")
)

// serve leads a session from its welcome to its end. A crash in it leaves
// operations without an outcome, which are shown as unsettled.
func (s *Server) serve(session *gate.Session, d *door) {
	v := &served{server: s, session: session, client: d.conn, key: d.key, poison: session.Greeting().(*greeting), status: 'I'}
	v.changed.L = &v.mu
	v.in, v.out = newBuffer(d.conn), newBuffer(session)
	s.cancel.serve(d.key, v)
	defer s.cancel.forget(d.key)
	// The end of the session wakes whoever waits for the client.
	unwatch := context.AfterFunc(session.Context(), v.interrupted)
	defer unwatch()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		v.end(v.answers())
	}()
	cause := v.requestsFrom()
	v.mu.Lock()
	if v.ended != nil {
		cause = v.ended
	}
	told := v.told
	v.mu.Unlock()
	if why := context.Cause(session.Context()); why != nil {
		cause = why
	}
	v.client.SetWriteDeadline(time.Now().Add(farewellTimeout))
	v.closing.Store(true)
	session.Close(reason(cause))
	<-answered
	if !errors.Is(cause, errClient) && !told {
		v.client.Write(farewell(cause, session.ID()).append(nil, "FATAL"))
	}
	v.in.free()
	v.out.free()
}

// farewellTimeout bounds how long a client that does not read holds up the
// end of its session.
const farewellTimeout = time.Second

// reason is the end of a session as the ledger has it.
func reason(cause error) string {
	var f *fatal
	if errors.As(cause, &f) {
		return "the client broke the protocol: " + f.message
	}
	return cause.Error()
}

// wake ends the wait for the client.
func (s *served) wake() {
	s.client.SetReadDeadline(past)
	s.client.SetWriteDeadline(time.Now().Add(farewellTimeout))
}

// interrupted is the end of the session from outside. It also ends a wait for
// a target that does not read.
func (s *served) interrupted() {
	s.wake()
	if !s.closing.Load() {
		s.session.Close("")
	}
}

// end is the end of the target's side.
func (s *served) end(cause error) {
	s.mu.Lock()
	s.ended = cause
	s.changed.Broadcast()
	s.mu.Unlock()
	s.wake()
}

// requestsFrom takes what the client asks, until it asks no more. It returns
// why.
func (s *served) requestsFrom() error {
	for {
		if err := s.await(); err != nil {
			return err
		}
		if err := s.takeAll(); err != nil {
			return err
		}
	}
}

// await reads more of the client's, after what came before was submitted,
// unless that still lies in the buffer's way of nothing.
func (s *served) await() error {
	need := headerSize
	held := s.in.held()
	size, err := frameSize(held)
	if err != nil {
		return violation(err.Error())
	}
	need = max(need, size)
	// What was read is forwarded before the client is waited for; only the
	// rest of a message that has begun to come is taken along.
	if len(held) == 0 || !s.in.room(need) {
		if err := s.forward(); err != nil {
			return err
		}
	}
	for {
		s.idle()
		if len(s.batch) > 0 || len(s.copied) > 0 {
			err = s.in.read()
		} else {
			err = s.in.fill(need)
		}
		if err == nil {
			return nil
		}
		if s.busy(err) {
			continue
		}
		return s.lost(err)
	}
}

// forward forwards all that was gathered.
func (s *served) forward() error {
	if err := s.submit(); err != nil {
		return err
	}
	return s.forwardCopy()
}

// idle starts the clock of a silent client.
func (s *served) idle() {
	if d := s.server.IdleTimeout; d > 0 {
		s.client.SetReadDeadline(time.Now().Add(d))
		if s.session.Context().Err() != nil {
			s.client.SetReadDeadline(past)
		}
	}
}

// busy reports whether a timeout only means that the client waits for an
// answer.
func (s *served) busy(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) || s.session.Context().Err() != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended == nil && s.queue.n > 0
}

// lost says why reading from the client failed.
func (s *served) lost(err error) error {
	if why := context.Cause(s.session.Context()); why != nil {
		return why
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended != nil:
		return s.ended
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &fatal{code: "57P05", message: "terminating connection due to idle-session timeout"}
	}
	return errClient
}

// takeAll takes the frames that are there in full.
func (s *served) takeAll() error {
	for {
		held := s.in.held()
		size, err := frameSize(held)
		if err != nil {
			return violation(err.Error())
		}
		if size == 0 {
			return nil
		}
		c := &frontend[held[0]]
		switch {
		case c.handling == unknown:
			return violation(fmt.Sprintf("invalid frontend message type %s", messageName(held[0])))
		case c.small && size > smallLimit:
			return violation(fmt.Sprintf("invalid message length in %s", c.name))
		case size > s.server.Limits.Message:
			if err := s.oversized(held[0], size); err != nil {
				return err
			}
			continue
		case size > len(held):
			return nil
		}
		at := s.in.r
		if err := s.take(held[0], at, held[headerSize:size]); err != nil {
			return err
		}
		s.in.r = at + size
		if n := len(s.batch); n > 0 && s.batch[n-1].copies || n >= maxBatch {
			if err := s.submit(); err != nil {
				return err
			}
		}
		if s.unconfirmed > maxUnconfirmed {
			if err := s.barrier(); err != nil && !errors.Is(err, errSkipped) {
				return err
			}
			s.unconfirmed = 0
		}
	}
}

// take takes one frame, which begins at the buffer's offset at.
func (s *served) take(t byte, at int, body []byte) (err error) {
	end := at + headerSize + len(body)
	if s.discard && t != 'S' && t != 'X' {
		return nil // as the target would
	}
	if t != 'd' && t != 'c' && t != 'f' {
		if done, err := s.besideCopy(t); done || err != nil {
			return err
		}
	}
	switch t {
	case 'Q':
		err = s.onQuery(at, body)
	case 'P':
		err = s.onParse(at, body)
	case 'B':
		err = s.onBind(at, body)
	case 'D':
		err = s.onDescribe(at, body)
	case 'C':
		err = s.onClose(at, body)
	case 'E':
		err = s.onExecute(at, body)
	case 'F':
		err = s.onFunctionCall(at, body)
	case 'S':
		return s.onSync(at, end)
	case 'H':
		return s.onFlush(at, end)
	case 'd', 'c', 'f':
		return s.onCopy(t, at, end)
	case 'X':
		if err := s.forward(); err != nil {
			return err
		}
		return s.drain()
	default:
		return violation(fmt.Sprintf("invalid frontend message type %s", messageName(t)))
	}
	if errors.Is(err, errSkipped) {
		return nil
	}
	if n := len(s.batch); err == nil && n > 0 {
		s.batch[n-1].end = end
	}
	return err
}

func (s *served) onFunctionCall(at int, body []byte) error {
	f := fields{b: body}
	u := s.next("FunctionCall", at)
	u.op.Text, u.op.Writes = fmt.Sprintf("call of function %d", uint32(f.int32())), true
	u.refused = refuse(ruleFunction, "the gateway does not pass on calls of functions by the fast path", "call it by SELECT")
	u.query = true
	s.endGroup()
	return nil
}

// oversized refuses a message that is too long to be held, and skips it.
func (s *served) oversized(t byte, size int) error {
	if t == 'd' || frontend[t].handling != submitted && frontend[t].handling != refused {
		return violation(fmt.Sprintf("the %s message has %d bytes, want at most %d", frontend[t].name, size, s.server.Limits.Message))
	}
	if !s.discard {
		u := s.next(frontend[t].name, s.in.r)
		u.op.Text, u.op.Writes = fmt.Sprintf("a message of %d bytes", size), true
		u.refused = tooLong(size, s.server.Limits.Message)
		u.query = t == 'Q' || t == 'F'
	}
	if err := s.submit(); err != nil {
		return err
	}
	for size > 0 {
		if n := min(size, s.in.w-s.in.r); n > 0 {
			s.in.r += n
			size -= n
			continue
		}
		if err := s.in.fill(1); err != nil {
			return s.lost(err)
		}
	}
	return nil
}

func tooLong(size, most int) *custos.Decision {
	return refuse(ruleTooLong, fmt.Sprintf("the operation has %d bytes, want at most %d", size, most), "send it in pieces, or by COPY")
}

// submit puts the batch on record and forwards what is permitted of it.
func (s *served) submit() error {
	s.settleBound()
	batch := s.batch
	defer s.clearBatch()
	for len(batch) > 0 {
		s.requests = s.requests[:0]
		for _, u := range batch {
			if n := len(u.op.Text) + u.end - u.at; n > s.server.Limits.Message && u.refused == nil {
				u.refused = tooLong(n, s.server.Limits.Message)
			}
			s.requests = append(s.requests, gate.Request{Operation: &u.op, Frame: s.in.buf[u.at:u.end], Refused: u.refused})
		}
		permits, err := s.session.Submit(s.session.Context(), s.permits[:0], s.requests)
		s.permits = permits[:0]
		if len(permits) > 0 {
			if err := s.send(batch, permits); err != nil {
				return err
			}
		}
		var refusal *custos.Refusal
		switch {
		case err == nil:
			return s.awaitInput(batch[len(batch)-1])
		case context.Cause(s.session.Context()) != nil:
			return context.Cause(s.session.Context())
		case !errors.As(err, &refusal):
			return err
		}
		u := batch[len(permits)]
		batch = batch[len(permits)+1:]
		if err := s.refuse(u, refusal); err != nil {
			return err
		}
		// What follows up to its Sync is dropped, as a target drops it.
		for s.discard && len(batch) > 0 {
			synced := batch[0].synced
			batch = batch[1:]
			if synced {
				if err := s.syncAlone(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// keptUnits is how many units an idle session keeps to use again.
const keptUnits = 8

// clearBatch lets go of all that the batch refers to.
func (s *served) clearBatch() {
	clear(s.requests)
	clear(s.permits[:cap(s.permits)])
	if len(s.batch) > keptUnits {
		s.batch, s.requests, s.permits = nil, nil, nil
		return
	}
	for _, u := range s.batch {
		clear(u.op.Params)
		clear(u.steps)
		*u = unit{steps: u.steps[:0], op: custos.Operation{Params: u.op.Params[:0]}}
	}
	s.batch = s.batch[:0]
}

// send forwards what was permitted, after queueing what is to be answered.
func (s *served) send(batch []*unit, permits []*gate.Permit) error {
	s.mu.Lock()
	if s.skips {
		s.mu.Unlock()
		return s.sendNot(batch, permits)
	}
	for i, p := range permits {
		u := batch[i]
		u.work.permit = p
		for j := range u.steps {
			st := u.steps[j]
			st.last = st.kind != 'S' && (j+1 == len(u.steps) || u.steps[j+1].kind == 'S')
			if st.kind == 'S' {
				st.work = nil
			}
			if st.def != nil {
				s.pending++
			}
			s.queue.push(st)
		}
		if u.work.counts() {
			s.pending++
		}
		s.unsynced = !u.query && !u.synced
	}
	s.mu.Unlock()
	if err := s.session.Send(permits); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	return s.ease()
}

// sendNot drops, as the target would, what comes between an error and the
// Sync after it; what comes behind that is sent.
func (s *served) sendNot(batch []*unit, permits []*gate.Permit) error {
	s.discard = true
	for i, p := range permits {
		if err := p.Settle(gate.Outcome{State: custos.StateNotSent}); err != nil {
			return err
		}
		if batch[i].synced {
			if err := s.syncAlone(); err != nil {
				return err
			}
			if i+1 == len(permits) {
				return nil
			}
			return s.send(batch[i+1:], permits[i+1:])
		}
	}
	return nil
}

// ease waits while too much is unanswered. A target holds back its answers
// until it is told to flush them.
func (s *served) ease() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for flushed := false; s.queue.n > maxSteps && s.ended == nil; s.changed.Wait() {
		if !flushed {
			flushed = true
			s.mu.Unlock()
			err := s.session.Upkeep(flushFrame)
			s.mu.Lock()
			if err != nil {
				return fmt.Errorf("%w: %w", errTarget, err)
			}
		}
	}
	return s.ended
}

// definitions counts those of the batch.
func (s *served) definitions() bool {
	for _, u := range s.batch {
		if u.work.counts() {
			return true
		}
		for i := range u.steps {
			if u.steps[i].def != nil {
				return true
			}
		}
	}
	return false
}

// barrier waits until the target has confirmed or refused all definitions, so
// that names are known for sure.
func (s *served) barrier() error {
	s.mu.Lock()
	pending := s.pending
	s.mu.Unlock()
	if pending == 0 && !s.definitions() {
		return nil
	}
	if err := s.submit(); err != nil {
		return err
	}
	if s.unsynced {
		if err := s.session.Upkeep(flushFrame); err != nil {
			return fmt.Errorf("%w: %w", errTarget, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.pending > 0 && s.ended == nil {
		s.changed.Wait()
	}
	if s.skips || s.discard {
		s.discard = true
		return errSkipped
	}
	return s.ended
}

// errSkipped is what a message meets that is skipped for an error before it.
var errSkipped = errors.New("it is skipped")

// refuse tells the client that an operation was refused: in its place among
// the answers, and with the transaction it stands in.
func (s *served) refuse(u *unit, r *custos.Refusal) error {
	s.mu.Lock()
	skips := s.skips
	s.mu.Unlock()
	if skips {
		s.discard = true
		return s.afterRefusal(u)
	}
	s.endGroup()
	told := u.rendered(r)
	text := told.append(nil, "ERROR")
	if u.query {
		text = appendReady(text, 'I')
	}
	s.discard = !u.query
	if s.answerHere(text) {
		return s.afterRefusal(u)
	}
	s.mu.Lock()
	frame := s.poison.poison
	s.queue.push(step{kind: poisonStep, last: true, work: &work{refusal: told}})
	if u.query {
		frame = s.poison.poisonSync
		s.queue.push(step{kind: 'S'})
		s.skips = false
	}
	s.mu.Unlock()
	s.unsynced = !u.query
	if err := s.session.Upkeep(frame); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	return s.afterRefusal(u)
}

func (s *served) afterRefusal(u *unit) error {
	if u.synced {
		return s.syncAlone()
	}
	return nil
}

// answerHere answers the client without the target, when nothing is under way
// at the target and no transaction is open.
func (s *served) answerHere(text []byte) bool {
	s.clientMu.Lock()
	defer s.clientMu.Unlock()
	s.mu.Lock()
	quiet := s.queue.n == 0 && s.status == 'I' && !s.unsynced && s.ended == nil
	s.mu.Unlock()
	if quiet {
		s.client.Write(text)
	}
	return quiet
}

func appendReady(dst []byte, status byte) []byte {
	dst, at := begin(dst, 'Z')
	return finish(append(dst, status), at)
}

// drainTimeout bounds how long the target may take for what a client asked
// before it said goodbye. Then it is told to stop.
const drainTimeout = 10 * time.Second

// drain waits until all is answered that a client asked and did not wait for.
func (s *served) drain() error {
	if s.unsynced {
		if err := s.session.Upkeep(flushFrame); err != nil {
			return errClient
		}
	}
	over := false
	timer := time.AfterFunc(drainTimeout, func() {
		s.mu.Lock()
		over = true
		s.changed.Broadcast()
		s.mu.Unlock()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queue.n > 0 && s.copying == nil && s.ended == nil && !over {
		s.changed.Wait()
	}
	return errClient
}

// onSync takes a Sync: it rides on the operation before it.
func (s *served) onSync(at, end int) error {
	s.endGroup()
	if u := s.last(at); u != nil && !u.query && !s.discard {
		u.step('S', nil)
		u.end, u.synced = end, true
		return nil
	}
	if err := s.submit(); err != nil {
		return err
	}
	return s.syncAlone()
}

// syncAlone ends a group of which nothing more is sent.
func (s *served) syncAlone() error {
	refused := s.discard
	s.discard = false
	if refused && s.answerHere(appendReady(nil, 'I')) {
		return nil
	}
	s.mu.Lock()
	s.queue.push(step{kind: 'S'})
	s.skips = false
	s.mu.Unlock()
	s.unsynced = false
	if err := s.session.Upkeep(syncFrame); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	return nil
}

// onFlush takes a Flush.
func (s *served) onFlush(at, end int) error {
	if u := s.last(at); u != nil && !u.query && !u.synced {
		u.end = end
		return nil
	}
	if err := s.submit(); err != nil {
		return err
	}
	if err := s.session.Upkeep(flushFrame); err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	return nil
}

var _ io.Reader = (*gate.Session)(nil)
