package sql

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"pgregory.net/rapid"

	"github.com/custos-gateway/custos/sql/libpgquery"
)

var postgres = NewPostgres(Limits{})

func TestParse(t *testing.T) {
	for _, test := range []struct{ text, verbs, objects, writes string }{
		// Reads.
		{"select 1", "SELECT", "", "reads"},
		{"select * from public.customers c join orders o on o.id = c.id", "SELECT", "public.customers orders", "reads"},
		{"SELECT count(*), lower(name) FROM t WHERE a LIKE 'x%' AND b BETWEEN 1 AND 2 GROUP BY 2", "SELECT", "count() lower() t", "reads"},
		{"values (1, 2)", "VALUES", "", "reads"},
		{"table t", "SELECT", "t", "reads"},
		{"select a::text, b::numeric(10,2), now()::date from db.s.t", "SELECT", "now() db.s.t", "reads"},
		{"show all", "SHOW", "", "reads"},
		{"begin", "BEGIN", "", "reads"},
		{"rollback to s", "ROLLBACK TO", "", "reads"},
		{"explain delete from t", "EXPLAIN DELETE", "t", "reads"},
		{"copy (select * from t) to stdout", "COPY TO SELECT", "t", "reads"},
		{"copy t to stdout", "COPY TO", "t", "reads"},
		{"declare c cursor for select 1 from t", "DECLARE SELECT", "t", "reads"},
		{"prepare x as select $1::int", "PREPARE SELECT", "", "reads"},
		{"deallocate x", "DEALLOCATE", "", "reads"},
		{"listen x", "LISTEN", "", "reads"},
		{"select extract(year from d), coalesce(a, 1), current_user from t", "SELECT", "pg_catalog.extract() t", "reads"},
		{"select pg_catalog.lower('A')", "SELECT", "pg_catalog.lower()", "reads"},
		// Common table expressions hide relations, from where they are defined on.
		{"with a as (select 1 from t) select * from a", "SELECT", "t", "reads"},
		{"with t as (select * from t) select * from t", "SELECT", "t", "reads"},
		{"with recursive r as (select 1 union all select 1 from r) select * from r", "SELECT", "", "reads"},
		{"select * from (with a as (select 1) select * from a) x, a", "SELECT", "a", "reads"},
		{"with a as (select 1) select * from public.a", "SELECT", "public.a", "reads"},
		// Writes, also where they hide.
		{"insert into t values (1)", "INSERT", "t", "writes"},
		{"insert into t select * from s", "INSERT SELECT", "t s", "writes"},
		{"update t set a = 1 from s where s.id = t.id", "UPDATE", "t s", "writes"},
		{"delete from t where id in (select id from u)", "DELETE SELECT", "t u", "writes"},
		{"merge into t using s on true when matched then delete", "MERGE", "t s", "writes"},
		{"with d as (delete from t returning *) select * from d", "SELECT DELETE", "t", "writes"},
		{"explain analyze delete from t", "EXPLAIN ANALYZE DELETE", "t", "writes"},
		{"explain (analyze false) delete from t", "EXPLAIN ANALYZE DELETE", "t", "writes"},
		{"prepare x as delete from t", "PREPARE DELETE", "t", "writes"},
		{"execute x", "EXECUTE", "", "writes"},
		{"fetch all from c", "FETCH", "", "writes"},
		{"copy (delete from t returning 1) to stdout", "COPY TO DELETE", "t", "writes"},
		{"copy t from stdin", "COPY FROM", "t", "writes"},
		{"copy t to '/tmp/x'", "COPY TO FILE", "t", "writes"},
		{"copy t to program 'sh'", "COPY TO PROGRAM", "t", "writes"},
		{"copy t from program 'sh'", "COPY FROM PROGRAM", "t", "writes"},
		{"select * into new from t", "SELECT INTO", "new t", "writes"},
		{"select * from t for update", "SELECT", "t", "writes"},
		{"select 1 from t union select 2 from u for share", "SELECT", "t u", "writes"},
		{"create table a.b as select * from t", "CREATE TABLE AS SELECT", "t a.b", "writes"},
		{"create table t (a int default f())", "CREATE TABLE", "t f()", "writes"},
		{"create rule r as on insert to t do also delete from u", "CREATE RULE DELETE", "t u", "writes"},
		{"drop table a.b, c", "DROP TABLE", "a.b c", "writes"},
		{"drop function a.f(int)", "DROP FUNCTION", "a.f()", "writes"},
		{"drop schema s cascade", "DROP SCHEMA", "s", "writes"},
		{"alter table t drop column x", "ALTER TABLE", "t", "writes"},
		{"alter view v rename to w", "ALTER VIEW", "v", "writes"},
		{"truncate a, b", "TRUNCATE", "a b", "writes"},
		{"commit", "COMMIT", "", "writes"},
		{"prepare transaction 'x'", "PREPARE TRANSACTION", "", "writes"},
		{"set search_path = x", "SET", "", "writes"},
		{"reset all", "RESET", "", "writes"},
		{"grant select on t to bob", "GRANT", "t", "writes"},
		{"revoke all on t from bob", "REVOKE", "t", "writes"},
		{"vacuum t", "VACUUM", "t", "writes"},
		{"analyze t", "ANALYZE", "t", "writes"},
		{"notify c, 'x'", "NOTIFY", "", "writes"},
		{"lock t", "LOCK", "t", "writes"},
		{"call p(1)", "CALL", "p()", "writes"},
		{"do $$ begin end $$", "DO", "", "writes"},
		{"create function f() returns int language sql as 'select 1'", "CREATE FUNCTION", "f()", "writes"},
		// A SELECT that may do anything.
		{"select nextval('s')", "SELECT", "nextval()", "writes"},
		{"select pg_sleep(1)", "SELECT", "pg_sleep()", "writes"},
		{"select set_config('a', 'b', false)", "SELECT", "set_config()", "writes"},
		{"select mine(1)", "SELECT", "mine()", "writes"},
		{"select other.lower('A')", "SELECT", "other.lower()", "writes"},
		{"select query_to_xml('delete from t', true, true, '')", "SELECT", "query_to_xml() t", "writes"},
		{"select a ### b from t", "SELECT", "t", "writes"},
		{"select a operator(mine.+) b from t", "SELECT", "t", "writes"},
		{"select 'x'::mine", "SELECT", "", "writes"},
		{"select * from t order by a using ###", "SELECT", "t", "writes"},
		{"select * from t tablesample mine(1)", "SELECT", "t", "writes"},
		{"explain select mine()", "EXPLAIN SELECT", "mine()", "writes"},
		{"select * from t where a = (select pg_notify('a', 'b') is null)", "SELECT", "t pg_notify()", "writes"},
		{"create view v as select 1 from t", "CREATE VIEW SELECT", "v t", "writes"},
		// Several.
		{"select 1 from a; delete from b; select 2 from a", "SELECT DELETE", "a b", "writes"},
		{"select 1;", "SELECT", "", "reads"},
		{"", "", "", "reads"},
		{" -- nothing\n;", "", "", "reads"},
		// Nothing that PostgreSQL would run.
		{"selec 1", "", "", "error"},
		{"select 'x", "", "", "error"},
		{"select 1\x00; drop table t", "", "", "error"},
	} {
		for range 2 { // the second time from the cache
			got, err := postgres.Parse(test.text, nil)
			if err != nil {
				if test.writes != "error" {
					t.Errorf("%q: %v", test.text, err)
				}
				continue
			}
			effect := map[bool]string{true: "writes", false: "reads"}[got.Writes]
			if v, o := strings.Join(got.Verbs, " "), strings.Join(got.Objects, " "); v != test.verbs || o != test.objects || effect != test.writes {
				t.Errorf("%q:\n got %q %q %s\nwant %q %q %s", test.text, v, o, effect, test.verbs, test.objects, test.writes)
			}
		}
	}
}

