package sql

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// negated are the operators that hold where another does not; flipped those
// that hold with the operands changed about.
var (
	negated = map[string]string{"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
	flipped = map[string]string{"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<=", "@>": "<@", "<@": "@>"}
)

// operator returns how two operands are compared, as if NOT were a part of it.
// many: the right one stands for many values, of which any or, unless any, all
// must fit.
func operator(e *pg.A_Expr, not bool) (op string, many, any bool) {
	op = last(words(e.Name))
	any = true
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_IN: // its operator is = or <>
		many, any = true, op == "="
	case pg.A_Expr_Kind_AEXPR_OP_ANY:
		many = true
	case pg.A_Expr_Kind_AEXPR_OP_ALL:
		many, any = true, false
	case pg.A_Expr_Kind_AEXPR_DISTINCT:
		op = "<>"
	case pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		op = "="
	}
	if op == "!=" {
		op = "<>"
	}
	if not {
		if opposite := negated[op]; opposite != "" {
			op = opposite
		} else {
			op = "not " + op
		}
		any = any != many // NOT any is all, of what is not
	}
	return op, many, any
}

// expression judges an operator's expression.
func (c *conditions) expression(e *pg.A_Expr, not bool) judgement {
	left, right := e.Lexpr, e.Rexpr
	if left == nil || right == nil || len(e.Name) > 1 && words(e.Name)[0] != "pg_catalog" || c.same(left, right) {
		return judgement{}
	}
	op, many, any := operator(e, not)
	switch e.Kind {
	case pg.A_Expr_Kind_AEXPR_LIKE, pg.A_Expr_Kind_AEXPR_ILIKE:
		return c.matched(like, left, right)
	case pg.A_Expr_Kind_AEXPR_SIMILAR:
		return c.matched(similar, left, right)
	case pg.A_Expr_Kind_AEXPR_BETWEEN, pg.A_Expr_Kind_AEXPR_BETWEEN_SYM:
		return c.between(left, right, e.Kind == pg.A_Expr_Kind_AEXPR_BETWEEN_SYM, not)
	case pg.A_Expr_Kind_AEXPR_NOT_BETWEEN, pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM:
		return c.between(left, right, e.Kind == pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM, !not)
	case pg.A_Expr_Kind_AEXPR_NULLIF:
		return judgement{}
	case pg.A_Expr_Kind_AEXPR_DISTINCT, pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:
		if uncast(left).GetAConst().GetIsnull() {
			left, right = right, left
		}
		if uncast(right).GetAConst().GetIsnull() {
			return c.null(left, op == "=")
		}
		if j := c.compare(op, left, right); uncast(right).GetAConst() == nil && uncast(left).GetAConst() == nil {
			return j.atMost(someRows) // a parameter may be null, as many rows are
		}
	}
	if many {
		return c.among(op, any, left, right)
	}
	switch strings.TrimLeft(strings.TrimPrefix(op, "not "), "!") {
	case "~~", "~~*":
		return c.matched(like, left, right)
	case "~", "~*":
		return c.matched(matches, left, right)
	case "^@":
		return c.matched(startsWith, left, right)
	}
	return c.compare(op, left, right)
}

// between judges BETWEEN as the two comparisons that it is.
func (c *conditions) between(left, right *pg.Node, symmetric, not bool) judgement {
	bounds := right.GetList().GetItems()
	if len(bounds) != 2 {
		return judgement{}
	}
	if symmetric && slices.ContainsFunc(bounds, c.mentions) {
		return judgement{}
	}
	if !not {
		return c.compare(">=", left, bounds[0]).and(c.compare("<=", left, bounds[1]))
	}
	j := c.compare("<", left, bounds[0]).or(c.compare(">", left, bounds[1]))
	if name := c.column(left); j.filter != everyRow && name != "" {
		var s spans
		s.add("<", bounds[0])
		s.add(">", bounds[1])
		c.w.sensitive = true
		if s.cover() {
			return judgement{}
		}
	}
	return j
}

