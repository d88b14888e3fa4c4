package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	custos "github.com/custos-gateway/custos"
)

// held is an operation that waits for people: what ends the wait early.
type held struct {
	cancel context.CancelCauseFunc
	stop   func()
}

// errCancelled is a hold that its client gave up by a CancelRequest.
var errCancelled = errors.New("canceling statement due to user request")

// onHeld tells the client that people are asked, at once, and watches whether
// it goes away or cancels. What was asked before is answered first, so that
// the notice stands between messages.
func (s *served) onHeld(a *custos.Approval) context.Context {
	ctx, cancel := context.WithCancelCause(s.session.Context())
	h := &held{cancel: cancel, stop: s.watch(cancel)}
	s.settleAnswers()
	s.mu.Lock()
	s.holding, s.gaveUp = h, nil
	s.mu.Unlock()
	n := fatal{code: "00000", message: fmt.Sprintf("held by rule %s: %s; waiting until %s for approval %s", a.Rule, a.Reason, a.Expires.UTC().Format(time.RFC3339), a.ID)}
	n.hint = "a reviewer answers by: custos approval approve " + a.ID
	notice := n.append(nil, "NOTICE")
	notice[0] = 'N'
	s.clientMu.Lock()
	defer s.clientMu.Unlock()
	if s.rest == 0 {
		s.client.Write(notice) // a client that is gone is noticed by watch
	}
	return ctx
}

// unheld ends what onHeld began, and says why the wait ended early, if it did.
func (s *served) unheld() error {
	s.mu.Lock()
	h := s.holding
	s.holding = nil
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	h.stop()
	defer h.cancel(nil)
	return s.gaveUp
}

// giveUp ends a hold for a CancelRequest. It reports whether there was one.
func (s *served) giveUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holding == nil {
		return false
	}
	s.gaveUp = errCancelled
	s.holding.cancel(errCancelled)
	return true
}

// settleAnswers waits until the target has answered all that it was asked.
func (s *served) settleAnswers() {
	if s.unsynced {
		if err := s.session.Upkeep(flushFrame); err != nil {
			return // the line broke: the target's side ends the session
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queue.n > 0 && s.copying == nil && s.ended == nil && s.session.Context().Err() == nil {
		s.changed.Wait()
	}
}

// watch reads on from the client while nobody else does, as far as there is
// room, and calls gone when the line ends. The function that it returns ends
// the watch; what was read lies in the buffer.
func (s *served) watch(gone context.CancelCauseFunc) (stop func()) {
	s.client.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s.in.w < len(s.in.buf) {
			if err := s.in.read(); err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					gone(errClient)
				}
				return
			}
		}
	}()
	return func() {
		s.client.SetReadDeadline(past)
		<-done
		s.client.SetReadDeadline(time.Time{})
	}
}