func TestStatementsOfAText(t *testing.T) {
	got, err := postgres.Parse("select 1 from a; delete from b", nil)
	if err != nil {
		t.Fatal(err)
	}
	var saw []string
	for _, st := range got.Statements {
		saw = append(saw, fmt.Sprint(st.Verbs, st.Objects, st.Writes, st.Facts.Effects))
	}
	if want := []string{"[SELECT] [a] false [read]", "[DELETE] [b] true [write.unfiltered]"}; !slices.Equal(saw, want) {
		t.Errorf("got %q, want %q", saw, want)
	}
}

// Every statement that the grammar can give has a name: a new one fails here.
func TestEveryStatementHasAVerb(t *testing.T) {
	fields := (&pg.Node{}).ProtoReflect().Descriptor().Oneofs().ByName("node").Fields()
	seen := 0
	for i := range fields.Len() {
		name := string(fields.Get(i).Message().Name())
		if !strings.HasSuffix(name, "Stmt") || name == "RawStmt" {
			continue
		}
		seen++
		if verbs[name] == "" {
			t.Errorf("%s has no verb", name)
		}
	}
	if seen != len(verbs) {
		t.Errorf("%d verbs for %d statements", len(verbs), seen)
	}
	for kind := range pg.TransactionStmtKind_name {
		k := pg.TransactionStmtKind(kind)
		if k != pg.TransactionStmtKind_TRANSACTION_STMT_KIND_UNDEFINED && transactions[k] == "" {
			t.Errorf("%v has no verb", k)
		}
	}
}

