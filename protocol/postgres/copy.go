package postgres

import (
	"errors"
	"fmt"

	custos "github.com/custos-gateway/custos"
)

// maxInput is how much input of a COPY is put on record at a time, in bytes.
const maxInput = 64 << 10

// awaitInput waits, after a statement that may ask for input, until the target
// asks for it or has answered: what is sent to a target that copies is either
// input, or breaks the copy.
func (s *served) awaitInput(u *unit) error {
	if !u.copies {
		return nil
	}
	if s.unsynced {
		if err := s.session.Upkeep(flushFrame); err != nil {
			return fmt.Errorf("%w: %w", errTarget, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.copying == nil && !u.work.done && s.ended == nil {
		s.changed.Wait()
	}
	return s.ended
}

// besideCopy takes a message other than input while the target copies: Flush
// and Sync count for nothing then (section "COPY Operations").
func (s *served) besideCopy(t byte) (done bool, err error) {
	s.mu.Lock()
	w := s.copying
	s.mu.Unlock()
	switch {
	case w == nil || t == 'X':
		return false, nil
	case t == 'S' || t == 'H':
		return true, nil
	}
	return true, violation(fmt.Sprintf("unexpected message type %s during COPY from stdin", messageName(t)))
}

// onCopy takes input. What comes when nothing is copied, such as after an
// error of the target, is dropped, as the target does.
func (s *served) onCopy(t byte, at, end int) error {
	if err := s.submit(); err != nil {
		return err
	}
	s.mu.Lock()
	w := s.copying
	s.mu.Unlock()
	if w == nil {
		s.copied = nil
		return nil
	}
	frame := s.in.buf[at:end]
	if t == 'd' {
		if len(s.copied)+len(frame) > maxInput {
			if err := s.forwardCopy(); err != nil {
				return err
			}
		}
		if len(frame) > maxInput {
			return s.input(w, frame)
		}
		s.copied = append(s.copied, frame...)
		return nil
	}
	s.mu.Lock()
	// What follows is answered after the copy. Syncs before it are not.
	if s.copying == w {
		s.copying = nil
	}
	s.mu.Unlock()
	if err := s.input(w, append(s.copied, frame...)); err != nil {
		return err
	}
	s.copied = nil
	return nil
}

// forwardCopy forwards the input that was gathered.
func (s *served) forwardCopy() error {
	if len(s.copied) == 0 {
		return nil
	}
	s.mu.Lock()
	w := s.copying
	s.mu.Unlock()
	chunk := s.copied
	s.copied = s.copied[:0]
	if w == nil {
		return nil
	}
	return s.input(w, chunk)
}

// input records a piece of input and forwards it. When it cannot be recorded,
// the copy fails at the target, and the client is told.
func (s *served) input(w *work, chunk []byte) error {
	err := w.permit.Input(s.session.Context(), chunk)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	done := w.done
	s.mu.Unlock()
	var refusal *custos.Refusal
	switch {
	case done:
		return nil // the target has failed it meanwhile
	case errors.As(err, &refusal):
		return &fatal{code: code(refusal.Rule), message: refusal.Error(), detail: detail(refusal), hint: refusal.Hint}
	}
	return fmt.Errorf("%w: %w", errTarget, err)
}
