package store

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	custos "github.com/custos-gateway/custos"

	_ "modernc.org/sqlite" // the driver
)

// schema is dropped and made again whenever schemaVersion changes: the index
// has no migrations, as it has nothing of its own.
//
//go:embed schema.sql
var schema string

const schemaVersion = 1

// Index is the search index. It is safe for concurrent use.
type Index struct {
	path  string
	write *sql.DB // one connection
	read  *sql.DB

	mu   sync.Mutex
	next uint64
	grew chan struct{} // closed when next grows
}

// Open opens the index at path, or makes it. A file that is not an index of
// this version is replaced by an empty one.
func Open(path string) (*Index, error) {
	x := &Index{path: path, grew: make(chan struct{})}
	err := x.open()
	if err != nil {
		if err = x.remove(); err == nil {
			err = x.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", path, err)
	}
	return x, nil
}

// open takes the file into use. A loss of power may damage it: it is never
// synced, as it can be built again.
func (x *Index) open() error {
	f, err := os.OpenFile(x.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	pragmas := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(OFF)", "secure_delete(ON)"}}
	dsn := "file:" + (&url.URL{Path: x.path}).EscapedPath() + "?" + pragmas.Encode()
	if x.write, err = sql.Open("sqlite", dsn); err != nil {
		return err
	}
	x.write.SetMaxOpenConns(1)
	if err := x.prepare(); err != nil {
		x.write.Close()
		return err
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
		if _, err := x.write.Exec(schema); err != nil {
			return err
		}
	} else if version != schemaVersion {
		return fmt.Errorf("it is of version %d", version)
	}
	var quick string
	if err := x.write.QueryRow("PRAGMA quick_check(1)").Scan(&quick); err != nil {
		return err
	}
	if quick != "ok" {
		return errors.New(quick)
	}
	return x.write.QueryRow("SELECT next FROM progress").Scan(&x.next)
}

func (x *Index) remove() error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(x.path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close closes the index.
func (x *Index) Close() error { return errors.Join(x.read.Close(), x.write.Close()) }

// Next is the first entry that is not indexed.
func (x *Index) Next() (uint64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.next, nil
}

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

// Reset forgets everything, so that the index is built anew.
func (x *Index) Reset() error {
	tx, err := x.write.Begin()
	if err != nil {
		return fmt.Errorf("reset index: %w", err)
	}
	defer tx.Rollback()
	for _, q := range []string{"DELETE FROM words", "DELETE FROM objects", "DELETE FROM verbs", "DELETE FROM operations", "DELETE FROM sessions", "UPDATE progress SET next = 0"} {
		if _, err := tx.Exec(q); err != nil {
			return fmt.Errorf("reset index: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("reset index: %w", err)
	}
	x.advance(0)
	return nil
}

// Apply indexes entries, in order, as one step. Entries that are indexed
// already are passed over; a gap is an error.
func (x *Index) Apply(items []Item) error {
	next, _ := x.Next()
	for len(items) > 0 && items[0].Index < next {
		items = items[1:]
	}
	if len(items) == 0 {
		return nil
	}
	tx, err := x.write.Begin()
	if err != nil {
		return fmt.Errorf("index entries: %w", err)
	}
	defer tx.Rollback()
	w := writer{tx: tx, prepared: map[string]*sql.Stmt{}}
	for i := range items {
		if items[i].Index != next {
			return fmt.Errorf("index entries: entry %d comes where %d is due", items[i].Index, next)
		}
		w.entry(&items[i])
		next++
	}
	w.exec("UPDATE progress SET next = ?", int64(next))
	if w.err == nil {
		w.err = tx.Commit()
	}
	if w.err != nil {
		return fmt.Errorf("index entries: %w", w.err)
	}
	x.advance(next)
	return nil
}

// maxIndexed bounds, in bytes, how much of a statement is shown in lists and
// searched. Replay shows all of it.
const maxIndexed = 256 << 10

// writer writes one transaction and keeps its first error.
type writer struct {
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
	err      error
}

func (w *writer) exec(query string, args ...any) {
	if w.err != nil {
		return
	}
	stmt := w.prepared[query]
	if stmt == nil {
		if stmt, w.err = w.tx.Prepare(query); w.err != nil {
			return
		}
		w.prepared[query] = stmt
	}
	_, w.err = stmt.Exec(args...)
}

func (w *writer) entry(item *Item) {
	e := item.Entry
	switch {
	case (e.Kind == custos.EntryOpened || e.Kind == custos.EntryTurned) && e.Opened != nil:
		w.opened(item)
	case e.Kind == custos.EntrySubmitted && e.Submit != nil:
		w.submitted(item)
	case e.Kind == custos.EntrySettled && e.Settled != nil:
		s := e.Settled
		w.exec(`UPDATE operations SET outcome = ?, code = ?, rows = ?, bytes = ?, masked = ?, settled = ? WHERE entry = ?`,
			string(s.State), s.Code, s.Rows, s.Bytes, s.Masked, int64(item.Index), int64(s.Operation))
	case e.Kind == custos.EntryClosed && e.Closed != nil:
		w.exec(`UPDATE sessions SET ended = ?, state = ?, reason = ? WHERE id = ?`, e.At.UnixMicro(), SessionClosed, e.Closed.Reason, string(e.Session))
	case e.Kind == custos.EntryErased:
		w.exec(`DELETE FROM words WHERE rowid IN (SELECT entry FROM operations WHERE session = ?)`, string(e.Session))
		w.exec(`UPDATE operations SET text = '', params = NULL WHERE session = ?`, string(e.Session))
	}
}

func (w *writer) opened(item *Item) {
	e, o := item.Entry, item.Entry.Opened
	state, ended := SessionOpen, sql.NullInt64{}
	if e.Kind == custos.EntryTurned {
		state, ended = SessionTurnedAway, sql.NullInt64{Int64: e.At.UnixMicro(), Valid: true}
	}
	var behalf custos.Principal
	if o.Caller.OnBehalfOf != nil {
		behalf = *o.Caller.OnBehalfOf
	}
	w.exec(`INSERT OR REPLACE INTO sessions (entry, id, caller, issuer, subject, kind, groups, behalf, behalf_issuer, behalf_subject,
		connection, protocol, client, started, ended, state, reason, rule) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		int64(item.Index), string(e.Session), named(&o.Caller), o.Caller.Issuer, o.Caller.Subject, string(o.Caller.Kind), list(o.Caller.Groups),
		named(&behalf), behalf.Issuer, behalf.Subject, o.Connection, o.Protocol, o.Client, e.At.UnixMicro(), ended, state, o.Reason, o.Rule)
}

func named(p *custos.Principal) string {
	if p.Name != "" {
		return p.Name
	}
	return p.Subject
}

func (w *writer) submitted(item *Item) {
	o := OperationOf(item.Index, item.Entry, item.Operation)
	text := o.Text
	if len(text) > maxIndexed {
		text = strings.ToValidUTF8(text[:maxIndexed], "") + " …"
	}
	w.exec(`INSERT OR REPLACE INTO operations (entry, session, at, class, text, params, verbs, objects, writes, effect, rule, policy, outcome)
		VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, int64(o.Entry), string(o.Session), o.At.UnixMicro(), o.Class, text, list(o.Params), list(o.Verbs), list(o.Objects),
		o.Writes, o.Effect, o.Rule, o.Policy, o.Outcome)
	if item.Operation != nil {
		w.exec(`INSERT OR REPLACE INTO words (rowid, text) VALUES (?, ?)`, int64(o.Entry), text+"\n"+strings.Join(o.Params, "\n"))
	}
	for _, v := range o.Verbs {
		w.exec(`INSERT OR IGNORE INTO verbs (verb, entry) VALUES (?, ?)`, strings.ToUpper(v), int64(o.Entry))
	}
	for _, object := range o.Objects {
		object = strings.ToLower(object)
		w.exec(`INSERT OR IGNORE INTO objects (object, entry) VALUES (?, ?)`, object, int64(o.Entry))
		// A table is found by its name alone as well.
		for i := strings.IndexByte(object, '.'); i >= 0; i = strings.IndexByte(object, '.') {
			object = object[i+1:]
			w.exec(`INSERT OR IGNORE INTO objects (object, entry) VALUES (?, ?)`, object, int64(o.Entry))
		}
	}
	w.exec(`UPDATE sessions SET operations = operations + 1 WHERE id = ?`, string(o.Session))
}

// list is how a list of words is stored; nil for none.
func list(words []string) any {
	if len(words) == 0 {
		return nil
	}
	b, _ := json.Marshal(words) // strings always encode
	return string(b)
}
