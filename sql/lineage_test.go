package sql

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// parsed returns the one statement of text.
func parsed(t testing.TB, text string) *pg.Node {
	t.Helper()
	tree, err := postgres.parser.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var result pg.ParseResult
	if err := proto.Unmarshal(tree, &result); err != nil || len(result.Stmts) != 1 {
		t.Fatalf("%s: %v, %d statements", text, err, len(result.Stmts))
	}
	return result.Stmts[0].Stmt
}

// table makes a relation of columns, whose types are text; one that ends with
// = is generated, and what follows a colon is a tag.
func table(oid uint32, kind byte, name, columns string) Relation {
	schema, name, _ := strings.Cut(name, ".")
	r := Relation{OID: oid, Schema: schema, Name: name, Kind: kind}
	for i, col := range strings.Fields(columns) {
		col, tag, _ := strings.Cut(col, ":")
		name := strings.TrimSuffix(col, "=")
		c := Column{Number: int16(i + 1), Name: name, Type: 25, Generated: name != col}
		if tag != "" {
			c.Tags = []string{tag}
		}
		r.Columns = append(r.Columns, c)
	}
	return r
}

func viewOf(oid uint32, kind byte, name, columns, definition string) Relation {
	r := table(oid, kind, name, columns)
	r.Definition = definition
	return r
}

func childOf(r Relation, parents ...uint32) Relation {
	r.Parents = parents
	return r
}

var shop = NewCatalog([]Relation{
	table(1, 'r', "public.users", "id name email:pii ssn tags"),
	table(2, 'r', "public.orders", "id user_id note total"),
	table(3, 'r', "public.products", "id name price"),
	table(4, 'r', "public.generated", "id lower= email"),
	viewOf(10, 'v', "public.contacts", "id contact", "SELECT users.id, users.email AS contact FROM public.users"),
	viewOf(11, 'v', "public.spenders", "contact total note",
		"SELECT c.contact, sum(o.total) AS total, 'x'::text AS note FROM (public.contacts c JOIN public.orders o ON ((o.user_id = c.id))) GROUP BY c.contact"),
	viewOf(12, 'm', "public.kept", "row", "SELECT to_json(u.*) AS row FROM public.users u"),
	viewOf(13, 'v', "public.broken", "a", "SELECT missing.a FROM public.missing"),
	viewOf(14, 'v', "public.round", "a", "SELECT about.a FROM public.about"),
	viewOf(15, 'v', "public.about", "a", "SELECT round.a FROM public.round"),
	viewOf(16, 'v', "public.odd", "a b", "SELECT users.id FROM public.users"),
	table(20, 'p', "public.events", "id payload"),
	childOf(table(21, 'r', "public.events_1", "payload id"), 20),
	table(30, 'r', "public.people", "id email"),
	childOf(table(31, 'r', "public.staff", "id email salary"), 30),
	table(40, 'r', "a.twin", "id email"),
	table(41, 'r', "b.twin", "id email"),
	table(50, 'r', "a.alike", "id email"),
	table(51, 'r', "b.alike", "id phone more"),
}, []Function{
	{Schema: "public", Name: "get_email", Volatility: 's', Language: "sql"},
	{Schema: "public", Name: "upper", Volatility: 'v', Language: "plpgsql"},
	{Schema: "public", Name: "similarity", Volatility: 'i', Language: "c"},
})

// described writes what was traced in a line: the results, then what is not
// empty of the others. Columns of public are written without it.
func described(f traced) string {
	short := func(columns []string) string {
		var out []string
		for _, c := range columns {
			out = append(out, strings.TrimPrefix(c, "public."))
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	var parts []string
	if !f.known {
		parts = append(parts, "not known")
	}
	for _, r := range f.results {
		opaque := ""
		switch {
		case r.Opaque:
			opaque = " ?"
		case r.Plain:
			opaque = " ="
		}
		parts = append(parts, strings.TrimSpace(r.Name+": "+short(r.Sources)+opaque))
	}
	out := strings.Join(parts, ", ")
	for _, list := range []struct {
		name    string
		columns []string
	}{{"by", f.predicates}, {"changed", f.changed}, {"copied", f.copied}} {
		if len(list.columns) > 0 {
			out += fmt.Sprintf(" | %s %s", list.name, short(list.columns))
		}
	}
	return strings.TrimSpace(out)
}

func TestTrace(t *testing.T) {
	for text, want := range traces(t) {
		t.Run(text, func(t *testing.T) {
			if got := described(shop.trace(parsed(t, text))); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// traces reads testdata/lineage.txt: a statement, ended by a semicolon, and
// on the next line what is known of it.
func traces(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	return out
}
