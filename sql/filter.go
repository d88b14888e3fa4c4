package sql

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// filter says which rows of its target a condition lets a write reach.
type filter uint8

const (
	// everyRow: it may hold whatever the row holds.
	everyRow filter = iota
	// someRows: it depends on the row.
	someRows
	// fixedRows: it holds for rows that equal what is spelled out, in the
	// columns that are noted.
	fixedRows
)

// judgement is what a condition comes to. fixed are the columns that it fixes,
// when it is fixedRows.
type judgement struct {
	filter filter
	fixed  []string
}

// conditions judges the conditions on one target.
type conditions struct {
	w      *walker
	target *pg.RangeVar
	alone  bool // no other relation is in scope
}

// filtered is the effect of an UPDATE or DELETE of target by a condition, with
// other relations beside it.
func (w *walker) filtered(target *pg.RangeVar, where *pg.Node, others []*pg.Node, _ *pg.WithClause) string {
	if where == nil || target == nil {
		return effectUnfiltered
	}
	c := conditions{w, target, len(others) == 0}
	j := c.judge(where)
	switch {
	case j.filter == everyRow:
		return effectUnfiltered
	case j.filter == fixedRows && len(others) == 0 && c.key(j.fixed):
		return effectKeyed
	}
	return effectWide
}

// key reports whether columns cover a key of the target: of one that the
// catalogue has, a unique index; of another, what is commonly called a key.
func (c *conditions) key(columns []string) bool {
	if slices.Contains(columns, currentOf) {
		return true
	}
	relations := c.w.catalog.Named(c.target.Schemaname, c.target.Relname)
	if len(relations) == 0 {
		return slices.ContainsFunc(columns, func(name string) bool {
			return name == "id" || name == "uuid" || name == "key" || name == "ctid" || strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_uuid") || strings.HasSuffix(name, "_key")
		})
	}
	for _, r := range relations {
		covered := slices.Contains(columns, "ctid")
		for _, key := range r.Keys {
			covered = covered || !slices.ContainsFunc(key, func(n int16) bool {
				return !slices.ContainsFunc(r.Columns, func(col Column) bool { return col.Number == n && slices.Contains(columns, col.Name) })
			})
		}
		if !covered {
			return false
		}
	}
	return true
}

const currentOf = "current of"

// judge judges a condition.
func (c *conditions) judge(n *pg.Node) judgement {
	switch e := n.GetNode().(type) {
	case *pg.Node_BoolExpr:
		return c.combined(e.BoolExpr)
	case *pg.Node_AExpr:
		return c.compared(e.AExpr)
	case *pg.Node_ColumnRef:
		if c.column(n) != "" {
			return judgement{filter: someRows}
		}
	case *pg.Node_NullTest:
		name := c.column(e.NullTest.Arg)
		if name != "" && !(e.NullTest.Nulltesttype == pg.NullTestType_IS_NOT_NULL && c.key([]string{name})) {
			return judgement{filter: someRows}
		}
	case *pg.Node_BooleanTest:
		j := c.judge(e.BooleanTest.Arg)
		if e.BooleanTest.Booltesttype == pg.BoolTestType_IS_TRUE {
			return j
		}
		return judgement{filter: min(j.filter, someRows)}
	case *pg.Node_SubLink:
		return c.subquery(e.SubLink)
	case *pg.Node_CurrentOfExpr:
		return judgement{fixedRows, []string{currentOf}}
	case *pg.Node_TypeCast:
		return c.judge(e.TypeCast.Arg)
	case *pg.Node_CollateClause:
		return c.judge(e.CollateClause.Arg)
	case *pg.Node_FuncCall:
		// Such as starts_with(name, 'x').
		if slices.ContainsFunc(e.FuncCall.Args, func(a *pg.Node) bool { return c.column(a) != "" }) {
			return judgement{filter: someRows}
		}
	}
	return judgement{}
}

func (c *conditions) combined(e *pg.BoolExpr) judgement {
	if len(e.Args) == 0 {
		return judgement{}
	}
	j := c.judge(e.Args[0])
	switch e.Boolop {
	case pg.BoolExprType_NOT_EXPR:
		// All rows but some are still rows that depend on what they hold.
		return judgement{filter: min(j.filter, someRows)}
	case pg.BoolExprType_AND_EXPR:
		for _, arg := range e.Args[1:] {
			other := c.judge(arg)
			j = judgement{max(j.filter, other.filter), append(slices.Clip(j.fixed), other.fixed...)}
		}
	default:
		for _, arg := range e.Args[1:] {
			other := c.judge(arg)
			fixed := slices.DeleteFunc(slices.Clone(j.fixed), func(name string) bool { return !slices.Contains(other.fixed, name) })
			j = judgement{min(j.filter, other.filter), fixed}
			if j.filter == fixedRows && len(fixed) == 0 {
				j.filter = someRows
			}
		}
	}
	return j
}

