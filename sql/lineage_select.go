package sql

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// selects traces a SELECT, VALUES or set operation and returns its answer.
func (t *tracer) selects(s *pg.SelectStmt, outer *scope) *rel {
	if s == nil || !t.step() {
		return &rel{rest: &value{opaque: true}}
	}
	sc := &scope{outer: outer}
	t.with(s.WithClause, sc)
	var out *rel
	switch {
	case s.Op > pg.SetOperation_SETOP_NONE:
		out = t.combined(s, t.selects(s.Larg, sc), t.selects(s.Rarg, sc))
	case len(s.ValuesLists) > 0:
		out = t.values(s.ValuesLists, sc)
	default:
		return t.plain(s, sc)
	}
	t.order(s, out, sc)
	return out
}

// combined is the answer of a set operation.
func (t *tracer) combined(s *pg.SelectStmt, l, r *rel) *rel {
	out := &rel{loose: l.loose || r.loose}
	out.spread(l.rest)
	out.spread(r.rest)
	if l.exact() && r.exact() {
		out.cols = make([]column, len(l.cols))
		for i, col := range l.cols {
			out.cols[i] = column{name: col.name, value: col.with(r.position(i)).made()}
		}
	} else {
		all := l.all().with(r.all())
		for _, col := range l.cols {
			out.cols = append(out.cols, column{name: col.name, value: all, maybe: col.maybe})
		}
		out.spread(&all)
	}
	if !s.All {
		t.tells(out.all())
	}
	return out
}

// values is the answer of VALUES.
func (t *tracer) values(lists []*pg.Node, sc *scope) *rel {
	out := &rel{}
	for _, n := range lists {
		for i, item := range n.GetList().GetItems() {
			v := t.expr(item, sc)
			if i == len(out.cols) {
				out.cols = append(out.cols, column{name: numbered("column", i+1)})
			}
			out.cols[i].value = out.cols[i].with(v).made()
		}
	}
	return out
}

// plain traces a SELECT that is no set operation.
func (t *tracer) plain(s *pg.SelectStmt, sc *scope) *rel {
	for _, n := range s.FromClause {
		t.from(n, sc)
	}
	if s.WhereClause != nil {
		t.condition(s.WhereClause, sc)
	}
	out := t.targets(s.TargetList, sc)
	for _, n := range s.GroupClause {
		t.group(n, out, sc)
	}
	if s.HavingClause != nil {
		t.condition(s.HavingClause, sc)
	}
	for _, n := range s.WindowClause {
		t.window(n.GetWindowDef(), sc)
	}
	for _, n := range s.DistinctClause {
		if n.GetNode() != nil {
			t.sorted(n, out, sc, true, false)
		}
	}
	t.order(s, out, sc)
	return out
}

// order traces ORDER BY and LIMIT.
func (t *tracer) order(s *pg.SelectStmt, out *rel, sc *scope) {
	for _, n := range s.SortClause {
		t.sorted(n.GetSortBy().GetNode(), out, sc, true, true)
	}
	for _, n := range []*pg.Node{s.LimitCount, s.LimitOffset} {
		t.tells(t.expr(n, sc))
	}
}

// group traces an item of GROUP BY.
func (t *tracer) group(n *pg.Node, out *rel, sc *scope) {
	if g := n.GetGroupingSet(); g != nil {
		for _, n := range g.Content {
			t.group(n, out, sc)
		}
		return
	}
	if row := n.GetRowExpr(); row != nil {
		for _, n := range row.Args {
			t.group(n, out, sc)
		}
		return
	}
	t.sorted(n, out, sc, false, false)
}

// sorted traces what rows are sorted or grouped by: an ordinal of the answer,
// one of its names, or an expression. ORDER BY takes a name for one of the
// answer first, GROUP BY for one of the tables. Sorting tells of the values;
// grouping tells only which of them are the same, as a mask may.
func (t *tracer) sorted(n *pg.Node, out *rel, sc *scope, names, tells bool) {
	tell := func(v value) {
		if tells {
			t.tells(v)
		}
	}
	if c := n.GetAConst(); c != nil {
		if i, ok := c.Val.(*pg.A_Const_Ival); ok {
			t.constants = true
			tell(out.position(int(i.Ival.Ival) - 1))
		}
		return
	}
	if name := words(n.GetColumnRef().GetFields()); len(name) == 1 && len(n.GetColumnRef().Fields) == 1 {
		if !names {
			here := scope{rels: sc.rels}
			_, _, certain := here.lookup(name[0])
			names = !certain
		}
		if len(out.at(name[0])) > 0 && names {
			v, _, certain := out.find(name[0])
			tell(v)
			if certain {
				return
			}
		}
	}
	tell(t.expr(n, sc))
}

// targets traces a target list or RETURNING and returns its columns.
func (t *tracer) targets(list []*pg.Node, sc *scope) *rel {
	out := &rel{}
	for _, n := range list {
		target := n.GetResTarget()
		if target == nil {
			t.note("what " + kind(n) + " reads")
			return &rel{rest: &value{opaque: true}}
		}
		if r, star := t.star(target.Val, sc); star {
			if !t.stretch(len(r.cols)) {
				return &rel{rest: &value{opaque: true}}
			}
			t.read = t.read.with(r.all().set)
			out.cols = append(out.cols, r.cols...)
			out.loose = out.loose || r.loose
			out.spread(r.rest)
			continue
		}
		name := target.Name
		if name == "" {
			name = figure(target.Val)
		}
		out.cols = append(out.cols, column{name: name, value: t.expr(target.Val, sc)})
	}
	return out
}

