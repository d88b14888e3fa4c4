package identity

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Ages of an issuer's keys, from the last successful fetch.
const (
	keysFresh = 5 * time.Minute  // older ones are refreshed in the background
	keysStale = 10 * time.Minute // older ones are refreshed before a token is judged
	keysDead  = time.Hour        // older ones are not used, whatever the issuer's state
)

// Pauses between fetches.
const (
	pauseAfterFetch = 5 * time.Second // however many unknown key ids come
	pauseAfterError = time.Second     // doubled with each failure in a row
	pauseLongest    = time.Minute
)

var errPaused = errors.New("the last attempt failed, and the next is not due yet")

// keySet holds the keys of one issuer and says when to fetch them anew. At
// most one fetch runs at a time, and it belongs to no token: a caller who goes
// away does not end it for the others.
type keySet struct {
	src *source
	now func() time.Time
	log *slog.Logger

	mu         sync.Mutex
	keys       []jose.JSONWebKey
	generation uint64        // counts successful fetches
	fetched    time.Time     // the last successful one
	next       time.Time     // no fetch begins before
	failures   int           // in a row
	err        error         // of the last fetch; nil if it succeeded
	running    chan struct{} // closed when the running fetch is over; nil: none runs
}

func newKeySet(src *source, now func() time.Time, log *slog.Logger) *keySet {
	return &keySet{src: src, now: now, log: log}
}

// current returns the keys to judge a token by, and their generation.
func (k *keySet) current(ctx context.Context) ([]jose.JSONWebKey, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.now().Sub(k.fetched)
	if k.generation > 0 && age < keysFresh {
		return k.keys, k.generation, nil
	}
	running := k.start()
	if k.generation > 0 && age < keysStale {
		return k.keys, k.generation, nil
	}
	if err := k.wait(ctx, running); err != nil {
		return nil, 0, err
	}
	if k.generation == 0 || k.now().Sub(k.fetched) >= keysDead {
		return nil, 0, k.failure()
	}
	return k.keys, k.generation, nil
}

// newer returns keys of a later generation than seen, fetching them if that is
// due, and nil if there are none. It fails when the issuer does: whether the
// key exists is then unknown.
func (k *keySet) newer(ctx context.Context, seen uint64) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.generation == seen {
		if err := k.wait(ctx, k.start()); err != nil {
			return nil, err
		}
	}
	switch {
	case k.generation != seen:
		return k.keys, nil
	case k.err != nil:
		return nil, k.failure()
	default:
		return nil, nil
	}
}

// failure is why there are no keys; k.mu is held.
func (k *keySet) failure() error {
	if k.err == nil {
		return errPaused
	}
	return k.err
}

// start begins a fetch if one is due, and returns what is closed when the
// running one is over, nil if none runs; k.mu is held.
func (k *keySet) start() <-chan struct{} {
	if k.running == nil && !k.now().Before(k.next) {
		k.running = make(chan struct{})
		go k.fetch()
	}
	return k.running
}

// wait returns when running is closed, or with an error when ctx ends first.
// k.mu is held before and after, and not meanwhile.
func (k *keySet) wait(ctx context.Context, running <-chan struct{}) error {
	if running == nil {
		return nil
	}
	k.mu.Unlock()
	defer k.mu.Lock()
	select {
	case <-running:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *keySet) fetch() {
	ctx, cancel := context.WithTimeout(context.Background(), k.src.client.Timeout)
	defer cancel()
	keys, err := k.src.fetch(ctx)

	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.running)
	k.running, k.err = nil, err
	now := k.now()
	if err != nil {
		pause := min(pauseAfterError<<min(k.failures, 10), pauseLongest)
		k.failures++
		k.next = now.Add(pause)
		k.log.Warn("fetch keys of issuer", "issuer", k.src.config.issuer, "error", err, "failures", k.failures, "next_in", pause)
		return
	}
	if ids := keyIDs(keys); k.generation == 0 || ids != keyIDs(k.keys) {
		k.log.Info("keys of issuer changed", "issuer", k.src.config.issuer, "keys", ids)
	}
	k.keys, k.fetched, k.failures = keys, now, 0
	k.generation++
	k.next = now.Add(pauseAfterFetch)
}

func keyIDs(keys []jose.JSONWebKey) string {
	var b []byte
	for i := range keys {
		b = append(append(b, keys[i].KeyID...), ' ')
	}
	return string(b)
}
