package custos

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// ApprovalState is how far an approval has come.
type ApprovalState string

// The states of an approval. Approved and used differ: an approval is used
// once.
const (
	ApprovalPending   ApprovalState = "pending"
	ApprovalApproved  ApprovalState = "approved"
	ApprovalDenied    ApprovalState = "denied"
	ApprovalExpired   ApprovalState = "expired"   // nobody answered, or nobody used it, in time
	ApprovalUsed      ApprovalState = "used"      // what was approved was let through
	ApprovalWithdrawn ApprovalState = "withdrawn" // who asked is gone
	ApprovalRevoked   ApprovalState = "revoked"   // a reviewer ended access before its time
)

// Approval asks people about one held operation, or about access for a time.
type Approval struct {
	// ID names it: unguessable, of the gateway's own making.
	ID string `json:"id"`
	// Session and Operation are where what it is about is recorded: the
	// operation's text is sealed there.
	Session   SessionID `json:"session"`
	Operation uint64    `json:"operation"`
	// Digest binds it to the caller, connection, policy, text and parameters:
	// see BindingDigest. What runs has this digest, or does not run by it.
	Digest     string    `json:"digest"`
	Caller     Principal `json:"caller"`
	Connection string    `json:"connection"`
	// Rule held it; Reason says why, Policy is the version that judged.
	Rule   string `json:"rule"`
	Reason string `json:"reason,omitempty"`
	Policy string `json:"policy"`
	// Purpose is what it is for, in the words of who asks.
	Purpose string `json:"purpose,omitempty"`
	// Verbs and Objects are what the operation does and touches, the first of
	// them.
	Verbs   []string `json:"verbs,omitempty"`
	Objects []string `json:"objects,omitempty"`
	// Estimate is how much it would change, where that could be found out.
	Estimate *Estimate `json:"estimate,omitempty"`
	// Groups may answer, Count of them must agree.
	Groups []string `json:"groups,omitempty"`
	Count  int      `json:"count"`
	// For is how long access is asked for, from its approval on; zero: for the
	// one operation.
	For time.Duration `json:"for,omitempty"`
	// Effects bound access to operations that do nothing besides these; empty:
	// whatever is held. They are of the closed list in docs/policy.md.
	Effects []string `json:"effects,omitempty"`
	// BreakGlass: nobody was asked. It lets through what rules hold that say so,
	// and all reviewers are told.
	BreakGlass bool      `json:"break_glass,omitempty"`
	Requested  time.Time `json:"requested_at"`
	Expires    time.Time `json:"expires_at"`
	// Until ends an approved access.
	Until time.Time `json:"until,omitzero"`

	State   ApprovalState    `json:"state"`
	Answers []ApprovalAnswer `json:"answers,omitempty"`

	// Statement is the operation's text, where its rule lets messages to
	// reviewers hold it. It is never on record in the clear.
	Statement string `json:"-"`
}

// Estimate is how many rows an operation would change or give, as the target
// says before it runs.
type Estimate struct {
	Rows int64 `json:"rows"`
	// Exact: they were counted. Otherwise the target's planner guesses.
	Exact bool `json:"exact,omitempty"`
	// Unknown says why nothing is known; Rows is then 0.
	Unknown string `json:"unknown,omitempty"`
}

// Covers reports whether access that a gives reaches an operation with effects:
// it does nothing besides what the access names.
func (a *Approval) Covers(effects []string) bool {
	if len(a.Effects) == 0 {
		return true
	}
	for _, e := range effects {
		if !slices.Contains(a.Effects, e) {
			return false
		}
	}
	return len(effects) > 0
}

// ApprovalAnswer is what one reviewer said.
type ApprovalAnswer struct {
	By      Principal `json:"by"`
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
}

// Same reports whether p and other are the same caller.
func (p *Principal) Same(other *Principal) bool {
	return p != nil && other != nil && p.Issuer == other.Issuer && p.Subject == other.Subject
}

// Concerns reports whether p asked for a, or is who it was asked for.
func (a *Approval) Concerns(p *Principal) bool {
	for c := &a.Caller; c != nil; c = c.OnBehalfOf {
		if c.Same(p) {
			return true
		}
	}
	return false
}

// BindingDigest is the SHA-256, in hexadecimal, of what an approval is bound
// to: who asks, and for whom, on which connection, by which policy, and the
// operation's text and parameters, byte for byte.
func BindingDigest(caller *Principal, connection, policy string, o *Operation) string {
	n := byte(0)
	for c := caller; c != nil; c = c.OnBehalfOf {
		n++
	}
	b := []byte{n}
	for c := caller; c != nil; c = c.OnBehalfOf {
		b = appendBytes(appendBytes(b, c.Issuer), c.Subject)
	}
	b = appendBytes(appendBytes(b, connection), policy)
	bound := Operation{Text: o.Text, Params: o.Params}
	sum := sha256.Sum256(bound.AppendSealed(b))
	return hex.EncodeToString(sum[:])
}
