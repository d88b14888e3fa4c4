package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/custos-gateway/custos/internal/testtarget"
)

// server is one PostgreSQL for all tests of the package: what it runs by itself
// would look like a statement's doing.
var server = sync.OnceValues(func() (*testtarget.Postgres, error) {
	return testtarget.Start(testtarget.Options{Settings: []string{
		"autovacuum = off", "fsync = off", "max_prepared_transactions = 5", "wal_level = logical", "statement_timeout = 5s", "log_statement = none",
	}})
})

// served reports that server was asked for.
var served bool

func TestMain(m *testing.M) {
	code := m.Run()
	if served {
		if p, err := server(); err == nil && p.Close() != nil {
			code = 1
		}
	}
	os.Exit(code)
}

// connect opens a connection to a database of the server.
func connect(t testing.TB, database string) *pgconn.PgConn {
	t.Helper()
	served = true
	p, err := server()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.Connect(t.Context(), p.DSN("dbname="+database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// database makes a new database with what the setup says.
func database(t testing.TB, name, setup string) {
	t.Helper()
	conn := connect(t, "postgres")
	query(t, conn, "DROP DATABASE IF EXISTS "+name)
	query(t, conn, "CREATE DATABASE "+name)
	query(t, connect(t, name), setup)
}

// query runs a text and returns the first value of its last answer.
func query(t interface {
	Helper()
	Fatalf(string, ...any)
}, conn *pgconn.PgConn, text string) string {
	t.Helper()
	results, err := conn.Exec(context.Background(), text).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
		return ""
	}
	return string(results[len(results)-1].Rows[0][0])
}

// schema makes what world is about, with rows in it.
const schema = `
CREATE SCHEMA app; CREATE SCHEMA mine;
CREATE TABLE users (id int PRIMARY KEY, name text, email text UNIQUE, is_admin boolean, created_at timestamptz, tags text[], data jsonb);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, status text, created_at timestamptz, total numeric);
CREATE TABLE lines (order_id int, no int, qty int, PRIMARY KEY (order_id, no));
CREATE TABLE archive (id int, customer_id int);
CREATE TABLE notes (user_id int, body text);
CREATE TABLE banned (user_id int);
CREATE SEQUENCE s;
INSERT INTO users SELECT i, 'n' || i, 'e' || i, i % 2 = 0, now(), '{a}', '{"x": 1}' FROM generate_series(1, 20) i;
INSERT INTO orders SELECT i, i, 'open', now(), i FROM generate_series(1, 20) i;
INSERT INTO lines SELECT i, 1, 2 FROM generate_series(1, 20) i;
INSERT INTO archive SELECT i, i FROM generate_series(1, 5) i;
INSERT INTO banned SELECT i FROM generate_series(1, 5) i;
CREATE FUNCTION public.half(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';
CREATE FUNCTION app.twice(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'DECLARE x int := 2; BEGIN RETURN x * 2; END';
CREATE FUNCTION public.cleanup() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM users; RETURN 1; END';
CREATE VIEW v AS SELECT users.id FROM users;
CREATE VIEW alike AS SELECT u.id FROM users u WHERE u.name = 'x';
CREATE VIEW app.logins AS SELECT passwd FROM pg_shadow`

// statements are texts of every kind, each once: those of the tables of this
// package and of the end-to-end tests, and what the makers of the parser try it
// on, from the module cache.
func statements(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, path := range []string{"testdata/effects.txt", "testdata/filters.txt", "testdata/statements.txt", "testdata/lineage.txt"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSuffix(line, "\n")
			listed := path == "testdata/lineage.txt" || path == "testdata/statements.txt"
			if text, found := strings.CutPrefix(line, "\t"); found || listed && !strings.HasPrefix(line, "#") {
				all = append(all, text)
			}
		}
	}
	for _, path := range []string{"../e2e/testdata/corpus.tsv", "../e2e/testdata/more.tsv"} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4); len(fields) == 4 && fields[0] == "pg" {
				all = append(all, fields[3])
			}
		}
	}
	all = append(all, literals(t)...)
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return strings.TrimSpace(s) == "" || strings.ContainsRune(s, 0) })
}

// literals are the strings of several words in the tests of the parser's own
// modules.
func literals(t testing.TB) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-json", "github.com/wasilibs/go-pgquery", "github.com/pganalyze/pg_query_go/v6").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var module struct{ Dir string }
		if err := dec.Decode(&module); err != nil {
			t.Fatal(err)
		}
		paths, err := filepath.Glob(filepath.Join(module.Dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == gotoken.STRING {
					if s, err := strconv.Unquote(l.Value); err == nil && len(strings.Fields(s)) > 1 && len(s) < 20_000 {
						all = append(all, s)
					}
				}
				return true
			})
		}
	}
	return all
}