func TestLimits(t *testing.T) {
	small := NewPostgres(Limits{Instances: 1, Text: 100, Statements: 3})
	for text, want := range map[string]error{
		strings.Repeat("x", 101):       ErrTooLong,
		strings.Repeat("select 1;", 4): ErrTooMany,
	} {
		if _, err := small.Parse(text, nil); !errors.Is(err, want) {
			t.Errorf("%.20q: got %v, want %v", text, err, want)
		}
	}
	const n = 100_000
	repeat := strings.Repeat
	for name, text := range map[string]string{
		"parentheses": "select " + repeat("(", n) + "1" + repeat(")", n),
		"plus":        "select 1" + repeat("+1", n),
		"not":         "select " + repeat("not ", n) + "true",
		"case":        "select " + repeat("case when ", n/4) + "1" + repeat(" then 1 end", n/4),
		"subquery":    "select " + repeat("(select ", n) + "1" + repeat(")", n),
		"call":        "select " + repeat("f(1, ", n) + "1" + repeat(")", n),
		"array":       "select " + repeat("array[", n) + "1" + repeat("]", n),
		"cast":        "select 1" + repeat("::int", n),
		"union":       "select 1" + repeat(" union select 1", n/4),
		"comment":     repeat("/*", n) + repeat("*/", n) + "select 1",
		"quoted":      "select " + repeat(`"a" + `, n) + "1",
		"hidden":      `select E'\'` + repeat("+(", n),
	} {
		_, err := postgres.Parse(text, nil)
		if !errors.Is(err, ErrTooDeep) && (name != "hidden" || err == nil) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Long is not deep.
	for name, text := range map[string]string{
		"list":       "select 1 in (1" + repeat(",1", n/5) + ")",
		"rows":       "insert into t values (1, 'a')" + repeat(", (2, 'b')", n/20),
		"string":     "select '" + repeat("((((+ + not ", n/20) + "'",
		"statements": repeat("select 1;", 2000),
		"dollar":     "select $a$" + repeat("((((", n) + "$a$",
	} {
		if _, err := postgres.Parse(text, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What may be nested up to the bound is parsed, and never ends in a trap.
func TestDepthIsWithinTheSandbox(t *testing.T) {
	repeat := strings.Repeat
	for name, make := range map[string]func(n int) string{
		"parentheses": func(n int) string { return "select " + repeat("(", n) + "1" + repeat(")", n) },
		"plus":        func(n int) string { return "select 1" + repeat("+1", n) },
		"minus":       func(n int) string { return "select " + repeat("- ", n) + "1" },
		"not":         func(n int) string { return "select " + repeat("not ", n) + "true" },
		"case":        func(n int) string { return "select " + repeat("case when ", n) + "1" + repeat(" then 1 end", n) },
		"subquery":    func(n int) string { return "select " + repeat("(select ", n) + "1" + repeat(")", n) },
		"from":        func(n int) string { return "select * from " + repeat("(select*from ", n) + "t" + repeat(")x", n) },
		"call":        func(n int) string { return "select " + repeat("f(1,", n) + "1" + repeat(")", n) },
		"array":       func(n int) string { return "select " + repeat("array[", n) + "1" + repeat("]", n) },
		"cast":        func(n int) string { return "select 1" + repeat("::a", n) },
		"union":       func(n int) string { return "select 1" + repeat(" union select", n) },
		"join":        func(n int) string { return "select from t" + repeat(" join t on a", n) },
		"index":       func(n int) string { return "select a" + repeat("[1]", n) },
		"strings":     func(n int) string { return "select ''" + repeat("||''", n) },
	} {
		n := 1
		for read(make(n+1), nil).depth <= maxDepth && n < 3000 {
			n++
		}
		_, err := postgres.Parse(make(n), nil)
		if err != nil && !strings.Contains(err.Error(), "memory exhausted") {
			t.Errorf("%s, %d times: %v", name, n, err)
		}
	}
}

func TestCacheOfOthersConstants(t *testing.T) {
	for _, pair := range [][2]string{
		{"select 1", "select 2"},
		{"insert into t values (1, 'a''b')", "insert into t values (22, '')"},
		{"update t set a = -5 where b = 'x'", "update t set a = -123456789 where b = '/* y'"},
	} {
		p := NewPostgres(Limits{Instances: 1})
		p.parser = libpgquery.New(1)
		first, err := p.Parse(pair[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		second, err := p.Parse(pair[1], nil)
		if err != nil || first != second {
			t.Errorf("%q is not found by %q: %v", pair[0], pair[1], err)
		}
	}
	// These could mean something else, or be something else, and are parsed.
	for _, pair := range [][2]string{
		{"select 1", "select \x01"},
		{"select 'a'", "select \x02"},
		{"select 1", "select 1.0"},
		{"select 1", "select 1234567890"},
		{"select 'a'", "select E'a'"},
		{"select 'a' 'b'", "select 'a'\n'b'"},
		{"select float(1)", "select float(2)"},
		{"set x = 1", "set x = 2"},
		{`select U&"a" uescape '!'`, `select U&"a" uescape '?'`},
		{`select '\'`, `select 'a'`},
		{"select 'a'", "select 'a"},
		{"select 1", "select 1a"},
		{"select $1", "select $2"},
	} {
		a, b := read(pair[0], nil), read(pair[1], nil)
		if a.plain && b.plain && string(a.key) == string(b.key) {
			t.Errorf("%q and %q have one key", pair[0], pair[1])
		}
		postgres.Parse(pair[0], nil) // so that its answer is there to be mistaken
		got, gotErr := postgres.Parse(pair[1], nil)
		want, _, wantErr := postgres.parse(pair[1], nil)
		if (gotErr == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q after %q: got %+v, %v, want %+v, %v", pair[1], pair[0], got, gotErr, want, wantErr)
		}
	}
}

// agree reports an answer from the cache that differs from a parse.
func agree(t interface{ Fatalf(string, ...any) }, text string) {
	got, err := postgres.Parse(text, nil)
	if errors.Is(err, ErrTooDeep) {
		return
	}
	want, _, wantErr := postgres.parse(text, nil)
	if (err == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q:\nfrom the cache %+v, %v\nparsed         %+v, %v", text, got, err, want, wantErr)
	}
}

var fragments = []string{
	"select", "insert into t values", "update t set a =", "delete from t where a =", "with a as (select 1)", "from t", "where", "and",
	" ", " ", "\n", ",", "(", ")", ";", "=", "-", "--", "/*", "*/", "+", ".", "::", "&", "$1", "$$", "$a$", "\\",
	"1", "22", "1.5", "1e9", "0x1f", "999999999", "2147483648", "1_000", "'", "''", "'a'", "'b c'", "'\\'", "E'", "e'a\\'b'", "U&'", "u&\"a\"", "uescape '!'",
	"B'1'", "x'f'", "N'a'", "\"", "\"t\"", "t", "float", "float(5)", "nextval('s')", "é", "\x01", "\x02", "\xff", "interval '1' day", "limit 1", "copy",
}

func TestCacheAgreesWithParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom(fragments), 1, 12).Draw(t, "parts")
		sep := rapid.SampledFrom([]string{"", " "}).Draw(t, "separator")
		agree(t, strings.Join(append([]string{"select"}, parts...), sep))
		agree(t, strings.Join(parts, sep))
	})
}

func FuzzCacheAgreesWithParse(f *testing.F) {
	for _, s := range []string{"select 'a' 'b'", "select 1", "select E'\\''", "select $a$x$a$", "/* */ select \"a\"", "insert into t values (1, 'x')"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { agree(t, text) })
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(16 << 10)
	for i := range 1000 {
		c.put(fmt.Sprint("key", i), &Text{})
		if c.size > c.limit || len(c.entries) != c.order.Len() {
			t.Fatalf("%d of %d bytes, %d entries, %d in order", c.size, c.limit, len(c.entries), c.order.Len())
		}
		c.get([]byte("key0")) // the one in use stays
	}
	if c.get([]byte("key0")) == nil || c.get([]byte("key1")) != nil || c.get([]byte("key999")) == nil {
		t.Error("not the least lately used went")
	}
	c.put(strings.Repeat("x", 4<<10), &Text{})
	if c.order.Len() < 2 {
		t.Error("one long text emptied the cache")
	}
}

func TestHitDoesNotAllocate(t *testing.T) {
	for name, text := range map[string]string{
		"plain":     "select abalance from pgbench_accounts where aid = 17",
		"not plain": "select E'a' from t",
	} {
		if _, err := postgres.Parse(text, nil); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { postgres.Parse(text, nil) }); n >= 1 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func BenchmarkHit(b *testing.B) {
	for name, texts := range map[string][2]string{
		"same":     {"SELECT abalance FROM pgbench_accounts WHERE aid = $1", "SELECT abalance FROM pgbench_accounts WHERE aid = $1"},
		"constant": {"SELECT abalance FROM pgbench_accounts WHERE aid = 1", "SELECT abalance FROM pgbench_accounts WHERE aid = 12345"},
	} {
		b.Run(name, func(b *testing.B) {
			postgres.Parse(texts[0], nil)
			b.ReportAllocs()
			for b.Loop() {
				postgres.Parse(texts[1], nil)
			}
		})
	}
}

func BenchmarkMiss(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := postgres.parse("SELECT abalance FROM pgbench_accounts WHERE aid = 12345", nil); err != nil {
			b.Fatal(err)
		}
	}
}
