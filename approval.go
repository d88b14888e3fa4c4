package custos

import (
	"crypto/sha256"
	"encoding/hex"
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
	// Groups may answer, Count of them must agree.
	Groups []string `json:"groups,omitempty"`
	Count  int      `json:"count"`
	// For is how long access is asked for, from its approval on; zero: for the
	// one operation.
	For       time.Duration `json:"for,omitempty"`
	Requested time.Time     `json:"requested_at"`
	Expires   time.Time     `json:"expires_at"`
	// Until ends an approved access.
	Until time.Time `json:"until,omitzero"`

	State   ApprovalState    `json:"state"`
	Answers []ApprovalAnswer `json:"answers,omitempty"`
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