// among judges a comparison with any or all of many values.
func (c *conditions) among(op string, any bool, left, right *pg.Node) judgement {
	items, spelled := right.GetList().GetItems(), right.GetList() != nil
	if array := uncast(right).GetAArrayExpr(); array != nil {
		items, spelled = array.Elements, true
	}
	if !any && !spelled {
		// Of no values, all fit.
		c.w.sensitive = true
		if text, constant := constantText(right); constant && strings.Trim(text, "{} ") == "" {
			return judgement{}
		}
	}
	if s := uncast(right).GetSubLink(); s != nil && s.SubLinkType != pg.SubLinkType_ARRAY_SUBLINK && c.readsTarget(s.Subselect.GetSelectStmt()) {
		return judgement{}
	}
	switch {
	case any && op == "<>", !any && spelled && len(items) == 0:
		return judgement{}
	case spelled && slices.ContainsFunc(items, c.mentions):
		return judgement{}
	case any && spelled && hasBool(items, true) && hasBool(items, false):
		return judgement{}
	}
	if row := left.GetRowExpr(); row != nil && any && op == "=" {
		return c.rows(row, items)
	}
	if name, exact := c.plain(left); name != "" {
		if any && op == "=" && exact && c.spelledOut(right) {
			return judgement{fixedRows, []string{name}}
		}
		return c.compare(op, left, right).atMost(someRows)
	}
	if any && op == "=" && spelled {
		return c.computed(op, left, right)
	}
	return judgement{}
}

func (j judgement) atMost(f filter) judgement { return judgement{filter: min(j.filter, f)} }

// rows judges (a, b) IN ((1, 2), (3, 4)).
func (c *conditions) rows(row *pg.RowExpr, items []*pg.Node) judgement {
	var names []string
	for i, arg := range row.Args {
		name, exact := c.plain(arg)
		if name != "" && exact && !slices.ContainsFunc(items, func(item *pg.Node) bool {
			values := item.GetRowExpr().GetArgs()
			return len(values) != len(row.Args) || !c.spelledOut(values[i])
		}) {
			names = append(names, name)
		}
	}
	if len(names) == 0 || len(items) == 0 {
		return judgement{}
	}
	return judgement{fixedRows, names}
}

// compare judges a comparison of two operands.
func (c *conditions) compare(op string, left, right *pg.Node) judgement {
	if c.same(left, right) {
		return judgement{}
	}
	if l, r := left.GetRowExpr(), right.GetRowExpr(); l != nil && r != nil && len(l.Args) == len(r.Args) && len(l.Args) > 0 {
		return c.pairs(op, l.Args, r.Args)
	}
	name, exact := c.plain(left)
	value := right
	if name == "" {
		if name, exact = c.plain(right); name != "" {
			value = left
			if opposite := flipped[op]; opposite != "" {
				op = opposite
			}
		}
	}
	switch {
	case name == "":
		return c.computed(op, left, right)
	case c.mentionsColumn(value, name), c.isEvery(op, name, value):
		return judgement{}
	case op == "=" && exact && c.spelledOut(value):
		return judgement{fixedRows, []string{name}}
	}
	return judgement{filter: someRows}
}

// pairs judges a comparison of rows.
func (c *conditions) pairs(op string, left, right []*pg.Node) judgement {
	j := c.compare(op, left[0], right[0])
	for i := 1; i < len(left); i++ {
		switch op {
		case "=":
			j = j.and(c.compare(op, left[i], right[i]))
		case "<>":
			j = j.or(c.compare(op, left[i], right[i]))
		}
	}
	return j
}

// isEvery reports a value that every row's column compares with: a bound that
// is none, what holds nothing, the column of the row itself by another name.
func (c *conditions) isEvery(op, name string, value *pg.Node) bool {
	if text, constant := constantText(value); constant && op != "=" && op != "<>" && uncast(value).GetAConst().GetSval() != nil {
		c.w.sensitive = true
		text = strings.ToLower(strings.TrimSpace(text))
		switch op {
		case ">", ">=":
			return text == "-infinity" || text == "-inf"
		case "<", "<=":
			return strings.TrimPrefix(text, "+") == "infinity" || text == "inf" || text == "nan"
		}
		return strings.Trim(text, `{}[](),"$ `) == "" || !contains(op) // such as tags @> '{}'
	}
	if !compares(op) && !spelledValue(value) {
		return true
	}
	if number, err := strconv.ParseFloat(numberText(value), 64); err == nil {
		return number >= math.MaxInt32 && (op == "<" || op == "<=") || number <= -math.MaxInt32 && (op == ">" || op == ">=")
	}
	if ref := value.GetColumnRef(); ref != nil && len(c.others) > 0 && op != "<>" {
		return c.joinsItself(name, words(ref.Fields))
	}
	if s := uncast(value).GetSubLink(); s != nil {
		return c.subqueryIsEvery(op, s)
	}
	return hasQuery(value)
}

// compares reports an operator of an order, or its opposite.
func compares(op string) bool { return negated[op] != "" }

