package sql

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// relation returns the rel that a catalogue's relation is.
func (t *tracer) relation(r *Relation) *rel {
	if known := t.relations[r]; known != nil {
		return known
	}
	viewOf := t.c.view
	if t.above != nil {
		viewOf = func(r *Relation) *view { return t.c.traceView(r, t.above).known() }
	}
	out := &rel{system: true, cols: make([]column, len(r.Columns))}
	for i, col := range r.Columns {
		names, opaque, plain := t.c.shown(r, i, viewOf)
		v := value{opaque: opaque, plain: plain}
		for _, name := range names {
			v.set = v.set.with(only(t.number(name)))
		}
		out.cols[i] = column{name: col.Name, value: v}
	}
	t.relations[r] = out
	return out
}

// stored returns what a name stands for in the catalogue.
func (t *tracer) stored(v *pg.RangeVar) *rel {
	var out *rel
	for _, r := range t.c.Named(v.Schemaname, v.Relname) {
		if out == nil {
			out = t.relation(r)
		} else {
			out = either(out, t.relation(r))
		}
	}
	if out == nil {
		name := v.Relname
		if v.Schemaname != "" {
			name = v.Schemaname + "." + name
		}
		t.note("relation " + name)
		return &rel{rest: &value{opaque: true}, system: true}
	}
	return out
}

// aliased returns r as its alias has it, and its name.
func aliased(r *rel, alias *pg.Alias, name string) (*rel, string) {
	if alias == nil {
		return r, name
	}
	return r.renamed(words(alias.Colnames)), alias.Aliasname
}

// from puts an item of a FROM clause in scope.
func (t *tracer) from(n *pg.Node, sc *scope) {
	if !t.step() {
		sc.add("", "", &rel{rest: &value{opaque: true}})
		return
	}
	switch s := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		v := s.RangeVar
		var r *rel
		if c := sc.cte(v.Relname); c != nil && v.Schemaname == "" {
			r = t.common(c)
		} else {
			r = t.stored(v)
		}
		schema := v.Schemaname
		if v.Alias != nil {
			schema = ""
		}
		r, name := aliased(r, v.Alias, v.Relname)
		sc.add(schema, name, r)
	case *pg.Node_JoinExpr:
		t.join(s.JoinExpr, sc)
	case *pg.Node_RangeSubselect:
		in := sc
		if !s.RangeSubselect.Lateral {
			in = &scope{outer: sc.outer, ctes: sc.ctes}
		}
		r, name := aliased(t.statement(s.RangeSubselect.Subquery, in), s.RangeSubselect.Alias, "")
		sc.add("", name, r)
	case *pg.Node_RangeFunction:
		t.function(s.RangeFunction, sc)
	case *pg.Node_RangeTableSample:
		t.from(s.RangeTableSample.Relation, sc)
		for _, arg := range append(s.RangeTableSample.Args, s.RangeTableSample.Repeatable) {
			t.tells(t.expr(arg, sc))
		}
	case *pg.Node_RangeTableFunc:
		t.xmlTable(s.RangeTableFunc, sc)
	case *pg.Node_JsonTable:
		t.jsonTable(s.JsonTable, sc)
	default:
		t.note("what " + kind(n) + " reads")
		sc.add("", "", &rel{rest: &value{opaque: true}})
	}
}

// join puts a join in scope. While its condition is read, both sides are.
func (t *tracer) join(j *pg.JoinExpr, sc *scope) {
	rels, names := len(sc.rels), len(sc.names)
	t.from(j.Larg, sc)
	left := beside(sc.rels[rels:])
	middle := len(sc.rels)
	t.from(j.Rarg, sc)
	right := beside(sc.rels[middle:])
	if j.Quals != nil {
		t.condition(j.Quals, sc)
	}
	using := words(j.UsingClause)
	if j.IsNatural {
		for _, col := range left.cols {
			if len(right.at(col.name)) > 0 {
				using = append(using, col.name)
			}
		}
	}
	out, merged := t.merged(left, right, using)
	out.loose = out.loose || j.IsNatural && !(left.exact() && right.exact())
	sc.rels = append(sc.rels[:rels], out)
	if j.JoinUsingAlias != nil {
		sc.names = append(sc.names, named{"", j.JoinUsingAlias.Aliasname, merged})
	}
	if j.Alias != nil {
		out, name := aliased(out, j.Alias, "")
		sc.rels[rels] = out
		sc.names = append(sc.names[:names], named{"", name, out})
	}
}

// beside returns what has the columns of all of rels, in order.
func beside(rels []*rel) *rel {
	if len(rels) == 1 {
		return rels[0]
	}
	out := &rel{}
	for _, r := range rels {
		out.cols = append(out.cols, r.cols...)
		out.loose = out.loose || r.loose
		out.spread(r.rest)
	}
	return out
}

