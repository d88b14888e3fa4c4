package sql

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// mentions reports whether a column of the target stands anywhere in n, outside
// of queries.
func (c *conditions) mentions(n *pg.Node) bool { return c.mentionsColumn(n, "") }

// mentionsColumn is mentions of a column of a name, or with "" of any.
func (c *conditions) mentionsColumn(n *pg.Node, name string) bool {
	found := false
	c.each(n, func(m proto.Message) bool {
		switch e := m.(type) {
		case *pg.SelectStmt:
			return false
		case *pg.ColumnRef:
			parts := words(e.Fields)
			found = found || len(parts) > 0 && (name == "" || last(parts) == name) && c.own(parts)
		}
		return !found
	})
	return found
}

// mentionsIn reports whether n, which stands in a query of relations, names the
// target: by its name, or by a column that only the target has.
func (c *conditions) mentionsIn(n *pg.Node, from []*pg.Node) bool {
	found := false
	c.each(n, func(m proto.Message) bool {
		if e, ok := m.(*pg.ColumnRef); ok {
			parts := words(e.Fields)
			switch {
			case len(parts) > 1:
				found = found || parts[len(parts)-2] == c.name()
			case len(parts) == 1:
				found = found || len(from) > 0 && c.has(parts[0]) && c.lack(from, parts[0])
			}
		}
		return !found
	})
	return found
}

// lack reports relations that are known to have no column of a name.
func (c *conditions) lack(from []*pg.Node, name string) bool {
	return !slices.ContainsFunc(from, func(n *pg.Node) bool {
		switch e := n.GetNode().(type) {
		case *pg.Node_RangeVar:
			r := e.RangeVar
			relation := conditions{w: c.w, target: r}
			return c.named(r) != nil || len(r.Alias.GetColnames()) > 0 || len(c.w.catalog.Named(r.Schemaname, r.Relname)) == 0 || relation.has(name)
		case *pg.Node_JoinExpr:
			return !c.lack([]*pg.Node{e.JoinExpr.Larg, e.JoinExpr.Rarg}, name)
		}
		return true
	})
}

// hasQuery reports a query in n.
func hasQuery(n *pg.Node) bool {
	found := false
	eachMessage(n.ProtoReflect(), func(m proto.Message) bool {
		_, is := m.(*pg.SubLink)
		found = found || is
		return !found
	})
	return found
}

// each calls fn with every message in n, until it says not to go deeper or too
// much was looked at.
func (c *conditions) each(n *pg.Node, fn func(proto.Message) bool) {
	if n == nil {
		return
	}
	eachMessage(n.ProtoReflect(), func(m proto.Message) bool {
		*c.left--
		return *c.left > 0 && fn(m)
	})
}

// eachMessage calls fn with m and every message in it, until it says not to go
// deeper into one.
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

// maxShape bounds how much of an expression is compared with another, in
// bytes.
const maxShape = 4 << 10

// same reports whether two expressions are written alike, wherever they stand,
// or are too long to tell.
func (c *conditions) same(a, b *pg.Node) bool {
	first, second := c.shape(a, maxShape), c.shape(b, maxShape)
	return string(first) == string(second)
}

// shape is an expression without its places in the text, and without casts, up
// to a number of bytes.
func (c *conditions) shape(n *pg.Node, most int) []byte {
	dst := c.shaped(n.ProtoReflect(), nil, most)
	return dst[:min(len(dst), most)]
}