// scripts are the SQL that PostgreSQL itself is installed with.
func scripts(t testing.TB) []string {
	t.Helper()
	served = true
	p, err := server()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(p.Bin, "pg_config"), "--sharedir").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, pattern := range []string{"*.sql", "extension/*.sql"} {
		paths, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), pattern))
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if text := psqlCommand.ReplaceAllString(string(b), ""); !strings.ContainsRune(text, 0) {
				all = append(all, strings.ReplaceAll(text, "MODULE_PATHNAME", "x"))
			}
		}
	}
	return all
}

// psqlCommand is what is psql's and not the server's.
var psqlCommand = regexp.MustCompile(`(?m)^\\.*$`)

// understood asks the server's parser alone: it returns what that says of a text, or
// "", and whether it found several statements. What later stages say is another
// matter.
func understood(t interface{ Fatalf(string, ...any) }, conn *pgconn.PgConn, text string) (said string, several bool) {
	_, err := conn.Prepare(context.Background(), "", text, nil)
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.File {
		case "scan.l", "scan.c", "gram.y", "gram.c", "parser.c", "scansup.c", "mbutils.c":
			return e.Message, false
		}
		return "", strings.Contains(e.Message, "cannot insert multiple commands")
	}
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return "", false
}

// wider is what the parser takes and a server of version 15 does not: a
// parameter in any constant's place, and what later versions brought. The
// server then refuses what was judged, which is no harm.
var wider = regexp.MustCompile(`(?i)at or near "\$[0-9]|trailing junk|merge_action|by source|json_`)

// The parser and the server agree on what is a statement.
func TestParserAgreesWithServer(t *testing.T) {
	database(t, "parsing", schema)
	conn := connect(t, "parsing")
	texts := statements(t)
	for _, script := range scripts(t) {
		texts = append(texts, script)
		result, err := postgres.tree(script)
		if err != nil {
			continue // it is found to differ as a whole
		}
		for _, raw := range result.Stmts {
			texts = append(texts, textOf(script, raw))
		}
	}
	var alone []string
	for _, text := range texts {
		result, err := postgres.tree(text)
		said, several := understood(t, conn, text)
		switch {
		case err != nil && said == "":
			t.Errorf("the server parses what the parser does not: %v: %.1000q", err, text)
		case err == nil && said != "" && (wider.MatchString(said) || wider.MatchString(text)):
			alone = append(alone, text)
		case err == nil && said != "":
			t.Errorf("the parser parses what the server does not: %s: %.1000q", said, text)
		case err == nil && several != (len(result.Stmts) > 1):
			t.Errorf("the parser finds %d statements, the server several: %v: %.1000q", len(result.Stmts), several, text)
		}
	}
	t.Logf("%d statements; the server does not parse %d: %q", len(texts), len(alone), alone)
	if len(texts) < 1500 {
		t.Errorf("%d statements, want 1500", len(texts))
	}
}

// They agree on what nobody would write, too: where a string or a comment ends
// decides what else is a statement.
func TestParserAgreesWithServerOnScraps(t *testing.T) {
	database(t, "scraps", "")
	conn := connect(t, "scraps")
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom(fragments), 1, 12).Draw(t, "parts")
		text := "select " + strings.Join(parts, rapid.SampledFrom([]string{"", " "}).Draw(t, "separator"))
		if !utf8.ValidString(text) {
			return
		}
		result, err := postgres.tree(text)
		said, several := understood(t, conn, text)
		if err != nil && said == "" {
			t.Fatalf("the server parses what the parser does not: %v: %q", err, text)
		}
		if err == nil && said == "" && several != (len(result.Stmts) > 1) {
			t.Fatalf("the parser finds %d statements, the server several: %v: %q", len(result.Stmts), several, text)
		}
	})
}

// quietEffects are those of statements that write nothing.
var quietEffects = words2set("read explain session transaction")

// quiet reports a text that is judged to write nothing.
func quiet(text string, c *Catalog) bool {
	judged, err := postgres.Parse(text, c)
	return err == nil && (!judged.Writes || !slices.ContainsFunc(judged.Facts.Effects, func(e string) bool { return !quietEffects[e] }))
}

// settles reports a text of which the judgement says that it changes a setting.
func settles(text string) bool {
	judged, err := postgres.Parse(text, world)
	return err == nil && (slices.Contains(judged.Facts.Effects, effectSession) || slices.Contains(judged.Facts.Effects, effectTransaction))
}

