package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/store"
)

// keeper lets recordings go, when their connection's retention is over or an
// administrator says so, and holds those that must stay.
//
// The entry comes first and the key is destroyed after: a crash in between
// leaves an entry and a key, and the next start destroys it. The other way
// round it would leave a missing key that nobody accounts for.
//
// What is held is known from the ledger, not from the index, which may be
// behind. That a session has ended is known from the index: while it is
// behind, less is erased, never more.
type keeper struct {
	*house
	rules *inForce
	now   func() time.Time // by which retention is over

	mu sync.Mutex // one change of one recording at a time
	holds
}

// holds is what the ledger says of recordings.
type holds struct {
	held   map[custos.SessionID]bool
	erased []custos.SessionID // those whose key may be there still
}

// entry takes note of an entry.
func (h *holds) entry(e *custos.Entry) {
	switch e.Kind {
	case custos.EntryHeld:
		h.held[e.Session] = true
	case custos.EntryFreed:
		delete(h.held, e.Session)
	case custos.EntryErased:
		h.erased = append(h.erased, e.Session)
	}
}

// newKeeper finishes the erasures that a crash cut short.
func newKeeper(h *house, rules *inForce, known holds) (*keeper, error) {
	k := &keeper{house: h, rules: rules, now: h.now, holds: known}
	return k, k.finish()
}

// finish destroys the keys that are erased on record and are there still.
func (k *keeper) finish() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for ; len(k.erased) > 0; k.erased = k.erased[1:] {
		id := k.erased[0]
		if !k.recordings.Lingers(id) {
			continue
		}
		if err := k.recordings.Erase(id); err != nil {
			return fmt.Errorf("finish erasure: %w", err)
		}
		k.logger.Warn("an erasure was cut short; it is finished", "session", id)
	}
	k.erased = nil
	return nil
}

// Erase is of api.Keeping.
func (k *keeper) Erase(by string, id custos.SessionID, reason string) error {
	return k.erase(id, &custos.Note{By: by, Text: reason})
}

func (k *keeper) erase(id custos.SessionID, why *custos.Note) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := k.find(id)
	switch {
	case err != nil:
		return err
	case k.held[id]:
		return fmt.Errorf("%w: a legal hold is on session %s; an administrator may end it with: custos session release %s", api.ErrKept, id, id)
	case s.State == store.SessionOpen:
		return fmt.Errorf("%w: session %s has not ended; stop it first with: custos session stop %s", api.ErrKept, id, id)
	case !k.recordings.Lingers(id):
		return fmt.Errorf("%w: session %s has no recording, or it was erased before", api.ErrKept, id)
	}
	if err := k.keep(&custos.Entry{Kind: custos.EntryErased, Session: id, Note: why}, nil); err != nil {
		return err
	}
	err = k.recordings.Erase(id)
	if err != nil {
		k.erased = append(k.erased, id) // the next sweep tries again
	}
	return err
}

// Hold is of api.Keeping.
func (k *keeper) Hold(by string, id custos.SessionID, reason string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.find(id); err != nil {
		return err
	}
	if k.held[id] {
		return fmt.Errorf("%w: a legal hold is on session %s already", api.ErrKept, id)
	}
	if !k.recordings.Lingers(id) {
		return fmt.Errorf("%w: session %s has no recording, or it was erased", api.ErrKept, id)
	}
	if err := k.keep(&custos.Entry{Kind: custos.EntryHeld, Session: id, Note: &custos.Note{By: by, Text: reason}}, nil); err != nil {
		return err
	}
	k.held[id] = true
	return nil
}

// Release is of api.Keeping.
func (k *keeper) Release(by string, id custos.SessionID, reason string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.held[id] {
		return fmt.Errorf("%w: no legal hold is on session %s", api.ErrKept, id)
	}
	if err := k.keep(&custos.Entry{Kind: custos.EntryFreed, Session: id, Note: &custos.Note{By: by, Text: reason}}, nil); err != nil {
		return err
	}
	delete(k.held, id)
	return nil
}

func (k *keeper) find(id custos.SessionID) (*store.Session, error) {
	s, err := k.index.Session(context.Background(), id, store.Filter{})
	if err != nil {
		return nil, fmt.Errorf("find session %s: %w", id, err)
	}
	return s, nil
}

// How often recordings past their retention are looked for, and how many are
// read at a time.
const (
	sweepEvery = time.Minute
	sweepPage  = 100
)

// run lets recordings go by retention until ctx ends.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if n, err := k.sweep(ctx); err != nil && ctx.Err() == nil {
			k.logger.Error("erase recordings past their retention: try again in a while", "erased", n, "cause", err)
		} else if n > 0 {
			k.logger.Info("recordings past their retention were erased", "erased", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sweep erases what is past its retention now, and returns how many sessions
// that were. Recordings of connections that are no longer configured stay: no
// rule says when they go.
func (k *keeper) sweep(ctx context.Context) (n int, err error) {
	err = k.finish()
	for _, c := range k.rules.Load().connections {
		if c.Retention <= 0 {
			continue
		}
		why := custos.Note{Rule: "connections." + c.Name + ".retention", Text: "kept for " + config.Duration(c.Retention).String()}
		erased, failed := k.expire(ctx, c.Name, k.now().Add(-c.Retention), why)
		n, err = n+erased, errors.Join(err, failed)
	}
	return n, err
}

// expire erases what ended on a connection before a time.
func (k *keeper) expire(ctx context.Context, connection string, before time.Time, why custos.Note) (n int, err error) {
	for after := (*store.Session)(nil); ctx.Err() == nil; {
		sessions, err := k.index.Expired(ctx, connection, before, after, sweepPage)
		if err != nil || len(sessions) == 0 {
			return n, err
		}
		for i := range sessions {
			switch err := k.erase(sessions[i].ID, &why); {
			case err == nil:
				n++
			case !errors.Is(err, api.ErrKept): // held, or its key is lost: verifying says so
				return n, err
			}
		}
		after = &sessions[len(sessions)-1]
	}
	return n, ctx.Err()
}
