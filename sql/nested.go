package sql

import (
	"encoding/json"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// maxInner bounds a text in a statement that is read, in bytes, and maxInners
// how many of them are read for one statement.
const (
	maxInner  = 64 << 10
	maxInners = 500
)

// deeper returns a walker for what w's statement runs.
func (w *walker) deeper() *walker {
	if w.inners == nil {
		w.inners = new(int)
	}
	return &walker{postgres: w.postgres, catalog: w.catalog, nested: w.nested + 1, inners: w.inners}
}

// mayRead counts a text, and reports whether it is not one too many.
func (w *walker) mayRead(text string) bool {
	*w.inners++
	return w.nested <= maxNested && *w.inners <= maxInners && len(text) <= maxInner
}

// inner reads a text that a statement runs, as if it stood alone. ok: it could
// be read.
func (w *walker) inner(text string) (*walker, bool) {
	in := w.deeper()
	if !in.mayRead(text) {
		return nil, false
	}
	if read(text, nil).depth > maxDepth {
		return nil, false
	}
	result, err := w.postgres.tree(text)
	if err != nil {
		return nil, false
	}
	for _, raw := range result.Stmts {
		in.text = textOf(text, raw)
		in.verbs = nil // of the statement before it
		in.visit(raw.ProtoReflect())
	}
	return in, true
}

// take adds what a text does to what the statement does.
func (w *walker) take(in *walker) {
	for _, e := range in.effects {
		w.calledEffect(e)
	}
	for _, o := range in.objects {
		w.object(o)
	}
	for _, why := range in.unknown {
		w.cannotKnow(why)
	}
	w.commands, w.calls, w.unseen = w.commands || in.commands, w.calls || in.calls, w.unseen || in.unseen
}

// cannotKnow notes, in words, what is beyond knowing.
func (w *walker) cannotKnow(why string) {
	w.calls = true
	w.calledEffect(effectUnknown)
	if !slices.Contains(w.unknown, why) {
		w.unknown = append(w.unknown, why)
	}
}

// run notes a text that is run, or code.dynamic where it is not known.
func (w *walker) run(text string, known bool) {
	if known {
		if in, ok := w.inner(text); ok {
			w.take(in)
			return
		}
	}
	w.calls = true
	w.calledEffect(effectDynamic)
}

// runsText notes a call that runs its first arguments as SQL, as many as are
// there of n.
func (w *walker) runsText(args []*pg.Node, n int) {
	w.sensitive = true
	if len(args) == 0 {
		w.run("", false)
	}
	for i, arg := range args {
		text, known := constantText(arg)
		if i == 0 || i < n && !(known && isNumber(arg)) {
			w.run(text, known)
		}
	}
}

// isNumber reports a constant that can be no SQL.
func isNumber(n *pg.Node) bool { return n.GetAConst().GetIval() != nil }

// runsAny notes a call in which any argument may be SQL: what can be read as
// such counts, and what is not known is dynamic.
func (w *walker) runsAny(args []*pg.Node) {
	w.sensitive = true
	for _, arg := range args {
		text, known := constantText(arg)
		if !known {
			w.run("", false)
		} else if in, ok := w.inner(text); ok {
			w.take(in)
		}
	}
}

// readable are the languages whose code this package reads.
func readable(language string) bool {
	return language == "sql" || language == "plpgsql"
}

// function notes what the body of a function that is defined does.
func (w *walker) function(s *pg.CreateFunctionStmt) {
	language, body := "sql", ""
	for _, option := range s.Options {
		o := option.GetDefElem()
		switch strings.ToLower(o.GetDefname()) {
		case "language":
			language = strings.ToLower(o.GetArg().GetString_().GetSval())
		case "as":
			body = strings.Join(words(o.GetArg().GetList().GetItems()), "")
		}
	}
	switch {
	case !readable(language):
		w.effect(effectOS)
	case s.SqlBody != nil: // it is a part of the statement, and visited as such
	case language == "sql":
		w.run(body, true)
	default:
		w.block()
	}
}

// does notes what a DO does.
func (w *walker) does(s *pg.DoStmt) {
	language := "plpgsql"
	for _, arg := range s.Args {
		if o := arg.GetDefElem(); strings.EqualFold(o.GetDefname(), "language") {
			language = strings.ToLower(o.GetArg().GetString_().GetSval())
		}
	}
	if !readable(language) {
		w.effect(effectOS)
		return
	}
	w.block()
}

// block notes what the body of the statement does.
func (w *walker) block() {
	in := w.deeper()
	in.text = w.text
	if !in.mayRead(w.text) || !in.plpgsqlBody() {
		w.cannotKnow("a body that is not PL/pgSQL, or too much of it")
		return
	}
	w.take(in)
}

// plpgsqlBody reads the body of the function or block that is w's text, by
// PostgreSQL's own parser of PL/pgSQL, and reports whether it could.
func (w *walker) plpgsqlBody() bool {
	tree, err := w.postgres.parser.ParsePlpgsql(w.text)
	if err != nil {
		return false
	}
	var functions []map[string]any
	if json.Unmarshal(tree, &functions) != nil || len(functions) != 1 {
		return false
	}
	w.plpgsqlNode(functions[0])
	return true
}

// dynamic are the fields of the parser's tree of which the text is an
// expression that makes SQL.
var dynamic = map[string]string{
	"PLpgSQL_stmt_dynexecute": "query", "PLpgSQL_stmt_dynfors": "query", "PLpgSQL_stmt_open": "dynquery", "PLpgSQL_stmt_return_query": "dynquery",
}

// plpgsqlNode walks the parser's tree, whatever is in it.
func (w *walker) plpgsqlNode(n any) {
	switch n := n.(type) {
	case []any:
		for _, item := range n {
			w.plpgsqlNode(item)
		}
	case map[string]any:
		for name, value := range n {
			fields, _ := value.(map[string]any)
			if name == "PLpgSQL_expr" {
				text, _ := fields["query"].(string)
				mode, _ := fields["parseMode"].(float64)
				w.plpgsqlExpr(text, int(mode))
				continue
			}
			if field := dynamic[name]; fields[field] != nil && field != "" {
				e, _ := fields[field].(map[string]any)
				e, _ = e["PLpgSQL_expr"].(map[string]any)
				text, _ := e["query"].(string)
				w.execute(text)
				delete(fields, field)
			}
			w.plpgsqlNode(value)
		}
	}
}

// The modes of RawParseMode (parser/parser.h); above them are assignments.
const (
	modeStatement  = 0
	modeType       = 1
	modeExpression = 2
)

// plpgsqlExpr reads an expression or statement of a body.
func (w *walker) plpgsqlExpr(text string, mode int) {
	switch mode {
	case modeStatement:
		w.run(text, true)
	case modeExpression:
		w.run("SELECT "+text, true)
	case modeType:
	default:
		w.assign(text)
	}
}

// assign reads an assignment: of both sides, for the one may hold subscripts
// that are computed.
func (w *walker) assign(text string) {
	for i := range len(text) {
		if text[i] != '=' {
			continue
		}
		in := w.deeper()
		if left, ok := in.inner("SELECT " + strings.TrimSuffix(text[:i], ":")); ok {
			if right, ok := in.inner("SELECT " + text[i+1:]); ok {
				w.take(left)
				w.take(right)
				return
			}
		}
	}
	w.run("", false)
}

// execute reads the expression of a text that is run: a constant is read in
// its turn.
func (w *walker) execute(expression string) {
	w.run("SELECT "+expression, true)
	if result, err := w.postgres.tree("SELECT " + expression); err == nil && len(result.Stmts) == 1 {
		if targets := result.Stmts[0].Stmt.GetSelectStmt().GetTargetList(); len(targets) == 1 {
			if constant, known := constantText(targets[0].GetResTarget().GetVal()); known {
				w.run(constant, true)
				return
			}
		}
	}
	w.run("", false)
}
