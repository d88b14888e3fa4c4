package sql

import (
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// traced is where the values of a statement come from and go to. Columns are
// stored ones, as custos.Facts has them.
type traced struct {
	columns, predicates, changed, copied []string
	results                              []Result
	// known: results are those of its answer, also when there are none.
	known   bool
	unknown []string
	// constants: it depends on the value of a constant, besides those that a
	// mask puts in a value's place, so that it does not hold for a text that
	// differs in constants only.
	constants bool
}

// trace says which stored columns a statement reads, chooses rows by, writes
// and copies, and what each column of its answer is made of. It may name more
// than there are, and never fewer: what it does not understand it calls
// opaque. A name without a schema stands for the relations of that name in all
// schemas. Its time is bounded by maxSteps.
func (c *Catalog) trace(stmt *pg.Node) traced {
	t := &tracer{c: c}
	return t.trace(stmt)
}

// Bounds of one trace: nodes looked at, and columns that * stood for.
const (
	maxSteps   = 1 << 20
	maxColumns = 1 << 17
)

// tracer follows the values of one statement.
type tracer struct {
	c     *Catalog
	above map[uint32]bool // the views that are being traced

	numbers   map[string]int // of the columns that were met
	columns   []string       // by number
	relations map[*Relation]*rel

	read, predicates, changed, copied set

	unknown          []string
	constants        bool
	steps, stretched int
	spent            bool
}

func (t *tracer) trace(stmt *pg.Node) traced {
	t.numbers, t.relations = map[string]int{}, map[*Relation]*rel{}
	out := t.statement(stmt, &scope{})
	found := traced{
		columns: t.read.names(t.columns), predicates: t.predicates.names(t.columns),
		changed: t.changed.names(t.columns), copied: t.copied.names(t.columns),
		known: out.exact() && !t.spent, constants: t.constants,
	}
	if found.known {
		found.results = make([]Result, len(out.cols))
		for i, col := range out.cols {
			found.results[i] = Result{Name: col.name, Sources: col.set.names(t.columns), Opaque: col.opaque, Plain: col.plain}
		}
	} else if !t.spent {
		t.note("the columns of its answer")
	}
	found.unknown = t.unknown
	return found
}

// note tells of what could not be known, in words.
func (t *tracer) note(what string) {
	if len(t.unknown) < 32 && !slices.Contains(t.unknown, what) {
		t.unknown = append(t.unknown, what)
	}
}

// step counts a node, and reports whether there may be more of them.
func (t *tracer) step() bool {
	t.steps++
	return t.within(t.steps < maxSteps)
}

// stretch counts columns that * stands for.
func (t *tracer) stretch(n int) bool {
	t.stretched += n
	return t.within(t.stretched < maxColumns)
}

func (t *tracer) within(ok bool) bool {
	if !ok {
		t.spent = true
		t.note("where its values come from: it is too large")
	}
	return ok
}

// number returns the number of a stored column in sets.
func (t *tracer) number(column string) int {
	n, found := t.numbers[column]
	if !found {
		n = len(t.columns)
		t.numbers[column] = n
		t.columns = append(t.columns, column)
	}
	return n
}

// value is what is made of stored columns.
type value struct {
	set set
	// opaque: it may be made of more than set.
	opaque bool
	// plain: it is that of one stored column, unchanged.
	plain bool
}

// with is what is made of v and o, or is either.
func (v value) with(o value) value {
	switch {
	case len(o.set) == 0 && !o.opaque:
		return v
	case len(v.set) == 0 && !v.opaque:
		return o
	}
	return value{set: v.set.with(o.set), opaque: v.opaque || o.opaque}
}

// made is v as what it is made of, and no longer as it is.
func (v value) made() value {
	v.plain = false
	return v
}

// tells notes that by v rows are chosen, or told apart, or fail.
func (t *tracer) tells(v value) { t.predicates = t.predicates.with(v.set) }

// text is an answer of one column that no stored column is in.
func text(names ...string) *rel {
	out := &rel{}
	for _, name := range names {
		out.cols = append(out.cols, column{name: name})
	}
	return out
}

// statement traces a statement and returns its answer.
func (t *tracer) statement(n *pg.Node, outer *scope) *rel {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		out := t.selects(s.SelectStmt, outer)
		if stores(s.SelectStmt) {
			return &rel{}
		}
		return out
	case *pg.Node_InsertStmt:
		return t.insert(s.InsertStmt, outer)
	case *pg.Node_UpdateStmt:
		return t.update(s.UpdateStmt, outer)
	case *pg.Node_DeleteStmt:
		return t.remove(s.DeleteStmt, outer)
	case *pg.Node_MergeStmt:
		return t.merge(s.MergeStmt, outer)
	case *pg.Node_CopyStmt:
		return t.copies(s.CopyStmt, outer)
	case *pg.Node_DeclareCursorStmt:
		return t.statement(s.DeclareCursorStmt.Query, outer)
	case *pg.Node_PrepareStmt:
		return t.statement(s.PrepareStmt.Query, outer)
	case *pg.Node_ExplainStmt:
		t.statement(s.ExplainStmt.Query, outer)
		return text("QUERY PLAN")
	case *pg.Node_CreateTableAsStmt:
		// A person decides on it: what it copies is among what it reads.
		t.statement(s.CreateTableAsStmt.Query, outer)
		return &rel{}
	case *pg.Node_ViewStmt:
		t.statement(s.ViewStmt.Query, outer)
		return &rel{}
	case *pg.Node_AlterTableStmt:
		t.alter(s.AlterTableStmt)
		return &rel{}
	case *pg.Node_VariableShowStmt:
		if s.VariableShowStmt.Name == "all" {
			return text("name", "setting", "description")
		}
		return text(s.VariableShowStmt.Name)
	case *pg.Node_FetchStmt:
		if s.FetchStmt.Ismove {
			return &rel{}
		}
		t.note("what cursor " + s.FetchStmt.Portalname + " reads")
		return &rel{rest: &value{opaque: true}}
	case *pg.Node_ExecuteStmt:
		for _, n := range s.ExecuteStmt.Params {
			t.expr(n, outer)
		}
		t.note("what prepared statement " + s.ExecuteStmt.Name + " reads")
		return &rel{rest: &value{opaque: true}}
	case *pg.Node_CallStmt:
		t.expr(&pg.Node{Node: &pg.Node_FuncCall{FuncCall: s.CallStmt.Funccall}}, outer)
		t.note("what a procedure answers")
		return &rel{rest: &value{opaque: true}}
	}
	// Every other statement has no answer.
	return &rel{}
}