// tracks is what a server keeps of a write, or of another thing that outlives
// a session: the number of transactions that had a number, so what any of them
// wrote, rolled back or not; slots; prepared transactions; files.
const tracks = `SELECT concat_ws(' ', pg_snapshot_xmax(pg_current_snapshot()), (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_prepared_xacts),
	(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), (SELECT count(*) FROM pg_ls_dir('.')), pg_conf_load_time())`

// held is what a session keeps of one: locks that readers do not take, and
// settings.
const held = `SELECT concat_ws(' ', (SELECT string_agg(locktype || ' ' || mode, ',') FROM pg_locks
		WHERE locktype = 'advisory' OR locktype = 'relation' AND mode NOT IN ('AccessShareLock', 'RowExclusiveLock')),
	(SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings WHERE source = 'session'))`

// wrote runs a text in a transaction that is rolled back, and says what it left
// behind. ran: it ended without an error.
func wrote(conn, beside *pgconn.PgConn, text string) (left string, ran bool, err error) {
	ask := func(c *pgconn.PgConn, text string) string {
		results, e := c.Exec(context.Background(), text).ReadAll()
		if e != nil || len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
			err = errors.Join(err, e)
			return ""
		}
		return string(results[len(results)-1].Rows[0][0])
	}
	before := ask(beside, tracks)
	ask(conn, "BEGIN")
	_, failed := conn.Exec(context.Background(), text).ReadAll()
	if failed == nil {
		left = ask(conn, held)
	}
	ask(conn, "ROLLBACK")
	ask(conn, "DISCARD ALL")
	if after := ask(beside, tracks); after != before {
		left += " | " + before + " became " + after
	}
	return left, failed == nil, err
}

// FuzzReadsDoNotWrite runs what is judged to write nothing.
func FuzzReadsDoNotWrite(f *testing.F) {
	texts, judged, runs := statements(f), 0, 0
	for _, text := range texts {
		f.Add(text)
	}
	name := fmt.Sprint("reading_", os.Getpid()) // of each of the processes that hunt
	database(f, name, schema)
	conn, beside := connect(f, name), connect(f, "postgres")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 20_000 || strings.ContainsRune(text, 0) || !quiet(text, world) {
			return
		}
		judged++
		left, ran, err := wrote(conn, beside, text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if ran {
			runs++
		}
		if left != "" && !(settles(text) && !strings.Contains(left, "|")) {
			t.Errorf("%q leaves %s", text, left)
		}
	})
	if judged == 0 {
		return // hunting, other processes run them, or others were asked for
	}
	f.Logf("of %d texts %d are judged to write nothing, of which %d run", len(texts), judged, runs)
	if judged >= 400 && runs < 200 {
		f.Errorf("%d ran, want 200", runs)
	}
}

// values are one of each type that functions commonly take, by its name;
// of another type it is null.
var values = map[string]string{
	"integer": "1", "bigint": "1", "smallint": "1::smallint", "oid": "1259::oid", "regclass": "'users'::regclass", "text": "'users'", "name": "'users'::name",
	"boolean": "true", "numeric": "1.5", "real": "1.5::real", "double precision": "1.5::float8", "bytea": `'\x0102'::bytea`, "json": `'{"a": [1]}'::json`,
	"jsonb": `'{"a": [1]}'::jsonb`, "jsonpath": "'$.a'::jsonpath", "xml": "'<a/>'::xml", "date": "'2024-01-02'::date", "timestamp without time zone": "'2024-01-02'::timestamp",
	"timestamp with time zone": "'2024-01-02'::timestamptz", "interval": "'1 hour'::interval", "inet": "'10.0.0.1'::inet", "tsvector": "'a b'::tsvector",
	"tsquery": "'a'::tsquery", "regconfig": "'english'::regconfig", "\"char\"": "'a'::\"char\"", "character": "'a'::char", "uuid": "'0c9d1e2f-3a4b-4c5d-8e9f-0a1b2c3d4e5f'::uuid",
	"anyelement": "1", "anynonarray": "1", "anyarray": "'{1,2}'::int[]", "anycompatible": "1", "anycompatiblearray": "'{1,2}'::int[]", "anyrange": "'[1,2)'::int4range",
	"any": "1", "\"any\"": "1", "text[]": "'{a,b}'::text[]", "integer[]": "'{1,2}'::int[]", "tid": "'(0,1)'::tid", "pg_lsn": "'0/1000000'::pg_lsn", "cstring": "'1'",
	"record": "row(1)", "xid": "'5'::xid", "xid8": "'5'::xid8", "pg_snapshot": "'10:20:'::pg_snapshot",
}

