package sql

// Catalog is what a target's database has, as of one moment. It does not
// change once made.
type Catalog struct {
	relations map[uint32]*Relation
	named     map[string][]*Relation // by name, whatever the schema
	functions map[string][]*Function // by name, whatever the schema
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
	// Definition is the query of a view or materialized view.
	Definition string
	// Ruled reports that it has rewrite rules besides a view's own, or
	// triggers that are a user's.
	Ruled bool
}

// Column is one of a relation's, in order.
type Column struct {
	Number int16 // pg_attribute.attnum
	Name   string
	Type   uint32
	// Tags are those of its comment: "tags: pii, secret".
	Tags []string
}

// Function is one that is not pg_catalog's own.
type Function struct {
	Schema, Name string
	// Volatility is pg_proc.provolatile: i, s or v.
	Volatility byte
	// Language is pg_language.lanname, Body pg_proc.prosrc.
	Language, Body string
}
