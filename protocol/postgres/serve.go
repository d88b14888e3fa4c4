package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/sql"
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
	keeper  *keeper // of the target's catalogue; nil: it is not read

	onHeldFunc  func(*custos.Approval) context.Context       // onHeld, made once
	previewFunc func(context.Context, bool) *custos.Estimate // preview, made once
	previewed   *unit                                        // what it is asked of

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
	rest     int     // of a frame that is passed on as it comes
	restType byte    // its type
	pos      int     // in the buffer: what was gone through
	from     int     // where the client's view begins
	shown    *[]byte // the view, where it is not the buffer
	diverted bool    // it is not
	owner    *work   // whose answer the segment is
	segment  int     // where it begins in the view
	rowBuf   []byte  // scratch

	clientMu sync.Mutex  // orders writes to the client
	closing  atomic.Bool // the session is being closed from here

	mu       sync.Mutex // guards what follows
	changed  sync.Cond
	queue    queue
	names    names
	pending  int   // definitions and the like that the target has not confirmed
	skips    bool  // the target skips up to the next Sync
	status   byte  // of the last ReadyForQuery
	copying  *work // what takes input now
	ended    error // why the target's side ended
	told     bool  // the client got the target's own last words
	veil     *veil // of the operation that was sent last
	holding  *held // waits for people
	gaveUp   error // why a hold ended early
	patience patience
	given    map[string]*sql.Statement // what PREPARE and DECLARE gave names to
}

var (
	errTarget = errors.New("the line to the target broke")
	errClient = errors.New("client closed the connection")
)

// serve leads a session from its welcome to its end. A crash in it leaves
// operations without an outcome, which are shown as unsettled.
func (s *Server) serve(session *gate.Session, d *door) {
	v := &served{server: s, session: session, client: d.conn, key: d.key, poison: session.Greeting().(*greeting), status: 'I'}
	v.keeper, v.onHeldFunc, v.previewFunc, v.patience.session = v.poison.keeper, v.onHeld, v.preview, v.poison.patience
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
		if len(s.in.held()) > len(held) {
			return nil // it came while an operation was held
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
