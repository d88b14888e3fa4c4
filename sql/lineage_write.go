package sql

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// target puts the relation that a statement writes in scope.
func (t *tracer) target(v *pg.RangeVar, sc *scope) *rel {
	r := t.stored(v)
	name, schema := v.Relname, v.Schemaname
	if v.Alias != nil {
		name, schema = v.Alias.Aliasname, ""
	}
	sc.add(schema, name, r)
	return r
}

// flow notes that a value is written into a column of target.
func (t *tracer) flow(target *rel, name string, v value) {
	into, found, _ := target.find(name)
	if !found {
		t.note("column " + name)
	}
	t.changed = t.changed.with(into.set)
	t.copied = t.copied.with(v.set.without(into.set))
}

// set traces the assignments of SET.
func (t *tracer) set(list []*pg.Node, target *rel, sc *scope) {
	for _, n := range list {
		to := n.GetResTarget()
		if to == nil {
			t.note("what " + kind(n) + " writes")
			continue
		}
		for _, n := range to.Indirection {
			t.expr(n, sc)
		}
		t.flow(target, to.Name, t.expr(to.Val, sc))
	}
}

// assigned is the part of (a, b) = (x, y) or (a, b) = (SELECT x, y) that goes
// to one column.
func (t *tracer) assigned(m *pg.MultiAssignRef, sc *scope) value {
	i := int(m.Colno) - 1
	if row := m.Source.GetRowExpr(); row != nil && i < len(row.Args) {
		return t.expr(row.Args[i], sc)
	}
	if q := m.Source.GetSubLink(); q != nil && q.SubLinkType != pg.SubLinkType_EXISTS_SUBLINK {
		return t.statement(q.Subselect, sc).position(i)
	}
	return t.expr(m.Source, sc)
}

// filled notes what an INSERT writes: in the named columns or, with none, in
// the first ones. It returns what each column gets.
func (t *tracer) filled(names []string, target, from *rel) *rel {
	all := from.all()
	if len(names) == 0 {
		if !from.exact() || !target.exact() {
			// Any of its columns may get any value.
			t.changed = t.changed.with(target.all().set)
			t.copied = t.copied.with(all.set)
			return &rel{rest: &all}
		}
		for i := range min(len(from.cols), len(target.cols)) {
			names = append(names, target.cols[i].name)
		}
	}
	proposed := &rel{rest: &value{}}
	for i, name := range names {
		v := value{}
		if !from.exact() || i < len(from.cols) {
			v = from.position(i)
		}
		t.flow(target, name, v)
		proposed.cols = append(proposed.cols, column{name: name, value: v})
	}
	return proposed
}

func (t *tracer) insert(s *pg.InsertStmt, outer *scope) *rel {
	sc := &scope{outer: outer}
	t.with(s.WithClause, sc)
	into := &scope{outer: sc}
	target := t.target(s.Relation, into)
	proposed := &rel{rest: &value{}}
	if s.SelectStmt != nil {
		var names []string
		for _, n := range s.Cols {
			names = append(names, n.GetResTarget().GetName())
			for _, n := range n.GetResTarget().GetIndirection() {
				t.expr(n, sc)
			}
		}
		proposed = t.filled(names, target, t.statement(s.SelectStmt, sc))
	}
	if c := s.OnConflictClause; c != nil {
		for _, n := range c.Infer.GetIndexElems() {
			elem := n.GetIndexElem()
			t.tells(t.expr(elem.GetExpr(), into))
			if elem.GetName() != "" {
				t.tells(t.ref([]string{elem.Name}, into))
			}
		}
		if c.Infer.GetWhereClause() != nil {
			t.condition(c.Infer.WhereClause, into)
		}
		on := &scope{outer: sc, rels: into.rels, names: append(into.names[:1:1], named{"", "excluded", proposed})}
		t.set(c.TargetList, target, on)
		if c.WhereClause != nil {
			t.condition(c.WhereClause, on)
		}
	}
	return t.targets(s.ReturningList, into)
}

func (t *tracer) update(s *pg.UpdateStmt, outer *scope) *rel {
	sc := &scope{outer: outer}
	t.with(s.WithClause, sc)
	target := t.target(s.Relation, sc)
	for _, n := range s.FromClause {
		t.from(n, sc)
	}
	if s.WhereClause != nil {
		t.condition(s.WhereClause, sc)
	}
	t.set(s.TargetList, target, sc)
	return t.targets(s.ReturningList, sc)
}

// remove traces a DELETE, which writes no column.
func (t *tracer) remove(s *pg.DeleteStmt, outer *scope) *rel {
	sc := &scope{outer: outer}
	t.with(s.WithClause, sc)
	t.target(s.Relation, sc)
	for _, n := range s.UsingClause {
		t.from(n, sc)
	}
	if s.WhereClause != nil {
		t.condition(s.WhereClause, sc)
	}
	return t.targets(s.ReturningList, sc)
}

func (t *tracer) merge(s *pg.MergeStmt, outer *scope) *rel {
	sc := &scope{outer: outer}
	t.with(s.WithClause, sc)
	target := t.target(s.Relation, sc)
	t.from(s.SourceRelation, sc)
	t.condition(s.JoinCondition, sc)
	for _, n := range s.MergeWhenClauses {
		when := n.GetMergeWhenClause()
		if when.GetCondition() != nil {
			t.condition(when.Condition, sc)
		}
		switch when.GetCommandType() {
		case pg.CmdType_CMD_UPDATE:
			t.set(when.TargetList, target, sc)
		case pg.CmdType_CMD_INSERT:
			var names []string
			for _, n := range when.TargetList {
				names = append(names, n.GetResTarget().GetName())
			}
			values := &rel{}
			for _, n := range when.Values {
				values.cols = append(values.cols, column{value: t.expr(n, sc)})
			}
			if len(values.cols) > 0 {
				t.filled(names, target, values)
			}
		}
	}
	return t.targets(s.ReturningList, sc)
}

// copies traces COPY. What goes to a file is no answer.
func (t *tracer) copies(s *pg.CopyStmt, outer *scope) *rel {
	if s.Relation == nil {
		out := t.statement(s.Query, outer)
		if s.Filename != "" {
			return &rel{}
		}
		return out
	}
	sc := &scope{outer: outer}
	r := t.target(s.Relation, sc)
	out := &rel{cols: r.cols, rest: r.rest, loose: r.loose}
	if names := words(s.Attlist); len(names) > 0 {
		out = &rel{}
		for _, name := range names {
			v, found, _ := r.find(name)
			v.opaque = v.opaque || !found
			out.cols = append(out.cols, column{name: name, value: v})
		}
	} else {
		out = t.ungenerated(s.Relation, out)
	}
	if s.WhereClause != nil {
		t.condition(s.WhereClause, sc)
	}
	if s.IsFrom {
		t.changed = t.changed.with(out.all().set)
		return &rel{}
	}
	t.read = t.read.with(out.all().set)
	if s.Filename != "" {
		return &rel{}
	}
	return out
}

// ungenerated leaves out generated columns, as COPY does.
func (t *tracer) ungenerated(v *pg.RangeVar, all *rel) *rel {
	of := t.c.Named(v.Schemaname, v.Relname)
	if len(of) != 1 {
		return all
	}
	out := &rel{}
	for i, col := range of[0].Columns {
		if !col.Generated {
			out.cols = append(out.cols, all.cols[i])
		}
	}
	return out
}
