package sql

import (
	"slices"
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// subquery judges a condition with a query in it.
func (c *conditions) subquery(s *pg.SubLink, not bool) judgement {
	query := s.Subselect.GetSelectStmt()
	switch s.SubLinkType {
	case pg.SubLinkType_EXISTS_SUBLINK:
		return c.exists(query, not)
	case pg.SubLinkType_ANY_SUBLINK, pg.SubLinkType_ALL_SUBLINK:
		op := last(words(s.OperName))
		if op == "" {
			op = "="
		}
		any := s.SubLinkType == pg.SubLinkType_ANY_SUBLINK
		if not {
			op, any = negated[op], !any
		}
		named := c.column(s.Testexpr) != ""
		if row := s.Testexpr.GetRowExpr(); row != nil {
			named = slices.ContainsFunc(row.Args, func(a *pg.Node) bool { return c.column(a) != "" })
		}
		switch {
		case !named || query == nil || any && op == "<>":
		case any && !c.all(query, maxQueries) && (op == "=" || !c.readsTarget(query)):
			return judgement{filter: someRows}
		case !any && !empty(query) && (op == "<>" || !c.readsTarget(query)) && len(query.FromClause) > 0:
			return judgement{filter: someRows}
		}
	}
	return judgement{}
}

// maxQueries bounds how deeply queries in the place of relations are followed.
const maxQueries = 20

// subqueryIsEvery reports a query in the place of a value that a column of
// every row compares with.
func (c *conditions) subqueryIsEvery(op string, s *pg.SubLink) bool {
	query := s.Subselect.GetSelectStmt()
	if query == nil || query.Op != pg.SetOperation_SETOP_NONE {
		return query == nil || c.mentionsIn(s.Subselect, nil) || c.readsTarget(query)
	}
	if c.givesOwn(query) {
		return true
	}
	if len(query.FromClause) == 0 {
		return slices.ContainsFunc(query.TargetList, c.mentionsBare)
	}
	return c.readsTarget(query) && (op != "=" || c.mentionsIn(s.Subselect, nil) || s.SubLinkType == pg.SubLinkType_ARRAY_SUBLINK && c.all(query, maxQueries))
}

// givesOwn reports a query that gives a column of the row of the target that it
// stands beside.
func (c *conditions) givesOwn(q *pg.SelectStmt) bool {
	return !hides(q.FromClause, c.name()) && slices.ContainsFunc(q.TargetList, func(n *pg.Node) bool { return c.mentionsIn(n, nil) }) || c.standsOnOwn(q.FromClause)
}

// standsOnOwn reports functions or queries, in the place of relations, that are
// given the row of the target.
func (c *conditions) standsOnOwn(from []*pg.Node) bool {
	return slices.ContainsFunc(from, func(n *pg.Node) bool {
		switch e := n.GetNode().(type) {
		case *pg.Node_RangeVar, *pg.Node_RangeTableSample:
			return false
		case *pg.Node_JoinExpr:
			return c.standsOnOwn([]*pg.Node{e.JoinExpr.Larg, e.JoinExpr.Rarg})
		}
		return !hides(from, c.name()) && c.mentionsIn(n, nil)
	})
}

// mentionsBare reports a column without a table's name, where only the target's
// can be meant.
func (c *conditions) mentionsBare(n *pg.Node) bool {
	found := false
	c.each(n, func(m proto.Message) bool {
		_, is := m.(*pg.ColumnRef)
		found = found || is
		return true
	})
	return found
}

// readsTarget reports a query that reads the target itself, anywhere in it.
func (c *conditions) readsTarget(q *pg.SelectStmt) bool {
	found := false
	c.each(&pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: q}}, func(m proto.Message) bool {
		if r, ok := m.(*pg.RangeVar); ok {
			found = found || c.isTarget(r) || c.named(r) != nil
		}
		return true
	})
	return found
}

// isTarget reports a relation that is the target's table.
func (c *conditions) isTarget(r *pg.RangeVar) bool {
	return r.Relname == c.target.Relname && (r.Schemaname == "" || c.target.Schemaname == "" || r.Schemaname == c.target.Schemaname) && c.named(r) == nil
}

