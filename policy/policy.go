// Package policy turns rules into Decisions. It is pure: no I/O, no clock, no
// goroutines; the same policy and the same question give the same answer, so
// that recorded history can be replayed against a proposed policy.
package policy

import "github.com/custos-gateway/custos"

// The rules that the gateway itself brings.
const (
	// RuleAccess is the connection's own access list.
	RuleAccess = "access"
	// RuleUnknown refuses what its protocol did not name.
	RuleUnknown = "unknown-operation"
)

// Policy is a set of rules of one version. It is immutable, so it is safe for
// concurrent use. The zero value judges as New("") does.
type Policy struct {
	version string
}

// New returns the policy of version, which every decision cites.
func New(version string) *Policy {
	return &Policy{version: version}
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

// Judge decides on one operation of a session. Access is judged again, for it
// may have been taken away since the session was opened; and an operation
// whose protocol could not name its class is refused.
func (p *Policy) Judge(caller *custos.Principal, c *custos.Connection, op *custos.Operation) custos.Decision {
	if op == nil || op.Class == "" {
		return custos.Decision{
			Effect: custos.Refuse,
			Rule:   RuleUnknown,
			Reason: "the gateway does not know this kind of operation",
			Hint:   "use another way to do it, or report it to whoever runs the gateway",
			Policy: p.version,
		}
	}
	return p.Enter(caller, c)
}
