package sql

import (
	_ "embed"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// builtin.txt lists what pg_catalog brings: functions that PostgreSQL itself
// declares to be immutable or stable, with a few volatile ones that change
// nothing, types, and operators.
//
//go:embed builtin.txt
var builtinText string

var builtin = func() map[string]map[string]bool {
	lists, list := map[string]map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(builtinText) {
		line = strings.TrimSuffix(line, "\n")
		if name, found := strings.CutPrefix(line, "# "); found {
			list = map[string]bool{}
			lists[name] = list
			continue
		}
		list[line] = true
	}
	return lists
}()

// walker collects what one statement does. It visits every message of the
// parse tree, whatever it is, so that nothing is passed over for being new.
type walker struct {
	verbs, objects []string
	// commands: a statement other than a read is in it. calls: it may call
	// something that this package does not know to be harmless.
	commands, calls bool
	// unseen: it calls a function that is not seen through. unsure: it calls a
	// user's function, or reads what may.
	unseen, unsure bool
	ctes           []string // the names in scope that are no relations

	// effects are what it does; called are those of them that are of functions
	// and relations. sensitive: constants in it say what it does.
	effects, called []string
	sensitive       bool

	text     string // of the statement
	catalog  *Catalog
	postgres *Postgres
	nested   int  // how many texts it stands in
	inners   *int // how many texts were read for the outermost one
	unknown  []string
}

func (w *walker) object(name string) {
	if !slices.Contains(w.objects, name) {
		w.objects = append(w.objects, name)
	}
}

// visit walks m and everything in it.
func (w *walker) visit(m protoreflect.Message) {
	message := m.Interface()
	// The VALUES of an INSERT are a part of it.
	if v := verb(message); v != "" && (v != "VALUES" || len(w.verbs) == 0) {
		if !slices.Contains(w.verbs, v) {
			w.verbs = append(w.verbs, v)
		}
		w.commands = w.commands || !reads[v]
		w.statementEffects(message, v)
	}
	switch n := message.(type) {
	case *pg.ExplainStmt:
		if !analyzes(n) {
			// What is explained is planned, and not run.
			commands, effects := w.commands, w.effects
			w.children(m)
			w.commands, w.effects = commands, append(effects[:len(effects):len(effects)], w.called...)
			w.effect(effectRead)
			return
		}
	case *pg.RangeVar:
		w.relation(n)
		return
	case *pg.FuncCall:
		w.call(n.Funcname, n.Args)
	case *pg.ColumnRef:
		if parts := words(n.Fields); len(parts) > 1 && len(parts) == len(n.Fields) {
			w.notation(last(parts))
		}
	case *pg.A_Indirection:
		for _, name := range words(n.Indirection) {
			w.notation(name)
		}
	case *pg.TypeName:
		if !n.Setof && len(n.Names) > 0 {
			w.uses("types", n.Names)
		}
	case *pg.A_Expr:
		switch n.Kind {
		case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN,
			pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		default:
			w.uses("operators", n.Name)
		}
	case *pg.SubLink:
		w.uses("operators", n.OperName)
	case *pg.SortBy:
		w.uses("operators", n.UseOp)
	case *pg.RangeTableSample:
		if method := words(n.Method); len(method) != 1 || method[0] != "system" && method[0] != "bernoulli" {
			w.calls = true
			w.calledEffect(effectCode)
		}
	case *pg.LockingClause:
		// FOR UPDATE writes row locks. Its relations are aliases.
		w.commands = true
		w.effect(effectLock)
		return
	case *pg.A_Const:
		w.sentinel(n)
	case *pg.DropStmt:
		w.dropped(n)
	case *pg.CreateFunctionStmt:
		w.object(strings.Join(words(n.Funcname), ".") + "()")
	}
	w.children(m)
}

// children walks the fields of m, its WITH clause first.
func (w *walker) children(m protoreflect.Message) {
	var except protoreflect.Name
	scope := len(w.ctes)
	if f := m.Descriptor().Fields().ByName("with_clause"); f != nil && m.Has(f) {
		if with, ok := m.Get(f).Message().Interface().(*pg.WithClause); ok {
			w.with(with)
			except = "with_clause"
		}
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Message() == nil || f.Name() == except || !m.Has(f):
		case f.IsList():
			for j := range m.Get(f).List().Len() {
				w.visit(m.Get(f).List().Get(j).Message())
			}
		default:
			w.visit(m.Get(f).Message())
		}
	}
	w.ctes = w.ctes[:scope]
}

// with walks common table expressions. A name hides a relation from where it
// is defined on; with RECURSIVE, in all of them.
func (w *walker) with(c *pg.WithClause) {
	if c.Recursive {
		for _, n := range c.Ctes {
			w.ctes = append(w.ctes, n.GetCommonTableExpr().GetCtename())
		}
	}
	for _, n := range c.Ctes {
		w.visit(n.ProtoReflect())
		if !c.Recursive {
			w.ctes = append(w.ctes, n.GetCommonTableExpr().GetCtename())
		}
	}
}

func (w *walker) relation(r *pg.RangeVar) {
	w.readsRelation(r)
	switch {
	case r.Catalogname != "":
		w.object(r.Catalogname + "." + r.Schemaname + "." + r.Relname)
	case r.Schemaname != "":
		w.object(r.Schemaname + "." + r.Relname)
	case !slices.Contains(w.ctes, r.Relname):
		w.object(r.Relname)
	}
}

// dropped names what a DROP names, where it is no type or function, which
// have messages of their own.
func (w *walker) dropped(s *pg.DropStmt) {
	for _, n := range s.Objects {
		if list := n.GetList(); list != nil {
			w.object(strings.Join(words(list.Items), "."))
		} else if name := n.GetString_(); name != nil {
			w.object(name.Sval)
		} else if f := n.GetObjectWithArgs(); f != nil {
			w.object(strings.Join(words(f.Objname), ".") + "()")
		} else if t := n.GetTypeName(); t != nil {
			w.object(strings.Join(words(t.Names), "."))
		}
	}
}

// uses notes a name that is not known to be one of pg_catalog's harmless ones.
// Names are judged as written: what a search_path or a view hides behind them
// takes the target's catalogue to know.
func (w *walker) uses(list string, name []*pg.Node) {
	parts := words(name)
	if len(parts) == 0 {
		return
	}
	known := builtin[list][parts[len(parts)-1]] && (len(parts) == 1 || len(parts) == 2 && parts[0] == "pg_catalog")
	w.calls = w.calls || !known
	if list == "operators" {
		w.unknownName(list, name)
	}
}

// sentinel notes a constant that a mask has put in a value's place.
func (w *walker) sentinel(c *pg.A_Const) {
	if s := c.GetSval(); s != nil && looksMasked(s.Sval) && token.MatchString(s.Sval) {
		w.effect(MaskedSentinel)
	}
}

// looksMasked reports what package mask puts in a value's place: stars, or a
// token.
func looksMasked(s string) bool {
	return strings.Contains(s, "***") || strings.Contains(s, "tok_")
}

// words returns the strings of a list of names.
func words(nodes []*pg.Node) []string {
	out := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if s := n.GetString_(); s != nil {
			out = append(out, s.Sval)
		}
	}
	return out
}