// spread adds to what columns that are not known are made of.
func (r *rel) spread(rest *value) {
	if rest == nil {
		return
	}
	if r.rest != nil {
		both := r.rest.with(*rest)
		rest = &both
	}
	r.rest = rest
}

// merged joins two rels, and returns also the columns that they share. A
// column that both have, and that is not shared, is there twice.
func (t *tracer) merged(left, right *rel, using []string) (out, shared *rel) {
	out, shared = &rel{loose: left.loose || right.loose}, &rel{}
	in := make(map[string]bool, len(using))
	for _, name := range using {
		in[name] = true
		l, found, _ := left.find(name)
		r, also, _ := right.find(name)
		v := l.with(r)
		if !found || !also {
			t.note("what " + name + " stands for")
			v.opaque = true
		}
		t.tells(v)
		t.read = t.read.with(v.set)
		shared.cols = append(shared.cols, column{name: name, value: v})
	}
	out.cols = append(out.cols, shared.cols...)
	if !t.stretch(len(left.cols) + len(right.cols)) {
		return &rel{rest: &value{opaque: true}}, shared
	}
	for _, side := range []*rel{left, right} {
		for _, col := range side.cols {
			if !in[col.name] {
				out.cols = append(out.cols, col)
			}
		}
		out.spread(side.rest)
	}
	return out, shared
}

// function puts functions of a FROM clause in scope, which see what stands
// before them.
func (t *tracer) function(f *pg.RangeFunction, sc *scope) {
	out, name := &rel{}, ""
	for _, n := range f.Functions {
		items := n.GetList().GetItems()
		if len(items) == 0 {
			continue
		}
		v := t.expr(items[0], sc)
		name = figure(items[0])
		defined := f.Coldeflist
		if len(items) > 1 && len(defined) == 0 {
			defined = items[1].GetList().GetItems()
		}
		names, known := t.answers(items[0].GetFuncCall())
		switch {
		case len(defined) > 0:
			for _, d := range defined {
				out.cols = append(out.cols, column{name: d.GetColumnDef().GetColname(), value: v})
			}
		case len(names) > 0:
			for _, name := range names {
				out.cols = append(out.cols, column{name: name, value: v})
			}
		case known && len(f.Functions) == 1 && f.Alias != nil:
			// The one column of a function is named as the function's alias.
			out.cols = append(out.cols, column{name: f.Alias.Aliasname, value: v})
		case known:
			out.cols = append(out.cols, column{name: name, value: v})
		default:
			out.spread(&v)
		}
	}
	if f.Ordinality {
		out.cols = append(out.cols, column{name: "ordinality", maybe: out.rest != nil})
		out.loose = out.rest != nil
	}
	out, name = aliased(out, f.Alias, name)
	sc.add("", name, out)
}

func (t *tracer) xmlTable(x *pg.RangeTableFunc, sc *scope) {
	v := t.expr(x.Docexpr, sc).with(t.expr(x.Rowexpr, sc))
	for _, n := range x.Namespaces {
		v = v.with(t.expr(n.GetResTarget().GetVal(), sc))
	}
	out := &rel{}
	for _, n := range x.Columns {
		col := n.GetRangeTableFuncCol()
		w := t.expr(col.GetColexpr(), sc).with(t.expr(col.GetColdefexpr(), sc)).with(v)
		if col.GetForOrdinality() {
			w = value{}
		}
		out.cols = append(out.cols, column{name: col.GetColname(), value: w})
	}
	// What is not XML, or not of a column's type, is an error.
	t.tells(out.all().with(v))
	out, name := aliased(out, x.Alias, "xmltable")
	sc.add("", name, out)
}

func (t *tracer) jsonTable(j *pg.JsonTable, sc *scope) {
	v := t.inside(j.ContextItem.ProtoReflect(), sc)
	for _, n := range j.Passing {
		v = v.with(t.inside(n.ProtoReflect(), sc))
	}
	t.tells(v)
	out := &rel{}
	t.jsonColumns(j.Columns, v, out, sc)
	out, name := aliased(out, j.Alias, "json_table")
	sc.add("", name, out)
}

func (t *tracer) jsonColumns(columns []*pg.Node, v value, out *rel, sc *scope) {
	for _, n := range columns {
		col := n.GetJsonTableColumn()
		if col == nil {
			t.note("what " + kind(n) + " reads")
			out.spread(&value{opaque: true})
			continue
		}
		if col.Coltype == pg.JsonTableColumnType_JTC_NESTED {
			t.jsonColumns(col.Columns, v, out, sc)
			continue
		}
		w := v
		for _, b := range []*pg.JsonBehavior{col.OnEmpty, col.OnError} {
			w = w.with(t.expr(b.GetExpr(), sc))
		}
		out.cols = append(out.cols, column{name: col.Name, value: w})
	}
}