// compared judges a comparison.
func (c *conditions) compared(e *pg.A_Expr) judgement {
	op := last(words(e.Name))
	left, right := e.Lexpr, e.Rexpr
	if left == nil || right == nil || same(left, right) {
		return judgement{}
	}
	equality := op == "=" && e.Kind != pg.A_Expr_Kind_AEXPR_DISTINCT
	if e.Kind == pg.A_Expr_Kind_AEXPR_NOT_DISTINCT {
		equality = true
	}
	if l, r := left.GetRowExpr(), right.GetRowExpr(); l != nil && r != nil && equality && len(l.Args) == len(r.Args) {
		var j judgement
		for i := range l.Args {
			pair := c.compared(&pg.A_Expr{Kind: e.Kind, Name: e.Name, Lexpr: l.Args[i], Rexpr: r.Args[i]})
			j = judgement{max(j.filter, pair.filter), append(j.fixed, pair.fixed...)}
		}
		return j
	}
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_LIKE, pg.A_Expr_Kind_AEXPR_ILIKE, pg.A_Expr_Kind_AEXPR_SIMILAR:
		return c.matched(left, right, "%_")
	case pg.A_Expr_Kind_AEXPR_OP:
		if strings.HasPrefix(strings.TrimPrefix(op, "!"), "~") {
			return c.matched(left, right, ".*^$+?()|")
		}
	case pg.A_Expr_Kind_AEXPR_OP_ALL:
		equality = false
	}
	name, value := c.column(left), right
	if name == "" {
		name, value = c.column(right), left
	}
	if name == "" {
		return c.computed(op, equality, left, right)
	}
	// A column of the same row among the values holds for every row.
	if c.mentions(value) {
		if items := value.GetList(); items != nil || value.GetAArrayExpr() != nil {
			return judgement{}
		}
		return judgement{filter: someRows}
	}
	if equality && c.spelledOut(value) {
		return judgement{fixedRows, []string{name}}
	}
	return judgement{filter: someRows}
}

// matched judges a match of a column with a pattern: one of which the constant
// holds nothing but what stands for anything is none.
func (c *conditions) matched(left, right *pg.Node, anything string) judgement {
	c.w.sensitive = true
	if c.column(left) == "" {
		return judgement{}
	}
	pattern, constant := constantText(right)
	if f := right.GetFuncCall(); f != nil && len(f.Args) > 0 {
		// SIMILAR TO passes its pattern through a function.
		pattern, constant = constantText(f.Args[0])
	}
	if constant && strings.Trim(pattern, anything) == "" {
		return judgement{}
	}
	return judgement{filter: someRows}
}

// smooth are functions of which a range of values is one of their argument's.
var smooth = words2set("date_trunc date extract date_part to_char age lower upper trim btrim ltrim rtrim substring substr left round floor ceil ceiling to_date to_timestamp")

// computed judges a comparison of something that is no plain column. What is
// computed of a column may equal few values, and be above or below all.
func (c *conditions) computed(op string, equality bool, left, right *pg.Node) judgement {
	for _, side := range []*pg.Node{left, right} {
		f := side.GetFuncCall()
		if cast := side.GetTypeCast(); cast != nil && f == nil {
			f = cast.Arg.GetFuncCall()
		}
		if f == nil || !slices.ContainsFunc(f.Args, func(a *pg.Node) bool { return c.column(a) != "" }) {
			continue
		}
		if equality || smooth[last(words(f.Funcname))] && op != "<>" {
			return judgement{filter: someRows}
		}
	}
	return judgement{}
}

// subquery judges a condition with a query in it.
func (c *conditions) subquery(s *pg.SubLink) judgement {
	query := s.Subselect.GetSelectStmt()
	switch s.SubLinkType {
	case pg.SubLinkType_EXISTS_SUBLINK:
		if c.mentionsByName(s.Subselect) {
			return judgement{filter: someRows}
		}
	case pg.SubLinkType_ANY_SUBLINK, pg.SubLinkType_ALL_SUBLINK:
		if c.column(s.Testexpr) != "" && !c.everyOwn(query) {
			return judgement{filter: someRows}
		}
		if row := s.Testexpr.GetRowExpr(); row != nil && slices.ContainsFunc(row.Args, func(a *pg.Node) bool { return c.column(a) != "" }) && !c.everyOwn(query) {
			return judgement{filter: someRows}
		}
	}
	return judgement{}
}

// everyOwn reports a query that gives what every row of the target has.
func (c *conditions) everyOwn(q *pg.SelectStmt) bool {
	if q == nil || q.LimitCount != nil || len(q.FromClause) != 1 || q.HavingClause != nil {
		return false
	}
	from := q.FromClause[0].GetRangeVar()
	if from == nil || from.Relname != c.target.Relname {
		return false
	}
	inner := conditions{c.w, from, true}
	return q.WhereClause == nil || inner.judge(q.WhereClause).filter == everyRow
}

