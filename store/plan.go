package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// kind is what is listed: sessions or operations.
type kind struct {
	columns string
	tables  string // in the order in which they are read
	join    string // of those tables, where they are two
	item    string // the table of what is listed
	lists   string // in which it may be
	at      string // its time
}

var sessionKind = kind{columns: sessionColumns, tables: "sessions s", item: "s", lists: "session_lists", at: "s.started"}

var operationKind = kind{columns: operationColumns, tables: "operations o CROSS JOIN sessions s", join: "s.entry = o.opened", item: "o",
	lists: "operation_lists", at: "o.at"}

// conditions gathers SQL with its arguments; nothing of a query's own text
// gets into the SQL.
type conditions struct {
	sql  []string
	args []any
}

func (c *conditions) add(sql string, args ...any) {
	c.sql = append(c.sql, sql)
	c.args = append(c.args, args...)
}

// narrowing is what a list is narrowed by.
type narrowing struct {
	lists          []listed // by their names
	words, without []string // FTS5 strings that must, and that must not, occur
	since, until   *time.Time
	conditions          // of another sort
	driven         bool // by an index that one of the conditions names
}

// listed is being in a list, or not.
type listed struct {
	name string
	not  bool
}

func (n *narrowing) in(name string) { n.lists = append(n.lists, listed{name: name}) }

// after narrows to times from t on; the latest t counts.
func (n *narrowing) after(t time.Time) {
	if n.since == nil || t.After(*n.since) {
		n.since = &t
	}
}

// before narrows to times before t; the earliest t counts.
func (n *narrowing) before(t time.Time) {
	if n.until == nil || t.Before(*n.until) {
		n.until = &t
	}
}

// narrow takes what a filter of a kind says besides its query.
func (f *Filter) narrow(n *narrowing, k *kind) error {
	if f.Viewer != nil {
		n.in(viewerName(f.Viewer.Issuer, f.Viewer.Subject))
	}
	if f.Caller != "" {
		n.in("who:" + f.Caller)
	}
	if f.Connection != "" {
		n.in("connection:" + f.Connection)
	}
	switch f.State {
	case "":
	case SessionOpen, SessionClosed, SessionTurnedAway:
		if k == &sessionKind {
			n.in("state:" + f.State)
		} else {
			n.add("s.state = ?", f.State)
		}
	default:
		return fmt.Errorf("%w: %s is no state; the states are %s, %s, %s", ErrQuery, show(f.State), SessionOpen, SessionClosed, SessionTurnedAway)
	}
	if !f.Since.IsZero() {
		n.after(f.Since)
	}
	if !f.Until.IsZero() {
		n.before(f.Until)
	}
	return nil
}

// match gives the FTS5 expressions of what must occur and what must not, both
// empty where a query has no words.
func (n *narrowing) match() (must, not string) {
	if len(n.words)+len(n.without) == 0 {
		return "", ""
	}
	must = `every : "row"`
	if len(n.words) > 0 {
		must = "text : (" + strings.Join(n.words, " AND ") + ")"
	}
	if len(n.without) > 0 {
		not = "text : (" + strings.Join(n.without, " OR ") + ")"
	}
	return must, not
}

// between turns the times into a range of entries, low included, high not.
// Entries come in the order of their times, except where a clock was set back
// or two sessions overtook each other; so the range is wider than the times by
// as much as any time ever lay back, and the times are still compared.
func (n *narrowing) between(ctx context.Context, db *sql.DB) (low, high int64, err error) {
	low, high = math.MinInt64, math.MaxInt64
	at := func(query string, t time.Time, to *int64, none int64) {
		if err == nil {
			err = db.QueryRowContext(ctx, "SELECT coalesce((SELECT entry FROM seconds WHERE second "+query+" ORDER BY second LIMIT 1), ?)",
				t.Unix(), none).Scan(to)
		}
	}
	if n.since != nil {
		at(">= ?", *n.since, &low, math.MaxInt64)
	}
	if n.until != nil {
		at("> ? + (SELECT back / 1000000 + 1 FROM progress)", *n.until, &high, math.MaxInt64)
	}
	return low, high, err
}

// shortList is how many items a list may have to be read whole; tests change
// it.
var shortList = 2000