// star returns what *, t.* or (expression).* stands for.
func (t *tracer) star(n *pg.Node, sc *scope) (r *rel, star bool) {
	if ref := n.GetColumnRef(); ref != nil {
		if len(ref.Fields) == 0 || ref.Fields[len(ref.Fields)-1].GetAStar() == nil {
			return nil, false
		}
		name := words(ref.Fields)
		if len(name) == 0 {
			return beside(sc.rels), true
		}
		return t.rowStar(name, sc), true
	}
	ind := n.GetAIndirection()
	if ind == nil || len(ind.Indirection) == 0 || ind.Indirection[len(ind.Indirection)-1].GetAStar() == nil {
		return nil, false
	}
	if ref := ind.Arg.GetColumnRef(); ref != nil && len(ind.Indirection) == 1 {
		name := words(ref.Fields)
		if _, found, _ := sc.lookup(name[len(name)-1]); len(name) == len(ref.Fields) && len(name) == 1 && !found && sc.row("", name[0]) != nil {
			return t.rowStar(name, sc), true
		}
	}
	v := t.expr(ind.Arg, sc)
	return &rel{rest: &v}, true
}

// rowStar is what name.* stands for.
func (t *tracer) rowStar(name []string, sc *scope) *rel {
	schema := ""
	if len(name) > 1 {
		schema = name[len(name)-2]
	}
	if r := sc.row(schema, name[len(name)-1]); r != nil {
		return r
	}
	t.note("what " + name[len(name)-1] + ".* stands for")
	return &rel{rest: &value{opaque: true}}
}

// with puts common table expressions in scope: one after the other or, with
// RECURSIVE, all of them for all.
func (t *tracer) with(w *pg.WithClause, sc *scope) {
	if w == nil {
		return
	}
	for _, n := range w.Ctes {
		c := &cte{name: n.GetCommonTableExpr().GetCtename(), node: n.GetCommonTableExpr(), in: sc}
		if !w.Recursive {
			// It is not in its own scope.
			c.rel = t.defined(c)
		}
		sc.ctes = append(sc.ctes, c)
	}
	if w.Recursive {
		for _, c := range sc.ctes {
			t.common(c)
		}
	}
}

// common returns what a common table expression is made of: where it refers to
// itself, as far as is known by then.
func (t *tracer) common(c *cte) *rel {
	if c.rel == nil && !c.busy {
		c.busy = true
		c.rel = t.recursive(c)
		c.busy = false
	}
	c.used = true
	if c.rel == nil {
		t.note("what " + c.name + " reads")
		return &rel{rest: &value{opaque: true}}
	}
	return c.rel
}

// defined traces a common table expression that does not refer to itself.
func (t *tracer) defined(c *cte) *rel {
	return t.finished(c, t.statement(c.node.Ctequery, c.in))
}

// finished names columns, and adds those of SEARCH and CYCLE.
func (t *tracer) finished(c *cte, r *rel) *rel {
	out := r.renamed(words(c.node.Aliascolnames))
	search, cycle := c.node.SearchClause, c.node.CycleClause
	if search == nil && cycle == nil {
		return out
	}
	more := &rel{cols: append([]column(nil), out.cols...), rest: out.rest, loose: out.loose}
	by := func(names []*pg.Node) (v value) {
		for _, name := range words(names) {
			w, _, _ := out.find(name)
			v = v.with(w)
		}
		t.tells(v)
		return v
	}
	if search != nil {
		more.cols = append(more.cols, column{name: search.SearchSeqColumn, value: by(search.SearchColList)})
	}
	if cycle != nil {
		v := by(cycle.CycleColList)
		mark := t.expr(cycle.CycleMarkValue, c.in).with(t.expr(cycle.CycleMarkDefault, c.in))
		more.cols = append(more.cols, column{name: cycle.CycleMarkColumn, value: mark}, column{name: cycle.CyclePathColumn, value: v})
	}
	return more
}

// rounds is how often a recursive query is traced before all its columns are
// taken for made of one another.
const rounds = 3

// recursive traces a common table expression that may refer to itself: again
// and again, until nothing more comes of it.
func (t *tracer) recursive(c *cte) *rel {
	s := c.node.Ctequery.GetSelectStmt()
	if s == nil || s.Op != pg.SetOperation_SETOP_UNION {
		return t.defined(c)
	}
	sc := &scope{outer: c.in}
	t.with(s.WithClause, sc)
	left := t.selects(s.Larg, sc)
	out := left
	for round := 0; ; round++ {
		c.rel, c.used = t.finished(c, out), false
		next := t.combined(s, out, t.selects(s.Rarg, sc))
		if !c.used || next.same(out) {
			out = next
			break
		}
		if round >= rounds {
			all := next.all()
			for i := range next.cols {
				next.cols[i].value = all
			}
			next.whole, next.index = nil, nil
		}
		if out = next; round > rounds {
			break
		}
	}
	c.rel = nil
	t.order(s, out, sc)
	return t.finished(c, out)
}

// same reports whether r and o have the same columns of the same values.
func (r *rel) same(o *rel) bool {
	if r.loose != o.loose || (r.rest == nil) != (o.rest == nil) || len(r.cols) != len(o.cols) {
		return false
	}
	for i, col := range r.cols {
		if !col.set.within(o.cols[i].set) || col.opaque != o.cols[i].opaque {
			return false
		}
	}
	return r.rest == nil || r.rest.set.within(o.rest.set) && r.rest.opaque == o.rest.opaque
}
