package sql

import (
	"sync"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	"github.com/custos-gateway/custos/sql/libpgquery"
)

// view is what the columns of a view are made of, in order; without results,
// that is not known.
type view struct{ results []Result }

// maxViews bounds how many views may stand on one another.
const maxViews = 100

// definitions parses the queries of views.
var definitions = sync.OnceValue(func() *libpgquery.Parser { return libpgquery.New(1) })

// view returns what a view's columns are made of, or nil where that cannot be
// known. It is found out once.
func (c *Catalog) view(r *Relation) *view {
	v := c.views[r.OID].Load()
	if v == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		v = c.traceView(r, map[uint32]bool{})
	}
	return v.known()
}

// known returns v, or nil without results.
func (v *view) known() *view {
	if v.results == nil {
		return nil
	}
	return v
}

// traceView traces a view, and those that it stands on before it. Those in
// above stand on it. It is called with c.mu held.
func (c *Catalog) traceView(r *Relation, above map[uint32]bool) *view {
	if v := c.views[r.OID].Load(); v != nil {
		return v
	}
	if above[r.OID] || len(above) >= maxViews {
		return &view{}
	}
	above[r.OID] = true
	defer delete(above, r.OID)
	v := &view{}
	if stmt := parseView(r.Definition); stmt != nil {
		t := &tracer{c: c, above: above}
		if found := t.trace(stmt); found.known && len(found.results) == len(r.Columns) {
			v.results = found.results
		}
	}
	c.views[r.OID].Store(v)
	return v
}

// parseView returns the one query of a definition, or nil.
func parseView(definition string) *pg.Node {
	if definition == "" || len(definition) > 1<<20 {
		return nil
	}
	tree, err := definitions().Parse(definition)
	if err != nil {
		return nil
	}
	var parsed pg.ParseResult
	if proto.Unmarshal(tree, &parsed) != nil || len(parsed.Stmts) != 1 || parsed.Stmts[0].Stmt.GetSelectStmt() == nil {
		return nil
	}
	return parsed.Stmts[0].Stmt
}