// named returns the common table expression that a name stands for, or nil.
func (c *conditions) named(r *pg.RangeVar) *pg.CommonTableExpr {
	if r.Schemaname != "" {
		return nil
	}
	for i := len(c.with) - 1; i >= 0; i-- {
		for _, n := range c.with[i].GetCtes() {
			if e := n.GetCommonTableExpr(); e.GetCtename() == r.Relname {
				return e
			}
		}
	}
	return nil
}

// all reports whether a query may give what every row of the target has. It
// does unless it is limited, or something in it restricts the target.
func (c *conditions) all(q *pg.SelectStmt, depth int) bool {
	if q == nil || depth <= 0 {
		return true
	}
	if q.WithClause != nil {
		inner := *c
		inner.with = append(slices.Clip(c.with), q.WithClause)
		c = &inner
	}
	switch q.Op {
	case pg.SetOperation_SETOP_UNION:
		return c.all(q.Larg, depth-1) || c.all(q.Rarg, depth-1)
	case pg.SetOperation_SETOP_INTERSECT:
		return c.all(q.Larg, depth-1) && c.all(q.Rarg, depth-1)
	case pg.SetOperation_SETOP_EXCEPT:
		return c.all(q.Larg, depth-1)
	}
	switch {
	case c.givesOwn(q):
		return true
	case q.LimitCount != nil && !q.LimitCount.GetAConst().GetIsnull(), q.HavingClause != nil && counts(q.HavingClause),
		slices.ContainsFunc(q.TargetList, aggregates) && !c.groupsByKey(q):
		return false
	case len(q.ValuesLists) > 0:
		return slices.ContainsFunc(q.ValuesLists, c.mentionsBare)
	case len(q.FromClause) == 0:
		return slices.ContainsFunc(q.TargetList, c.mentionsBare)
	}
	return c.allOf(q.FromClause, q.WhereClause, depth)
}

// allOf reports whether relations, by a condition, give every row of the
// target: it is the only one of them that restricts the others, or what is
// joined to it restricts nothing.
func (c *conditions) allOf(from []*pg.Node, where *pg.Node, depth int) bool {
	var target *pg.RangeVar
	var outer bool
	for _, n := range from {
		r, all, restricted := c.source(n, depth-1)
		if restricted {
			return false
		}
		target, outer = first(target, r), outer || all
	}
	switch {
	case target == nil && !outer:
		return false
	case where == nil || target == nil:
		return where == nil || !c.restricts(from[0], where)
	}
	inner := conditions{w: c.w, target: target, with: c.with, left: c.left}
	if len(from) > 1 || from[0].GetRangeVar() == nil {
		inner.others = from
	}
	return inner.judge(where, false).filter == everyRow
}

func first(a, b *pg.RangeVar) *pg.RangeVar {
	if a != nil {
		return a
	}
	return b
}

// restricts reports a condition on rows of a query that is compared with
// something.
func (c *conditions) restricts(of, where *pg.Node) bool {
	r := of.GetRangeVar()
	if r == nil {
		r = &pg.RangeVar{Relname: of.GetRangeSubselect().GetAlias().GetAliasname()}
	}
	inner := conditions{w: c.w, target: r, with: c.with, left: c.left}
	return inner.judge(where, false).filter != everyRow
}

// source says what a relation in a query gives: the target itself, all of it by
// another name, or something that restricts what it is joined with.
func (c *conditions) source(n *pg.Node, depth int) (target *pg.RangeVar, all, restricted bool) {
	switch e := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		if cte := c.named(e.RangeVar); cte != nil {
			all = c.all(cte.Ctequery.GetSelectStmt(), depth-1)
			return nil, all, !all
		}
		if c.isTarget(e.RangeVar) {
			return e.RangeVar, true, false
		}
		return nil, false, true
	case *pg.Node_RangeTableSample:
		return c.source(e.RangeTableSample.Relation, depth)
	case *pg.Node_RangeSubselect:
		q := e.RangeSubselect.Subquery.GetSelectStmt()
		all = c.all(q, depth-1)
		return nil, all, !all && readsRelations(q)
	case *pg.Node_JoinExpr:
		j := e.JoinExpr
		left, leftAll, leftRestricts := c.source(j.Larg, depth)
		right, rightAll, rightRestricts := c.source(j.Rarg, depth)
		switch j.Jointype {
		case pg.JoinType_JOIN_LEFT:
			return left, leftAll, leftRestricts
		case pg.JoinType_JOIN_RIGHT:
			return right, rightAll, rightRestricts
		case pg.JoinType_JOIN_FULL:
			return first(left, right), leftAll || rightAll, leftRestricts && rightRestricts
		}
		return first(left, right), leftAll || rightAll, leftRestricts || rightRestricts
	}
	return nil, false, false // a function, or rows that are spelled out
}

