// Package policy turns rules into Decisions. It is pure: no I/O, no clock, no
// goroutines; the same policy and the same question give the same answer, so
// that recorded history can be replayed against a proposed policy.
//
// Refuse beats approve, and approve beats allow. What every rule that applies
// hides adds up. A rule in dry-run decides and hides nothing. Where no rule
// applies, the connection's access list has admitted the caller. A condition
// that cannot be evaluated refuses.
package policy

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/custos-gateway/custos"
)

// The rules that the gateway itself brings.
const (
	// RuleAccess is the connection's own access list.
	RuleAccess = "access"
	// RuleUnknown refuses what its protocol did not name.
	RuleUnknown = "unknown-operation"
)

// Policy is a set of rules of one version. Its rules never change, so it is
// safe for concurrent use. The zero value has no rules.
type Policy struct {
	version string
	rules   []rule
	// identity: a rule that is remembered asks who the caller is.
	identity bool

	seed     maphash.Seed
	profiles []atomic.Pointer[profile]
	answers  []atomic.Pointer[answer]

	mu   sync.RWMutex
	sets map[maskingSet][]custos.Mask
}

// New returns the policy of version, which every decision cites. The error is
// Problems: everything that is wrong with rules.
func New(version string, rules []Rule) (*Policy, error) {
	p := &Policy{version: version}
	var problems Problems
	names := map[string]int{}
	masking := 0
	for i, r := range rules {
		ready, wrong := prepare(i, r, masking)
		first, twice := names[r.Name]
		switch {
		case r.Name == "":
			wrong = append(wrong, Problem{Rule: i, Field: "rule", Message: "it has no name: give it one"})
		case !twice:
			names[r.Name] = i
		case r.At == Position{} || r.At != rules[first].At: // a set may be included twice
			wrong = append(wrong, Problem{Rule: i, Name: r.Name, Field: "rule", Message: "another rule has this name " + rules[first].At.String() + ": give one another"})
		}
		problems = append(problems, wrong...)
		if ready.masking >= 0 {
			masking++
		}
		p.identity = p.identity || ready.identity
		p.rules = append(p.rules, ready)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	if len(rules) > 0 {
		p.remember()
	}
	return p, nil
}

// Version returns what decisions cite.
func (p *Policy) Version() string { return p.version }

// Enter decides whether caller may open a session on c: only where c's access
// list names a group of the caller. The refusal says nothing of which groups
// are admitted, nor whether any are.
func (p *Policy) Enter(caller *custos.Principal, c *custos.Connection) custos.Decision {
	if caller == nil || c == nil || !c.Admits(caller) {
		return custos.Decision{
			Effect: custos.Refuse,
			Rule:   RuleAccess,
			Reason: "no group of yours may use this connection",
			Hint:   "ask an administrator to add one of your groups to this connection's access list",
			Policy: p.version,
		}
	}
	return custos.Decision{Effect: custos.Allow, Rule: RuleAccess, Policy: p.version}
}

// BreakGlass reports whether some rule, of those that hold operations of caller
// on c, lets them through in an emergency without asking.
func (p *Policy) BreakGlass(caller *custos.Principal, c *custos.Connection) bool {
	if p.Enter(caller, c).Effect != custos.Allow {
		return false
	}
	for i := range p.rules {
		if r := &p.rules[i]; r.effect == custos.Approve && r.Approvers.BreakGlass && !r.DryRun && r.means(c) && r.meets(caller) {
			return true
		}
	}
	return false
}