// driver picks the list that the others are compared with: the shortest, if
// any is short; else, where there are words, theirs, which is none of lists.
func (n *narrowing) driver(ctx context.Context, db *sql.DB, k *kind, numbers []int64, low, high int64) (best int, err error) {
	best, least := -1, int64(math.MaxInt64)
	for i, l := range n.lists {
		if l.not {
			continue
		}
		var count int64
		if err := db.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM "+k.lists+" WHERE name = ? AND entry >= ? AND entry < ? LIMIT ?)",
			numbers[i], low, high, shortList).Scan(&count); err != nil {
			return -1, err
		}
		if count < least {
			best, least = i, count
		}
	}
	if least >= int64(shortList) && len(n.words)+len(n.without) > 0 {
		best = -1
	}
	return best, nil
}

// noList is the number of a name that no list has.
const noList = -1

func number(ctx context.Context, db *sql.DB, name string) (n int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT coalesce((SELECT number FROM names WHERE name = ?), ?)", name, noList).Scan(&n)
	return n, err
}

// plan makes the query of a page: the newest items before a cursor. It walks
// one list backwards from there, looks each item up in the others, and stops
// when the page is full: nothing is sorted.
func (n *narrowing) plan(ctx context.Context, db *sql.DB, k *kind, f *Filter) (string, []any, error) {
	cursor, given, err := f.cursor()
	if err != nil {
		return "", nil, err
	}
	low, high, err := n.between(ctx, db)
	if err != nil {
		return "", nil, err
	}
	if given {
		high = min(high, cursor)
	}
	numbers := make([]int64, len(n.lists))
	for i, l := range n.lists {
		if numbers[i], err = number(ctx, db, l.name); err != nil {
			return "", nil, err
		}
	}
	must, not := n.match()
	best := -1
	if !n.driven {
		if best, err = n.driver(ctx, db, k, numbers, low, high); err != nil {
			return "", nil, err
		}
	}
	var c conditions
	tables, entry := k.tables, k.item+".entry"
	switch {
	case best >= 0:
		tables, entry = k.lists+" d CROSS JOIN "+k.tables, "d.entry"
		c.add("d.name = ?", numbers[best])
		c.add(k.item + ".entry = d.entry")
	case must != "" && !n.driven:
		tables, entry = "words d CROSS JOIN "+k.tables, "d.rowid"
		if not != "" {
			must = "(" + must + ") NOT " + not
		}
		c.add("words MATCH ?", must)
		c.add(k.item + ".entry = d.rowid")
		must, not = "", ""
	}
	c.add(entry+" >= ?", low)
	c.add(entry+" < ?", high)
	if k.join != "" {
		c.add(k.join)
	}
	n.compare(&c, k, numbers, best, must, not)
	return "SELECT " + k.columns + " FROM " + tables + " WHERE " + strings.Join(c.sql, " AND ") + " ORDER BY " + entry + " DESC LIMIT ?",
		append(c.args, f.page()+1), nil
}

// compare adds what is looked up for each item of the list that is walked.
func (n *narrowing) compare(c *conditions, k *kind, numbers []int64, walked int, must, not string) {
	for i, l := range n.lists {
		if i == walked {
			continue
		}
		exists := "EXISTS"
		if l.not {
			exists = "NOT EXISTS"
		}
		c.add(exists+" (SELECT 1 FROM "+k.lists+" WHERE name = ? AND entry = "+k.item+".entry)", numbers[i])
	}
	if must != "" {
		c.add("EXISTS (SELECT 1 FROM words WHERE words MATCH ? AND rowid = "+k.item+".entry)", must)
	}
	if not != "" {
		c.add("NOT EXISTS (SELECT 1 FROM words WHERE words MATCH ? AND rowid = "+k.item+".entry)", not)
	}
	if n.since != nil {
		c.add(k.at+" >= ?", n.since.UnixMicro())
	}
	if n.until != nil {
		c.add(k.at+" < ?", n.until.UnixMicro())
	}
	c.sql = append(c.sql, n.sql...)
	c.args = append(c.args, n.args...)
}

// page is how many items a page of f has.
func (f *Filter) page() int {
	if f.Limit <= 0 {
		return 100
	}
	return f.Limit
}

// cursor reads the entry at which the page before ended.
func (f *Filter) cursor() (int64, bool, error) {
	if f.Cursor == "" {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(f.Cursor, 10, 64)
	if err != nil || n < 0 {
		return 0, false, fmt.Errorf("%w: the cursor is not one that a list gave", ErrQuery)
	}
	return n, true, nil
}