func (c *conditions) shaped(m protoreflect.Message, dst []byte, most int) []byte {
	if *c.left--; *c.left <= 0 || len(dst) > most {
		return dst
	}
	if node, ok := m.Interface().(*pg.Node); ok {
		if cast := node.GetTypeCast(); cast != nil {
			return c.shaped(cast.Arg.ProtoReflect(), dst, most)
		}
		// A column by its name alone is that of the target too.
		if ref := node.GetColumnRef(); ref != nil {
			if parts := words(ref.Fields); len(parts) == len(ref.Fields) && c.own(parts) {
				return append(append(append(dst, "own "...), last(parts)...), 0)
			}
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
		switch v := m.Get(f); {
		case f.IsList():
			for j := range v.List().Len() {
				if f.Message() != nil {
					dst = c.shaped(v.List().Get(j).Message(), dst, most)
				} else {
					dst = append(dst, v.List().Get(j).String()...)
				}
				dst = append(dst, 0)
			}
		case f.Message() != nil:
			dst = c.shaped(v.Message(), dst, most)
		default:
			dst = append(append(dst, v.String()...), 0)
		}
	}
	return dst
}

// spans are comparisons of one column with values, any of which may hold.
type spans struct {
	below, above       []*pg.Node // what it may be less, or more, than
	apart              []*pg.Node // what it may differ from
	equal              []*pg.Node
	null, some, truth  bool // IS NULL, IS NOT NULL, the column itself
	lie, other, unlike bool // NOT the column; another operator; NOT LIKE and the like
}

func (s *spans) add(op string, value *pg.Node) {
	switch op {
	case "<", "<=":
		s.below = append(s.below, value)
	case ">", ">=":
		s.above = append(s.above, value)
	case "<>":
		s.apart = append(s.apart, value)
	case "=":
		s.equal = append(s.equal, value)
	default:
		s.other = true
	}
}

// cover reports comparisons that together leave no value out, or of which that
// cannot be told.
func (s *spans) cover() bool {
	for _, low := range s.above {
		for _, high := range s.below {
			if !inOrder(high, low) {
				return true
			}
		}
	}
	ranged := len(s.below) > 0 || len(s.above) > 0
	switch {
	case s.null && s.some, s.truth && s.lie, s.other && (ranged || len(s.apart) > 0), ranged && len(s.apart) > 0, s.unlike && (s.other || ranged || len(s.equal) > 0):
		return true
	}
	for i, value := range s.apart {
		if slices.ContainsFunc(s.apart[i+1:], func(n *pg.Node) bool { return !equal(value, n, true) }) ||
			slices.ContainsFunc(s.equal, func(n *pg.Node) bool { return !equal(value, n, false) }) {
			return true
		}
	}
	yes := slices.ContainsFunc(s.equal, func(n *pg.Node) bool { return isBool(n, true) }) || s.truth
	no := slices.ContainsFunc(s.equal, func(n *pg.Node) bool { return isBool(n, false) }) || s.lie
	return yes && no
}

// equal reports constants that are known to be written alike, or unlike.
func equal(a, b *pg.Node, alike bool) bool {
	first, known := constantText(a)
	second, alsoKnown := constantText(b)
	return known && alsoKnown && (first == second) == alike
}

func isBool(n *pg.Node, want bool) bool {
	b, is := uncast(n).GetAConst().GetVal().(*pg.A_Const_Boolval)
	return is && b.Boolval.Boolval == want
}

// inOrder reports whether a is known to be less than b.
func inOrder(a, b *pg.Node) bool {
	first, known := constantText(a)
	second, alsoKnown := constantText(b)
	if !known || !alsoKnown {
		return false
	}
	x, err1 := strconv.ParseFloat(first, 64)
	y, err2 := strconv.ParseFloat(second, 64)
	if err1 == nil && err2 == nil {
		return x < y
	}
	return err1 != nil && err2 != nil && first < second
}

// maxSpans bounds how many comparisons of one column are compared with each
// other.
const maxSpans = 64

// cover reports conditions of which one always holds, where each alone depends
// on the row.
func (c *conditions) cover(parts []alternative) bool {
	c.w.sensitive = true
	columns := map[string]*spans{}
	whole := map[string]bool{} // by shape; true: what is not it
	for _, p := range parts {
		shape := string(c.shape(p.node, maxShape/8))
		if before, seen := whole[shape]; seen && before != p.not {
			return true
		}
		whole[shape] = p.not
		name, op, value := c.atom(p.node, p.not)
		if name == "" {
			continue
		}
		s := columns[name]
		if s == nil {
			s = new(spans)
			columns[name] = s
		}
		s.note(op, value)
		if len(s.below)+len(s.above)+len(s.apart)+len(s.equal) > maxSpans && (len(s.below) > 0 || len(s.above) > 0 || len(s.apart) > 0) {
			return true
		}
	}
	// This and that, or not this, or not that.
	for _, p := range parts {
		e := p.node.GetBoolExpr()
		if e != nil && !slices.ContainsFunc(e.Args, func(arg *pg.Node) bool {
			not, seen := whole[string(c.shape(arg, maxShape/8))]
			return !seen || not == p.not
		}) {
			return true
		}
	}
	for _, s := range columns {
		if s.cover() {
			return true
		}
	}
	return false
}

// The conditions on one column that are no comparisons.
const (
	opNull    = "is null"
	opNotNull = "is not null"
	opTrue    = "is true"
	opFalse   = "is false"
	opUnlike  = "not like"
)

func (s *spans) note(op string, value *pg.Node) {
	switch op {
	case opNull:
		s.null = true
	case opNotNull:
		s.some = true
	case opTrue:
		s.truth = true
	case opFalse:
		s.lie = true
	case opUnlike:
		s.other, s.unlike = s.other || s.unlike, true
	default:
		s.add(op, value)
	}
}

// atom returns a condition on one column, as if NOT were a part of it.
func (c *conditions) atom(n *pg.Node, not bool) (name, op string, value *pg.Node) {
	pick := func(is bool, yes, no string) string {
		if is != not {
			return yes
		}
		return no
	}
	switch e := n.GetNode().(type) {
	case *pg.Node_ColumnRef:
		return c.column(n), pick(true, opTrue, opFalse), nil
	case *pg.Node_NullTest:
		return c.column(e.NullTest.Arg), pick(e.NullTest.Nulltesttype == pg.NullTestType_IS_NULL, opNull, opNotNull), nil
	case *pg.Node_BooleanTest:
		switch e.BooleanTest.Booltesttype {
		case pg.BoolTestType_IS_TRUE, pg.BoolTestType_IS_NOT_FALSE:
			return c.column(e.BooleanTest.Arg), pick(true, opTrue, opFalse), nil
		case pg.BoolTestType_IS_FALSE, pg.BoolTestType_IS_NOT_TRUE:
			return c.column(e.BooleanTest.Arg), pick(true, opFalse, opTrue), nil
		}
	case *pg.Node_AExpr:
		return c.atomOf(e.AExpr, not)
	}
	return "", "", nil
}

func (c *conditions) atomOf(e *pg.A_Expr, not bool) (name, op string, value *pg.Node) {
	op, many, any := operator(e, not)
	name, value = c.column(e.Lexpr), e.Rexpr
	if name == "" {
		name, value = c.column(e.Rexpr), e.Lexpr
		if opposite := flipped[op]; opposite != "" {
			op = opposite
		}
	}
	if many {
		switch {
		case any && op == "=":
			return name, "=", value
		case !any && op == "<>":
			return name, "<>", value
		}
		return name, "other", value
	}
	written := last(words(e.Name))
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_LIKE, pg.A_Expr_Kind_AEXPR_ILIKE, pg.A_Expr_Kind_AEXPR_SIMILAR, pg.A_Expr_Kind_AEXPR_BETWEEN,
		pg.A_Expr_Kind_AEXPR_NOT_BETWEEN, pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		if (strings.HasPrefix(written, "!") || strings.HasPrefix(written, "NOT")) != not {
			return name, opUnlike, value
		}
		return name, "other", value
	case pg.A_Expr_Kind_AEXPR_DISTINCT, pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		if value.GetAConst().GetIsnull() { // on either side
			return name, map[bool]string{true: opNull, false: opNotNull}[op == "="], nil
		}
	}
	if strings.HasPrefix(written, "!~") != not && strings.Contains(written, "~") {
		return name, opUnlike, value
	}
	return name, op, value
}
