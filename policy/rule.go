package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/custos-gateway/custos"
)

// Rule is one rule of a policy. It decides (Then) or hides (Mask), never both.
type Rule struct {
	// Name is what decisions cite; no two rules have the same.
	Name string
	// Why says what the rule stops, and why that is worth stopping.
	Why string
	// At is where the rule is written.
	At Position
	// Connections bounds the rule to connections with all of these: name,
	// protocol, or else the name of a label, and its value. Empty: any.
	Connections map[string]string
	// Callers bounds the rule to some callers.
	Callers Callers
	// When is the condition, in CEL; empty: always.
	When string
	// Then is allow, approve or refuse; empty in a rule that hides.
	Then string
	// DryRun makes the rule say what it would have decided, and decide
	// nothing.
	DryRun bool
	// Approvers are who is asked, where Then is approve.
	Approvers custos.Approvers
	// Reason is what a caller is told, in a sentence without a full stop; what
	// the operation touches is put behind it. Hint says what to do next.
	Reason, Hint string
	// Mask is what the rule hides.
	Mask []custos.Mask
}

// Position is a place in a file. The zero value is no place.
type Position struct {
	File string
	Line int
}

// String says where it is, as "at file:line".
func (p Position) String() string {
	if p == (Position{}) {
		return "before it"
	}
	return fmt.Sprintf("at %s:%d", p.File, p.Line)
}

// Callers bounds a rule to callers who are in any of Groups and of any of
// Kinds. An empty list sets no bound.
type Callers struct {
	Groups []string
	Kinds  []custos.Kind
}

// Problem is one thing that is wrong with a rule.
type Problem struct {
	// Rule is the rule's index, and Name its name.
	Rule int
	Name string
	// Field is the part that is wrong, as a policy file names it, such as
	// "when" or "mask[0].columns".
	Field string
	// Line and Column are the place within the text of When, from 1; 0 stands
	// for the field as a whole.
	Line, Column int
	// Message says what is wrong and what to do.
	Message string
}

// Error returns the problem in one line.
func (p Problem) Error() string {
	where := fmt.Sprintf("rule %d (%s): %s", p.Rule, p.Name, p.Field)
	if p.Line > 0 {
		where += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	return where + ": " + p.Message
}

// Problems is everything that is wrong with a policy, in the order of rules.
type Problems []Problem

// Error returns one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

var (
	kinds = []custos.Kind{custos.KindPerson, custos.KindSkill, custos.KindCI, custos.KindWorkload}
	ways  = []string{"redact", "partial", "hash", "format", "null", "clear"}
	thens = map[string]custos.Effect{"refuse": custos.Refuse, "approve": custos.Approve, "allow": custos.Allow}
)

// maxMasking bounds the rules of a policy that hide something, so that a set
// of them is a few words.
const maxMasking = 256

type maskingSet [maxMasking / 64]uint64

func (s *maskingSet) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *maskingSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// rule is a Rule made ready to judge.
type rule struct {
	Rule
	condition
	effect custos.Effect
	// masking is the rule's number among those that hide; -1: it decides.
	masking int
	masks   []custos.Mask
}

// means reports whether the rule is about c.
func (r *rule) means(c *custos.Connection) bool {
	for key, want := range r.Connections {
		if connectionKey(c, key) != want {
			return false
		}
	}
	return true
}

// meets reports whether the rule is about caller.
func (r *rule) meets(caller *custos.Principal) bool {
	return (len(r.Callers.Groups) == 0 || caller.InAny(r.Callers.Groups)) &&
		(len(r.Callers.Kinds) == 0 || slices.Contains(r.Callers.Kinds, caller.Kind))
}

func connectionKey(c *custos.Connection, key string) string {
	switch key {
	case "name":
		return c.Name
	case "protocol":
		return c.Protocol
	default:
		return c.Labels[key]
	}
}

// prepare checks the rule at index i and makes it ready.
func prepare(i int, r Rule, masking int) (rule, Problems) {
	var problems Problems
	fail := func(field, format string, args ...any) {
		problems = append(problems, Problem{Rule: i, Name: r.Name, Field: field, Message: fmt.Sprintf(format, args...)})
	}
	out := rule{Rule: r, masking: -1}
	effect, ok := thens[r.Then]
	switch {
	case r.Then == "" && len(r.Mask) == 0:
		fail("then", "the rule does nothing: say allow, approve or refuse, or give it a mask")
	case r.Then != "" && len(r.Mask) > 0:
		fail("then", "a rule decides or masks, not both: make two rules of it")
	case r.Then != "" && !ok:
		fail("then", "unknown word %q: want allow, approve or refuse", r.Then)
	case r.Then == "" && masking >= maxMasking:
		fail("mask", "more than %d rules mask: bring some together", maxMasking)
	case r.Then == "":
		out.masking, effect = masking, custos.Allow
	}
	out.effect = effect
	if a := r.Approvers; r.Then != "approve" && (len(a.Groups) > 0 || a.Count != 0 || a.Within != 0 || a.BreakGlass || a.Exact || a.Statement) {
		fail("approvers", "they are asked by a rule that says then: approve only")
	} else if a.Count < 0 || a.Within < 0 {
		fail("approvers", "count and within cannot be negative")
	}
	for _, kind := range r.Callers.Kinds {
		if !slices.Contains(kinds, kind) {
			fail("callers.kinds", "unknown kind %q: want %s", kind, list(kinds))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.Connections)) {
		if key == "" || r.Connections[key] == "" {
			fail("connections", "an empty name or value names no connection: give it one, or remove it")
		}
	}
	for j, m := range r.Mask {
		problems = append(problems, checkMask(i, r.Name, fmt.Sprintf("mask[%d]", j), m)...)
		if m.With == "" {
			m.With = "redact"
		}
		m.Rule = r.Name
		out.masks = append(out.masks, m)
	}
	condition, wrong := compile(r.When)
	for _, p := range wrong {
		p.Rule, p.Name, p.Field = i, r.Name, "when"
		problems = append(problems, p)
	}
	out.condition = condition
	if out.masking >= 0 && condition.masked {
		fail("when", "what is masked follows from rules such as this one: ask operation.columns or operation.predicates here")
	}
	return out, problems
}

func checkMask(i int, name, field string, m custos.Mask) Problems {
	var problems Problems
	fail := func(part, format string, args ...any) {
		problems = append(problems, Problem{Rule: i, Name: name, Field: field + part, Message: fmt.Sprintf(format, args...)})
	}
	if len(m.Columns)+len(m.Results)+len(m.Tags)+len(m.Detect) == 0 {
		fail("", "it hides nothing: name columns, results, tags or detect")
	}
	for j, pattern := range m.Columns {
		if strings.Count(pattern, ".") < 2 {
			fail(fmt.Sprintf(".columns[%d]", j), "want schema.table.column, where * stands for any, such as *.customers.email")
		}
	}
	if m.With == custos.Clear && len(m.Results)+len(m.Tags)+len(m.Detect) > 0 {
		fail(".with", "clear shows columns that are hidden by themselves: name columns only")
	}
	if m.With != "" && !slices.Contains(ways, m.With) {
		fail(".with", "unknown way %q: want %s", m.With, list(ways))
	}
	return problems
}

func list[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	last := len(out) - 1
	if last == 0 {
		return out[0]
	}
	return strings.Join(out[:last], ", ") + " or " + out[last]
}
