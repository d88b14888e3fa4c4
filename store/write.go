package store

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	custos "github.com/custos-gateway/custos"
)

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
		return fmt.Errorf("index entries: %w", damage(err))
	}
	defer tx.Rollback()
	w := newWriter(tx)
	for i := range items {
		if e := items[i].Entry; e.Kind == custos.EntrySettled && e.Settled != nil && e.Settled.Operation >= next && e.Settled.Operation < items[i].Index {
			w.outcomes[e.Settled.Operation] = &items[i]
		}
	}
	c := w.clock()
	for i := range items {
		if items[i].Index != next {
			return fmt.Errorf("index entries: entry %d comes where %d is due", items[i].Index, next)
		}
		c.tick(w, &items[i])
		w.entry(&items[i])
		next++
	}
	w.gathered()
	w.exec("UPDATE progress SET next = ?, reached = ?, back = ?", int64(next), c.reached, c.back)
	if err := w.commit(); err != nil {
		return fmt.Errorf("index entries: %w", err)
	}
	if w.erasedAny {
		x.stale.Store(true)
	}
	err = x.scrub() // before who waits for an erasure takes it for done
	x.advance(next)
	if err != nil {
		return fmt.Errorf("index entries: %w", err)
	}
	return nil
}

// scrub empties the write-ahead log after an erasure: until then the erased
// text is still in it. Where a reader is in the way, the next Apply does it.
func (x *Index) scrub() error {
	if !x.stale.Load() {
		return nil
	}
	var busy, log, done int
	if err := x.write.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &done); err != nil {
		return damage(err)
	}
	if busy == 0 {
		x.stale.Store(false)
	}
	return nil
}

// writer writes one transaction and keeps its first error.
type writer struct {
	tx        *sql.Tx
	prepared  map[string]*sql.Stmt
	names     map[string]int64
	sessions  map[custos.SessionID]*opened
	erasedAny bool
	err       error

	// outcomes are the settled entries of the operations submitted in this
	// transaction: those are written once.
	outcomes map[uint64]*Item
	// listings are what is to be put into lists of operations.
	listings []listing
}

// opened is what the operations of a session have of it.
type opened struct {
	entry      int64
	names      []string
	numbers    []int64
	operations int64 // of this transaction
}

type listing struct{ name, entry int64 }

func newWriter(tx *sql.Tx) *writer {
	return &writer{tx: tx, prepared: map[string]*sql.Stmt{}, names: map[string]int64{}, sessions: map[custos.SessionID]*opened{},
		outcomes: map[uint64]*Item{}}
}

// rows is how many rows of a list are written by one statement.
const rows = 32

const listOne = "INSERT OR IGNORE INTO operation_lists (name, entry) VALUES (?, ?)"

var listMany = listOne + strings.Repeat(", (?, ?)", rows-1)

// gathered writes what was gathered over the transaction: the lists in their
// own order, which touches each page of theirs once.
func (w *writer) gathered() {
	slices.SortFunc(w.listings, func(a, b listing) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.entry, b.entry))
	})
	args := make([]any, 2*rows)
	for ; len(w.listings) >= rows; w.listings = w.listings[rows:] {
		for i, l := range w.listings[:rows] {
			args[2*i], args[2*i+1] = l.name, l.entry
		}
		w.exec(listMany, args...)
	}
	for _, l := range w.listings {
		w.exec(listOne, l.name, l.entry)
	}
	for _, s := range w.sessions {
		if s != nil && s.operations > 0 {
			w.exec("UPDATE sessions SET operations = operations + ? WHERE entry = ?", s.operations, s.entry)
		}
	}
}

func (w *writer) commit() error {
	if w.err == nil {
		w.err = w.tx.Commit()
	}
	return damage(w.err)
}

func (w *writer) prepare(query string) *sql.Stmt {
	stmt := w.prepared[query]
	if stmt == nil && w.err == nil {
		if stmt, w.err = w.tx.Prepare(query); w.err == nil {
			w.prepared[query] = stmt
		}
	}
	return stmt
}

