package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// Counts are how many operations were decided how.
type Counts struct {
	Allowed int64 `json:"allowed"`
	Held    int64 `json:"held"` // for people, whatever they said
	Refused int64 `json:"refused"`
	Rows    int64 `json:"rows"` // of the answers
}

// Span is what was done in one part of a time.
type Span struct {
	At time.Time `json:"at"` // its beginning
	Counts
}

// Total is what was done by one caller, or on one connection.
type Total struct {
	Name string `json:"name"`
	Counts
}

// Activity is what was done in a time.
type Activity struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Spans are the parts of the time, all of the same length, the oldest
	// first; also those in which nothing was done.
	Spans []Span `json:"spans"`
	// Callers and Connections are those that did most, and on which most was
	// done, the most first.
	Callers     []Total `json:"callers"`
	Connections []Total `json:"connections"`
}

// maxTotals bounds the lists of an Activity.
const maxTotals = 10

// Activity counts what was done from a filter's Since until its Until, both
// required, in parts of that length; of the filter, only Viewer is heeded
// besides. It reads every operation of that time.
func (x *Index) Activity(ctx context.Context, f Filter, part time.Duration) (*Activity, error) {
	a := &Activity{Since: f.Since.UTC(), Until: f.Until.UTC(), Spans: []Span{}, Callers: []Total{}, Connections: []Total{}}
	if part <= 0 || !f.Since.Before(f.Until) {
		return nil, fmt.Errorf("count activity: %w: the time is empty", ErrQuery)
	}
	for at := a.Since; at.Before(a.Until); at = at.Add(part) {
		a.Spans = append(a.Spans, Span{At: at})
	}
	callers, connections := map[string]*Counts{}, map[string]*Counts{}
	err := x.reading(func(db *sql.DB) error {
		n := narrowing{since: &f.Since, until: &f.Until}
		low, high, err := n.between(ctx, db)
		if err != nil {
			return damage(err)
		}
		query := `SELECT (o.at - ?) / ?, s.caller, s.connection, o.effect, count(*), sum(o.rows) FROM operations o CROSS JOIN sessions s
			WHERE o.entry >= ? AND o.entry < ? AND o.at >= ? AND o.at < ? AND s.entry = o.opened`
		since := f.Since.UnixMicro()
		args := []any{since, part.Microseconds(), low, high, since, f.Until.UnixMicro()}
		if v := f.Viewer; v != nil {
			query += " AND (s.issuer = ? AND s.subject = ? OR s.behalf_issuer = ? AND s.behalf_subject = ?)"
			args = append(args, v.Issuer, v.Subject, v.Issuer, v.Subject)
		}
		clear(callers)
		clear(connections)
		for i := range a.Spans {
			a.Spans[i].Counts = Counts{}
		}
		_, err = gather(ctx, db, func(rows *sql.Rows, _ *struct{}) error {
			var span, operations, got int64
			var caller, connection, effect string
			if err := rows.Scan(&span, &caller, &connection, &effect, &operations, &got); err != nil {
				return err
			}
			for _, c := range []*Counts{&a.Spans[span].Counts, counts(callers, caller), counts(connections, connection)} {
				c.add(effect, operations, got)
			}
			return nil
		}, query+" GROUP BY 1, 2, 3, 4", args)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count activity: %w", err)
	}
	a.Callers, a.Connections = most(callers), most(connections)
	return a, nil
}

func counts(all map[string]*Counts, name string) *Counts {
	if all[name] == nil {
		all[name] = new(Counts)
	}
	return all[name]
}

func (c *Counts) add(effect string, operations, rows int64) {
	switch effect {
	case "allow":
		c.Allowed += operations
	case "approve":
		c.Held += operations
	default:
		c.Refused += operations
	}
	c.Rows += rows
}

func (c *Counts) all() int64 { return c.Allowed + c.Held + c.Refused }

func most(all map[string]*Counts) []Total {
	totals := []Total{}
	for name, c := range all {
		totals = append(totals, Total{name, *c})
	}
	slices.SortFunc(totals, func(a, b Total) int { return cmp.Or(cmp.Compare(b.all(), a.all()), cmp.Compare(a.Name, b.Name)) })
	return totals[:min(len(totals), maxTotals)]
}

// DryRun is what one rule in dry-run would have decided otherwise.
type DryRun struct {
	Rule       string `json:"rule"`
	Operations int64  `json:"operations"`
}

// DryRuns counts, by rule, the operations since a time that rules in dry-run
// would have decided otherwise, the most first.
func (x *Index) DryRuns(ctx context.Context, since time.Time) ([]DryRun, error) {
	found := map[string]int64{}
	err := x.reading(func(db *sql.DB) error {
		n := narrowing{since: &since}
		low, _, err := n.between(ctx, db)
		if err != nil {
			return damage(err)
		}
		clear(found)
		_, err = gather(ctx, db, func(rows *sql.Rows, _ *struct{}) error {
			var list sql.NullString
			var count int64
			var names []string
			if err := rows.Scan(&list, &count); err != nil {
				return err
			}
			err := decode(list, &names)
			for _, name := range names {
				found[name] += count
			}
			return err
		}, "SELECT dry_run, count(*) FROM operations WHERE entry >= ? AND at >= ? AND dry_run IS NOT NULL GROUP BY dry_run", []any{low, since.UnixMicro()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("count dry-runs: %w", err)
	}
	all := []DryRun{}
	for rule, count := range found {
		all = append(all, DryRun{rule, count})
	}
	slices.SortFunc(all, func(a, b DryRun) int {
		return cmp.Or(cmp.Compare(b.Operations, a.Operations), cmp.Compare(a.Rule, b.Rule))
	})
	return all, nil
}
