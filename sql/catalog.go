package sql

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Catalog is what a target's database has, as of one moment. It does not
// change once made, and is safe for concurrent use. A nil *Catalog knows of no
// relation and of no function besides PostgreSQL's own.
type Catalog struct {
	serial    uint64
	relations map[uint32]*Relation
	named     map[string][]*Relation // by name, whatever the schema
	functions map[string][]*Function // by name, whatever the schema
	children  map[uint32][]uint32
	tags      map[string][]string // by schema.table.column
	// overridden: there are operators or casts of a user's for types that the
	// server brings.
	overridden bool

	mu    sync.Mutex // held while a view is traced
	views map[uint32]*atomic.Pointer[view]
}

// Relation is a table, view or the like.
type Relation struct {
	OID          uint32
	Schema, Name string
	// Kind is pg_class.relkind: r table, p partitioned table, v view, m
	// materialized view, f foreign table.
	Kind    byte
	Columns []Column
	// Keys are the columns of each unique index that has no predicate and no
	// expression, by number.
	Keys [][]int16
	// Parents are the tables that it is a partition or child of, by OID.
	Parents []uint32
	// Definition is the query of a view or materialized view, as
	// pg_get_viewdef gives it with an empty search_path, so that its names are
	// qualified.
	Definition string
	// Ruled reports that it has rewrite rules besides a view's own, or
	// triggers that are a user's.
	Ruled bool
	// Policed reports that it has row security: what a policy calls runs with
	// every read.
	Policed bool
}

// Column is one of a relation's, in order.
type Column struct {
	Number int16 // pg_attribute.attnum
	Name   string
	Type   uint32
	// Tags are those of its comment: "tags: pii, secret".
	Tags []string
	// Generated reports that pg_attribute.attgenerated is set: COPY leaves it
	// out.
	Generated bool
}

// Function is one that is not pg_catalog's own.
type Function struct {
	Schema, Name string
	// Volatility is pg_proc.provolatile: i, s or v.
	Volatility byte
	// Language is pg_language.lanname, Body pg_proc.prosrc.
	Language, Body string
}

// maxShown bounds how many relations of one inheritance tree a column is named
// by. The tables below one that has more are named by their parents alone.
const maxShown = 64

var catalogs atomic.Uint64

// NewCatalog returns a Catalog of relations and functions, which it keeps. The
// parents of a relation may be left out of relations.
func NewCatalog(relations []Relation, functions []Function) *Catalog {
	c := &Catalog{
		serial:    catalogs.Add(1),
		relations: make(map[uint32]*Relation, len(relations)),
		named:     make(map[string][]*Relation, len(relations)),
		functions: make(map[string][]*Function, len(functions)),
		children:  map[uint32][]uint32{},
		tags:      map[string][]string{},
		views:     map[uint32]*atomic.Pointer[view]{},
	}
	for i := range relations {
		r := &relations[i]
		c.relations[r.OID] = r
		c.named[r.Name] = append(c.named[r.Name], r)
		for _, parent := range r.Parents {
			c.children[parent] = append(c.children[parent], r.OID)
		}
		for j := range r.Columns {
			if len(r.Columns[j].Tags) > 0 {
				c.tags[r.column(j)] = r.Columns[j].Tags
			}
		}
		if r.Kind == 'v' || r.Kind == 'm' {
			c.views[r.OID] = new(atomic.Pointer[view])
		}
	}
	for i := range functions {
		f := &functions[i]
		c.functions[f.Name] = append(c.functions[f.Name], f)
	}
	return c
}

// Overridden notes that there are operators, or casts, of a user's own for
// types that the server brings: they run where nobody names them.
func (c *Catalog) Overridden() { c.overridden = true }

// certain reports that operators and casts do what the server's own do.
func (c *Catalog) certain() bool { return c != nil && !c.overridden }

// firstUsers is the first OID that the server does not give to what it brings
// itself (FirstNormalObjectId of access/transam.h).
const firstUsers = 16384

// plain reports a table of which a read runs nothing of a user's: no policy,
// no type with functions of its own, no server elsewhere; and so of those below
// it, depth levels down.
func (c *Catalog) plain(r *Relation, depth int) bool {
	if r.Kind != 'r' && r.Kind != 'p' && r.Kind != 'm' || r.Policed || depth == 0 {
		return false
	}
	if slices.ContainsFunc(r.Columns, func(col Column) bool { return col.Type >= firstUsers }) {
		return false
	}
	return !slices.ContainsFunc(c.children[r.OID], func(oid uint32) bool { return c.relations[oid] == nil || !c.plain(c.relations[oid], depth-1) })
}

// Serial tells catalogues apart; 0 is that of nil.
func (c *Catalog) Serial() uint64 {
	if c == nil {
		return 0
	}
	return c.serial
}

// column returns the name of the i-th column.
func (r *Relation) column(i int) string { return r.Schema + "." + r.Name + "." + r.Columns[i].Name }

