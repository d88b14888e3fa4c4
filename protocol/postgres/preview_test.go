package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// holding is a gateway that holds what writes, and everything with a comment
// that says so.
func holding(t *testing.T, hold time.Duration, approvers *custos.Approvers) (*gateway, *approval.Desk) {
	t.Helper()
	g := start(t, func(o *postgres.Options) { o.Catalogs = func() bool { return true } })
	desk := approval.New(approval.Options{Ledger: g.Ledger, Now: time.Now, Reviewers: func() []string { return []string{"reviewers"} }}, nil)
	g.Gate.Approver, g.Gate.Hold = desk, map[custos.Kind]time.Duration{}
	for _, kind := range []custos.Kind{"", custos.KindPerson, custos.KindSkill} {
		g.Gate.Hold[kind] = hold
	}
	g.SetPolicy(func(op *custos.Operation) custos.Decision {
		if op.Writes && !strings.HasPrefix(op.Text, "SET") && op.Text != "begin" || strings.Contains(op.Text, "/* hold */") {
			return custos.Decision{Effect: custos.Approve, Rule: "r", Reason: "a person must agree", Approvers: approvers}
		}
		return custos.Decision{Effect: custos.Allow}
	})
	return g, desk
}

// prepare runs statements at the target itself.
func prepare(t *testing.T, text string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), target.DSN("dbname="+target.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), text).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// question is leave that somebody asks for who may open a session.
func question(text string) gate.Question {
	caller := &custos.Principal{Issuer: "i", Subject: "s", Groups: []string{"dba"}, Expires: time.Now().Add(time.Hour)}
	return gate.Question{Caller: caller, Connection: "orders", Statement: text, Purpose: "p"}
}

