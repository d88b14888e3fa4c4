package sql

import (
	"encoding/json"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// maxInner bounds a text in a statement that is read, in bytes.
const maxInner = 64 << 10

// inner reads a text that a statement runs, as if it stood alone. ok: it could
// be read.
func (w *walker) inner(text string) (*walker, bool) {
	if w.nested >= maxNested || len(text) > maxInner {
		return nil, false
	}
	result, err := w.postgres.tree(text)
	if err != nil {
		return nil, false
	}
	in := &walker{postgres: w.postgres, catalog: w.catalog, nested: w.nested + 1}
	for _, raw := range result.Stmts {
		in.text = textOf(text, raw)
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
	w.commands, w.calls = w.commands || in.commands, w.calls || in.calls
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

// runsText notes a call that runs its argument at a position as SQL. Another
// connection's name may come before it or not: then any constant is read.
func (w *walker) runsText(n *pg.FuncCall, at int) {
	w.sensitive = true
	if at >= len(n.Args) {
		at = len(n.Args) - 1
	}
	if at < 0 {
		w.run("", false)
		return
	}
	text, known := constantText(n.Args[at])
	w.run(text, known)
}

// trusted are the languages whose code this package reads.
func trusted(language string) bool {
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
			parts := words(o.GetArg().GetList().GetItems())
			body = strings.Join(parts, "")
		}
	}
	switch {
	case !trusted(language):
		w.effect(effectOS)
	case s.SqlBody != nil: // it is a part of the statement, and visited as such
	case language == "sql":
		w.run(body, true)
	default:
		w.plpgsqlBody()
	}
}

// block notes what a DO does.
func (w *walker) block(s *pg.DoStmt) {
	language := "plpgsql"
	for _, arg := range s.Args {
		if o := arg.GetDefElem(); strings.EqualFold(o.GetDefname(), "language") {
			language = strings.ToLower(o.GetArg().GetString_().GetSval())
		}
	}
	if !trusted(language) {
		w.effect(effectOS)
		return
	}
	w.plpgsqlBody()
}

// plpgsqlBody reads the body of the statement by PostgreSQL's own parser of
// PL/pgSQL.
func (w *walker) plpgsqlBody() {
	if w.nested >= maxNested || len(w.text) > maxInner {
		w.effect(effectDynamic)
		return
	}
	tree, err := w.postgres.parser.ParsePlpgsql(w.text)
	var parsed any
	if err == nil {
		err = json.Unmarshal(tree, &parsed)
	}
	if err != nil {
		w.effect(effectUnknown)
		return
	}
	w.plpgsqlNode(parsed, "")
}

// plpgsqlNode walks the parser's tree, whatever is in it.
func (w *walker) plpgsqlNode(n any, parent string) {
	switch n := n.(type) {
	case []any:
		for _, item := range n {
			w.plpgsqlNode(item, parent)
		}
	case map[string]any:
		for name, value := range n {
			if name == "PLpgSQL_expr" {
				if e, ok := value.(map[string]any); ok {
					text, _ := e["query"].(string)
					mode, _ := e["parseMode"].(float64)
					w.plpgsqlExpr(text, int(mode), parent)
					continue
				}
			}
			// What makes statements: their text is an expression.
			of := parent
			switch name {
			case "PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors":
				of = name
			case "params":
				of = ""
			}
			w.plpgsqlNode(value, of)
		}
	}
}

// The modes of RawParseMode (parser/parser.h).
const (
	modeStatement  = 0
	modeExpression = 2
)

// plpgsqlExpr reads an expression of a body. The text that EXECUTE runs is one
// too: a constant is read in its turn.
func (w *walker) plpgsqlExpr(text string, mode int, parent string) {
	if mode == modeStatement {
		w.run(text, true)
		return
	}
	if mode != modeExpression {
		// An assignment: what is assigned stands behind the sign.
		if _, value, found := strings.Cut(text, ":="); found {
			text = value
		} else if _, value, found := strings.Cut(text, "="); found {
			text = value
		}
	}
	if parent != "" {
		if result, err := w.postgres.tree("SELECT " + text); err == nil && len(result.Stmts) == 1 {
			if targets := result.Stmts[0].Stmt.GetSelectStmt().GetTargetList(); len(targets) == 1 {
				if constant, known := constantText(targets[0].GetResTarget().GetVal()); known {
					w.run(constant, true)
					return
				}
			}
		}
		w.run("", false)
		return
	}
	w.run("SELECT "+text, true)
}