// Relation returns the relation of an OID, or nil. It is not to be changed.
func (c *Catalog) Relation(oid uint32) *Relation {
	if c == nil {
		return nil
	}
	return c.relations[oid]
}

// Named returns the relations that a name may stand for: with an empty schema,
// those of every schema. They are not to be changed.
func (c *Catalog) Named(schema, name string) []*Relation {
	if c == nil {
		return nil
	}
	all := c.named[name]
	if schema == "" {
		return all
	}
	var found []*Relation
	for _, r := range all {
		if r.Schema == schema {
			found = append(found, r)
		}
	}
	return found
}

// Tags returns the tags of a stored column, written schema.table.column.
func (c *Catalog) Tags(column string) []string {
	if c == nil {
		return nil
	}
	return c.tags[column]
}

// TypeOf returns the OID of the type of a stored column, written
// schema.table.column; 0: it is not known for sure.
func (c *Catalog) TypeOf(column string) uint32 {
	if c == nil {
		return 0
	}
	var types []uint32
	for i, end := range column {
		if end != '.' {
			continue
		}
		for j, other := range column[i+1:] {
			if other != '.' {
				continue
			}
			for _, r := range c.Named(column[:i], column[i+1:i+1+j]) {
				for k := range r.Columns {
					if r.Columns[k].Name == column[i+1+j+1:] {
						types = append(types, r.Columns[k].Type)
					}
				}
			}
		}
	}
	if len(types) != 1 {
		return 0
	}
	return types[0]
}

// Column returns the stored columns that a relation's column shows, as
// schema.table.column, itself first, and the tags of all of them: those of the
// tables that it inherits from or that inherit from it, and those that a
// view's is made of. Unless ok, it may show more than these: it is not in the
// catalogue, or a view that cannot be traced.
func (c *Catalog) Column(oid uint32, number int16) (names []string, tags []string, ok bool) {
	r := c.Relation(oid)
	if r == nil {
		return nil, nil, false
	}
	i := slices.IndexFunc(r.Columns, func(col Column) bool { return col.Number == number })
	if i < 0 {
		return nil, nil, false
	}
	names, opaque, _ := c.shown(r, i, c.view)
	for _, name := range names {
		for _, tag := range c.tags[name] {
			if !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
	}
	return names, tags, !opaque
}

// Plain reports whether a relation's column holds what the stored columns hold
// that it shows, unchanged: not one that a view computes.
func (c *Catalog) Plain(oid uint32, number int16) bool {
	r := c.Relation(oid)
	if r == nil {
		return false
	}
	if r.Kind != 'v' && r.Kind != 'm' {
		return true
	}
	i := slices.IndexFunc(r.Columns, func(col Column) bool { return col.Number == number })
	v := c.view(r)
	return i >= 0 && v != nil && v.results[i].Plain
}

// shown returns what the i-th column of r shows, where viewOf traces views, and
// whether it shows that as it is.
func (c *Catalog) shown(r *Relation, i int, viewOf func(*Relation) *view) (names []string, opaque, plain bool) {
	names = append(names, r.column(i))
	if r.Kind == 'v' || r.Kind == 'm' {
		v := viewOf(r)
		if v == nil {
			return names, true, false
		}
		for _, name := range v.results[i].Sources {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return names, v.results[i].Opaque, v.results[i].Plain
	}
	for _, other := range c.related(r) {
		for j := range other.Columns {
			if other.Columns[j].Name == r.Columns[i].Name {
				names = append(names, other.column(j))
			}
		}
	}
	return names, false, true
}

// related returns the tables that r inherits from, directly or not, and those
// that inherit from it, unless they are more than maxShown.
func (c *Catalog) related(r *Relation) []*Relation {
	if len(r.Parents) == 0 && len(c.children[r.OID]) == 0 {
		return nil
	}
	seen := map[uint32]bool{r.OID: true}
	up := c.reach(r, seen, func(r *Relation) []uint32 { return r.Parents })
	down := c.reach(r, seen, func(r *Relation) []uint32 { return c.children[r.OID] })
	if len(down) > maxShown {
		return up
	}
	return append(up, down...)
}

// reach returns the relations that lead on from r, each once.
func (c *Catalog) reach(r *Relation, seen map[uint32]bool, next func(*Relation) []uint32) []*Relation {
	var found []*Relation
	for todo := []*Relation{r}; len(todo) > 0; todo = todo[1:] {
		for _, oid := range next(todo[0]) {
			if other := c.relations[oid]; other != nil && !seen[oid] {
				seen[oid] = true
				found = append(found, other)
				todo = append(todo, other)
			}
		}
	}
	return found
}

// Functions returns the functions that a name may stand for, besides
// PostgreSQL's own: with an empty schema, those of every schema. They are not
// to be changed.
func (c *Catalog) Functions(schema, name string) []*Function {
	if c == nil {
		return nil
	}
	all := c.functions[name]
	if schema == "" {
		return all
	}
	var found []*Function
	for _, f := range all {
		if f.Schema == schema {
			found = append(found, f)
		}
	}
	return found
}
