package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// modes are pgx's ways to run a statement: described first, cached or not,
// with parameters in the text, or simple.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// TestPgx does the same in each of pgx's modes directly and through custos,
// and compares what it saw.
func TestPgx(t *testing.T) {
	s := newSite(t)
	for _, mode := range modes {
		t.Run(strings.ReplaceAll(mode.String(), " ", "-"), func(t *testing.T) {
			direct := pgxSees(t, s.target.DSN("dbname=orders"), mode)
			through := pgxSees(t, s.dsn("ana"), mode)
			for i := range max(len(direct), len(through)) {
				a, b := append(direct, "")[min(i, len(direct))], append(through, "")[min(i, len(through))]
				if a != b {
					t.Fatalf("at %d\ndirect:         %s\nthrough custos: %s", i, a, b)
				}
			}
			if len(direct) < 20 {
				t.Errorf("it saw little: %q", direct)
			}
		})
	}
	s.stop(15)
	s.verify()
}

// viewer keeps what a client saw.
type viewer struct {
	t    *testing.T
	conn *pgx.Conn
	saw  []string
}

func (v *viewer) show(format string, args ...any) {
	v.saw = append(v.saw, fmt.Sprintf(format, args...))
}

// fault is an error as it must be the same on both ways.
func fault(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		// A statement that does not parse is refused by the gateway, with the
		// target's words and a detail of its own (docs/rough-edges.md).
		if strings.HasPrefix(e.Detail, `{"rule":"postgres/unparsed"`) {
			e.Detail = ""
		}
		return fmt.Sprintf("%s %s %s at %d, %s %s", e.Severity, e.Code, e.Message, e.Position, e.ConstraintName, e.Detail)
	}
	return fmt.Sprint(err)
}

func (v *viewer) query(sql string, args ...any) {
	v.t.Helper()
	rows, err := v.conn.Query(v.t.Context(), sql, args...)
	if err != nil {
		v.show("%s: %s", sql, fault(err))
		return
	}
	var all []any
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			v.t.Fatal(err)
		}
		all = append(all, values)
	}
	for _, f := range rows.FieldDescriptions() {
		v.show("%s %d %d", f.Name, f.DataTypeOID, f.Format)
	}
	v.show("%s: %v, %s, %s", sql, all, rows.CommandTag(), fault(rows.Err()))
}

func pgxSees(t *testing.T, dsn string, mode pgx.QueryExecMode) []string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = mode
	v := &viewer{t: t}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { v.show("notice %s %s", n.Code, n.Message) }
	if v.conn, err = pgx.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	defer v.conn.Close(context.Background())
	v.query("DROP TABLE IF EXISTS p")
	v.query("CREATE TABLE p (id int PRIMARY KEY, name text, data jsonb, blob bytea, n numeric, at timestamptz, list int[])")
	for i := range 4 {
		v.query("INSERT INTO p VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id", i, fmt.Sprint("näme ", i), map[string]int{"n": i},
			[]byte{0, byte(i), 255}, 1.5, time.Unix(int64(i), 0).UTC(), []int32{1, int32(i)})
	}
	for range 3 { // described, cached, used again
		v.query("SELECT id, name, data, blob, list FROM p WHERE id < $1 ORDER BY id", 3)
	}
	v.query("SELECT 1/(id - 2) FROM p ORDER BY id")
	v.query("SELECT * FROM nowhere")
	v.query("SELEC 1")
	v.query("INSERT INTO p (id) VALUES ($1)", 1)
	v.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
	v.query("")
	// A plan that is cached by the client and changes at the target.
	v.query("SELECT * FROM p WHERE id = $1", 1)
	v.query("ALTER TABLE p ADD more text")
	v.query("SELECT * FROM p WHERE id = $1", 1)
	v.query("SELECT * FROM p WHERE id = $1", 1)
	v.batch()
	v.transaction()
	v.copy()
	v.cancel()
	v.query("DROP TABLE p")
	return v.saw
}

// batch is a pipeline, whole and with an error in its middle.
func (v *viewer) batch() {
	for _, middle := range []string{"SELECT 'middle', $1::int", "SELECT 1/$1::int"} {
		var b pgx.Batch
		b.Queue("INSERT INTO p (id) VALUES ($1)", 100)
		b.Queue(middle, 0)
		b.Queue("SELECT count(*) FROM p")
		results := v.conn.SendBatch(v.t.Context(), &b)
		for range 3 {
			tag, err := results.Exec()
			v.show("batch: %s %s", tag, fault(err))
		}
		v.show("end of batch: %s", fault(results.Close()))
		v.query("DELETE FROM p WHERE id = 100")
	}
}

func (v *viewer) transaction() {
	ctx := v.t.Context()
	tx, err := v.conn.Begin(ctx)
	if err != nil {
		v.t.Fatal(err)
	}
	_, err = tx.Exec(ctx, "INSERT INTO p (id) VALUES (1)")
	v.show("in a transaction: %s, status %c", fault(err), v.conn.PgConn().TxStatus())
	_, err = tx.Exec(ctx, "SELECT 1")
	v.show("in a failed one: %s", fault(err))
	v.show("commit: %v", tx.Commit(ctx))
	v.show("status %c", v.conn.PgConn().TxStatus())
}

func (v *viewer) copy() {
	n, err := v.conn.CopyFrom(v.t.Context(), pgx.Identifier{"p"}, []string{"id", "name"}, pgx.CopyFromSlice(1000, func(i int) ([]any, error) {
		return []any{2000 + i, fmt.Sprint("copied ", i)}, nil
	}))
	v.show("copied %d, %s", n, fault(err))
	_, err = v.conn.CopyFrom(v.t.Context(), pgx.Identifier{"p"}, []string{"id"}, pgx.CopyFromRows([][]any{{2000}}))
	v.show("copied again: %s", fault(err))
	_, err = v.conn.CopyFrom(v.t.Context(), pgx.Identifier{"p"}, []string{"id"}, pgx.CopyFromFunc(func() ([]any, error) { return nil, errors.New("given up") }))
	v.show("given up: %s", fault(err))
	v.query("SELECT count(*), max(name) FROM p")
}

func (v *viewer) cancel() {
	ctx, cancel := context.WithTimeout(v.t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := v.conn.PgConn().CancelRequest(v.t.Context()); err != nil { // of nothing
		v.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		done <- v.conn.PgConn().CancelRequest(context.Background())
	}()
	_, err := v.conn.Exec(v.t.Context(), "SELECT pg_sleep(60)")
	v.show("cancelled: %s, %v", fault(err), <-done)
	v.query("SELECT 'usable'")
	v.show("encoding %s", v.conn.PgConn().ParameterStatus("client_encoding"))
}
