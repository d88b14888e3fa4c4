package sql

import (
	"regexp"
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// condition traces what rows are chosen by.
func (t *tracer) condition(n *pg.Node, sc *scope) (v value) {
	if b := n.GetBoolExpr(); b != nil && t.step() {
		for _, arg := range b.Args {
			v = v.with(t.condition(arg, sc))
		}
		return v
	}
	v = t.expr(n, sc)
	if !withToken(n.GetAExpr()) {
		t.tells(v)
	}
	return v
}

// expr traces an expression and returns what its value is made of. A nil n is
// no expression, and made of nothing.
func (t *tracer) expr(n *pg.Node, sc *scope) value {
	v := t.node(n, sc)
	if n.GetColumnRef() == nil && n.GetAIndirection() == nil {
		v = v.made()
	}
	return v
}

func (t *tracer) node(n *pg.Node, sc *scope) value {
	if n.GetNode() == nil {
		return value{}
	}
	if !t.step() {
		return value{opaque: true}
	}
	switch e := n.GetNode().(type) {
	case *pg.Node_AConst, *pg.Node_ParamRef, *pg.Node_SetToDefault, *pg.Node_SqlvalueFunction, *pg.Node_GroupingFunc,
		*pg.Node_MergeSupportFunc, *pg.Node_CurrentOfExpr, *pg.Node_String_, *pg.Node_Integer, *pg.Node_Boolean, *pg.Node_TypeName:
		return value{}
	case *pg.Node_ColumnRef:
		return t.columnRef(e.ColumnRef, sc)
	case *pg.Node_AExpr:
		return t.operator(e.AExpr, sc)
	case *pg.Node_FuncCall:
		return t.funcCall(e.FuncCall, sc)
	case *pg.Node_SubLink:
		return t.subLink(e.SubLink, sc)
	case *pg.Node_TypeCast:
		return t.cast(e.TypeCast, sc)
	case *pg.Node_CaseExpr:
		return t.caseOf(e.CaseExpr, sc)
	case *pg.Node_AIndirection:
		return t.indirection(e.AIndirection, sc)
	case *pg.Node_MinMaxExpr, *pg.Node_NullTest, *pg.Node_BooleanTest,
		*pg.Node_JsonFuncExpr, *pg.Node_JsonIsPredicate, *pg.Node_JsonParseExpr:
		// They compare, or fail on some values.
		v := t.inside(n.ProtoReflect(), sc)
		t.tells(v)
		return v
	case *pg.Node_XmlExpr:
		v := t.inside(n.ProtoReflect(), sc)
		if op := e.XmlExpr.Op; op == pg.XmlExprOp_IS_XMLPARSE || op == pg.XmlExprOp_IS_DOCUMENT {
			t.tells(v)
		}
		return v
	case *pg.Node_JsonArrayAgg:
		return t.jsonAgg(e.JsonArrayAgg.Constructor, t.inside(e.JsonArrayAgg.Arg.ProtoReflect(), sc), sc)
	case *pg.Node_JsonObjectAgg:
		return t.jsonAgg(e.JsonObjectAgg.Constructor, t.inside(e.JsonObjectAgg.Arg.ProtoReflect(), sc), sc)
	case *pg.Node_JsonArrayQueryConstructor:
		return t.statement(e.JsonArrayQueryConstructor.Query, sc).all()
	case *pg.Node_MultiAssignRef:
		return t.assigned(e.MultiAssignRef, sc)
	case *pg.Node_BoolExpr, *pg.Node_CoalesceExpr, *pg.Node_RowExpr, *pg.Node_AArrayExpr, *pg.Node_CollateClause, *pg.Node_List,
		*pg.Node_NamedArgExpr, *pg.Node_AIndices, *pg.Node_XmlSerialize, *pg.Node_ResTarget, *pg.Node_JsonValueExpr, *pg.Node_JsonKeyValue,
		*pg.Node_JsonArgument, *pg.Node_JsonOutput, *pg.Node_JsonFormat, *pg.Node_JsonReturning, *pg.Node_JsonBehavior,
		*pg.Node_JsonTablePathSpec, *pg.Node_JsonScalarExpr, *pg.Node_JsonSerializeExpr, *pg.Node_JsonObjectConstructor, *pg.Node_JsonArrayConstructor:
		return t.inside(n.ProtoReflect(), sc)
	}
	t.note("what " + kind(n) + " is made of")
	v := t.inside(n.ProtoReflect(), sc)
	v.opaque = true
	t.tells(v)
	return v
}

// inside is what the expressions right below m are made of, together.
func (t *tracer) inside(m protoreflect.Message, sc *scope) (v value) {
	inner := m
	if n, ok := m.Interface().(*pg.Node); ok {
		// The message that a node holds.
		f := n.ProtoReflect().WhichOneof(n.ProtoReflect().Descriptor().Oneofs().Get(0))
		if f == nil {
			return value{}
		}
		inner = n.ProtoReflect().Get(f).Message()
	}
	parts(inner, func(n *pg.Node) { v = v.with(t.expr(n, sc)) })
	return v
}

func (t *tracer) columnRef(ref *pg.ColumnRef, sc *scope) value {
	fields := words(ref.Fields)
	if len(fields) == len(ref.Fields) {
		return t.ref(fields, sc)
	}
	// A * that is no target: count(t.*), ROW(t.*).
	var v value
	if len(fields) == 0 {
		v = beside(sc.rels).all()
	} else {
		v = t.rowStar(fields, sc).all()
	}
	t.read = t.read.with(v.set)
	return v
}

// carriers are the operators that only pass on what they are given.
var carriers = map[string]bool{"||": true, "->": true, "->>": true, "#>": true, "#>>": true}

// operator traces an operator. Those that compare or compute tell of what they
// are given: by their answer, or by failing.
func (t *tracer) operator(e *pg.A_Expr, sc *scope) value {
	v := t.expr(e.Lexpr, sc).with(t.expr(e.Rexpr, sc))
	name := words(e.Name)
	carries := e.Kind == pg.A_Expr_Kind_AEXPR_OP && len(name) == 1 && carriers[name[0]]
	if !carries && !withToken(e) {
		t.tells(v)
	}
	return v
}

// token matches what a mask puts in a value's place.
var token = regexp.MustCompile(`tok_[A-Za-z_]+_[0-9a-f]{6,}|\*\*\*`)

// withToken reports whether e asks whether a value is one that a mask made,
// which tells nothing of the value in its place.
func withToken(e *pg.A_Expr) bool {
	name := words(e.GetName())
	if len(name) != 1 || name[0] != "=" {
		return false
	}
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_OP:
		return isToken(e.Lexpr) && plainRef(e.Rexpr) || isToken(e.Rexpr) && plainRef(e.Lexpr)
	case pg.A_Expr_Kind_AEXPR_IN:
		items := e.Rexpr.GetList().GetItems()
		for _, n := range items {
			if !isToken(n) {
				return false
			}
		}
		return len(items) > 0 && plainRef(e.Lexpr)
	}
	return false
}