// readsRelations reports a query that reads a relation.
func readsRelations(q *pg.SelectStmt) bool {
	return q != nil && (len(q.FromClause) > 0 || q.Larg != nil)
}

// aggregated are functions that make one row of many.
var aggregated = words2set("count min max sum avg array_agg string_agg json_agg jsonb_agg bool_and bool_or every bit_and bit_or stddev variance " +
	"json_object_agg jsonb_object_agg xmlagg any_value mode percentile_cont percentile_disc")

// aggregates reports a target that is an aggregate.
func aggregates(n *pg.Node) bool {
	f := uncast(n.GetResTarget().GetVal()).GetFuncCall()
	return f != nil && f.Over == nil && (f.AggStar || aggregated[last(words(f.Funcname))])
}

// groupsByKey reports a query of which each row of the target is a group.
func (c *conditions) groupsByKey(q *pg.SelectStmt) bool {
	return slices.ContainsFunc(q.GroupClause, func(n *pg.Node) bool {
		parts := words(n.GetColumnRef().GetFields())
		return len(parts) > 0 && c.key(parts[len(parts)-1:]) || n.GetAConst() != nil // by its place among the columns
	})
}

// counts reports a condition on groups that some of them do not fulfil: that an
// aggregate is more than none or one.
func counts(n *pg.Node) bool {
	if e := n.GetBoolExpr(); e != nil {
		some := slices.ContainsFunc(e.Args, counts)
		return some && (e.Boolop != pg.BoolExprType_OR_EXPR || !slices.ContainsFunc(e.Args, func(a *pg.Node) bool { return !counts(a) }))
	}
	e := n.GetAExpr()
	if e == nil || e.Lexpr.GetFuncCall() == nil || never(e.Lexpr) && !e.Lexpr.GetFuncCall().AggStar {
		return false
	}
	value, err := strconv.ParseFloat(numberText(e.Rexpr), 64)
	switch last(words(e.Name)) {
	case ">":
		return err != nil || value >= 1
	case ">=":
		return err != nil || value > 1
	}
	return true
}

// exists judges EXISTS, or NOT EXISTS: by whether what it looks for depends on
// the target's row.
func (c *conditions) exists(q *pg.SelectStmt, not bool) judgement {
	switch {
	case q == nil:
		return judgement{}
	case q.Op != pg.SetOperation_SETOP_NONE:
		l, r := c.exists(q.Larg, not), c.exists(q.Rarg, not)
		return judgement{filter: min(l.filter, r.filter)}
	case not && empty(q), len(q.ValuesLists) > 0, q.WhereClause == nil && !slices.ContainsFunc(q.FromClause, joins):
		return judgement{}
	case len(q.GroupClause) == 0 && (q.HavingClause != nil || slices.ContainsFunc(q.TargetList, aggregates)):
		return judgement{} // one row, of none too
	case len(q.FromClause) == 0:
		return c.judge(q.WhereClause, not).atMost(someRows)
	}
	inner := *c
	if q.WithClause != nil {
		inner.with = append(slices.Clip(c.with), q.WithClause)
	}
	if hides(q.FromClause, c.name()) || c.standsOnOwn(q.FromClause) || !inner.correlated(q.FromClause, q.WhereClause) {
		return judgement{}
	}
	return judgement{filter: someRows}
}

func joins(n *pg.Node) bool { return n.GetJoinExpr() != nil }

// hides reports relations of which one has a name.
func hides(from []*pg.Node, name string) bool {
	return slices.ContainsFunc(from, func(n *pg.Node) bool {
		switch e := n.GetNode().(type) {
		case *pg.Node_RangeVar:
			return called(e.RangeVar) == name
		case *pg.Node_RangeSubselect:
			return e.RangeSubselect.Alias.GetAliasname() == name
		case *pg.Node_RangeFunction:
			return e.RangeFunction.Alias.GetAliasname() == name
		case *pg.Node_JoinExpr:
			return hides([]*pg.Node{e.JoinExpr.Larg, e.JoinExpr.Rarg}, name)
		}
		return false
	})
}