// alter traces ALTER TABLE ... TYPE ... USING, which copies.
func (t *tracer) alter(s *pg.AlterTableStmt) {
	if s.Relation == nil {
		return
	}
	sc := &scope{}
	target := t.target(s.Relation, sc)
	for _, n := range s.Cmds {
		cmd := n.GetAlterTableCmd()
		if cmd.GetSubtype() != pg.AlterTableType_AT_AlterColumnType {
			continue
		}
		if def := cmd.Def.GetColumnDef(); def.GetRawDefault() != nil {
			t.flow(target, cmd.Name, t.expr(def.RawDefault, sc))
		}
	}
}

// parts calls visit for the nodes right below m, past messages that are none.
func parts(m protoreflect.Message, visit func(*pg.Node)) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				part(v.List().Get(i).Message(), visit)
			}
		default:
			part(v.Message(), visit)
		}
		return true
	})
}

func part(m protoreflect.Message, visit func(*pg.Node)) {
	if n, ok := m.Interface().(*pg.Node); ok {
		visit(n)
		return
	}
	parts(m, visit)
}

// kind names a node's kind, for people.
func kind(n *pg.Node) string { return fmt.Sprintf("%T", n.GetNode()) }

// stores reports whether s is a SELECT INTO, which has no answer.
func stores(s *pg.SelectStmt) bool {
	for s.GetLarg() != nil {
		s = s.Larg
	}
	return s.GetIntoClause() != nil
}
