package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	custos "github.com/custos-gateway/custos"
)

// ErrNotFound says that there is no such session or operation, or that the
// viewer may not see it.
var ErrNotFound = errors.New("not found")

const sessionColumns = `s.entry, s.id, s.caller, s.behalf, s.issuer, s.subject, s.kind, s.groups, s.connection, s.protocol,
	s.client, s.started, s.ended, s.state, s.reason, s.rule, s.operations, s.erased, s.held, s.skill, s.asserted`

const operationColumns = `o.entry, s.id, o.at, o.class, o.text, o.params, o.verbs, o.objects, o.writes, o.effect, o.rule,
	o.policy, o.outcome, o.code, o.rows, o.bytes, o.masked, o.settled, o.masks, o.dry_run, o.approval, s.caller, s.behalf, s.connection`

// Sessions lists sessions, the newest first, and the cursor of the next page;
// empty: there is none. A page costs the same however many sessions there are.
func (x *Index) Sessions(ctx context.Context, f Filter) ([]Session, string, error) {
	var n narrowing
	err := f.narrow(&n, &sessionKind)
	var items []Session
	if err == nil {
		items, err = page(ctx, x, &sessionKind, &n, &f, scanSession)
	}
	if err != nil {
		return nil, "", fmt.Errorf("list sessions: %w", err)
	}
	items, next := cut(items, f.page(), func(s *Session) uint64 { return s.Opened })
	return items, next, nil
}

// Session returns one session, if the filter's viewer may see it.
func (x *Index) Session(ctx context.Context, id custos.SessionID, f Filter) (*Session, error) {
	query, args := "SELECT "+sessionColumns+" FROM sessions s WHERE s.id = ?", []any{string(id)}
	if v := f.Viewer; v != nil {
		query += " AND (s.issuer = ? AND s.subject = ? OR s.behalf_issuer = ? AND s.behalf_subject = ?)"
		args = append(args, v.Issuer, v.Subject, v.Issuer, v.Subject)
	}
	items, err := collect(ctx, x, scanSession, query, args)
	if err != nil {
		return nil, fmt.Errorf("look up session: %w", err)
	}
	if len(items) == 0 {
		return nil, ErrNotFound
	}
	return &items[0], nil
}

// Operations lists a session's operations, the oldest first.
func (x *Index) Operations(ctx context.Context, id custos.SessionID, f Filter) ([]Operation, string, error) {
	after, given, err := f.cursor()
	if err != nil {
		return nil, "", err
	}
	if !given {
		after = -1
	}
	items, err := collect(ctx, x, scanOperation, "SELECT "+operationColumns+
		" FROM sessions s CROSS JOIN operations o WHERE s.id = ? AND o.opened = s.entry AND o.entry > ? ORDER BY o.entry LIMIT ?", []any{string(id), after, f.page() + 1})
	if err != nil {
		return nil, "", fmt.Errorf("list operations: %w", err)
	}
	items, next := cut(items, f.page(), func(o *Operation) uint64 { return o.Entry })
	return items, next, nil
}

// Operation returns the operation of one entry of a session.
func (x *Index) Operation(ctx context.Context, id custos.SessionID, entry uint64) (*Operation, error) {
	items, err := collect(ctx, x, scanOperation, "SELECT "+operationColumns+
		" FROM operations o CROSS JOIN sessions s WHERE o.entry = ? AND s.entry = o.opened AND s.id = ?", []any{int64(entry), string(id)})
	if err != nil {
		return nil, fmt.Errorf("look up operation: %w", err)
	}
	if len(items) == 0 {
		return nil, ErrNotFound
	}
	return &items[0], nil
}

