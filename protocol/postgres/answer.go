package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// maxHeld bounds a message of the target's that has to be read as a whole, in
// bytes. Rows are not among them.
const maxHeld = 16 << 20

// streams are the messages that are passed on as they come.
var streams = [256]bool{'D': true, 'd': true, 'T': true, 't': true}

// answers takes what the target says, until the line ends. It returns why.
func (s *served) answers() error {
	for {
		need, err := s.answered()
		if err != nil {
			return err
		}
		if err := s.out.fill(need); err != nil {
			return errTarget
		}
	}
}

// answered goes through what the target has sent: all of it is on record, the
// outcomes too, before any of it goes to the client, as one write. It returns
// how many bytes have to be held for what comes next.
func (s *served) answered() (need int, err error) {
	s.clientMu.Lock()
	defer s.clientMu.Unlock()
	s.pos, s.from = s.out.r, s.out.r
	s.segment = s.pos
	defer s.undivert()
	need = headerSize
	for s.pos < s.out.w {
		held := s.out.buf[s.pos:s.out.w]
		if s.rest > 0 {
			n := min(s.rest, len(held))
			s.pass(n)
			if s.rest -= n; s.rest == 0 {
				if err := s.streamed(s.restType); err != nil {
					return 0, err
				}
			}
			continue
		}
		size, err := frameSize(held)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errTarget, err)
		}
		if size == 0 {
			break
		}
		t := held[0]
		streamed, hidden, err := s.stream(t, size)
		if err != nil {
			return 0, err
		}
		if hidden != nil && size <= len(held) && size <= maxHeld {
			if err := s.hiddenRows(hidden); err != nil {
				return 0, err
			}
			continue
		}
		if streamed {
			if err := s.rows(t); err != nil {
				return 0, err
			}
			continue
		}
		if size > maxHeld {
			return 0, fmt.Errorf("%w: a message %s of %d bytes", errTarget, messageName(t), size)
		}
		if size > len(held) {
			need = size
			break
		}
		if err := s.whole(t, held[:size]); err != nil {
			return 0, err
		}
	}
	if err := s.record(s.here()); err != nil {
		return 0, err
	}
	if b := s.view()[s.from:s.here()]; len(b) > 0 {
		if _, err := s.client.Write(b); err != nil {
			return 0, errClient
		}
	}
	s.out.r = s.pos
	return need, nil
}

// view is what the client sees of what the target has sent: the buffer itself,
// or a copy of it from the first message on that the client is to see another
// in the stead of. Offsets of what is on record are of the view.
func (s *served) view() []byte {
	if s.diverted {
		return *s.shown
	}
	return s.out.buf
}

// here is the offset in the view of what was gone through so far.
func (s *served) here() int {
	if s.diverted {
		return len(*s.shown)
	}
	return s.pos
}

// pass shows the next n bytes as they are.
func (s *served) pass(n int) {
	if s.diverted {
		*s.shown = append(*s.shown, s.out.buf[s.pos:s.pos+n]...)
	}
	s.pos += n
}

// divert begins the copy.
func (s *served) divert() {
	if s.diverted {
		return
	}
	s.shown = busyBuffers.Get().(*[]byte)
	*s.shown = append((*s.shown)[:0], s.out.buf[s.from:s.pos]...)
	s.segment -= s.from
	s.from, s.diverted = 0, true
}

func (s *served) undivert() {
	if s.diverted && cap(*s.shown) <= 4*busyBuffer {
		*s.shown = (*s.shown)[:min(busyBuffer, cap(*s.shown))]
		busyBuffers.Put(s.shown)
	}
	s.shown, s.diverted = nil, false
}

// record puts the segment that ends at an offset of the view on record, as
// part of the answer of its owner.
func (s *served) record(to int) error {
	if s.owner != nil && to > s.segment && s.owner.permit != nil {
		if err := s.owner.permit.Answer(s.view()[s.segment:to]); err != nil {
			return err
		}
	}
	s.segment = to
	return nil
}