// contains reports an operator, or its opposite, of which something that is not
// empty holds for some rows.
func contains(op string) bool {
	switch strings.TrimPrefix(op, "not ") {
	case "@>", "<@", "&&", "?", "?|", "?&", "@@":
		return true
	}
	return compares(op)
}

// spelledValue reports a value that something is looked for by and that is not
// empty: a parameter, a constant that is no text, an array, or what makes one
// of the like of constants.
func spelledValue(n *pg.Node) bool {
	n = uncast(n)
	if array := n.GetAArrayExpr(); array != nil {
		return len(array.Elements) > 0
	}
	if f := n.GetFuncCall(); f != nil {
		switch last(words(f.Funcname)) {
		case "jsonb_build_object", "jsonb_build_array", "to_tsquery", "plainto_tsquery", "phraseto_tsquery":
			return len(f.Args) > 0
		}
		return false
	}
	return n.GetParamRef() != nil || n.GetAConst() != nil
}

// hasBool reports a list with a truth value in it.
func hasBool(items []*pg.Node, want bool) bool {
	return slices.ContainsFunc(items, func(n *pg.Node) bool { return isBool(n, want) })
}

// numberText returns a number as it is written, or "".
func numberText(n *pg.Node) string {
	n = uncast(n)
	if e := n.GetAExpr(); e != nil && e.Lexpr == nil && last(words(e.Name)) == "-" && numberText(e.Rexpr) != "" {
		return "-" + numberText(e.Rexpr)
	}
	if c := n.GetAConst(); c.GetIval() != nil || c.GetFval() != nil {
		text, _ := constantText(n)
		return text
	}
	return ""
}

// smooth are functions of which a range of values is one of the column that
// they are given; telling are those that equal one value for few.
var (
	smooth  = words2set("date_trunc date timezone age to_timestamp")
	telling = words2set("date_trunc date timezone lower upper trim btrim ltrim rtrim extract date_part md5")
	// coarse are units of time that many rows share.
	coarse = words2set("millennium millenniums mil mils century centuries cent c decade decades dec decs timezone timezone_h timezone_hour timezone_m timezone_minute era")
)

// tells reports a call of one column, and of constants by which it tells one
// row from many others.
func (c *conditions) tells(f *pg.FuncCall) bool {
	named := slices.ContainsFunc(f.Args, func(a *pg.Node) bool { return c.column(a) != "" })
	others := 0
	for _, a := range f.Args {
		if c.mentions(a) {
			others++
		}
	}
	if !named || others != 1 {
		return false
	}
	switch last(words(f.Funcname)) {
	case "trim", "btrim", "ltrim", "rtrim", "to_timestamp":
		return len(f.Args) == 1
	case "extract", "date_part", "date_trunc":
		c.w.sensitive = true
		unit, known := constantText(f.Args[0])
		return known && !coarse[strings.ToLower(strings.TrimSpace(unit))]
	}
	return true
}

// computed judges a comparison of something that is no plain column. What is
// computed of a column may equal few values, and be above or below all.
func (c *conditions) computed(op string, left, right *pg.Node) judgement {
	side, value := left, right
	if c.mentions(right) {
		side, value = right, left
	}
	if c.mentions(value) || hasQuery(value) || hasQuery(side) {
		return judgement{}
	}
	if opposite := flipped[op]; side == right && opposite != "" {
		op = opposite
	}
	side = uncast(side)
	if f := side.GetFuncCall(); f != nil && c.tells(f) {
		name := last(words(f.Funcname))
		ranged := op == "<" || op == "<=" || op == ">" || op == ">="
		if op == "=" && telling[name] || ranged && smooth[name] && !c.isEvery(op, "", value) {
			return judgement{filter: someRows}
		}
	}
	if e := side.GetAExpr(); e != nil && e.Kind == pg.A_Expr_Kind_AEXPR_OP {
		switch sign := last(words(e.Name)); {
		case op == "=" && c.field(side):
			return judgement{filter: someRows}
		case (sign == "+" || sign == "-") && c.column(e.Lexpr) != "" && !c.mentions(e.Rexpr):
			return c.compare(op, e.Lexpr, value).atMost(someRows)
		}
	}
	return judgement{}
}

// field reports what is taken out of a column that holds JSON.
func (c *conditions) field(n *pg.Node) bool {
	e := n.GetAExpr()
	if sign := last(words(e.GetName())); e == nil || sign != "->" && sign != "->>" && sign != "#>" && sign != "#>>" {
		return false
	}
	return c.column(e.Lexpr) != "" || c.field(e.Lexpr)
}

