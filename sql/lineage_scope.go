package sql

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// column is one of a rel's.
type column struct {
	name string
	value
	// maybe: of the relations that a name may stand for, not all have it.
	maybe bool
}

// rel is what stands in a FROM clause, or the answer of a query.
type rel struct {
	cols []column
	// rest is the value of the columns that are not in cols, where there may
	// be such.
	rest *value
	// loose: the order and number of its columns are not known.
	loose bool
	// system: it has the system columns.
	system bool

	index map[string][]int
	whole *value
}

// exact reports whether cols are all columns, in order.
func (r *rel) exact() bool { return r.rest == nil && !r.loose }

// all is the value of a whole row.
func (r *rel) all() value {
	if r.whole == nil {
		var v value
		for _, col := range r.cols {
			v = v.with(col.value)
		}
		if r.rest != nil {
			v = v.with(*r.rest)
		}
		v = v.made()
		r.whole = &v
	}
	return *r.whole
}

var systemColumns = map[string]bool{"ctid": true, "tableoid": true, "xmin": true, "xmax": true, "cmin": true, "cmax": true}

// find returns the value of a column by name; certain: there is no doubt that
// r has it; found: it may have it.
func (r *rel) find(name string) (v value, found, certain bool) {
	certain = true
	for _, i := range r.at(name) {
		v, found, certain = v.with(r.cols[i].value), true, certain && !r.cols[i].maybe
	}
	if r.system && systemColumns[name] {
		return v, true, true
	}
	if found && certain {
		return v, true, true
	}
	if r.rest != nil {
		v, found = v.with(*r.rest).made(), true
	}
	return v, found, false
}

// at returns where the columns of a name are.
func (r *rel) at(name string) []int {
	if r.index == nil {
		r.index = make(map[string][]int, len(r.cols))
		for i, col := range r.cols {
			r.index[col.name] = append(r.index[col.name], i)
		}
	}
	return r.index[name]
}

// position returns the value of the i-th column.
func (r *rel) position(i int) value {
	switch {
	case !r.exact():
		return r.all()
	case i < len(r.cols):
		return r.cols[i].value
	}
	return value{opaque: true}
}

// renamed returns r with the first columns named anew.
func (r *rel) renamed(names []string) *rel {
	if len(names) == 0 {
		return r
	}
	out := &rel{rest: r.rest, loose: r.loose, system: r.system}
	if r.exact() {
		out.cols = append(out.cols, r.cols...)
		for i := range min(len(names), len(out.cols)) {
			out.cols[i].name = names[i]
		}
		return out
	}
	for _, name := range names {
		out.cols = append(out.cols, column{name: name, value: r.all()})
	}
	for _, col := range r.cols {
		col.maybe = true
		out.cols = append(out.cols, col)
	}
	out.loose = true
	return out
}

// named is a rel that can be referred to by name.
type named struct {
	schema, name string
	rel          *rel
}

// cte is a common table expression.
type cte struct {
	name string
	node *pg.CommonTableExpr
	rel  *rel
	busy bool // it is being traced
	used bool // and was referred to meanwhile
	// in is where its query stands.
	in *scope
}

// scope is what names stand for in one query.
type scope struct {
	outer *scope
	ctes  []*cte
	rels  []*rel  // whose columns can be referred to
	names []named // whose columns can be referred to with a name before them
}

// add puts r in scope, under a name.
func (sc *scope) add(schema, name string, r *rel) {
	sc.rels = append(sc.rels, r)
	if name != "" {
		sc.names = append(sc.names, named{schema, name, r})
	}
}

// cte returns the common table expression of a name.
func (sc *scope) cte(name string) *cte {
	for ; sc != nil; sc = sc.outer {
		for i := len(sc.ctes) - 1; i >= 0; i-- {
			if sc.ctes[i].name == name {
				return sc.ctes[i]
			}
		}
	}
	return nil
}

// row returns what an alias or relation name stands for: the innermost of
// that name, or those, where it is not certain which.
func (sc *scope) row(schema, name string) *rel {
	for ; sc != nil; sc = sc.outer {
		var found *rel
		for _, n := range sc.names {
			if n.name != name || schema != "" && n.schema != "" && n.schema != schema {
				continue
			}
			if found == nil {
				found = n.rel
			} else {
				found = either(found, n.rel)
			}
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// either returns what stands for a or b.
func either(a, b *rel) *rel {
	if a == b {
		return a
	}
	out := &rel{loose: a.loose || b.loose || len(a.cols) != len(b.cols), system: a.system || b.system}
	for i := 0; !out.loose && i < len(a.cols); i++ {
		out.loose = a.cols[i].name != b.cols[i].name
	}
	switch {
	case a.rest != nil && b.rest != nil:
		rest := a.rest.with(*b.rest)
		out.rest = &rest
	case a.rest != nil:
		out.rest = a.rest
	default:
		out.rest = b.rest
	}
	for _, col := range a.cols {
		if other, found, _ := b.find(col.name); found {
			col.value = col.with(other)
		} else {
			col.maybe = true
		}
		out.cols = append(out.cols, col)
	}
	for _, col := range b.cols {
		if len(a.at(col.name)) > 0 {
			continue
		}
		if a.rest != nil {
			col.value = col.with(*a.rest)
		}
		col.maybe = true
		out.cols = append(out.cols, col)
	}
	return out
}

// lookup returns what a column's name stands for, without a name before it.
func (sc *scope) lookup(name string) (v value, found, certain bool) {
	for ; sc != nil; sc = sc.outer {
		var may value
		maybe := false
		for _, r := range sc.rels {
			w, f, c := r.find(name)
			switch {
			case c:
				v, found, certain = v.with(w), true, true
			case f:
				may, maybe = may.with(w), true
			}
			if f && !c && len(r.at(name)) > 0 {
				// One of the relations that it may stand for has it.
				v, found = v.with(w), true
			}
		}
		if certain {
			return v, true, true
		}
		if maybe {
			v, found = v.with(may), true
		}
	}
	return v, found, false
}

// ref returns the value of a column reference, and of a whole row.
func (t *tracer) ref(fields []string, sc *scope) value {
	var v value
	switch n := len(fields); n {
	case 0:
		v.opaque = true
	case 1:
		found, certain := false, false
		if v, found, certain = sc.lookup(fields[0]); !certain {
			if r := sc.row("", fields[0]); r != nil {
				v, found = v.with(r.all()), true
			}
		}
		if !found {
			t.note("what " + fields[0] + " stands for")
			v.opaque = true
		}
	default:
		schema := ""
		if n > 2 {
			schema = fields[n-3]
		}
		r := sc.row(schema, fields[n-2])
		if r == nil {
			t.note("what " + fields[n-2] + "." + fields[n-1] + " stands for")
			v.opaque = true
			break
		}
		found := false
		if v, found, _ = r.find(fields[n-1]); !found {
			// row.function is the same as function(row).
			v = t.call([]string{fields[n-1]}, []value{r.all()})
		}
	}
	t.read = t.read.with(v.set)
	return v
}