// column returns the name of the target's column that n is, without casts; "":
// it is none.
func (c *conditions) column(n *pg.Node) string {
	for {
		if cast := n.GetTypeCast(); cast != nil {
			n = cast.Arg
			continue
		}
		if collate := n.GetCollateClause(); collate != nil {
			n = collate.Arg
			continue
		}
		break
	}
	ref := n.GetColumnRef()
	if ref == nil {
		return ""
	}
	parts := words(ref.Fields)
	if len(parts) != len(ref.Fields) || len(parts) == 0 {
		return ""
	}
	name := last(parts)
	if len(parts) == 1 {
		if c.alone || c.has(name) {
			return name
		}
		return ""
	}
	if parts[len(parts)-2] == c.name() {
		return name
	}
	return ""
}

// name is what the target is called in the statement.
func (c *conditions) name() string {
	if a := c.target.Alias; a != nil {
		return a.Aliasname
	}
	return c.target.Relname
}

// has reports whether the catalogue knows a column of the target.
func (c *conditions) has(name string) bool {
	return slices.ContainsFunc(c.w.catalog.Named(c.target.Schemaname, c.target.Relname), func(r *Relation) bool {
		return slices.ContainsFunc(r.Columns, func(col Column) bool { return col.Name == name })
	})
}

// mentions reports whether a column of the target stands anywhere in n, outside
// of queries.
func (c *conditions) mentions(n *pg.Node) bool {
	found := false
	each(n, func(m proto.Message) bool {
		switch e := m.(type) {
		case *pg.SelectStmt:
			return false
		case *pg.ColumnRef:
			found = found || c.column(&pg.Node{Node: &pg.Node_ColumnRef{ColumnRef: e}}) != ""
		}
		return true
	})
	return found
}

// mentionsByName reports whether n, a query, names the target by its name.
func (c *conditions) mentionsByName(n *pg.Node) bool {
	found := false
	hidden := false
	each(n, func(m proto.Message) bool {
		switch e := m.(type) {
		case *pg.RangeVar:
			hidden = hidden || e.Alias == nil && e.Relname == c.name() || e.Alias != nil && e.Alias.Aliasname == c.name()
		case *pg.ColumnRef:
			parts := words(e.Fields)
			found = found || len(parts) > 1 && parts[len(parts)-2] == c.name()
		}
		return true
	})
	return found && !hidden
}

// spelledOut reports constants, parameters and lists of them: values that
// stand in the statement.
func (c *conditions) spelledOut(n *pg.Node) bool {
	switch e := n.GetNode().(type) {
	case *pg.Node_AConst, *pg.Node_ParamRef:
		return true
	case *pg.Node_TypeCast:
		return c.spelledOut(e.TypeCast.Arg)
	case *pg.Node_List:
		return !slices.ContainsFunc(e.List.Items, func(i *pg.Node) bool { return !c.spelledOut(i) })
	case *pg.Node_AArrayExpr:
		return !slices.ContainsFunc(e.AArrayExpr.Elements, func(i *pg.Node) bool { return !c.spelledOut(i) })
	}
	return false
}

// each calls fn with every message in n, until it says not to go deeper.
func each(n *pg.Node, fn func(proto.Message) bool) {
	if n == nil {
		return
	}
	eachMessage(n.ProtoReflect(), fn)
}

func eachMessage(m protoreflect.Message, fn func(proto.Message) bool) {
	if !fn(m.Interface()) {
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				eachMessage(v.List().Get(i).Message(), fn)
			}
		default:
			eachMessage(v.Message(), fn)
		}
		return true
	})
}

// same reports whether two expressions are written alike, wherever they stand.
func same(a, b *pg.Node) bool {
	return string(shape(a.ProtoReflect(), nil)) == string(shape(b.ProtoReflect(), nil))
}

// shape is an expression without its places in the text, and without casts.
func shape(m protoreflect.Message, dst []byte) []byte {
	if node, ok := m.Interface().(*pg.Node); ok {
		if cast := node.GetTypeCast(); cast != nil {
			return shape(cast.Arg.ProtoReflect(), dst)
		}
	}
	dst = append(dst, m.Descriptor().Name()...)
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) || f.Name() == "location" {
			continue
		}
		dst = protowire.AppendVarint(dst, uint64(f.Number()))
		switch {
		case f.IsList():
			for j := range m.Get(f).List().Len() {
				v := m.Get(f).List().Get(j)
				if f.Message() != nil {
					dst = shape(v.Message(), dst)
				} else {
					dst = append(dst, v.String()...)
				}
				dst = append(dst, 0)
			}
		case f.Message() != nil:
			dst = shape(m.Get(f).Message(), dst)
		default:
			dst = append(append(dst, m.Get(f).String()...), 0)
		}
	}
	return dst
}