// pattern is a way to match a text.
type pattern uint8

const (
	like pattern = iota
	similar
	matches
	startsWith
)

// samples are texts such as columns hold, of one kind each: a pattern that
// matches all of a kind matches about every row.
var samples = [][]string{
	{"0", "7", "42", "1999"},
	{"-3.5", "10", "0.25"},
	{"Alice Smith", "bob", "Zoë O'Neil", "QTY"},
	{"x@example.com", "Zed_9@mail.example.org", "w-k@b.co", "q@t.uk"},
	{"2024-01-02 03:04:05+00", "1999-12-31 23:59:59.5+01", "1987-05-06 00:00:00+00"},
	{"00000000-1111-4222-8333-999999999999", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee", "55555555-6666-7777-9fff-000000000000"},
	{"111-22-3333", "444-55-6666", "777-88-9999"},
	{"+1 212 555 2001", "+44 20 7946 0958", "+33 1 56 78 66 66"},
	{`{"k": [1]}`, `{"name": "x", "n": null}`, `{}`},
}

// matched judges a match of a column with a pattern: one that is matched by
// anything is no filter.
func (c *conditions) matched(kind pattern, left, right *pg.Node) judgement {
	c.w.sensitive = true
	if c.column(left) == "" {
		return judgement{}
	}
	if f := right.GetFuncCall(); f != nil && kind <= similar && len(f.Args) > 0 {
		if name := last(words(f.Funcname)); name == "similar_to_escape" || name == "like_escape" {
			right = f.Args[0]
		}
	}
	text, known := patternText(right)
	if !known {
		return judgement{}
	}
	switch kind {
	case like:
		if matchesAll("(?i)" + likeExpression(text)) {
			return judgement{}
		}
	case startsWith:
		if text == "" {
			return judgement{}
		}
	case similar:
		if matchesAll("^(?:" + strings.NewReplacer("%", ".*", "_", ".").Replace(text) + ")$") {
			return judgement{}
		}
	case matches:
		if matchesAll(text) {
			return judgement{}
		}
	}
	return judgement{filter: someRows}
}

// patternText returns a pattern, with a letter for a parameter. known: it is
// made of constants and parameters.
func patternText(n *pg.Node) (text string, known bool) {
	n = uncast(n)
	if n.GetParamRef() != nil {
		return "p", true
	}
	if e := n.GetAExpr(); e != nil && last(words(e.Name)) == "||" {
		left, ok1 := patternText(e.Lexpr)
		right, ok2 := patternText(e.Rexpr)
		return left + right, ok1 && ok2
	}
	return constantText(n)
}

// maxPattern bounds a regular expression that is tried, in bytes.
const maxPattern = 1000

// likeExpression is a pattern of LIKE as a regular expression. What escapes is
// taken for no more than itself.
func likeExpression(pattern string) string {
	return "^" + strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(pattern)) + "$"
}

// matchesAll reports a regular expression that matches all samples of a kind,
// or that cannot be tried.
func matchesAll(text string) bool {
	if len(text) > maxPattern {
		return true
	}
	expression, err := regexp.Compile("(?s)" + text)
	return err != nil || slices.ContainsFunc(samples, func(kind []string) bool {
		return !slices.ContainsFunc(kind, func(s string) bool { return !expression.MatchString(s) })
	})
}

// uncast returns what is cast.
func uncast(n *pg.Node) *pg.Node {
	for n.GetTypeCast() != nil {
		n = n.GetTypeCast().Arg
	}
	return n
}

// spelledOut reports constants, parameters and lists of them: values that
// stand in the statement.
func (c *conditions) spelledOut(n *pg.Node) bool {
	each := func(nodes []*pg.Node) bool {
		return !slices.ContainsFunc(nodes, func(i *pg.Node) bool { return !c.spelledOut(i) })
	}
	switch e := n.GetNode().(type) {
	case *pg.Node_AConst, *pg.Node_ParamRef:
		return true
	case *pg.Node_TypeCast:
		return c.spelledOut(e.TypeCast.Arg)
	case *pg.Node_List:
		return each(e.List.Items)
	case *pg.Node_AArrayExpr:
		return each(e.AArrayExpr.Elements)
	case *pg.Node_AExpr: // a sign
		return e.AExpr.Kind == pg.A_Expr_Kind_AEXPR_OP && e.AExpr.Lexpr == nil && last(words(e.AExpr.Name)) == "-" && c.spelledOut(e.AExpr.Rexpr)
	}
	return false
}