func (w *writer) exec(query string, args ...any) {
	if stmt := w.prepare(query); w.err == nil {
		_, w.err = stmt.Exec(args...)
	}
}

// row reads one row, and reports whether it is there.
func (w *writer) row(query string, args []any, to ...any) bool {
	stmt := w.prepare(query)
	if w.err != nil {
		return false
	}
	err := stmt.QueryRow(args...).Scan(to...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		w.err = err
	}
	return err == nil
}

// clock follows the times of entries, so that a time can be turned into a
// range of entries. It trusts no clock: see between.
type clock struct {
	reached sql.NullInt64
	back    int64
}

func (w *writer) clock() (c clock) {
	w.row("SELECT reached, back FROM progress", nil, &c.reached, &c.back)
	return c
}

func (c *clock) tick(w *writer, item *Item) {
	at := item.Entry.At.UnixMicro()
	if c.reached.Valid && at <= c.reached.Int64 {
		c.back = max(c.back, c.reached.Int64-at)
		return
	}
	if !c.reached.Valid || second(at) > second(c.reached.Int64) {
		w.exec("INSERT INTO seconds VALUES (?, ?)", second(at), int64(item.Index))
	}
	c.reached = sql.NullInt64{Int64: at, Valid: true}
}

// second is the second that a time in microseconds lies in.
func second(micros int64) int64 {
	if micros < 0 {
		return (micros+1)/1e6 - 1
	}
	return micros / 1e6
}

func (w *writer) entry(item *Item) {
	e := item.Entry
	switch {
	case (e.Kind == custos.EntryOpened || e.Kind == custos.EntryTurned) && e.Opened != nil:
		w.opened(item)
	case e.Kind == custos.EntrySubmitted && e.Submit != nil:
		w.submitted(item)
	case e.Kind == custos.EntrySettled && e.Settled != nil:
		w.settled(item)
	case e.Kind == custos.EntryReleased && e.Released != nil:
		w.exec("UPDATE operations SET approval = ? WHERE entry = ?", e.Released.Approval, int64(e.Released.Operation))
	case e.Kind == custos.EntryClosed && e.Closed != nil:
		w.closed(e)
	case e.Kind == custos.EntryErased:
		w.erased(item)
	case e.Kind == custos.EntryHeld:
		w.exec("UPDATE sessions SET held = ? WHERE id = ?", mark(item), string(e.Session))
	case e.Kind == custos.EntryFreed:
		w.exec("UPDATE sessions SET held = NULL WHERE id = ?", string(e.Session))
	}
}

// number is the number of a list's name.
func (w *writer) number(name string) int64 {
	n, ok := w.names[name]
	if !ok && !w.row("SELECT number FROM names WHERE name = ?", []any{name}, &n) {
		w.row("INSERT INTO names (name) VALUES (?) RETURNING number", []any{name}, &n)
	}
	w.names[name] = n
	return n
}

// listed puts an operation into lists.
func (w *writer) listed(entry int64, names ...string) {
	for _, name := range names {
		w.listings = append(w.listings, listing{w.number(name), entry})
	}
}