// calls are calls of every function of a schema, or of those besides the
// server's own.
func calls(t *testing.T, conn *pgconn.PgConn, where string) []string {
	t.Helper()
	results, err := conn.Exec(t.Context(), `SELECT quote_ident(nspname) || '.' || quote_ident(proname), array_to_json(ARRAY(SELECT format_type(a, NULL) FROM unnest(proargtypes) a))::text
		FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE prokind <> 'p' AND `+where+` ORDER BY 1, 2`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, row := range results[0].Rows {
		var types []string
		if err := json.Unmarshal(row[1], &types); err != nil {
			t.Fatal(err)
		}
		for i, of := range types {
			if types[i] = values[of]; types[i] == "" {
				types[i] = "null"
			}
		}
		texts = append(texts, "select "+string(row[0])+"("+strings.Join(types, ", ")+")")
	}
	return texts
}

// numbers are the functions that are declared to change nothing and that give
// the transaction a number, which is all they do.
var numbers = words2set("pg_current_xact_id txid_current")

// Each function of the server's own that is judged to write nothing is called.
func TestBuiltinsDoNotWrite(t *testing.T) {
	database(t, "calling", schema)
	conn, beside := connect(t, "calling"), connect(t, "postgres")
	var texts []string
	all := calls(t, conn, "nspname = 'pg_catalog'")
	for _, text := range all {
		name, _, _ := strings.Cut(strings.TrimPrefix(text, "select pg_catalog."), "(")
		if !numbers[name] && quiet(text, nil) {
			texts = append(texts, text)
		}
	}
	runs := 0
	for group := range slices.Chunk(texts, 100) {
		before := query(t, beside, tracks)
		for _, text := range group {
			if _, err := conn.Exec(t.Context(), text).ReadAll(); err == nil {
				runs++
			}
		}
		left := query(t, conn, held)
		query(t, conn, "DISCARD ALL")
		if after := query(t, beside, tracks); left == "" && after == before {
			continue
		}
		for _, text := range group { // which of them it was
			if left, _, err := wrote(conn, beside, text); left != "" || err != nil {
				t.Errorf("%q leaves %s, %v", text, left, err)
			}
		}
		t.Errorf("one of these leaves something: %q", group)
	}
	t.Logf("of %d functions %d are judged to write nothing, of which %d run", len(all), len(texts), runs)
	if runs < 1000 {
		t.Errorf("%d ran, want 1000", runs)
	}
}

// idle are volatile functions of the server's own that change nothing.
var idle = words2set("currval lastval pg_blocking_pids pg_collation_actual_version pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system " +
	"pg_current_logfile pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_collation_actual_version pg_database_size " +
	"pg_get_backend_memory_contexts pg_get_shmem_allocations pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused pg_jit_available pg_last_committed_xact " +
	"pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status pg_notification_queue_usage pg_partition_ancestors " +
	"pg_partition_tree pg_prepared_xact pg_relation_size pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_stat_clear_snapshot " +
	"pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls " +
	"pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted " +
	"pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_returned " +
	"pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_table_size pg_tablespace_size pg_total_relation_size pg_xact_commit_timestamp pg_xact_status " +
	"txid_status current_query clock_timestamp timeofday random setseed gen_random_uuid")

// A function that PostgreSQL or one of the extensions it comes with declares to
// be volatile is no read, whatever the catalogue knows of it.
func TestVolatileFunctionsAreNoReads(t *testing.T) {
	database(t, "extended", "")
	conn := connect(t, "extended")
	results, err := conn.Exec(t.Context(), "SELECT name FROM pg_available_extensions ORDER BY name").ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range results[0].Rows {
		// Some need what is not there; those are not installed.
		conn.Exec(t.Context(), `CREATE EXTENSION IF NOT EXISTS "`+string(row[0])+`" CASCADE`).ReadAll()
	}
	installed := query(t, conn, "SELECT count(*) FROM pg_extension")
	results, err = conn.Exec(t.Context(), `SELECT nspname, proname, provolatile, lanname, prosrc FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
		WHERE nspname <> 'pg_catalog'`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var functions []Function
	for _, row := range results[0].Rows {
		functions = append(functions, Function{string(row[0]), string(row[1]), row[2][0], string(row[3]), string(row[4])})
	}
	c := NewCatalog(nil, functions)
	texts := calls(t, conn, "provolatile = 'v' AND prorettype <> 'trigger'::regtype")
	for _, text := range texts {
		name, _, _ := strings.Cut(text[strings.Index(text, ".")+1:], "(")
		if quiet(text, c) && !harmless[name] && !(idle[name] && strings.HasPrefix(text, "select pg_catalog.")) {
			t.Errorf("%s is judged to write nothing", text)
		}
	}
	t.Logf("%s extensions, %d functions besides the server's own, %d volatile", installed, len(functions), len(texts))
}
