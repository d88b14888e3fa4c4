package postgres_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	_ "github.com/lib/pq"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// code returns the SQLSTATE of an error of the server's.
func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return fmt.Sprint(err)
}

// settled tells the operations on record, in order: class, verbs and state.
func (g *gateway) settled() string {
	var out []string
	state := map[uint64]string{}
	for _, e := range g.Ledger.Entries() {
		if e.Settled != nil {
			state[e.Settled.Operation] = string(e.Settled.State)
			if e.Settled.Rows > 0 {
				state[e.Settled.Operation] += fmt.Sprintf("(%d)", e.Settled.Rows)
			}
		}
	}
	for _, e := range g.Ledger.Entries() {
		if e.Submit != nil {
			s := state[e.Index]
			if e.Submit.Effect != "allow" {
				s = e.Submit.Effect
			}
			out = append(out, e.Submit.Class+" "+strings.Join(e.Submit.Verbs, "+")+"="+s)
		}
	}
	return strings.Join(out, "\n")
}

func TestRefusalLeavesTheSessionUsable(t *testing.T) {
	g := start(t)
	g.RefuseText("secret")
	for _, mode := range []string{"exec", "simple_protocol", "cache_statement"} {
		conn := g.connect(t, "default_query_exec_mode="+mode)
		_, err := conn.Exec(t.Context(), "select 'secret'")
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "42501" || pg.Severity != "ERROR" || !strings.Contains(pg.Message, "refused by rule no-secret") ||
			!strings.Contains(pg.Detail, `"entry":`) || pg.Hint != "leave it out" {
			t.Fatalf("%s: %v", mode, err)
		}
		var n int
		if err := conn.QueryRow(t.Context(), "select 7").Scan(&n); err != nil || n != 7 {
			t.Errorf("%s: after the refusal: %v", mode, err)
		}
	}
	if log := target.Log(); strings.Contains(log, "'secret'") {
		t.Error("the target heard what was refused")
	}
}

// A refusal fails the transaction it stands in, as any error does.
func TestRefusalFailsTheTransaction(t *testing.T) {
	g := start(t)
	g.RefuseText("secret")
	for _, mode := range []string{"exec", "simple_protocol"} {
		conn := g.connect(t, "default_query_exec_mode="+mode)
		mustExec(t, conn, "create temp table t(a int)")
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, conn, "insert into t values (1)")
		if _, err := tx.Exec(t.Context(), "select 'secret'"); code(err) != "42501" {
			t.Fatalf("%s: %v", mode, err)
		}
		if s := conn.PgConn().TxStatus(); s != 'E' {
			t.Errorf("%s: the transaction's state is %c", mode, s)
		}
		if _, err := tx.Exec(t.Context(), "select 1"); code(err) != "25P02" {
			t.Errorf("%s: in the failed transaction: %v", mode, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
		var n int
		if err := conn.QueryRow(t.Context(), "select count(*) from t").Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d rows, %v", mode, n, err)
		}
	}
}

