package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
)

// held is an operation that waits for people: what ends the wait early.
type held struct {
	cancel context.CancelCauseFunc
	stop   func()
	since  time.Time
}

// What a client is told whose hold ended early, as a target would tell it.
var (
	errCancelled = errors.New("canceling statement due to user request")
	errTimedOut  = errors.New("canceling statement due to statement timeout")
)

// onHeld tells the client that people are asked, at once, and watches whether
// it goes away or cancels. What was asked before is answered first, so that
// the notice stands between messages.
func (s *served) onHeld(a *custos.Approval) context.Context {
	ctx, cancel := context.WithCancelCause(s.session.Context())
	h := &held{cancel: cancel, stop: s.watch(cancel), since: time.Now()}
	s.settleAnswers()
	s.mu.Lock()
	s.holding, s.gaveUp = h, nil
	s.mu.Unlock()
	n := fatal{code: "00000", message: fmt.Sprintf("held by rule %s: %s; waiting until %s for approval %s", a.Rule, a.Reason, a.Expires.UTC().Format(time.RFC3339), a.ID)}
	n.hint = "a reviewer answers by: custos approval approve " + a.ID
	if s.server.Link != nil {
		if url := s.server.Link(a.ID); url != "" {
			n.hint = "a reviewer answers at " + url + " or by: custos approval approve " + a.ID
		}
	}
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
func (s *served) unheld(patience time.Duration) error {
	s.mu.Lock()
	h := s.holding
	s.holding = nil
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	h.stop()
	defer h.cancel(nil)
	if s.gaveUp == nil && patience > 0 && time.Since(h.since) >= patience {
		return errTimedOut
	}
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

// patience is the client's own statement_timeout, as far as it set one through
// the gateway: how long it waits for a statement. It decides nothing but how
// long a statement is held: that it is read off the text is good enough.
type patience struct {
	session, local time.Duration // 0: none; local is of the transaction
	inside         bool          // local counts
}

// of is the client's patience now; inside: a transaction is open.
func (p *patience) of(inside bool) time.Duration {
	if !inside {
		p.inside = false
	}
	if p.inside {
		return p.local
	}
	return p.session
}

var timeoutSet = regexp.MustCompile(`(?i)\b(?:(reset)|set(?:\s+(session|local))?)\s+"?statement_timeout"?(?:\s*(?:=|\bto\b)\s*('[^']*'|[0-9a-z.]+))?`)

// note takes what a text sets.
func (p *patience) note(text string, verbs []string) {
	if !slices.Contains(verbs, "SET") && !slices.Contains(verbs, "RESET") {
		return
	}
	for _, m := range timeoutSet.FindAllStringSubmatch(text, -1) {
		d, known := timeoutOf(strings.Trim(m[3], "'"))
		if m[1] != "" || !known {
			d = 0
		}
		if strings.EqualFold(m[2], "local") {
			p.local, p.inside = d, true
		} else {
			p.session, p.inside = d, false
		}
	}
}

// timeoutOf reads a setting of time, of which the unit is a millisecond.
func timeoutOf(text string) (time.Duration, bool) {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz ")
	unit, known := map[string]time.Duration{"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute,
		"h": time.Hour, "d": 24 * time.Hour}[strings.TrimSpace(text[len(digits):])]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || n < 0 || n > 1<<31 {
		return 0, false
	}
	return time.Duration(n * float64(unit)), true
}
