package sql

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
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

// conditions judges the conditions on one target. What it does not know counts
// as everyRow.
type conditions struct {
	w      *walker
	target *pg.RangeVar
	others []*pg.Node // the relations beside it
	with   []*pg.WithClause
	left   *int // how many messages may still be looked at
}

// maxLook bounds how many messages of a statement's conditions are looked at,
// again and again where they are nested: beyond it nothing is known.
const maxLook = 1 << 20

// filtered is the effect of an UPDATE or DELETE of target by a condition, with
// other relations beside it.
func (w *walker) filtered(target *pg.RangeVar, where *pg.Node, others []*pg.Node, with *pg.WithClause) string {
	if where == nil || target == nil {
		return effectUnfiltered
	}
	left := maxLook
	c := conditions{w: w, target: target, others: others, left: &left}
	if with != nil {
		c.with = append(c.with, with)
	}
	j := c.judge(where, false)
	switch {
	case j.filter == everyRow || left <= 0:
		return effectUnfiltered
	case j.filter == fixedRows && len(others) == 0 && c.key(j.fixed):
		return effectKeyed
	}
	return effectWide
}

// merged is the effect of a MERGE: wide, or unfiltered where what it changes
// or deletes may be every row.
func (w *walker) merged(s *pg.MergeStmt) string {
	for _, n := range s.MergeWhenClauses {
		when := n.GetMergeWhenClause()
		if when.GetCommandType() != pg.CmdType_CMD_UPDATE && when.GetCommandType() != pg.CmdType_CMD_DELETE {
			continue
		}
		condition := when.Condition
		if when.MatchKind == pg.MergeMatchKind_MERGE_WHEN_MATCHED {
			condition = s.JoinCondition
			if when.Condition != nil {
				condition = &pg.Node{Node: &pg.Node_BoolExpr{BoolExpr: &pg.BoolExpr{Boolop: pg.BoolExprType_AND_EXPR, Args: []*pg.Node{s.JoinCondition, when.Condition}}}}
			}
		}
		if w.filtered(s.Relation, condition, []*pg.Node{s.SourceRelation}, s.WithClause) == effectUnfiltered {
			return effectUnfiltered
		}
	}
	return effectWide
}

const currentOf = "current of"

// key reports whether columns cover a key of the target: of one that the
// catalogue has, a unique index; of another, what is commonly called a key.
func (c *conditions) key(columns []string) bool {
	if slices.Contains(columns, currentOf) || slices.Contains(columns, "ctid") {
		return true
	}
	relations := c.w.catalog.Named(c.target.Schemaname, c.target.Relname)
	if len(relations) == 0 {
		return slices.ContainsFunc(columns, func(name string) bool {
			return name == "id" || name == "uuid" || name == "key" || strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_uuid") || strings.HasSuffix(name, "_key")
		})
	}
	return !slices.ContainsFunc(relations, func(r *Relation) bool { return !r.fixes(columns) })
}

// fixes reports whether columns cover one of the relation's keys.
func (r *Relation) fixes(columns []string) bool {
	return slices.ContainsFunc(r.Keys, func(key []int16) bool {
		return len(key) > 0 && !slices.ContainsFunc(key, func(n int16) bool {
			return !slices.ContainsFunc(r.Columns, func(col Column) bool { return col.Number == n && slices.Contains(columns, col.Name) })
		})
	})
}

// judge judges a condition, or what is not it.
func (c *conditions) judge(n *pg.Node, not bool) judgement {
	if *c.left--; *c.left <= 0 {
		return judgement{}
	}
	switch e := n.GetNode().(type) {
	case *pg.Node_BoolExpr:
		return c.combined(e.BoolExpr, not)
	case *pg.Node_AExpr:
		return c.expression(e.AExpr, not)
	case *pg.Node_ColumnRef:
		if c.column(n) != "" {
			return judgement{filter: someRows}
		}
	case *pg.Node_NullTest:
		return c.null(e.NullTest.Arg, (e.NullTest.Nulltesttype == pg.NullTestType_IS_NOT_NULL) == not)
	case *pg.Node_BooleanTest:
		return c.tested(e.BooleanTest, not)
	case *pg.Node_SubLink:
		return c.subquery(e.SubLink, not)
	case *pg.Node_CurrentOfExpr:
		if not {
			return judgement{}
		}
		return judgement{fixedRows, []string{currentOf}}
	case *pg.Node_TypeCast:
		if c.column(e.TypeCast.Arg) != "" {
			return judgement{} // of a number, it is all but zero
		}
		if j := c.judge(e.TypeCast.Arg, not); j.filter == everyRow {
			return j
		}
		return judgement{filter: someRows}
	case *pg.Node_FuncCall:
		if last(words(e.FuncCall.Funcname)) == "starts_with" && len(e.FuncCall.Args) == 2 {
			return c.matched(startsWith, e.FuncCall.Args[0], e.FuncCall.Args[1])
		}
	}
	return judgement{}
}

// null judges IS NULL, or IS NOT NULL: a key always is not.
func (c *conditions) null(arg *pg.Node, isNull bool) judgement {
	name := c.column(arg)
	if name == "" || !isNull && c.key([]string{name}) {
		return judgement{}
	}
	return judgement{filter: someRows}
}

// tested judges IS TRUE and the like. Those that hold for what is unknown, or
// are asked of what is no column, hold for more than can be seen.
func (c *conditions) tested(e *pg.BooleanTest, not bool) judgement {
	switch {
	case e.Booltesttype == pg.BoolTestType_IS_UNKNOWN:
		return c.null(e.Arg, !not)
	case e.Booltesttype == pg.BoolTestType_IS_NOT_UNKNOWN:
		return c.null(e.Arg, not)
	case c.column(e.Arg) != "":
		return judgement{filter: someRows}
	case e.Booltesttype == pg.BoolTestType_IS_TRUE && !not:
		return c.judge(e.Arg, false)
	case e.Booltesttype == pg.BoolTestType_IS_FALSE && !not:
		return c.judge(e.Arg, true)
	}
	return judgement{}
}

