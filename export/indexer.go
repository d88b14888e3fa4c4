package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
	"github.com/custos-gateway/custos/store"
)

// Indexer keeps the search index up with the ledger. The index holds nothing
// of its own: where it is behind, or new, it reads on from where it is.
type Indexer struct {
	Ledger     *ledger.Log
	Recordings *recording.Store
	Index      *store.Index
	Logger     *slog.Logger
	// Seen, if not nil, is told of every entry that was indexed, in order; of
	// all of them again when the index is built anew.
	Seen func(index uint64, e *custos.Entry)

	once   sync.Once
	failed error // of start
}

// batch is how many entries are put into the index as one transaction.
const batch = 4096

// gather is how long entries are left to gather before they are indexed, when
// nobody waits for them: few large transactions cost far less than many small.
const gather = 250 * time.Millisecond

// rest is how long the indexer leaves the machine to others after it has
// worked for a time: callers wait for their answers, and nobody for the index.
// Who does wait, as CaughtUp does, ends it.
const rest = 2

// retry is how long to wait after an error, such as of a full disk.
const retry = time.Second

// Run follows the ledger until ctx ends. An entry that can't be unsealed is
// indexed by what its leaf says, and logged: one damaged recording does not
// keep the rest from being found.
//
// Only durable entries are indexed, so that no loss of power leaves an index
// of what the ledger does not have.
func (x *Indexer) Run(ctx context.Context) error {
	if err := x.start(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("index ledger: %w", err)
	}
	known, wanted := keys{}, false
	for ctx.Err() == nil {
		size, err := x.due(ctx, wanted)
		started := time.Now()
		if err == nil {
			err = x.take(ctx, known, size)
		}
		if errors.Is(err, store.ErrDamaged) {
			x.Logger.Error("build index anew: it is damaged", "cause", err)
			err = x.Index.Reset()
		}
		wait := rest * time.Since(started)
		if err != nil && ctx.Err() == nil {
			x.Logger.Error("index ledger: try again in a while", "cause", err)
			wait = retry
		}
		wanted = false
		select {
		case <-ctx.Done():
		case <-x.Index.Wanted():
			wanted = true
		case <-time.After(wait):
		}
	}
	return nil
}

// due waits for entries that are not indexed, and returns where those end that
// are durable. It makes them durable itself only for who waits for them, and
// after a while: whoever acts on an entry does so sooner. Damage that a reader
// meets is its error.
func (x *Indexer) due(ctx context.Context, wanted bool) (uint64, error) {
	next, err := x.Index.Next()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-x.Index.Damaged():
			cancel(store.ErrDamaged)
		case <-ctx.Done():
		}
	}()
	if _, err := x.Ledger.Wait(ctx, next); err != nil {
		return 0, cmp.Or(context.Cause(ctx), err)
	}
	for deadline := time.Now().Add(time.Second); ; {
		if !wanted {
			select {
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			case <-x.Index.Wanted():
				wanted = true
			case <-time.After(gather):
			}
		}
		size := x.Ledger.DurableSize()
		if wanted || size <= next && time.Now().After(deadline) {
			size = x.Ledger.Size()
			return size, x.Ledger.Durable(size - 1)
		}
		if size > next {
			return size, nil
		}
	}
}

// start makes the index anew if it is damaged, or of another ledger, such as of
// one that was restored from a backup since. It does so once.
func (x *Indexer) start(ctx context.Context) error {
	x.once.Do(func() {
		ours, err := x.ours(ctx)
		if err == nil && !ours || errors.Is(err, store.ErrDamaged) {
			x.Logger.Warn("build index anew: it is damaged, or of another ledger, or of another state of it", "cause", err)
			err = x.Index.Reset()
		}
		x.failed = err
	})
	return x.failed
}

// ours reports whether the index is of this ledger: not ahead of it, and with
// its newest session where the ledger has it.
func (x *Indexer) ours(ctx context.Context) (bool, error) {
	next, err := x.Index.Next()
	if err != nil || next > x.Ledger.Size() {
		return false, err
	}
	newest, _, err := x.Index.Sessions(ctx, store.Filter{Limit: 1})
	if err != nil || len(newest) == 0 {
		return true, err
	}
	if newest[0].Opened >= x.Ledger.Size() {
		return false, nil
	}
	leaf, _, err := x.Ledger.Read(newest[0].Opened)
	if err != nil {
		return false, err
	}
	e, err := custos.ParseEntry(leaf)
	return err == nil && e.Opened != nil && e.Session == newest[0].ID, nil
}

// CaughtUp returns when all entries that are in the ledger now are indexed.
func (x *Indexer) CaughtUp(ctx context.Context) error {
	if err := x.start(ctx); err != nil {
		return fmt.Errorf("index ledger: %w", err)
	}
	return x.Index.Wait(ctx, x.Ledger.Size())
}

// keys are those of the sessions that were met last.
type keys map[custos.SessionID]*recording.Key

// maxKeys bounds how many are held.
const maxKeys = 10_000

// take indexes the entries up to size that are not indexed, in batches.
func (x *Indexer) take(ctx context.Context, keys keys, size uint64) error {
	next, err := x.Index.Next()
	if err != nil || next >= size {
		return err
	}
	items := make([]store.Item, 0, min(batch, size-next))
	flush := func() error {
		if err := x.Index.Apply(items); err != nil {
			return err
		}
		if x.Seen != nil {
			for i := range items {
				x.Seen(items[i].Index, items[i].Entry)
			}
		}
		items = items[:0]
		return ctx.Err()
	}
	err = x.Ledger.Scan(next, size, func(index uint64, leaf, attachment []byte) error {
		item, err := x.item(keys, index, leaf, attachment)
		if err != nil {
			return err
		}
		if items = append(items, item); len(items) == batch {
			return flush()
		}
		return nil
	})
	if err == nil && len(items) > 0 {
		err = flush()
	}
	return err
}

// item unseals what the index has to know of an entry.
func (x *Indexer) item(keys keys, index uint64, leaf, attachment []byte) (store.Item, error) {
	e, err := custos.ParseEntry(leaf)
	if err != nil {
		return store.Item{}, fmt.Errorf("entry %d: %w", index, err)
	}
	item := store.Item{Index: index, Entry: e}
	if e.Kind == custos.EntryClosed || e.Kind == custos.EntryErased {
		delete(keys, e.Session)
	}
	if e.Kind != custos.EntrySubmitted {
		return item, nil
	}
	key := keys[e.Session]
	if key == nil {
		if len(keys) >= maxKeys {
			clear(keys)
		}
		if key, err = x.Recordings.Key(e.Session); err == nil {
			keys[e.Session] = key
		}
	}
	if err == nil {
		item.Operation, err = key.Operation(e, attachment)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.Logger.Error("index operation without its text", "entry", index, "session", e.Session, "cause", err)
	}
	return item, nil
}
