package sql

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// world is what the statements of testdata are about.
var world = func() *Catalog {
	table := func(oid uint32, name string, keys [][]int16, columns ...string) Relation {
		r := Relation{OID: oid, Schema: "public", Name: name, Kind: 'r', Keys: keys}
		for i, c := range columns {
			r.Columns = append(r.Columns, Column{Number: int16(i + 1), Name: c, Type: 25})
		}
		return r
	}
	relations := []Relation{
		table(1, "users", [][]int16{{1}, {3}}, "id", "name", "email", "is_admin", "created_at", "tags", "data"),
		table(2, "orders", [][]int16{{1}}, "id", "customer_id", "status", "created_at", "total"),
		table(3, "lines", [][]int16{{1, 2}}, "order_id", "no", "qty"),
		table(4, "archive", nil, "id", "customer_id"),
		table(5, "notes", nil, "user_id", "body"),
		table(6, "banned", nil, "user_id"),
		{OID: 8, Schema: "app", Name: "logins", Kind: 'v', Columns: []Column{{Number: 1, Name: "x"}}, Definition: "SELECT pg_shadow.passwd FROM pg_catalog.pg_shadow"},
		{OID: 9, Schema: "app", Name: "outer_view", Kind: 'v', Columns: []Column{{Number: 1, Name: "x"}}, Definition: "SELECT logins.x, public.cleanup() FROM app.logins"},
		{OID: 10, Schema: "public", Name: "alike", Kind: 'v', Columns: []Column{{Number: 1, Name: "id"}}, Definition: "SELECT u.id FROM public.users u WHERE u.name OPERATOR(public.=) 'x'"},
		{OID: 7, Schema: "public", Name: "v", Kind: 'v', Columns: []Column{{Number: 1, Name: "id"}}, Definition: "SELECT users.id FROM public.users"},
	}
	functions := []Function{
		{"public", "cleanup", 'v', "plpgsql", "BEGIN DELETE FROM users; END"},
		{"app", "cleanup", 'v', "plpgsql", "BEGIN DELETE FROM users; END"},
		{"public", "half", 'i', "sql", "SELECT $1 / 2"},
		{"app", "twice", 'i', "plpgsql", "DECLARE x int := 2; BEGIN RETURN x * 2; END"},
		{"public", "similarity", 'i', "c", ""},
		{"public", "uuid_generate_v4", 'v', "c", ""},
		{"public", "sneaky", 'i', "sql", "SELECT cleanup()"},
		{"public", "wrapped", 's', "plpgsql", "BEGIN PERFORM cleanup(); RETURN 1; END"},
		{"mine", "lower", 'v', "plpgsql", "BEGIN RETURN $1; END"},
		{"public", "sum2", 'i', "internal", ""},
	}
	return NewCatalog(relations, functions)
}()

// eachCase calls fn with the lines of a file of testdata: those with a tab
// before them, with what the line without it says.
func eachCase(t *testing.T, path string, fn func(want, text string)) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, n := "", 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "" || line[0] == '#':
		case line[0] == '\t':
			n++
			fn(want, line[1:])
		default:
			want = line
		}
	}
	if n < 50 {
		t.Fatalf("%s holds %d statements", path, n)
	}
}

func sorted(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestEffects(t *testing.T) {
	seen := map[string]bool{}
	eachCase(t, "testdata/effects.txt", func(want, text string) {
		got, err := postgres.Parse(text, world)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		for _, e := range got.Facts.Effects {
			seen[e] = true
		}
		if effects := sorted(got.Facts.Effects); effects != sorted(strings.Fields(want)) {
			t.Errorf("%s\n got %s\nwant %s", text, effects, sorted(strings.Fields(want)))
		}
	})
	for _, e := range []string{effectKeyed, effectWide, effectUnknown, MaskedSentinel} {
		if !seen[e] {
			t.Errorf("nothing has the effect %s", e)
		}
	}
}

func TestFilters(t *testing.T) {
	eachCase(t, "testdata/filters.txt", func(want, text string) {
		where := strings.ReplaceAll(text, "users.", "\x00.")
		for _, statement := range []string{
			text,
			strings.Replace(text, "delete from users where", "update users set name = 'x' where", 1),
			strings.ReplaceAll(strings.Replace(where, "delete from users where", "delete from only public.users as target where", 1), "\x00.", "target."),
		} {
			if statement != text && !strings.HasPrefix(text, "delete from users where") {
				continue
			}
			got, err := postgres.Parse(statement, world)
			if err != nil {
				t.Errorf("%s: %v", statement, err)
				return
			}
			if effects := sorted(got.Facts.Effects); !slices.Contains(got.Facts.Effects, "write."+want) || strings.Count(effects, "write.") != 1 {
				t.Errorf("%s\n got %s\nwant %s", statement, effects, want)
			}
		}
	})
}

// What only reads, explains or begins says that it does not write, and what
// does not write has no effect beyond these.
func TestEffectsAndWritesAgree(t *testing.T) {
	quiet := words2set("read explain statistics secret copy.out session transaction masked.sentinel")
	check := func(text string) {
		got, err := postgres.Parse(text, world)
		if err != nil {
			return
		}
		for i := range got.Statements {
			s := &got.Statements[i]
			reads := !slices.ContainsFunc(s.Facts.Effects, func(e string) bool { return !quiet[e] })
			if !s.Writes && !reads {
				t.Errorf("%s has effects %s and does not write", text, s.Facts.Effects)
			}
			only := !slices.ContainsFunc(s.Facts.Effects, func(e string) bool { return e != "read" && e != "explain" })
			if s.Writes && only {
				t.Errorf("%s has effects %s and writes", text, s.Facts.Effects)
			}
			if len(s.Facts.Effects) == 0 {
				t.Errorf("%s has no effect", text)
			}
		}
	}
	eachCase(t, "testdata/effects.txt", func(_, text string) { check(text) })
	eachCase(t, "testdata/filters.txt", func(_, text string) { check(text) })
}

// A statement inside another has its effects there too.
func TestEffectsOfWhatIsInside(t *testing.T) {
	var texts []string
	eachCase(t, "testdata/effects.txt", func(_, text string) {
		if parsed, err := postgres.Parse(text, world); err == nil && len(parsed.Statements) == 1 && !strings.Contains(text, "$") {
			texts = append(texts, text)
		}
	})
	quote := func(s string) string {
		return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", "''") + "'"
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(texts).Draw(t, "text")
		want, err := postgres.Parse(text, world)
		if err != nil {
			t.Fatal(err)
		}
		around := rapid.SampledFrom([]func(string) string{
			func(s string) string { return "select 1; " + s + "; select 2" },
			func(s string) string { return "/* a /* b */ */ " + s + " -- c" },
			func(s string) string { return "select query_to_xml(E" + quote(s) + ", true, true, '')" },
			func(s string) string { return "do $q$ begin execute E" + quote(s) + "; end $q$" },
			func(s string) string { return "create procedure p() language sql as $q$ " + s + " $q$" },
			func(s string) string { return "select ts_stat($q$" + s + "$q$)" },
		}).Draw(t, "around")
		got, err := postgres.Parse(around(text), world)
		if err != nil {
			t.Fatalf("%s: %v", around(text), err)
		}
		for _, e := range want.Facts.Effects {
			if !slices.Contains(got.Facts.Effects, e) {
				t.Fatalf("%s has not the effect %s, but %v", around(text), e, got.Facts.Effects)
			}
		}
	})
}
