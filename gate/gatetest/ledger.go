package gatetest

import (
	"errors"
	"sync"
	"testing"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
)

// ErrBroken is what a Ledger answers that was told to fail.
var ErrBroken = errors.New("input/output error")

// Ledger is a real ledger that can be told to fail and to hold back, and that
// remembers what it was given.
type Ledger struct {
	log *ledger.Log

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	entries []Kept
	noSpace bool // Append fails
	noSync  bool // Durable fails
	held    bool // Durable waits
	waiting int  // in Durable
}

// Kept is an entry with its attachment.
type Kept struct {
	Index uint64
	Leaf  string
	*custos.Entry
	Sealed []byte
}

// Append is of gate.Ledger.
func (l *Ledger) Append(leaf, attachment []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noSpace {
		return 0, ErrBroken
	}
	i, err := l.log.Append(leaf, attachment)
	if err != nil {
		return i, err
	}
	e, err := custos.ParseEntry(leaf)
	if err != nil {
		return i, err
	}
	l.entries = append(l.entries, Kept{Index: i, Leaf: string(leaf), Entry: e, Sealed: append([]byte(nil), attachment...)})
	l.changed.Broadcast()
	return i, nil
}

// Durable is of gate.Ledger.
func (l *Ledger) Durable(index uint64) error {
	l.mu.Lock()
	l.waiting++
	l.changed.Broadcast()
	for l.held {
		l.changed.Wait()
	}
	l.waiting--
	fails := l.noSync
	l.mu.Unlock()
	if fails {
		return ErrBroken
	}
	return l.log.Durable(index)
}

// Break has Append fail, or only what makes entries durable.
func (l *Ledger) Break(appends, syncs bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noSpace, l.noSync = appends, syncs
}

// Hold has entries stay undurable until Release.
func (l *Ledger) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// Release ends Hold.
func (l *Ledger) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	l.changed.Broadcast()
}

// AwaitWaiting returns when somebody waits for an entry to be durable.
func (l *Ledger) AwaitWaiting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.waiting == 0 {
		l.changed.Wait()
	}
}

// Await returns when an entry is there for which want holds.
func (l *Ledger) Await(want func(Kept) bool) Kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; ; i++ {
		for i == len(l.entries) {
			l.changed.Wait()
		}
		if want(l.entries[i]) {
			return l.entries[i]
		}
	}
}

// AwaitClosed returns when n sessions have their end on record.
func (l *Ledger) AwaitClosed(n int) {
	l.Await(func(e Kept) bool {
		if e.Kind == custos.EntryClosed {
			n--
		}
		return n == 0
	})
}

// Entries returns what was appended.
func (l *Ledger) Entries() []Kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[:len(l.entries):len(l.entries)]
}

// Operation opens what a submitted entry seals.
func (w *World) Operation(t testing.TB, e Kept) *custos.Operation {
	t.Helper()
	key, err := w.Recordings.Key(e.Session)
	if err != nil {
		t.Fatal(err)
	}
	op, err := key.Operation(e.Entry, e.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// Open opens what another entry seals.
func (w *World) Open(t testing.TB, e Kept) []byte {
	t.Helper()
	key, err := w.Recordings.Key(e.Session)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.OpenSealed(e.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