func isToken(n *pg.Node) bool {
	if c := n.GetTypeCast(); c != nil && stringTypes[last(words(c.TypeName.GetNames()))] {
		n = c.Arg
	}
	return token.MatchString(n.GetAConst().GetSval().GetSval())
}

// plainRef reports whether n is a column as it is.
func plainRef(n *pg.Node) bool { return n.GetColumnRef() != nil }

func (t *tracer) subLink(s *pg.SubLink, sc *scope) value {
	test := t.expr(s.Testexpr, sc)
	switch s.SubLinkType {
	case pg.SubLinkType_EXISTS_SUBLINK:
		// It is made of what its rows are chosen by.
		before := t.predicates
		t.predicates = nil
		t.statement(s.Subselect, sc)
		v := value{set: t.predicates}
		t.predicates = before.with(v.set)
		return v
	case pg.SubLinkType_EXPR_SUBLINK, pg.SubLinkType_ARRAY_SUBLINK:
		return test.with(t.statement(s.Subselect, sc).all())
	}
	v := test.with(t.statement(s.Subselect, sc).all())
	t.tells(v)
	return v
}

// stringTypes are the types that every value can be cast to.
var stringTypes = map[string]bool{"text": true, "varchar": true, "bpchar": true, "name": true, "bytea": true, "citext": true, "char": true}

// cast traces a cast, which may fail and tell in doing so, unless it is to a
// string.
func (t *tracer) cast(c *pg.TypeCast, sc *scope) value {
	v := t.expr(c.Arg, sc)
	if name := words(c.TypeName.GetNames()); !stringTypes[last(name)] {
		t.tells(v)
	}
	return v
}

func (t *tracer) caseOf(c *pg.CaseExpr, sc *scope) value {
	tested := t.expr(c.Arg, sc)
	v := t.expr(c.Defresult, sc)
	for _, n := range c.Args {
		when := n.GetCaseWhen()
		if c.Arg != nil {
			tested = tested.with(t.expr(when.GetExpr(), sc))
		} else {
			v = v.with(t.condition(when.GetExpr(), sc))
		}
		v = v.with(t.expr(when.GetResult(), sc))
	}
	t.tells(tested)
	return v.with(tested)
}

// indirection traces (expression).field and subscripts.
func (t *tracer) indirection(e *pg.A_Indirection, sc *scope) value {
	if ref := e.Arg.GetColumnRef(); ref != nil && len(e.Indirection) > 0 {
		name, field := words(ref.Fields), e.Indirection[0].GetString_()
		if len(name) == 1 && len(ref.Fields) == 1 && field != nil {
			// (u).email, where u is a relation and no column.
			_, found, _ := sc.lookup(name[0])
			if r := sc.row("", name[0]); r != nil && !found {
				v := t.ref([]string{name[0], field.Sval}, sc)
				if len(e.Indirection) > 1 {
					v = v.made().with(t.subscripts(e.Indirection[1:], v, sc))
				}
				return v
			}
		}
	}
	v := t.expr(e.Arg, sc).made()
	return v.with(t.subscripts(e.Indirection, v, sc))
}

func (t *tracer) subscripts(list []*pg.Node, of value, sc *scope) (v value) {
	for _, n := range list {
		switch field := n.GetString_(); {
		case field != nil && t.mine(field.Sval):
			// (row).function is the same as function(row).
			v = v.with(t.call([]string{field.Sval}, []value{of}))
		case field == nil && n.GetAStar() == nil:
			v = v.with(t.expr(n, sc))
		}
	}
	return v
}

func (t *tracer) window(w *pg.WindowDef, sc *scope) {
	if w == nil {
		return
	}
	for _, n := range w.PartitionClause {
		t.expr(n, sc)
	}
	for _, n := range w.OrderClause {
		t.tells(t.expr(n.GetSortBy().GetNode(), sc))
	}
	t.tells(t.expr(w.StartOffset, sc))
	t.tells(t.expr(w.EndOffset, sc))
}

func (t *tracer) jsonAgg(c *pg.JsonAggConstructor, v value, sc *scope) value {
	for _, n := range c.GetAggOrder() {
		t.tells(t.expr(n.GetSortBy().GetNode(), sc))
	}
	if c.GetAggFilter() != nil {
		t.condition(c.AggFilter, sc)
	}
	t.window(c.GetOver(), sc)
	return v
}

func last(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

func numbered(word string, n int) string { return word + strconv.Itoa(n) }
