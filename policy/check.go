package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/parser"

	"github.com/custos-gateway/custos"
)

// Warning is a rule that is valid and probably not meant so.
type Warning struct {
	// Rule is the rule's index, and At its place.
	Rule int
	At   Position
	// Message says what is odd and what to do.
	Message string
}

// Check reports rules that can never change a decision: because their
// condition is never true, no connection is meant, or another rule decides as
// strictly whenever they would. It takes rules that New takes; with no
// connections it does not look for those.
func Check(rules []Rule, connections []*custos.Connection) []Warning {
	var warnings []Warning
	warn := func(i int, format string, args ...any) {
		warnings = append(warnings, Warning{i, rules[i].At, fmt.Sprintf(format, args...)})
	}
	ready := make([]rule, len(rules))
	for i := range rules {
		ready[i], _ = prepare(i, rules[i], 0)
	}
	for i := range ready {
		r := &ready[i]
		if r.program != nil && len(r.cases) == 0 {
			warn(i, "its condition is never true: mend it, or remove the rule")
			continue
		}
		if len(connections) > 0 && !slices.ContainsFunc(connections, r.means) {
			warn(i, "no connection has %s: mend connections, or remove the rule", pairs(r.Connections))
			continue
		}
		for j := range ready {
			if i != j && overrules(&ready[j], &ready[i], j < i) {
				warn(i, "it never decides: rule %s decides as strictly wherever this one would; keep one", rules[j].Name)
				break
			}
		}
	}
	return warnings
}

// overrules reports whether a decides whenever b would, and as strictly; of
// two that are as strict, the earlier one decides.
func overrules(a, b *rule, earlier bool) bool {
	switch {
	case a.masking >= 0 || b.masking >= 0 || a.DryRun:
		return false
	case a.effect > b.effect || a.effect == b.effect && !earlier:
		return false
	case a.effect == custos.Approve && len(b.Approvers.Groups) > 0 && len(a.Approvers.Groups) == 0:
		return false // b's approvers are asked
	}
	for key, value := range a.Connections {
		if b.Connections[key] != value {
			return false
		}
	}
	return within(b.Callers.Groups, a.Callers.Groups) && within(b.Callers.Kinds, a.Callers.Kinds) && a.covers(b)
}

// within reports whether the bound few lets nobody through whom many does not.
func within[T comparable](few, many []T) bool {
	return len(many) == 0 || len(few) > 0 && subset(few, many)
}

func subset[T comparable](few, many []T) bool {
	return !slices.ContainsFunc(few, func(t T) bool { return !slices.Contains(many, t) })
}

// covers reports whether a is known to hold wherever b does: each alternative
// of b asks all that some alternative of a asks.
func (a *rule) covers(b *rule) bool {
	if a.program == nil {
		return true
	}
	cases := b.cases
	if b.program == nil {
		cases = [][]string{nil}
	}
	for _, asked := range cases {
		if !slices.ContainsFunc(a.cases, func(less []string) bool { return subset(less, asked) }) {
			return false
		}
	}
	return true
}

func pairs(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+": "+m[key])
	}
	return strings.Join(out, ", ")
}

// alternatives splits the condition at || and &&, and leaves out what is
// written false or true.
func (s *scan) alternatives() [][]string {
	var cases [][]string
	for _, one := range split(s.tree.Expr(), operators.LogicalOr, nil) {
		asked := []string{}
		for _, part := range split(one, operators.LogicalAnd, nil) {
			text, err := parser.Unparse(part, s.tree.SourceInfo())
			if err != nil || text == "false" {
				asked = nil
				break
			}
			if text != "true" && !slices.Contains(asked, text) {
				asked = append(asked, text)
			}
		}
		if asked != nil {
			cases = append(cases, asked)
		}
	}
	return cases
}

func split(e ast.Expr, operator string, parts []ast.Expr) []ast.Expr {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != operator {
		return append(parts, e)
	}
	for _, operand := range e.AsCall().Args() {
		parts = split(operand, operator, parts)
	}
	return parts
}