// own begins a segment at an offset of the view, unless the one before is w's
// as well.
func (s *served) own(w *work, at int) error {
	if w == s.owner {
		return nil
	}
	err := s.record(at)
	s.owner = w
	return err
}

// stream begins a message that is passed on as it comes, if it is one. hidden is
// whose row it is, if that has to be looked at first.
func (s *served) stream(t byte, size int) (streamed bool, hidden *work, err error) {
	if !streams[t] {
		return false, nil, nil
	}
	s.mu.Lock()
	h := s.queue.head()
	fits := h != nil && (h.kind == 'E' || h.kind == 'Q' || h.kind == 'D' && (t == 'T' || t == 't'))
	var w *work
	if fits {
		w = h.work
		// A description is read where it says what is hidden, or may later.
		if t == 'T' && (w.veil != nil || h.kind == 'D') || t != 't' && w.hides(t) {
			s.mu.Unlock()
			if t == 'D' {
				hidden = w
			}
			return false, hidden, nil
		}
	}
	s.mu.Unlock()
	if !fits {
		return false, nil, unexpected(t)
	}
	s.rest, s.restType = size, t
	return true, nil, s.own(w, s.here())
}

// hiddenRows takes the rows of w that are there in full, and shows them as the
// client may see them.
func (s *served) hiddenRows(w *work) error {
	if err := s.own(w, s.here()); err != nil {
		return err
	}
	for {
		held := s.out.buf[s.pos:s.out.w]
		size, err := frameSize(held)
		if err != nil {
			return fmt.Errorf("%w: %w", errTarget, err)
		}
		if size == 0 || size > len(held) || held[0] != 'D' {
			return nil
		}
		masked := 0
		if s.diverted {
			*s.shown, masked = w.plan.row(*s.shown, held[:size])
		} else if s.rowBuf, masked = w.plan.row(s.rowBuf[:0], held[:size]); masked > 0 {
			s.divert()
			*s.shown = append(*s.shown, s.rowBuf...)
		}
		if masked > 0 {
			s.pos += size
		} else {
			s.pass(size)
		}
		w.counted++
		w.masked += int64(masked)
	}
}

func unexpected(t byte) error {
	return fmt.Errorf("%w: it sent an unexpected message %s", errTarget, messageName(t))
}

// rows goes through the message that stream began and, where it is a row,
// those like it that follow and are there in full, and counts them.
func (s *served) rows(t byte) error {
	for {
		n := min(s.rest, s.out.w-s.pos)
		s.pass(n)
		if s.rest -= n; s.rest > 0 {
			return nil
		}
		if err := s.streamed(t); err != nil {
			return err
		}
		held := s.out.buf[s.pos:s.out.w]
		if t != 'D' || len(held) < headerSize || held[0] != t {
			return nil
		}
		size, err := frameSize(held)
		if err != nil {
			return fmt.Errorf("%w: %w", errTarget, err)
		}
		s.rest = size
	}
}

// streamed is the end of a message that was passed on as it came.
func (s *served) streamed(t byte) error {
	if t == 'D' {
		s.owner.counted++
	}
	return nil
}

// whole takes one message that is there in full, and shows it, or what the
// client is to see in its stead.
func (s *served) whole(t byte, message []byte) error {
	instead, err := s.veiled(t, message)
	if err != nil {
		return err
	}
	if instead != nil {
		s.divert()
	}
	at := s.here()
	if instead == nil {
		s.pass(len(message))
	} else {
		*s.shown = append(*s.shown, instead...)
		s.pos += len(message)
	}
	instead, err = s.message(t, at, message[headerSize:])
	if err != nil || instead == nil {
		return err
	}
	if !s.diverted {
		s.pos -= len(message)
		s.divert()
		s.pos += len(message)
		at = len(*s.shown)
	}
	*s.shown = append((*s.shown)[:at], instead...)
	s.segment = len(*s.shown)
	return nil
}