// Search lists the operations that a query finds, the newest first. In the
// query, words and "phrases" are looked for in statements and parameters;
// FIELD:VALUE narrows by who, connection, table, verb, session, effect,
// outcome, rule, skill, conversation, tool, trace, since and until; a - before any of them means its opposite.
func (x *Index) Search(ctx context.Context, f Filter) ([]Operation, string, error) {
	var n narrowing
	err := n.query(f.Query, time.Now())
	if err == nil {
		err = f.narrow(&n, &operationKind)
	}
	var items []Operation
	if err == nil {
		items, err = page(ctx, x, &operationKind, &n, &f, scanOperation)
	}
	if err != nil {
		return nil, "", fmt.Errorf("search: %w", err)
	}
	items, next := cut(items, f.page(), func(o *Operation) uint64 { return o.Entry })
	return items, next, nil
}

// page reads one page, and the item after it.
func page[T any](ctx context.Context, x *Index, k *kind, n *narrowing, f *Filter, scan func(*sql.Rows, *T) error) (items []T, err error) {
	err = x.reading(func(db *sql.DB) error {
		query, args, err := n.plan(ctx, db, k, f)
		if err != nil {
			return damage(err)
		}
		items, err = gather(ctx, db, scan, query, args)
		return err
	})
	return items, err
}

// cut takes the item more than a page that was asked for as the sign that
// there is a next page.
func cut[T any](items []T, page int, entry func(*T) uint64) ([]T, string) {
	if len(items) <= page {
		return items, ""
	}
	items = items[:page]
	return items, strconv.FormatUint(entry(&items[page-1]), 10)
}

func collect[T any](ctx context.Context, x *Index, scan func(*sql.Rows, *T) error, query string, args []any) (items []T, err error) {
	err = x.reading(func(db *sql.DB) error {
		items, err = gather(ctx, db, scan, query, args)
		return err
	})
	return items, err
}

func gather[T any](ctx context.Context, db *sql.DB, scan func(*sql.Rows, *T) error, query string, args []any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, damage(err)
	}
	defer rows.Close()
	items := []T{}
	for rows.Next() {
		var item T
		if err := scan(rows, &item); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		items = append(items, item)
	}
	return items, damage(rows.Err())
}

func scanSession(rows *sql.Rows, s *Session) error {
	var groups, erased, held, skill, asserted sql.NullString
	var started int64
	var ended sql.NullInt64
	if err := rows.Scan(&s.Opened, &s.ID, &s.Caller, &s.OnBehalfOf, &s.Issuer, &s.Subject, &s.Kind, &groups, &s.Connection, &s.Protocol,
		&s.Client, &started, &ended, &s.State, &s.Reason, &s.Rule, &s.Operations, &erased, &held, &skill, &asserted); err != nil {
		return err
	}
	s.StartedAt = time.UnixMicro(started).UTC()
	if ended.Valid {
		at := time.UnixMicro(ended.Int64).UTC()
		s.EndedAt = &at
	}
	return errors.Join(decode(groups, &s.Groups), decode(erased, &s.Erased), decode(held, &s.Held), decode(skill, &s.Skill), decode(asserted, &s.Asserted))
}

func scanOperation(rows *sql.Rows, o *Operation) error {
	var params, verbs, objects, masks, dryRun sql.NullString
	var at int64
	if err := rows.Scan(&o.Entry, &o.Session, &at, &o.Class, &o.Text, &params, &verbs, &objects, &o.Writes, &o.Effect, &o.Rule,
		&o.Policy, &o.Outcome, &o.Code, &o.Rows, &o.Bytes, &o.Masked, &o.Settled, &masks, &dryRun, &o.Approval, &o.Caller, &o.OnBehalfOf, &o.Connection); err != nil {
		return err
	}
	o.At = time.UnixMicro(at).UTC()
	return errors.Join(decode(params, &o.Params), decode(verbs, &o.Verbs), decode(objects, &o.Objects), decode(masks, &o.Masks), decode(dryRun, &o.DryRun))
}

// decode reads what list and mark wrote.
func decode[T any](s sql.NullString, to *T) error {
	if !s.Valid {
		return nil
	}
	return json.Unmarshal([]byte(s.String), to)
}