// correlated reports whether rows of a query, by the condition, depend on the
// row of the target that it stands beside.
func (c *conditions) correlated(from []*pg.Node, where *pg.Node) bool {
	if where != nil && c.ties(where, from) {
		return true
	}
	return slices.ContainsFunc(from, func(n *pg.Node) bool {
		j := n.GetJoinExpr()
		return j != nil && (j.Quals != nil && j.Jointype == pg.JoinType_JOIN_INNER && c.ties(j.Quals, from) || c.correlated([]*pg.Node{j.Larg, j.Rarg}, nil))
	})
}

// ties reports a condition of a query that holds or not by the row of the
// target.
func (c *conditions) ties(n *pg.Node, from []*pg.Node) bool {
	if *c.left--; *c.left <= 0 {
		return false
	}
	if e := n.GetBoolExpr(); e != nil {
		switch e.Boolop {
		case pg.BoolExprType_AND_EXPR:
			return slices.ContainsFunc(e.Args, func(a *pg.Node) bool { return c.ties(a, from) })
		case pg.BoolExprType_OR_EXPR:
			return !slices.ContainsFunc(e.Args, func(a *pg.Node) bool { return !c.ties(a, from) })
		}
		return false
	}
	e := n.GetAExpr()
	if e == nil || e.Lexpr == nil || e.Rexpr == nil || c.same(e.Lexpr, e.Rexpr) {
		return false
	}
	left, right := c.mentionsIn(e.Lexpr, from), c.mentionsIn(e.Rexpr, from)
	if left == right {
		return false // of both sides the target's, or of none
	}
	own, other := e.Lexpr, e.Rexpr
	if right {
		own, other = other, own
	}
	op, many, _ := operator(e, false)
	switch {
	case !c.mentionsBare(other):
		return c.expression(e, false).filter != everyRow
	case op != "=" || many || c.column(own) == "":
		return false
	}
	beside := *c
	beside.others = from
	return !beside.joinsItself(c.column(own), words(other.GetColumnRef().GetFields()))
}

// empty reports a query that may be seen to find nothing.
func empty(q *pg.SelectStmt) bool {
	if q.Op != pg.SetOperation_SETOP_NONE {
		return empty(q.Larg) || empty(q.Rarg)
	}
	if q.LimitCount != nil || q.LimitOffset != nil {
		return true
	}
	return q.WhereClause != nil && never(q.WhereClause)
}

// never reports a condition that may hold for no row: one with a part that
// names no column.
func never(n *pg.Node) bool {
	if e := n.GetBoolExpr(); e != nil && e.Boolop == pg.BoolExprType_AND_EXPR {
		return slices.ContainsFunc(e.Args, never)
	}
	found := false
	eachMessage(n.ProtoReflect(), func(m proto.Message) bool {
		_, is := m.(*pg.ColumnRef)
		found = found || is
		return !found
	})
	return !found
}

// joinsItself reports a column of another relation beside the target that is
// the target's own column by another name: a comparison with it holds for the
// row itself.
func (c *conditions) joinsItself(name string, parts []string) bool {
	return slices.ContainsFunc(c.others, func(n *pg.Node) bool {
		switch e := n.GetNode().(type) {
		case *pg.Node_RangeVar:
			r := e.RangeVar
			if len(parts) > 1 && parts[len(parts)-2] != called(r) {
				return false
			}
			if cte := c.named(r); cte != nil {
				return c.all(cte.Ctequery.GetSelectStmt(), maxQueries)
			}
			return c.isTarget(r) && (last(parts) == name || len(r.Alias.GetColnames()) > 0)
		case *pg.Node_RangeSubselect:
			if len(parts) > 1 && parts[len(parts)-2] != e.RangeSubselect.Alias.GetAliasname() {
				return false
			}
			return c.all(e.RangeSubselect.Subquery.GetSelectStmt(), maxQueries)
		case *pg.Node_JoinExpr:
			beside := *c
			beside.others = []*pg.Node{e.JoinExpr.Larg, e.JoinExpr.Rarg}
			return beside.joinsItself(name, parts)
		}
		return false
	})
}
