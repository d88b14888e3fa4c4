package policy

import (
	"fmt"
	"strings"
	"time"

	"github.com/custos-gateway/custos"
)

// Fired is what one rule says of an operation, and why.
type Fired struct {
	Rule string
	At   Position
	// Matched reports that the rule applies; in dry-run, that it would.
	Matched bool
	// Decides reports that the decision cites the rule.
	Decides bool
	DryRun  bool
	// Then is allow, approve, refuse or mask.
	Then string
	// Why says why the rule applies or not.
	Why string
	// Masks are what the rule hides, if it applies.
	Masks []custos.Mask
}

// Explain asks every rule, in their order, what Judge asks, and remembers
// nothing. It says nothing of what stands before all rules: an operation
// without a class, and the access list.
func (p *Policy) Explain(caller *custos.Principal, c *custos.Connection, op *custos.Operation, usage *custos.Usage, now time.Time) []Fired {
	if op == nil || caller == nil || c == nil || len(p.rules) == 0 {
		return nil
	}
	q := new(question)
	q.ask(caller, c, op, usage, now)
	var about []int
	for i := range p.rules {
		if r := &p.rules[i]; r.means(c) && r.meets(caller) {
			about = append(about, i)
		}
	}
	s := sketch{effect: custos.Allow, rule: -1, approvers: -1}
	p.ask(&s, q, about, true)
	fired := make([]Fired, len(p.rules))
	for i := range p.rules {
		r := &p.rules[i]
		f := Fired{Rule: r.Name, At: r.At, DryRun: r.DryRun, Then: r.Then, Decides: s.rule == i}
		if r.masking >= 0 {
			f.Then = "mask"
		}
		f.Matched, f.Why = r.explain(q)
		if f.Matched {
			f.Masks = r.masks
		}
		fired[i] = f
	}
	return fired
}

// explain asks one rule and says why it applies or not.
func (r *rule) explain(q *question) (matched bool, why string) {
	for key, want := range r.Connections {
		if got := connectionKey(q.connection, key); got != want {
			return false, fmt.Sprintf("it is for connections with %s, and this one's %s is %q", pairs(r.Connections), key, got)
		}
	}
	if !r.meets(q.caller) {
		var bounds []string
		if len(r.Callers.Kinds) > 0 {
			bounds = append(bounds, "of kind "+list(r.Callers.Kinds))
		}
		if len(r.Callers.Groups) > 0 {
			bounds = append(bounds, "in group "+list(r.Callers.Groups))
		}
		return false, "it is for callers " + strings.Join(bounds, " and ")
	}
	matched, err := r.holds(q)
	switch {
	case err != nil:
		return true, fmt.Sprintf("its condition could not be evaluated, which refuses: %v", err)
	case r.program == nil:
		return true, "it has no condition"
	case matched:
		return true, "its condition is true"
	default:
		return false, "its condition is false"
	}
}