// combined judges AND, OR and NOT, and their opposites by De Morgan's rules.
func (c *conditions) combined(e *pg.BoolExpr, not bool) judgement {
	if len(e.Args) == 0 {
		return judgement{}
	}
	if e.Boolop == pg.BoolExprType_NOT_EXPR {
		return c.judge(e.Args[0], !not)
	}
	if (e.Boolop == pg.BoolExprType_AND_EXPR) != not {
		var j judgement
		for _, arg := range e.Args {
			j = j.and(c.judge(arg, not))
		}
		return j
	}
	parts := c.alternatives(nil, &pg.Node{Node: &pg.Node_BoolExpr{BoolExpr: e}}, not)
	j := judgement{filter: fixedRows}
	for i, p := range parts {
		if i == 0 {
			j = c.judge(p.node, p.not)
		} else {
			j = j.or(c.judge(p.node, p.not))
		}
		if j.filter == everyRow {
			return j
		}
	}
	if len(parts) == 0 || c.cover(parts) {
		return judgement{}
	}
	return j
}

// alternative is one of several conditions of which any is enough.
type alternative struct {
	node *pg.Node
	not  bool
}

// alternatives appends the conditions of which any is enough for n, or for what
// is not n.
func (c *conditions) alternatives(parts []alternative, n *pg.Node, not bool) []alternative {
	e := n.GetBoolExpr()
	switch {
	case e == nil || len(e.Args) == 0:
	case e.Boolop == pg.BoolExprType_NOT_EXPR:
		return c.alternatives(parts, e.Args[0], !not)
	case (e.Boolop == pg.BoolExprType_OR_EXPR) != not:
		for _, arg := range e.Args {
			parts = c.alternatives(parts, arg, not)
		}
		return parts
	default:
		// Of what must all hold, what holds for every row is no matter.
		if left := slices.DeleteFunc(slices.Clone(e.Args), func(arg *pg.Node) bool { return c.judge(arg, not).filter == everyRow }); len(left) == 1 {
			return c.alternatives(parts, left[0], not)
		}
	}
	return append(parts, alternative{n, not})
}

// and is the judgement of both conditions together.
func (j judgement) and(other judgement) judgement {
	fixed := slices.Clip(j.fixed)
	for _, name := range other.fixed {
		if len(fixed) < maxFixed && !slices.Contains(fixed, name) {
			fixed = append(fixed, name)
		}
	}
	return judgement{max(j.filter, other.filter), fixed}
}

// maxFixed bounds how many columns are noted: a key has at most 32.
const maxFixed = 64

// or is the judgement of either.
func (j judgement) or(other judgement) judgement {
	fixed := slices.DeleteFunc(slices.Clone(j.fixed), func(name string) bool { return !slices.Contains(other.fixed, name) })
	j = judgement{min(j.filter, other.filter), fixed}
	if j.filter == fixedRows && len(fixed) == 0 {
		j.filter = someRows
	}
	return j
}

// empties are columns that say nothing of what a row holds.
var empties = words2set("tableoid xmin xmax cmin cmax")

// column returns the name of the target's column that n is, without casts; "":
// it is none.
func (c *conditions) column(n *pg.Node) string {
	name, _ := c.plain(n)
	return name
}

// plain returns also whether the column is compared as it is: a cast, to
// boolean for one, may make one value of many.
func (c *conditions) plain(n *pg.Node) (name string, exact bool) {
	exact = true
	for {
		if cast := n.GetTypeCast(); cast != nil {
			if last(words(cast.TypeName.GetNames())) == "bool" {
				return "", false
			}
			exact = exact && keeps(cast.TypeName)
			n = cast.Arg
			continue
		}
		if collate := n.GetCollateClause(); collate != nil {
			exact, n = false, collate.Arg
			continue
		}
		break
	}
	ref := n.GetColumnRef()
	parts := words(ref.GetFields())
	if len(parts) == 0 || len(parts) != len(ref.Fields) {
		return "", false
	}
	name = last(parts)
	if empties[name] || !c.own(parts) {
		return "", false
	}
	return name, exact
}

// keeps reports a cast that tells all values of a key apart.
func keeps(t *pg.TypeName) bool {
	names := words(t.GetNames())
	name := last(names)
	return (len(names) == 1 || names[0] == "pg_catalog") && (name == "text" || name == "varchar") && len(t.Typmods) == 0 && len(t.ArrayBounds) == 0
}

// own reports whether a name is one of the target's columns.
func (c *conditions) own(parts []string) bool {
	if len(parts) > 1 {
		return parts[len(parts)-2] == c.name()
	}
	if len(c.w.catalog.Named(c.target.Schemaname, c.target.Relname)) > 0 {
		return c.has(parts[0])
	}
	// The target's own name stands for the whole row.
	return len(c.others) == 0 && parts[0] != c.name()
}

// name is what the target is called in the statement.
func (c *conditions) name() string { return called(c.target) }

func called(r *pg.RangeVar) string {
	if a := r.Alias; a != nil {
		return a.Aliasname
	}
	return r.Relname
}

// has reports whether the catalogue knows a column of the target.
func (c *conditions) has(name string) bool {
	return name == "ctid" || slices.ContainsFunc(c.w.catalog.Named(c.target.Schemaname, c.target.Relname), func(r *Relation) bool {
		return slices.ContainsFunc(r.Columns, func(col Column) bool { return col.Name == name })
	})
}
