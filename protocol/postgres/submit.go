package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

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
		s.mu.Lock()
		patience := s.patience.of(s.status != 'I')
		s.mu.Unlock()
		s.previewed = batch[0] // the only one that can be held here
		for _, u := range batch {
			if n := len(u.op.Text) + u.end - u.at; n > s.server.Limits.Message && u.refused == nil {
				u.refused = tooLong(n, s.server.Limits.Message)
			}
			s.requests = append(s.requests, gate.Request{Operation: &u.op, Frame: s.in.buf[u.at:u.end], Refused: u.refused, Reads: u.reads(), Defines: u.defines(), Held: s.onHeldFunc,
				Patience: patience, Preview: s.previewFunc})
		}
		permits, err := s.session.Submit(s.session.Context(), s.permits[:0], s.requests)
		s.permits = permits[:0]
		gaveUp := s.unheld(patience)
		s.previewed = nil
		if len(permits) > 0 {
			if err := s.send(batch, permits); err != nil {
				return err
			}
		}
		var refusal *custos.Refusal
		switch {
		case err == nil && len(permits) < len(batch):
			// The next has to wait for people, after these are sent.
			if len(permits) > 0 {
				if err := s.awaitInput(batch[len(permits)-1]); err != nil {
					return err
				}
			}
			batch = batch[len(permits):]
			continue
		case err == nil:
			return s.awaitInput(batch[len(batch)-1])
		case context.Cause(s.session.Context()) != nil:
			return context.Cause(s.session.Context())
		case !errors.As(err, &refusal):
			return err
		}
		u := batch[len(permits)]
		batch = batch[len(permits)+1:]
		u.gaveUp = gaveUp
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
	for i, p := range permits {
		if err := s.cover(batch[i].work, p); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.skips {
		s.mu.Unlock()
		return s.sendNot(batch, permits)
	}
	for i, p := range permits {
		u := batch[i]
		u.work.permit = p
		if u.statement != nil {
			s.patience.note(u.op.Text, u.op.Verbs)
		}
		if u.work.veil != nil {
			s.veil = u.work.veil
		}
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

// cover makes ready what is hidden of the answer of w.
func (s *served) cover(w *work, p *gate.Permit) error {
	masks := p.Masks()
	if len(masks) == 0 {
		return nil
	}
	// The connection as it is configured now: its tags may have changed.
	c := s.session.Connection()
	if now, ok := s.server.Gate.Directory.Connection(c.Name); ok {
		c = now
	}
	v, err := s.server.veil(masks, c)
	if err != nil {
		return fmt.Errorf("hide what is masked: %w", err)
	}
	w.veil = v
	w.touched = w.statement != nil && v.touches(w.statement.sql, w.statement.catalog)
	return nil
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