// veiled returns what the client is to see in a message's stead; nil: the
// message itself.
func (s *served) veiled(t byte, message []byte) (instead []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var w *work
	v := s.veil
	if h := s.queue.head(); h != nil && h.work != nil {
		w, v = h.work, h.work.veil
	}
	if v == nil {
		return nil, nil
	}
	body, masked := message[headerSize:], 0
	switch {
	case t == 'H' && w != nil:
		w.copied = w.newCopyPlan(body)
	case t == 'd' && w != nil:
		if w.copied == nil {
			return nil, unexpected(t)
		}
		instead, masked = w.copied.data(body)
	case t == 'E' || t == 'N':
		instead, masked = v.message(t, body, w == nil && v.columns || w != nil && w.touched)
	case t == 'A':
		instead, masked = v.notification(body)
	}
	if masked == 0 {
		return nil, nil
	}
	if w != nil {
		w.masked += int64(masked)
	}
	return instead, nil
}

// advance takes the head, which was answered well, off the queue. The caller
// holds mu.
func (s *served) advance() step {
	st := s.queue.pop()
	if st.def != nil {
		s.names.apply(st.def)
		s.pending--
	}
	s.changed.Broadcast()
	return st
}

// message takes one whole message, which the client sees from the view's offset
// at on. Where the client is to see a refusal in its stead, it returns that.
func (s *served) message(t byte, at int, body []byte) (instead []byte, err error) {
	end := s.here()
	if backend[t].handling == unasked {
		return nil, s.unasked(t, at, body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.queue.head()
	if h == nil && t == 'E' {
		// Last words, such as of a server that shuts down.
		s.told = true
		return nil, s.session.Received(s.view()[at:end])
	}
	if h == nil {
		return nil, unexpected(t)
	}
	w := h.work
	if err := s.own(w, at); err != nil {
		return nil, err
	}
	switch {
	case t == 'E':
		return s.failed(h, at, body)
	case t == 'Z' && (h.kind == 'Q' || h.kind == 'S') && len(body) == 1:
		return nil, s.ready(h, body[0])
	case t == 'T' && (h.kind == 'D' || h.kind == 'E' || h.kind == 'Q'):
		w.described(body)
		if h.kind == 'D' {
			return nil, s.stepped(end)
		}
		return nil, nil
	case t == 'd' && (h.kind == 'E' || h.kind == 'Q'):
		return nil, nil
	case t == '1' && h.kind == 'P', t == '2' && h.kind == 'B', t == '3' && h.kind == 'C', t == 'n' && h.kind == 'D',
		t == 's' && h.kind == 'E':
		return nil, s.stepped(end)
	case (t == 'C' || t == 'I') && h.kind == 'E':
		s.tally(w, body)
		return nil, s.stepped(end)
	case (t == 'C' || t == 'I') && h.kind == 'Q':
		s.tally(w, body)
		return nil, nil
	case t == 'H' && (h.kind == 'E' || h.kind == 'Q'),
		t == 'c' && (h.kind == 'E' || h.kind == 'Q'):
		return nil, nil
	case t == 'G' && (h.kind == 'E' || h.kind == 'Q'):
		// A Sync that was sent ahead of the input counts for nothing.
		for h.kind == 'E' && s.queue.n > 1 && s.queue.at(1).kind == 'S' {
			head := s.queue.pop()
			s.queue.ring[s.queue.first] = head
			h = s.queue.head()
		}
		s.copying = w
		s.changed.Broadcast()
		return nil, nil
	}
	return nil, unexpected(t)
}

// tally counts the rows of a command that is complete.
func (s *served) tally(w *work, tag []byte) {
	if rows, ok := tagRows(tag); ok {
		w.rows += rows
	} else {
		w.rows += w.counted
	}
	w.counted = 0
	w.nextStatement()
	if w.portals && (bytes.HasPrefix(tag, []byte("COMMIT")) || bytes.HasPrefix(tag, []byte("ROLLBACK"))) {
		s.names.forgetPortals()
	}
}

// stepped is the good end of the head. When it is the last of its operation,
// the outcome is put on record. The caller holds mu.
func (s *served) stepped(end int) error {
	st := s.advance()
	if !st.last {
		return nil
	}
	return s.settle(st.work, end, custos.StateOK)
}

// settle records an outcome. The answer ends at the buffer's offset end. The
// caller holds mu.
func (s *served) settle(w *work, end int, state custos.State) error {
	if w == nil || w.permit == nil || w.done {
		return nil
	}
	if w == s.owner {
		if err := s.record(end); err != nil {
			return err
		}
		s.owner = nil
	}
	w.done = true
	if w.changes && s.keeper != nil {
		s.keeper.expire()
	}
	if s.copying == w {
		s.copying = nil
	}
	if w.counts() {
		s.pending--
		switch {
		case w.forget != nil && (state == custos.StateOK || w.several && state == custos.StateError):
			s.names.forget(w.forget)
		case w.portals && state != custos.StateSkipped:
			s.names.forgetPortals()
		}
	}
	s.changed.Broadcast()
	err := w.permit.Settle(gate.Outcome{State: state, Code: w.code, Rows: w.rows + w.counted, Masked: w.masked})
	if err != nil {
		return fmt.Errorf("settle operation: %w", err)
	}
	return nil
}

// ready is the target's ReadyForQuery. The caller holds mu.
func (s *served) ready(h *step, status byte) error {
	s.status = status
	if status != 'T' {
		s.names.forgetPortals()
	}
	w, query := h.work, h.kind == 'Q'
	s.advance()
	if !query {
		return nil
	}
	state := custos.StateOK
	if w.code != "" {
		state = custos.StateError
	}
	return s.settle(w, s.here(), state)
}

// failed is the target's ErrorResponse: the rest up to the next Sync is
// skipped. The caller holds mu.
func (s *served) failed(h *step, at int, body []byte) (instead []byte, err error) {
	end := s.here()
	code := errorCode(body)
	if severity := errorField(body, 'V'); severity == "FATAL" || severity == "PANIC" {
		s.told = true
	}
	w := h.work
	switch h.kind {
	case 'S':
		// Such as a constraint that is checked at the transaction's end.
		return nil, s.session.Received(s.view()[at:end])
	case 'Q':
		w.code = code
		if s.copying == w {
			s.copying = nil
		}
		return nil, nil
	case poisonStep:
		instead = w.refusal.append(nil, "ERROR")
	default:
		w.code = code
		if err := s.settle(w, end, custos.StateError); err != nil {
			return nil, err
		}
	}
	s.skips = true
	for s.queue.n > 0 && s.queue.head().kind != 'S' {
		st := s.queue.pop()
		if st.def != nil {
			s.pending--
		}
		if err := s.settle(st.work, end, custos.StateSkipped); err != nil {
			return nil, err
		}
	}
	if s.queue.n > 0 {
		s.skips = false
	}
	s.changed.Broadcast()
	return instead, nil
}

// unasked takes a message that the target sends of its own accord: as part of
// the answer that is under way, else as an entry of its own.
func (s *served) unasked(t byte, at int, body []byte) error {
	if t == 'S' {
		f := fields{b: body}
		if name, value := f.text(), f.text(); strings.EqualFold(string(name), "client_encoding") && string(value) != "UTF8" {
			return &fatal{code: code(ruleEncoding), message: fmt.Sprintf("refused by rule %s: client_encoding is now %q", ruleEncoding, value),
				hint: "the gateway reads what it lets through, as UTF8: leave client_encoding at UTF8"}
		}
	}
	s.mu.Lock()
	var w *work
	if h := s.queue.head(); h != nil {
		w = h.work
	}
	s.mu.Unlock()
	if w != nil && w.permit != nil {
		return s.own(w, at)
	}
	if err := s.own(nil, at); err != nil {
		return err
	}
	if err := s.session.Received(s.view()[at:s.here()]); err != nil {
		return errors.Join(errTarget, err)
	}
	return nil
}