// sessionListed puts a session into lists.
func (w *writer) sessionListed(entry int64, names ...string) {
	for _, name := range names {
		w.exec("INSERT OR IGNORE INTO session_lists (name, entry) VALUES (?, ?)", w.number(name), entry)
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
	entry := int64(item.Index)
	w.exec(`INSERT OR REPLACE INTO sessions (entry, id, caller, issuer, subject, kind, groups, behalf, behalf_issuer, behalf_subject,
		connection, protocol, client, started, ended, state, reason, rule, skill, asserted) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		entry, string(e.Session), named(&o.Caller), o.Caller.Issuer, o.Caller.Subject, string(o.Caller.Kind), list(o.Caller.Groups),
		named(&behalf), behalf.Issuer, behalf.Subject, o.Connection, o.Protocol, o.Client, e.At.UnixMicro(), ended, state, o.Reason, o.Rule, encode(o.Caller.Skill, o.Caller.Skill != nil), encode(o.Asserted, len(o.Asserted) > 0))
	delete(w.sessions, e.Session)
	if s := w.session(e.Session); s != nil {
		w.sessionListed(entry, s.names...)
		w.sessionListed(entry, "state:"+state)
	}
}

func named(p *custos.Principal) string {
	if p.Name != "" {
		return p.Name
	}
	return p.Subject
}

// viewerName names the list of what someone may see.
func viewerName(issuer, subject string) string { return "viewer:" + strconv.Quote(issuer) + subject }

// session looks up a session, nil where there is none: a ledger that was
// verified has none such, and what has no session is in no list.
func (w *writer) session(id custos.SessionID) *opened {
	if s, ok := w.sessions[id]; ok {
		return s
	}
	s := new(opened)
	var caller, issuer, subject, behalf, behalfIssuer, behalfSubject, connection string
	var skill, asserted sql.NullString
	if !w.row("SELECT entry, caller, issuer, subject, behalf, behalf_issuer, behalf_subject, connection, skill, asserted FROM sessions WHERE id = ?", []any{string(id)},
		&s.entry, &caller, &issuer, &subject, &behalf, &behalfIssuer, &behalfSubject, &connection, &skill, &asserted) {
		s = nil
	} else {
		s.names = []string{"connection:" + connection, "who:" + caller, "who:" + subject, viewerName(issuer, subject)}
		if behalfSubject != "" {
			s.names = append(s.names, "who:"+behalf, "who:"+behalfSubject, viewerName(behalfIssuer, behalfSubject))
		}
		s.names = append(s.names, agentNames(skill, asserted)...)
		for _, name := range s.names {
			s.numbers = append(s.numbers, w.number(name))
		}
	}
	w.sessions[id] = s
	return s
}

// agentNames name the lists of a skill and of what a client said of itself.
func agentNames(skill, asserted sql.NullString) (names []string) {
	var is custos.Skill
	said := map[string]string{}
	if decode(skill, &is) == nil && is.Name != "" {
		names = append(names, "skill:"+is.Name)
	}
	if decode(asserted, &said) != nil {
		return names
	}
	// The trace is the second part (W3C Trace Context, section 3.2.2).
	if parts := strings.Split(said[custos.AssertedTrace], "-"); len(parts) >= 4 {
		names = append(names, "trace:"+parts[1])
	}
	for field, key := range map[string]string{"conversation": custos.AssertedConversation, "tool": custos.AssertedToolCall} {
		if v := said[key]; v != "" {
			names = append(names, field+":"+v)
		}
	}
	return names
}

func (w *writer) closed(e *custos.Entry) {
	s := w.session(e.Session)
	if s == nil {
		return
	}
	w.exec(`UPDATE sessions SET ended = ?, state = ?, reason = ? WHERE entry = ?`, e.At.UnixMicro(), SessionClosed, e.Closed.Reason, s.entry)
	w.exec("DELETE FROM session_lists WHERE name = ? AND entry = ?", w.number("state:"+SessionOpen), s.entry)
	w.sessionListed(s.entry, "state:"+SessionClosed)
}

// maxIndexed bounds, in bytes, how much of a statement is shown in lists and
// searched, and as much again of its parameters. Replay shows all of it.
const maxIndexed = 256 << 10

func (w *writer) submitted(item *Item) {
	s := w.session(item.Entry.Session)
	if s == nil {
		return
	}
	o := OperationOf(item.Index, item.Entry, item.Operation)
	var settled uint64
	if outcome := w.outcomes[item.Index]; outcome != nil {
		o.Settle(outcome.Entry)
		settled = outcome.Index
	}
	entry := int64(o.Entry)
	text, params := clip(o.Text, maxIndexed), bounded(o.Params)
	w.exec(`INSERT INTO operations (entry, opened, at, class, text, params, verbs, objects, writes, effect, rule, policy, outcome,
		code, rows, bytes, masked, settled, masks, dry_run) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		entry, s.entry, o.At.UnixMicro(), o.Class, text, list(params), list(o.Verbs), list(o.Objects),
		o.Writes, o.Effect, o.Rule, o.Policy, o.Outcome, o.Code, o.Rows, o.Bytes, o.Masked, int64(settled), list(o.Masks), list(o.DryRun))
	w.exec(`INSERT INTO words (rowid, text, every) VALUES (?, ?, 'row')`, entry, text+"\n"+strings.Join(params, "\n"))
	for _, number := range s.numbers {
		w.listings = append(w.listings, listing{number, entry})
	}
	w.listed(entry, "effect:"+o.Effect, "outcome:"+o.Outcome)
	if o.Rule != "" {
		w.listed(entry, "rule:"+o.Rule)
	}
	for _, v := range o.Verbs {
		w.listed(entry, "verb:"+strings.ToUpper(v))
	}
	for _, object := range o.Objects {
		object = strings.ToLower(object)
		w.listed(entry, "table:"+object)
		// A table is found by its name alone as well.
		for i := strings.IndexByte(object, '.'); i >= 0; i = strings.IndexByte(object, '.') {
			object = object[i+1:]
			w.listed(entry, "table:"+object)
		}
	}
	s.operations++
}

func (w *writer) settled(item *Item) {
	s := item.Entry.Settled
	if w.outcomes[s.Operation] != nil {
		return // it is written with its operation
	}
	entry, before := int64(s.Operation), ""
	if !w.row("SELECT outcome FROM operations WHERE entry = ?", []any{entry}, &before) {
		return
	}
	w.exec(`UPDATE operations SET outcome = ?, code = ?, rows = ?, bytes = ?, masked = ?, settled = ? WHERE entry = ?`,
		string(s.State), s.Code, s.Rows, s.Bytes, s.Masked, int64(item.Index), entry)
	w.exec("DELETE FROM operation_lists WHERE name = ? AND entry = ?", w.number("outcome:"+before), entry)
	w.exec(listOne, w.number("outcome:"+string(s.State)), entry)
}

// erased forgets what a session said, and keeps that it said something.
func (w *writer) erased(item *Item) {
	s := w.session(item.Entry.Session)
	if s == nil {
		return
	}
	w.erasedAny = true
	w.exec("UPDATE sessions SET erased = ? WHERE entry = ?", mark(item), s.entry)
	w.exec(`UPDATE words SET text = '' WHERE rowid IN (SELECT entry FROM operations WHERE opened = ?)`, s.entry)
	w.exec(`UPDATE operations SET text = '', params = NULL WHERE opened = ?`, s.entry)
}

// mark is a Mark as it is stored.
func mark(item *Item) string {
	m := Mark{Entry: item.Index, At: item.Entry.At}
	if n := item.Entry.Note; n != nil {
		m.By, m.Rule, m.Reason = n.By, n.Rule, n.Text
	}
	b, _ := json.Marshal(m) // plain data always encodes
	return string(b)
}

// clip cuts a text to at most n bytes, and says so.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + " …"
}

// bounded cuts parameters off where they are more than is indexed.
func bounded(params []string) []string {
	room := maxIndexed
	for i, p := range params {
		if len(p) >= room {
			return append(params[:i:i], clip(p, room))
		}
		room -= len(p)
	}
	return params
}

// encode is v in JSON, or NULL where there is none.
func encode(v any, present bool) any {
	if !present {
		return nil
	}
	b, _ := json.Marshal(v) // strings always encode
	return string(b)
}

// list is how a list of words is stored; nil for none.
func list(words []string) any {
	if len(words) == 0 {
		return nil
	}
	b, _ := json.Marshal(words) // strings always encode
	return string(b)
}