func mustExec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// A pipeline of which one part is refused is not done in part.
func TestRefusalInAPipelineUndoesIt(t *testing.T) {
	g := start(t)
	g.RefuseText("secret")
	conn := g.connect(t, "default_query_exec_mode=exec")
	mustExec(t, conn, "create temp table t(a int)")
	b := &pgx.Batch{}
	b.Queue("insert into t values (1)")
	b.Queue("select 'secret'")
	b.Queue("insert into t values (2)")
	r := conn.SendBatch(t.Context(), b)
	if _, err := r.Exec(); err != nil {
		t.Errorf("first: %v", err)
	}
	if _, err := r.Exec(); code(err) != "42501" {
		t.Errorf("second: %v", err)
	}
	if err := r.Close(); code(err) != "42501" {
		t.Errorf("close: %v", err)
	}
	var n int
	if err := conn.QueryRow(t.Context(), "select count(*) from t").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestPipelineOfPgx(t *testing.T) {
	g := start(t)
	conn := g.connect(t).PgConn()
	p := conn.StartPipeline(t.Context())
	p.SendPrepare("a", "select $1::int", nil)
	p.SendQueryPrepared("a", [][]byte{[]byte("5")}, nil, nil)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	p.SendQueryParams("select 1/$1::int", [][]byte{[]byte("0")}, nil, nil, nil)
	p.SendQueryPrepared("a", [][]byte{[]byte("6")}, nil, nil) // skipped
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	p.SendQueryPrepared("a", [][]byte{[]byte("7")}, nil, nil)
	p.SendDeallocate("a")
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		r, err := p.GetResults()
		if err != nil {
			got = append(got, code(err))
			continue
		}
		switch r := r.(type) {
		case nil:
		case *pgconn.StatementDescription:
			got = append(got, "described")
			continue
		case *pgconn.ResultReader:
			res := r.Read()
			if res.Err != nil {
				got = append(got, code(res.Err))
			} else {
				got = append(got, string(res.Rows[0][0]))
			}
			continue
		case *pgconn.PipelineSync:
			got = append(got, "sync")
			continue
		case *pgconn.CloseComplete:
			got = append(got, "closed")
			continue
		}
		break
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	want := "described 5 sync 22012 sync 7 closed sync"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	conn.Close(t.Context())
	g.Ledger.AwaitClosed(1)
	// The third is on record if it was under way when the target failed the
	// second.
	record := strings.NewReplacer("Execute SELECT=skipped\n", "", "Execute SELECT=not-sent\n", "").Replace(g.settled())
	if s, want := record, `Parse SELECT=ok
Execute SELECT=ok(1)
Execute SELECT=error
Execute SELECT=ok(1)
Close CLOSE=ok`; s != want {
		t.Errorf("on record:\n%s\nwant:\n%s", s, want)
	}
}

func TestBatchesOfPgx(t *testing.T) {
	g := start(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		conn := g.connect(t, "default_query_exec_mode="+mode)
		b := &pgx.Batch{}
		for i := range 300 {
			b.Queue("select $1::int * 2", i)
		}
		r := conn.SendBatch(t.Context(), b)
		for i := range 300 {
			var n int
			if err := r.QueryRow().Scan(&n); err != nil || n != 2*i {
				t.Fatalf("%s: %d: %d %v", mode, i, n, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// Execute with a row limit, again and again: each is an operation that has
// the statement and the parameters.
func TestRowLimits(t *testing.T) {
	g := start(t)
	f := g.raw(t)
	f.send(&pgproto3.Parse{Query: "select generate_series(1, $1::int)"}, &pgproto3.Bind{Parameters: [][]byte{[]byte("5")}, DestinationPortal: "p"},
		&pgproto3.Describe{ObjectType: 'P', Name: "p"}, &pgproto3.Execute{Portal: "p", MaxRows: 2}, &pgproto3.Flush{})
	if got := f.until('s'); got != "12TDDs" {
		t.Errorf("first: %s", got)
	}
	f.send(&pgproto3.Execute{Portal: "p", MaxRows: 2}, &pgproto3.Execute{Portal: "p", MaxRows: 0}, &pgproto3.Sync{})
	if got := f.until('Z'); got != "DDsDCZ" {
		t.Errorf("then: %s", got)
	}
	// The transaction is over, and the portal with it.
	f.send(&pgproto3.Execute{Portal: "p"}, &pgproto3.Sync{})
	if got := f.until('Z'); got != "EZ" {
		t.Errorf("last: %s", got)
	}
	f.close()
	g.Ledger.AwaitClosed(1)
	if got, want := g.settled(), "Execute SELECT=ok(2)\nExecute SELECT=ok(2)\nExecute SELECT=ok(1)\nExecute =refuse"; got != want {
		t.Errorf("on record:\n%s\nwant:\n%s", got, want)
	}
	for _, e := range g.Ledger.Entries() {
		if e.Submit != nil && e.Submit.Effect == "allow" {
			op := g.Operation(t, e)
			if op.Text != "select generate_series(1, $1::int)" || len(op.Params) != 1 || string(op.Params[0].Value) != "5" {
				t.Errorf("sealed: %+v", op)
			}
		}
	}
}

// What a driver does that describes first and binds later, as JDBC does.
func TestDescribeFirst(t *testing.T) {
	g := start(t)
	f := g.raw(t)
	f.send(&pgproto3.Parse{Name: "S_1", Query: "select $1::int"}, &pgproto3.Describe{ObjectType: 'S', Name: "S_1"}, &pgproto3.Sync{})
	if got := f.until('Z'); got != "1tTZ" {
		t.Error(got)
	}
	f.send(&pgproto3.Bind{PreparedStatement: "S_1", Parameters: [][]byte{[]byte("1")}}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if got := f.until('Z'); got != "2DCZ" {
		t.Error(got)
	}
	f.send(&pgproto3.Close{ObjectType: 'S', Name: "S_1"}, &pgproto3.Sync{})
	if got := f.until('Z'); got != "3Z" {
		t.Error(got)
	}
	f.send(&pgproto3.Bind{PreparedStatement: "S_1", Parameters: [][]byte{[]byte("1")}}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if got := f.until('Z'); got != "EZ" {
		t.Error(got)
	}
	f.send(&pgproto3.Query{String: "select 1"})
	if got := f.until('Z'); got != "TDCZ" {
		t.Error(got)
	}
}

// A name stands for what the target has under it, whatever was tried.
func TestNamesAreThoseOfTheTarget(t *testing.T) {
	g := start(t)
	f := g.raw(t)
	ok := func(want string, m ...pgproto3.FrontendMessage) {
		t.Helper()
		f.send(m...)
		if got := f.until('Z'); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	run := func(name string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{&pgproto3.Bind{PreparedStatement: name}, &pgproto3.Execute{}, &pgproto3.Sync{}}
	}
	ok("1Z", &pgproto3.Parse{Name: "a", Query: "select 'first'"}, &pgproto3.Sync{})
	// The name is taken: this fails, also where the use of it follows at once.
	ok("EZ", append([]pgproto3.FrontendMessage{&pgproto3.Parse{Name: "a", Query: "select 'second'"}, &pgproto3.Sync{}}, run("a")...)...)
	if got := f.until('Z'); got != "2DCZ" {
		t.Error(got)
	}
	// An unnamed statement that is skipped leaves the one before.
	ok("1Z", &pgproto3.Parse{Query: "select 'third'"}, &pgproto3.Sync{})
	ok("EZ", append([]pgproto3.FrontendMessage{&pgproto3.Parse{Name: "a", Query: "x"}, &pgproto3.Parse{Query: "select 'fourth'"}, &pgproto3.Sync{}}, run("")...)...)
	if got := f.until('Z'); got != "2DCZ" {
		t.Error(got)
	}
	// What SQL frees and prepares is not the protocol's any more.
	ok("CZ", &pgproto3.Query{String: "deallocate a"})
	ok("CZ", &pgproto3.Query{String: "prepare a as select 'fifth'"})
	ok("EZ", run("a")...)
	ok("1Z", &pgproto3.Parse{Name: "b", Query: "select 'sixth'"}, &pgproto3.Sync{})
	ok("CZ", &pgproto3.Query{String: "discard all"})
	ok("EZ", run("b")...)
	f.close()
	g.Ledger.AwaitClosed(1)
	var ran []string
	for _, e := range g.Ledger.Entries() {
		if e.Submit != nil && e.Submit.Class == "Execute" && e.Submit.Effect == "allow" {
			ran = append(ran, g.Operation(t, e).Text)
		}
	}
	if got := strings.Join(ran, ", "); got != "select 'first', select 'third'" {
		t.Errorf("on record as run: %s", got)
	}
}

func TestCopy(t *testing.T) {
	g := start(t)
	conn := g.connect(t)
	mustExec(t, conn, "create temp table t(a int, b text)")
	// In the binary format, by the extended protocol for the description.
	n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"a", "b"}, pgx.CopyFromSlice(5000, func(i int) ([]any, error) {
		return []any{i, strings.Repeat("x", 100)}, nil
	}))
	if err != nil || n != 5000 {
		t.Fatal(n, err)
	}
	var out bytes.Buffer
	tag, err := conn.PgConn().CopyTo(t.Context(), &out, "copy t to stdout")
	if err != nil || tag.RowsAffected() != 5000 || strings.Count(out.String(), "\n") != 5000 {
		t.Fatal(tag, err)
	}
	// The target fails it midway, the client fails it, and the session lives.
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(strings.Repeat("1\tx\n", 50_000)+"bad\n"+strings.Repeat("1\tx\n", 50_000)), "copy t from stdin"); code(err) != "22P02" {
		t.Errorf("bad row: %v", err)
	}
	if _, err := conn.PgConn().CopyFrom(t.Context(), io.MultiReader(strings.NewReader("1\tx\n"), failing{}), "copy t from stdin"); code(err) != "57014" {
		t.Errorf("failing client: %v", err)
	}
	if _, err := conn.PgConn().CopyFrom(t.Context(), strings.NewReader(""), "copy nowhere from stdin"); code(err) != "42P01" {
		t.Errorf("no such table: %v", err)
	}
	var count int
	if err := conn.QueryRow(t.Context(), "select count(*) from t").Scan(&count); err != nil || count != 5000 {
		t.Error(count, err)
	}
	var input []byte
	for _, e := range g.Ledger.Entries() {
		if e.Kind == custos.EntryInput {
			input = append(input, g.Open(t, e)...)
		}
	}
	if len(input) < 5000*100 {
		t.Errorf("%d bytes of input are on record", len(input))
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is broken") }

// COPY by the extended protocol, with the Sync sent ahead, as libpq does.
func TestCopyExtended(t *testing.T) {
	g := start(t)
	f := g.raw(t)
	f.send(&pgproto3.Query{String: "create temp table t(a int)"})
	f.until('Z')
	for range 2 {
		f.send(&pgproto3.Parse{Query: "copy t from stdin"}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
		if got := f.until('G'); got != "12nG" {
			t.Fatal(got)
		}
		f.send(&pgproto3.CopyData{Data: []byte("1\n2\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{})
		if got := f.until('Z'); got != "CZ" {
			t.Fatal(got)
		}
	}
	f.send(&pgproto3.Parse{Query: "copy t from stdin"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
	f.until('G')
	f.send(&pgproto3.CopyData{Data: []byte("x\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{})
	if got := f.until('Z'); got != "EZ" {
		t.Fatal(got)
	}
	f.send(&pgproto3.Query{String: "copy t from stdin; select count(*) from t"})
	f.until('G')
	f.send(&pgproto3.CopyFail{Message: "never mind"})
	if got := f.until('Z'); got != "EZ" {
		t.Fatal(got)
	}
	f.send(&pgproto3.Query{String: "select count(*) from t"})
	if got := f.until('Z'); got != "TDCZ" {
		t.Fatal(got)
	}
}

func TestListen(t *testing.T) {
	g := start(t)
	a, b := g.connect(t), g.connect(t)
	mustExec(t, a, "listen news")
	mustExec(t, b, "notify news, 'hello'")
	n, err := a.WaitForNotification(t.Context())
	if err != nil || n.Payload != "hello" {
		t.Fatal(n, err)
	}
	g.Ledger.Await(func(e gatetest.Kept) bool {
		return e.Kind == custos.EntryReceived && bytes.Contains(g.Open(t, e), []byte("news\x00hello"))
	})
}

func TestCancel(t *testing.T) {
	for _, version := range []string{"3.0", "3.2"} {
		g := start(t)
		conn := g.connect(t, "max_protocol_version="+version)
		if n := len(conn.PgConn().SecretKey()); n != map[string]int{"3.0": 4, "3.2": 32}[version] {
			t.Errorf("version %s: a key of %d bytes", version, n)
		}
		ended := make(chan error)
		go func() {
			_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
			ended <- err
		}()
		g.Ledger.Await(func(e gatetest.Kept) bool { return e.Submit != nil && e.Submit.Objects != nil })
		// It may come before the statement has begun.
		for done := false; !done; {
			if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if done = true; code(err) != "57014" {
					t.Error(err)
				}
			case <-time.After(100 * time.Millisecond):
			}
		}
		mustExec(t, conn, "select 1")
		if !strings.Contains(g.settled(), "CancelRequest CANCEL=ok") {
			t.Errorf("on record:\n%s", g.settled())
		}
	}
}

// A wrong key cancels nothing, and learns nothing.
func TestCancelWithAWrongKey(t *testing.T) {
	g := start(t)
	conn := g.connect(t)
	key := append([]byte(nil), conn.PgConn().SecretKey()...)
	key[0]++
	m := (&pgproto3.CancelRequest{ProcessID: conn.PgConn().PID(), SecretKey: key})
	wire, err := m.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.say(t, wire); len(got) != 0 {
		t.Errorf("it was answered: %q", got)
	}
	if s := g.settled(); strings.Contains(s, "Cancel") {
		t.Errorf("on record:\n%s", s)
	}
}

func TestLibPQ(t *testing.T) {
	g := start(t)
	db, err := sql.Open("postgres", g.dsn())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("create table if not exists libpq(a int)"); err != nil {
		t.Fatal(err)
	}
	defer db.Exec("drop table libpq")
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	stmt, err := tx.Prepare("insert into libpq values ($1)")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := stmt.Exec(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := stmt.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.QueryRow("select sum(a) from libpq where a > $1", 3).Scan(&n); err != nil || n != 39 {
		t.Error(n, err)
	}
	if _, err := db.Exec("insert into libpq values ('x')"); err == nil {
		t.Error("no error")
	}
}

// 200 MB of rows pass through without being held.
func TestLargeAnswer(t *testing.T) {
	g := start(t)
	g.Tap.Discard()
	conn := g.connect(t).PgConn()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := conn.ExecParams(t.Context(), "select repeat('x', 1000) from generate_series(1, 200000)", nil, nil, nil, nil)
	rows, most := 0, uint64(0)
	for r.NextRow() {
		if rows++; rows%50_000 == 0 {
			runtime.ReadMemStats(&after)
			most = max(most, after.HeapInuse)
		}
	}
	if _, err := r.Close(); err != nil || rows != 200_000 {
		t.Fatal(rows, err)
	}
	if grown := int64(most) - int64(before.HeapInuse); grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	// One value that is larger than any buffer.
	var n int
	if err := g.connect(t).QueryRow(t.Context(), "select length(x) from (select repeat('y', 20000000) x) s where x > $1", "a").Scan(&n); err != nil || n != 20_000_000 {
		t.Error(n, err)
	}
	if res := conn.ExecParams(t.Context(), "select repeat('y', 20000000)", nil, nil, nil, nil).Read(); res.Err != nil || len(res.Rows[0][0]) != 20_000_000 {
		t.Error(res.Err)
	}
	// What is longer than may be recorded is refused, and not held.
	res := conn.ExecParams(t.Context(), "select length($1::text)", [][]byte{bytes.Repeat([]byte("z"), 17_000_000)}, nil, nil, nil).Read()
	if code(res.Err) != "54000" {
		t.Error(res.Err)
	}
	if res := conn.ExecParams(t.Context(), "select length($1::text)", [][]byte{bytes.Repeat([]byte("z"), 7_000_000)}, nil, nil, nil).Read(); res.Err != nil || string(res.Rows[0][0]) != "7000000" {
		t.Error(res.Err)
	}
}

func TestSessionEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*gateway, custos.SessionID)
		code string
	}{
		"stopped": {func(g *gateway, id custos.SessionID) { g.Gate.Stop(id, gate.ErrStopped) }, "57P01"},
		"expired": {func(g *gateway, id custos.SessionID) { g.Gate.Stop(id, gate.ErrExpired) }, "28000"},
		"dead":    {func(g *gateway, _ custos.SessionID) { g.Tap.Cut() }, "08006"},
		"stop":    {func(g *gateway, _ custos.SessionID) { g.stop() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			f := g.raw(t)
			f.send(&pgproto3.Query{String: "select pg_sleep(60)"})
			opened := g.Ledger.Await(func(e gatetest.Kept) bool { return e.Kind == custos.EntryOpened })
			running := watcher(t)
			for !running("select pg_sleep(60)") {
			}
			c.end(g, opened.Session)
			got := f.rest()
			if !bytes.Contains(got, []byte("\x00C"+c.code)) || !bytes.Contains(got, []byte("FATAL")) {
				t.Errorf("the client was told %q", got)
			}
			g.Ledger.AwaitClosed(1)
			g.endedEarly(t)
		})
	}
}

// endedEarly checks the outcome of a statement whose session was ended: the
// target was told to stop, and has answered that it did, or has not.
func (g *gateway) endedEarly(t testing.TB) {
	t.Helper()
	if s := g.settled(); s != "Query SELECT=interrupted" && s != "Query SELECT=error" {
		t.Errorf("on record: %s", s)
	}
}

// watcher looks at the target past the gateway.
func watcher(t testing.TB) (running func(query string) bool) {
	t.Helper()
	direct, err := pgx.Connect(t.Context(), target.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { direct.Close(context.Background()) })
	return func(query string) bool {
		t.Helper()
		var n int
		if err := direct.QueryRow(t.Context(), "select count(*) from pg_stat_activity where query = $1 and state = 'active'", query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
}

// A statement does not outlive a client that is gone.
func TestClientDies(t *testing.T) {
	g := start(t)
	f := g.raw(t)
	f.send(&pgproto3.Query{String: "select pg_sleep(61)"})
	running := watcher(t)
	for !running("select pg_sleep(61)") {
	}
	f.conn.Close()
	g.Ledger.AwaitClosed(1)
	for running("select pg_sleep(61)") {
	}
	g.endedEarly(t)
}

// A session cannot make the gateway hold statements without end.
func TestStatementLimits(t *testing.T) {
	g := start(t, func(o *postgres.Options) { o.Limits.Statements, o.Limits.StatementBytes = 50, 4<<20 })
	for name, c := range map[string]struct{ size, want int }{"count": {10, 50}, "bytes": {900 << 10, 4}} {
		f := g.raw(t)
		var m []pgproto3.FrontendMessage
		for i := range 60 {
			m = append(m, &pgproto3.Parse{Name: fmt.Sprint("s", i), Query: "select '" + strings.Repeat("x", c.size) + "'"})
		}
		go f.send(append(m, &pgproto3.Sync{})...)
		if got, want := f.until('Z'), strings.Repeat("1", c.want)+"EZ"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		f.send(&pgproto3.Query{String: "deallocate all"})
		f.until('Z')
		f.send(&pgproto3.Parse{Name: "s", Query: "select 1"}, &pgproto3.Sync{})
		if got := f.until('Z'); got != "1Z" {
			t.Errorf("%s: after all were closed: %s", name, got)
		}
	}
}
