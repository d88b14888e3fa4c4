package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// schema is dropped and made again whenever schemaVersion changes: the index
// has no migrations, as it has nothing of its own.
//
//go:embed schema.sql
var schema string

const schemaVersion = 5

// ErrDamaged says that the file is not an index that can be used. Nothing is
// lost by deleting it.
var ErrDamaged = errors.New("the search index is damaged, and is built anew from the ledger: ask again in a while")

// Index is the search index. It is safe for concurrent use.
type Index struct {
	path string

	files sync.RWMutex // held by readers; by Reset to exchange what follows
	write *sql.DB      // one connection, used by who applies and resets
	read  *sql.DB

	// stale is set while the write-ahead log may hold text that was erased:
	// at first too, as the last run may have ended in the middle.
	stale atomic.Bool

	wanted  chan struct{} // somebody began to wait
	damaged chan struct{} // a reader met damage

	mu   sync.Mutex
	next uint64
	grew chan struct{} // closed when next grows
}

// Open opens the index at path, or makes it. A file that is not an index of
// this version, or is seen to be damaged, is replaced by an empty one. Any
// other error leaves the file as it is. Open does not read all of the file:
// damage further in shows as ErrDamaged when it is met.
func Open(path string) (*Index, error) {
	x := &Index{path: path, grew: make(chan struct{}), wanted: make(chan struct{}, 1), damaged: make(chan struct{}, 1)}
	x.stale.Store(true)
	err := x.open()
	if errors.Is(err, ErrDamaged) {
		if err = x.remove(); err == nil {
			err = x.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, err)
	}
	return x, nil
}

// open takes the file into use. In WAL mode with synchronous NORMAL a loss of
// power takes the newest transactions and damages nothing; they are made again
// from the ledger.
func (x *Index) open() error {
	f, err := os.OpenFile(x.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	pragmas := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)", "secure_delete(ON)"}}
	dsn := "file:" + (&url.URL{Path: x.path}).EscapedPath() + "?" + pragmas.Encode()
	if x.write, err = sql.Open("sqlite", dsn); err != nil {
		return err
	}
	x.write.SetMaxOpenConns(1)
	if err := x.prepare(); err != nil {
		x.write.Close()
		return damage(err)
	}
	if x.read, err = sql.Open("sqlite", dsn+"&_pragma=query_only(ON)"); err != nil {
		x.write.Close()
		return err
	}
	x.read.SetMaxOpenConns(4)
	return nil
}

func (x *Index) prepare() error {
	var version int
	if err := x.write.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version == 0 {
		if err := x.make(); err != nil {
			return err
		}
	} else if version != schemaVersion {
		return fmt.Errorf("%w: it is of version %d", ErrDamaged, version)
	}
	var next uint64
	if err := x.write.QueryRow("SELECT next FROM progress").Scan(&next); err != nil {
		return err
	}
	x.advance(next)
	return nil
}

// damage tells an error of a file that is no index, or a broken one, from
// others, such as of a full disk.
func damage(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // the rest of the code says more of the same
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR:
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func (x *Index) remove() error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(x.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Damaged receives when a reader met damage: Reset is due.
func (x *Index) Damaged() <-chan struct{} { return x.damaged }

// reading lets a reader at the index, and notes what damage it meets.
func (x *Index) reading(read func(*sql.DB) error) error {
	x.files.RLock()
	defer x.files.RUnlock()
	err := read(x.read)
	if errors.Is(err, ErrDamaged) {
		select {
		case x.damaged <- struct{}{}:
		default:
		}
	}
	return err
}

// Close closes the index.
func (x *Index) Close() error { return errors.Join(x.read.Close(), x.write.Close()) }

// Next is the first entry that is not indexed.
func (x *Index) Next() (uint64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.next, nil
}

// Wanted receives when somebody waits for entries that are not indexed.
func (x *Index) Wanted() <-chan struct{} { return x.wanted }

// Wait returns when the entries before next are indexed.
func (x *Index) Wait(ctx context.Context, next uint64) error {
	for {
		x.mu.Lock()
		have, grew := x.next, x.grew
		x.mu.Unlock()
		if have >= next {
			return nil
		}
		select {
		case x.wanted <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grew:
		}
	}
}

// advance tells who waits that next grew, or was reset.
func (x *Index) advance(next uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = next
	close(x.grew)
	x.grew = make(chan struct{})
}

// Reset forgets everything, so that the index is built anew, in a new file:
// nothing that is wrong with the old one is in its way.
func (x *Index) Reset() error {
	x.files.Lock()
	defer x.files.Unlock()
	if err := errors.Join(x.Close(), x.remove()); err != nil {
		return fmt.Errorf("reset index: %w", err)
	}
	if err := x.open(); err != nil {
		return fmt.Errorf("reset index: %w", err)
	}
	select {
	case <-x.damaged:
	default:
	}
	return nil
}

// make makes the tables, as one step.
func (x *Index) make() error {
	tx, err := x.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.Exec(schema); err != nil {
		return err
	}
	return tx.Commit()
}