// TestPreview has leave be asked for statements of every kind: what reviewers
// are told of the rows, and that nothing was run to find it out.
func TestPreview(t *testing.T) {
	prepare(t, `DROP TABLE IF EXISTS preview; DROP SEQUENCE IF EXISTS preview_s; CREATE TABLE preview (id int PRIMARY KEY, n int);
INSERT INTO preview SELECT i, i % 10 FROM generate_series(1, 1000) i; ANALYZE preview; CREATE SEQUENCE preview_s;
CREATE OR REPLACE FUNCTION preview_f() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(300); RETURN 1; END'`)
	for _, exact := range []bool{false, true} {
		g, _ := holding(t, time.Minute, &custos.Approvers{Exact: exact})
		rows := func(n int64, counts bool) *custos.Estimate { return &custos.Estimate{Rows: n, Exact: counts && exact} }
		for text, want := range map[string]*custos.Estimate{
			"DELETE FROM preview WHERE n = 3":                                             rows(100, true),
			"delete from only preview as p where p.n = 3 returning p.id;":                 rows(100, true),
			"DELETE FROM preview":                                                         rows(1000, true),
			"UPDATE preview SET n = 1 WHERE id IN (SELECT id FROM preview WHERE n = 3)":   rows(100, true),
			"UPDATE preview SET n = (SELECT 1 FROM preview WHERE id = 1) -- no where":     rows(1000, true),
			"UPDATE preview p SET n = q.n FROM preview q WHERE p.id = q.id":               rows(1000, false),
			"DELETE FROM preview p USING preview q WHERE p.id = q.id AND q.n = 3":         rows(100, false),
			"WITH w AS (SELECT 3 AS n) DELETE FROM preview WHERE n = (SELECT w.n FROM w)": rows(100, false),
			"INSERT INTO preview VALUES (2001, 1), (2002, 2)":                             rows(2, false),
			"INSERT INTO preview SELECT id + 5000, n FROM preview":                        rows(1000, false),
			"SELECT * FROM preview /* hold */":                                            rows(1000, false),
			`DELETE FROM preview WHERE n = 3 AND 'WHERE' <> '\'`:                          rows(100, false),
			"DELETE FROM preview WHERE n = 3 AND random() >= 0":                           {Rows: 33},
			"DELETE FROM preview WHERE id = nextval('preview_s')":                         rows(1, false),
			"DELETE FROM preview WHERE n = preview_f()":                                   {Unknown: "any"},
			"DELETE FROM preview WHERE n = 3 AND pg_sleep(300) IS NULL":                   {Unknown: "any"},
			"DELETE FROM nowhere":                                                         {Unknown: "any"},
			"DROP TABLE preview":                                                          nil,
			"DELETE FROM preview WHERE n = 1; DELETE FROM preview WHERE n = 2":            nil,
			"EXPLAIN ANALYZE DELETE FROM preview":                                         nil,
		} {
			a, _, err := g.server.Ask(t.Context(), question(text))
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			got := a.Estimate
			if want != nil && want.Unknown != "" {
				if got == nil || got.Unknown == "" {
					t.Errorf("%s: %+v, want it not to be known", text, got)
				}
			} else if (got == nil) != (want == nil) || got != nil && *got != *want {
				t.Errorf("exact %v: %s: %+v, want %+v", exact, text, got, want)
			}
		}
	}
	conn, err := pgconn.Connect(t.Context(), target.DSN("dbname="+target.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	answer, err := conn.Exec(t.Context(), "SELECT count(*), (SELECT NOT is_called FROM preview_s) FROM preview").ReadAll()
	if err != nil || string(answer[0].Rows[0][0]) != "1000" || string(answer[0].Rows[0][1]) != "t" {
		t.Errorf("something ran: %s, %v", answer[0].Rows, err)
	}
}

// TestPreviewDoesNotWait has the target be held up by a lock: the statement is
// asked for all the same.
func TestPreviewDoesNotWait(t *testing.T) {
	prepare(t, "DROP TABLE IF EXISTS preview_lock; CREATE TABLE preview_lock (id int PRIMARY KEY)")
	g, _ := holding(t, time.Minute, nil)
	conn, err := pgconn.Connect(t.Context(), target.DSN("dbname="+target.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE preview_lock IN ACCESS EXCLUSIVE MODE").ReadAll(); err != nil {
		t.Fatal(err)
	}
	a, _, err := g.server.Ask(t.Context(), question("DELETE FROM preview_lock WHERE id = 1"))
	if err != nil || a.State != custos.ApprovalPending || a.Estimate == nil || !strings.Contains(a.Estimate.Unknown, "lock") {
		t.Errorf("%+v, %v", a.Estimate, err)
	}
}

// TestStatementTimeoutBoundsAHold has clients set a statement_timeout in every
// way: it ends the hold, as it would end the statement, and what was asked for
// stays asked for.
func TestStatementTimeoutBoundsAHold(t *testing.T) {
	prepare(t, "DROP TABLE IF EXISTS patient; CREATE TABLE patient (id int)")
	for name, test := range map[string]struct {
		startup string
		set     []string
		want    bool
	}{
		"at the start":         {"options='-c statement_timeout=50ms'", nil, true},
		"SET":                  {"", []string{"SET statement_timeout = 50"}, true},
		"SET, in quotes":       {"", []string{"SET SESSION statement_timeout TO '50ms'"}, true},
		"SET LOCAL":            {"", []string{"begin", "SET LOCAL statement_timeout = '0.05s'"}, true},
		"SET, and taken back":  {"", []string{"SET statement_timeout = 50", "SET statement_timeout TO DEFAULT"}, false},
		"SET to none":          {"options='-c statement_timeout=50'", []string{"SET statement_timeout = 0"}, false},
		"SET LOCAL, and ended": {"", []string{"begin", "SET LOCAL statement_timeout = 50", "rollback"}, false},
		"something else":       {"", []string{"SET lock_timeout = 50"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g, desk := holding(t, 300*time.Millisecond, nil)
			conn, err := pgx.Connect(t.Context(), g.dsn(test.startup))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			for _, text := range test.set {
				if _, err := conn.Exec(t.Context(), text); err != nil {
					t.Fatal(err)
				}
			}
			_, err = conn.Exec(t.Context(), "DELETE FROM patient WHERE id = 1")
			e, ok := errors.AsType[*pgconn.PgError](err)
			if !ok || (e.Code == "57014") != test.want || !strings.Contains(e.Detail, `"approval":"`) || !strings.Contains(e.Hint, "custos approval wait") {
				t.Errorf("%+v", err)
			}
			if all, _ := desk.List(); len(all) != 1 || all[0].State != custos.ApprovalPending {
				t.Errorf("on the desk: %+v", all)
			}
			if conn.PgConn().TxStatus() == 'E' {
				if _, err := conn.Exec(t.Context(), "rollback"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
