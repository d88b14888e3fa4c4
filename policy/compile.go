package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/custos-gateway/custos"
)

// condition is a compiled When. The zero value is always true.
type condition struct {
	program cel.Program
	// cases are its alternatives, each a list of what must hold, written in
	// one way, to compare conditions.
	cases [][]string
	// volatile: it asks of what differs between operations with the same facts.
	volatile bool
	// masked: it asks what of the operation is masked.
	masked bool
	// identity: it asks who the caller is, and not only of kind and groups.
	identity bool
}

// maxCost bounds one evaluation, in CEL's units: a few milliseconds. It is
// counted where a condition loops; one that does not is bounded by its length.
const maxCost = 1_000_000

// environment is what every condition is compiled in. It is made once, for it
// holds no state.
var environment = sync.OnceValue(func() *cel.Env {
	registry, err := types.NewRegistry()
	if err != nil {
		panic("policy: " + err.Error())
	}
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(registry), cel.CustomTypeProvider(provider{registry}),
		cel.EnableMacroCallTracking(), ext.Sets(), cel.RegexProgramSizeLimit(10_000),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.typ))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		// It depends on nothing but this package: every test would fail.
		panic("policy: " + err.Error())
	}
	return env
})

// compile makes a condition ready. Problems have their place in text.
func compile(text string) (condition, Problems) {
	if strings.TrimSpace(text) == "" {
		return condition{}, nil
	}
	env := environment()
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		var problems Problems
		for _, e := range issues.Errors() {
			problems = append(problems, problemAt(e.Location, plain(e.Message)))
		}
		return condition{}, problems
	}
	s := &scan{tree: checked.NativeRep()}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		s.fail(s.tree.Expr().ID(), "it is %s, and a condition is true or false", cel.FormatCELType(checked.OutputType()))
	}
	s.run()
	if len(s.problems) > 0 {
		return condition{}, s.problems
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), inZones}
	if s.loops {
		options = append(options, cel.CostLimit(maxCost))
	}
	program, err := env.Program(checked, options...)
	if err != nil {
		return condition{}, Problems{{Line: 1, Column: 1, Message: plain(err.Error())}}
	}
	s.program, s.cases = program, s.alternatives()
	return s.condition, nil
}

// problemAt places a problem. CEL counts columns from 0, and has -1 for both
// where it does not know.
func problemAt(at common.Location, message string) Problem {
	return Problem{Line: max(at.Line(), 1), Column: max(at.Column()+1, 1), Message: message}
}

// plain says what CEL says of names in our words.
func plain(message string) string {
	for _, o := range objects {
		if strings.HasPrefix(message, "undefined field '") {
			message = strings.ReplaceAll(message, "undefined field", "no such field")
		}
		message = strings.ReplaceAll(message, o.typ.TypeName(), strings.ToLower(strings.TrimPrefix(o.typ.TypeName(), "custos.")))
	}
	if name, found := strings.CutPrefix(message, "undeclared reference to '"); found {
		name, _, _ = strings.Cut(name, "'")
		names := make([]string, len(variables))
		for i, v := range variables {
			names[i] = v.name
		}
		return fmt.Sprintf("there is no %s: the names here are %s", name, strings.Join(names, ", "))
	}
	return message
}

// scan reads a checked condition for what it depends on, and for words that
// would silently never match.
type scan struct {
	condition
	tree     *ast.AST
	loops    bool
	problems Problems
}

func (s *scan) fail(id int64, format string, args ...any) {
	s.problems = append(s.problems, problemAt(s.tree.SourceInfo().GetStartLocation(id), fmt.Sprintf(format, args...)))
}

func (s *scan) run() {
	for _, e := range ast.MatchDescendants(ast.NavigateAST(s.tree), ast.AllMatcher()) {
		switch e.Kind() {
		case ast.IdentKind:
			s.ident(e)
		case ast.SelectKind:
			s.field(e)
		case ast.StructKind:
			s.fail(e.ID(), "nothing is made here: compare fields")
		case ast.ComprehensionKind:
			s.loops = true
		case ast.CallKind:
			s.clock(e)
		}
		s.whole(e)
	}
}

