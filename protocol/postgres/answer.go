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
	from, pos := s.out.r, s.out.r
	s.segment = pos
	need = headerSize
	for pos < s.out.w {
		held := s.out.buf[pos:s.out.w]
		if s.rest > 0 {
			n := min(s.rest, len(held))
			pos += n
			if s.rest -= n; s.rest == 0 {
				if err := s.streamed(s.restType, pos); err != nil {
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
		if streams[t] {
			if err := s.stream(t, size, pos); err != nil {
				return 0, err
			}
			n, err := s.rows(t, pos)
			if err != nil {
				return 0, err
			}
			pos += n
			continue
		}
		if size > maxHeld {
			return 0, fmt.Errorf("%w: a message %s of %d bytes", errTarget, messageName(t), size)
		}
		if size > len(held) {
			need = size
			break
		}
		instead, err := s.message(t, pos, size)
		if err != nil {
			return 0, err
		}
		if instead != nil {
			if err := s.tell(from, pos); err != nil {
				return 0, err
			}
			if _, err := s.client.Write(instead); err != nil {
				return 0, errClient
			}
			from = pos + size
			s.segment = from
		}
		pos += size
	}
	if err := s.record(pos); err != nil {
		return 0, err
	}
	if err := s.tell(from, pos); err != nil {
		return 0, err
	}
	s.out.r = pos
	return need, nil
}

// tell writes what is on record to the client.
func (s *served) tell(from, to int) error {
	if from == to {
		return nil
	}
	if _, err := s.client.Write(s.out.buf[from:to]); err != nil {
		return errClient
	}
	return nil
}

// record puts the segment that ends at the buffer's offset to on record, as
// part of the answer of its owner.
func (s *served) record(to int) error {
	if s.owner != nil && to > s.segment && s.owner.permit != nil {
		if err := s.owner.permit.Answer(s.out.buf[s.segment:to]); err != nil {
			return err
		}
	}
	s.segment = to
	return nil
}

// own begins a segment at pos, unless the one before is w's as well.
func (s *served) own(w *work, pos int) error {
	if w == s.owner {
		return nil
	}
	err := s.record(pos)
	s.owner = w
	return err
}

// stream begins a message that is passed on as it comes.
func (s *served) stream(t byte, size, pos int) error {
	s.mu.Lock()
	h := s.queue.head()
	fits := h != nil && (h.kind == 'E' || h.kind == 'Q' || h.kind == 'D' && (t == 'T' || t == 't'))
	var w *work
	if fits {
		w = h.work
	}
	s.mu.Unlock()
	if !fits {
		return unexpected(t)
	}
	s.rest, s.restType = size, t
	return s.own(w, pos)
}

func unexpected(t byte) error {
	return fmt.Errorf("%w: it sent an unexpected message %s", errTarget, messageName(t))
}

// rows goes through the message that stream began at pos and, where it is a
// row, those like it that follow and are there in full, and counts them.
func (s *served) rows(t byte, pos int) (n int, err error) {
	held := s.out.buf[pos:s.out.w]
	for {
		m := min(s.rest, len(held)-n)
		n += m
		if s.rest -= m; s.rest > 0 {
			return n, nil
		}
		if err := s.streamed(t, pos+n); err != nil {
			return n, err
		}
		if t != 'D' || len(held)-n < headerSize || held[n] != t {
			return n, nil
		}
		size, err := frameSize(held[n:])
		if err != nil {
			return n, fmt.Errorf("%w: %w", errTarget, err)
		}
		s.rest = size
	}
}

// streamed is the end of a message that was passed on as it came.
func (s *served) streamed(t byte, end int) error {
	switch t {
	case 'D':
		s.owner.counted++
	case 'T':
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.queue.head().kind == 'D' {
			return s.stepped(end)
		}
	}
	return nil
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

// message takes one whole message. Where the client is to see another in its
// stead, it returns that.
func (s *served) message(t byte, pos, size int) (instead []byte, err error) {
	body := s.out.buf[pos+headerSize : pos+size]
	if backend[t].handling == unasked {
		return nil, s.unasked(t, pos, size, body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.queue.head()
	if h == nil && t == 'E' {
		// Last words, such as of a server that shuts down.
		s.told = true
		return nil, s.session.Received(s.out.buf[pos : pos+size])
	}
	if h == nil {
		return nil, unexpected(t)
	}
	w := h.work
	if err := s.own(w, pos); err != nil {
		return nil, err
	}
	switch {
	case t == 'E':
		return s.failed(h, pos, size, body)
	case t == 'Z' && (h.kind == 'Q' || h.kind == 'S') && len(body) == 1:
		return nil, s.ready(h, pos, size, body[0])
	case t == '1' && h.kind == 'P', t == '2' && h.kind == 'B', t == '3' && h.kind == 'C', t == 'n' && h.kind == 'D',
		t == 's' && h.kind == 'E':
		return nil, s.stepped(pos + size)
	case (t == 'C' || t == 'I') && h.kind == 'E':
		s.tally(w, body)
		return nil, s.stepped(pos + size)
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
	err := w.permit.Settle(gate.Outcome{State: state, Code: w.code, Rows: w.rows + w.counted})
	if err != nil {
		return fmt.Errorf("settle operation: %w", err)
	}
	return nil
}

// ready is the target's ReadyForQuery. The caller holds mu.
func (s *served) ready(h *step, pos, size int, status byte) error {
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
	return s.settle(w, pos+size, state)
}

// failed is the target's ErrorResponse: the rest up to the next Sync is
// skipped. The caller holds mu.
func (s *served) failed(h *step, pos, size int, body []byte) (instead []byte, err error) {
	code := errorCode(body)
	if severity := errorField(body, 'V'); severity == "FATAL" || severity == "PANIC" {
		s.told = true
	}
	w := h.work
	switch h.kind {
	case 'S':
		// Such as a constraint that is checked at the transaction's end.
		return nil, s.session.Received(s.out.buf[pos : pos+size])
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
		if err := s.settle(w, pos+size, custos.StateError); err != nil {
			return nil, err
		}
	}
	s.skips = true
	for s.queue.n > 0 && s.queue.head().kind != 'S' {
		st := s.queue.pop()
		if st.def != nil {
			s.pending--
		}
		if err := s.settle(st.work, pos+size, custos.StateSkipped); err != nil {
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
func (s *served) unasked(t byte, pos, size int, body []byte) error {
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
		return s.own(w, pos)
	}
	if err := s.own(nil, pos); err != nil {
		return err
	}
	if err := s.session.Received(s.out.buf[pos : pos+size]); err != nil {
		return errors.Join(errTarget, err)
	}
	return nil
}
