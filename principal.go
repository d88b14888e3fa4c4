package custos

import (
	"net"
	"slices"
	"strings"
	"time"
)

// Kind says what sort of caller a Principal is. Rules and budgets may differ
// by kind; identity decides it from configured claims.
type Kind string

// The kinds of caller.
const (
	KindPerson   Kind = "person"
	KindSkill    Kind = "skill"
	KindCI       Kind = "ci"
	KindWorkload Kind = "workload"
)

// Principal is a caller whose token was verified: a person, a CI job, a skill
// or another workload. The pair (Issuer, Subject) is the identity; everything
// else describes it.
type Principal struct {
	// Issuer is the `iss` claim, equal to a configured issuer's URL.
	Issuer string `json:"issuer"`
	// Subject is the `sub` claim (OpenID Connect Core 1.0, section 2).
	Subject string `json:"subject"`
	// Name is what people call the caller, from a configured claim. It is
	// shown and searched, and never authorises.
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Groups are the caller's groups, from the issuer's configured claim.
	Groups []string `json:"groups,omitempty"`
	// OnBehalfOf is the human (or other caller) for whom this caller acts:
	// with an `act` claim (RFC 8693, section 4.1) the token's subject is
	// OnBehalfOf and the actor is the Principal.
	OnBehalfOf *Principal `json:"on_behalf_of,omitempty"`
	// Expires is the `exp` claim: when the authority of the token ends.
	Expires time.Time `json:"expires"`
	// Skill is the registered skill that the caller is, or nil.
	Skill *Skill `json:"skill,omitempty"`
	// Ticket is what the caller came with, where that was no token of an
	// issuer's: it narrows the caller to one connection.
	Ticket *Ticket `json:"ticket,omitempty"`
}

// Skill says which registered skill a caller is.
type Skill struct {
	Name string `json:"name"`
	// Digest is what its folder is, as it says itself: sha256: and hexadecimal
	// digits, or empty.
	Digest string `json:"digest,omitempty"`
}

// ValidDigest reports whether s is a skill's digest as it is written.
func ValidDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(digits) != 64 {
		return false
	}
	return strings.Trim(digits, "0123456789abcdef") == ""
}

// Saying returns p as a skill that says what its folder is, where its token
// said nothing of it: p itself, or a copy.
func (p *Principal) Saying(digest string) *Principal {
	if p.Skill == nil || p.Skill.Digest != "" || !ValidDigest(digest) {
		return p
	}
	said := *p
	said.Skill = &Skill{Name: p.Skill.Name, Digest: digest}
	return &said
}

// Ticket is a short secret of the gateway's own, given for a token (RFC 8693).
// It is good for one connection, and nowhere else.
type Ticket struct {
	// ID names the ticket and does not open anything: the first 16 digits of
	// its SHA-256.
	ID         string `json:"id"`
	Connection string `json:"connection"`
	// Source is the one address that it may come from; empty: any.
	Source string `json:"source,omitempty"`
}

// Opens reports whether the ticket is good for a connection, from a client's
// address, which is a host or host:port. No ticket narrows nothing.
func (t *Ticket) Opens(connection, client string) bool {
	if t == nil {
		return true
	}
	if host, _, err := net.SplitHostPort(client); err == nil {
		client = host
	}
	return t.Connection == connection && (t.Source == "" || t.Source == client)
}

// InAny reports whether the caller is in at least one of groups.
func (p *Principal) InAny(groups []string) bool {
	for _, g := range p.Groups {
		if slices.Contains(groups, g) {
			return true
		}
	}
	return false
}