func (s *scan) ident(e ast.NavigableExpr) {
	switch strings.TrimPrefix(e.AsIdent(), ".") {
	case "usage", "now":
		s.volatile = true
	case "masked":
		s.masked = true
	}
}

func (s *scan) field(e ast.NavigableExpr) {
	sel := e.AsSelect()
	owner := s.tree.GetType(sel.Operand().ID())
	if owner == nil {
		return
	}
	switch name := strings.TrimPrefix(owner.TypeName(), "custos.") + "." + sel.FieldName(); name {
	case "Operation.text", "Operation.params":
		s.volatile = true
	case "Operation.attributes":
		s.attribute(e)
	case "Operation.effects":
		s.words(e, "effect", isEffect, "docs/policy.md lists them")
	case "Caller.kind":
		s.words(e, "kind", func(w string) bool {
			return slices.ContainsFunc(kinds, func(k custos.Kind) bool { return string(k) == w })
		}, "want "+list(kinds))
	case "Caller.issuer", "Caller.subject", "Caller.name", "Caller.skill", "Caller.on_behalf_of":
		s.identity = true
	}
}

// attribute reports an attribute that there is none of by its name, however it
// is asked for.
func (s *scan) attribute(e ast.NavigableExpr) {
	parent, ok := e.Parent()
	if !ok {
		return
	}
	name, known := "", false
	switch parent.Kind() {
	case ast.SelectKind:
		name, known = parent.AsSelect().FieldName(), true
		if parent.AsSelect().IsTestOnly() {
			s.fail(parent.ID(), "has() is always true of an attribute: compare it with []")
		}
	case ast.CallKind:
		for _, operand := range parent.Children() {
			if w, ok := literalText(operand); ok {
				name, known = w, true
			}
		}
	}
	if known && !isAttribute(name) {
		s.fail(parent.ID(), "there is no attribute %q: docs/policy.md lists them", name)
	}
}

// whole reports an object that is not asked for a field: it is no value.
func (s *scan) whole(e ast.NavigableExpr) {
	t := s.tree.GetType(e.ID())
	if t == nil || t.Kind() != types.StructKind || e.Kind() == ast.StructKind {
		return
	}
	o := findObject(t.TypeName())
	if parent, ok := e.Parent(); o == nil || ok && parent.Kind() == ast.SelectKind {
		return
	}
	s.fail(e.ID(), "name a field of it: %s", fieldNames(o))
}

// comparing are the functions whose operands are the same words.
var comparing = []string{operators.Equals, operators.NotEquals, operators.In, operators.OldIn, "sets.contains", "sets.intersects", "sets.equivalent"}

// words reports literals that e is compared with and that known does not know,
// so that a slip of the pen is an error and not a rule that never fires.
func (s *scan) words(e ast.NavigableExpr, what string, known func(string) bool, hint string) {
	parent, ok := e.Parent()
	if !ok {
		return
	}
	switch parent.Kind() {
	case ast.CallKind:
		if !slices.Contains(comparing, parent.AsCall().FunctionName()) {
			return
		}
		for _, operand := range parent.Children() {
			for _, literal := range append(operand.Children(), operand) {
				if operand.Kind() != ast.ListKind && literal != operand {
					continue
				}
				if w, ok := literalText(literal); ok && !known(w) {
					s.fail(literal.ID(), "there is no %s %q: %s", what, w, hint)
				}
			}
		}
	case ast.ComprehensionKind:
		loop := parent.AsComprehension()
		if loop.IterRange().ID() != e.ID() {
			return
		}
		for _, d := range ast.MatchDescendants(parent, ast.KindMatcher(ast.IdentKind)) {
			if d.AsIdent() == loop.IterVar() {
				s.words(d, what, known, hint)
			}
		}
	}
}

func literalText(e ast.NavigableExpr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	w, ok := e.AsLiteral().Value().(string)
	return w, ok
}

var errNotBool = errors.New("the condition is neither true nor false")

// holds evaluates the condition.
func (c *condition) holds(q *question) (bool, error) {
	if c.program == nil {
		return true, nil
	}
	out, _, err := c.program.Eval(q)
	if err != nil {
		return false, err
	}
	b, ok := out.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(b), nil
}
