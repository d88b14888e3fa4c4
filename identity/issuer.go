package identity

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/custos-gateway/custos"
)

// Issuer is one source of tokens and how its claims are read. A claim's name
// is a member of the token's payload, or, where it begins with a slash, a JSON
// pointer into it (RFC 6901), such as "/realm_access/roles".
type Issuer struct {
	// URL is the issuer's identifier: the `iss` claim, byte for byte. It is
	// https, or http on a loopback address.
	URL string
	// Audiences are what `aud` must contain one of. At least one is needed.
	Audiences []string
	// AuthorizedParties, when set, are the clients (`azp`, else `client_id`)
	// whose tokens are accepted. When empty, a token with several audiences
	// must name one of Audiences as its `azp` (OpenID Connect Core 1.0,
	// section 3.1.3.7).
	AuthorizedParties []string
	// Require are claims that must be there with one of the values listed.
	// It is what makes a public issuer safe to trust: anyone can get a token
	// of such an issuer for any audience.
	Require map[string][]string

	// NameClaims are tried in order for Principal.Name. Default:
	// preferred_username, name, email; the subject if none is there.
	NameClaims []string
	// GroupsClaim holds the caller's groups: an array of strings, or one
	// string. Empty: the tokens of this issuer carry no groups.
	GroupsClaim string
	// GroupsPrefix goes before each group of GroupsClaim, so that an issuer
	// can't speak of another's groups.
	GroupsPrefix string
	// Groups are given to every caller of this issuer, without the prefix.
	Groups []string
	// SubjectGroupsClaim, where set, holds in a token with `act` the groups of
	// the subject; they go to OnBehalfOf.
	SubjectGroupsClaim string
	// Kind is the kind of a caller who acts for nobody else. Default: person.
	Kind custos.Kind
	// ActorKind and SubjectKind are, in a token with `act`, the kinds of the
	// actor and of whom it acts for. Default: skill and person.
	ActorKind, SubjectKind custos.Kind
	// KindClaim, where set, names a claim that says the kind, of the subject
	// in the payload and of an actor inside `act`. Where it is absent, the
	// kinds above hold.
	KindClaim string
	// Kinds maps values of KindClaim to kinds; a value not in it is refused.
	// Empty: the values are the kinds' own names.
	Kinds map[string]custos.Kind
	// ActorIssuers are issuers, besides this one, that `act` may name as the
	// actor's `iss`.
	ActorIssuers []string

	// Algorithms are the accepted `alg` values. Default: RS, PS and ES with
	// 256, 384 and 512 bits, and EdDSA; no others are possible.
	Algorithms []string
	// DiscoveryURL is where the discovery document is, where that isn't
	// URL + "/.well-known/openid-configuration".
	DiscoveryURL string
	// JWKSURL is where the keys are; with it no discovery is done.
	JWKSURL string
	// CAFile holds PEM certificates that vouch for the issuer's servers,
	// instead of the system's roots.
	CAFile string
	// TokenFile holds a bearer token for the discovery and key requests, as a
	// Kubernetes API server wants one. It is read anew for each request and
	// goes only to the host of DiscoveryURL (or URL) and to JWKSURL.
	TokenFile string
}

var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512,
	jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

var kinds = []custos.Kind{custos.KindPerson, custos.KindSkill, custos.KindCI, custos.KindWorkload}

// withDefaults returns a copy of i with every default filled in.
func (i Issuer) withDefaults() Issuer {
	if len(i.NameClaims) == 0 {
		i.NameClaims = []string{"preferred_username", "name", "email"}
	}
	if i.Kind == "" {
		i.Kind = custos.KindPerson
	}
	if i.ActorKind == "" {
		i.ActorKind = custos.KindSkill
	}
	if i.SubjectKind == "" {
		i.SubjectKind = custos.KindPerson
	}
	if len(i.Kinds) == 0 {
		i.Kinds = map[string]custos.Kind{}
		for _, k := range kinds {
			i.Kinds[string(k)] = k
		}
	}
	if len(i.Algorithms) == 0 {
		for _, a := range algorithms {
			i.Algorithms = append(i.Algorithms, string(a))
		}
	}
	return i
}

// Validate reports everything that is wrong with i, joined.
func (i Issuer) Validate() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	i = i.withDefaults()
	if err := CheckURL(i.URL); err != nil {
		add("url: %w", err)
	}
	for _, u := range []struct{ name, value string }{{"discovery_url", i.DiscoveryURL}, {"jwks_url", i.JWKSURL}} {
		if u.value == "" {
			continue
		}
		if err := CheckURL(u.value); err != nil {
			add("%s: %w", u.name, err)
		}
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		add("audience: it is missing; name the audience that the issuer's tokens for custos carry")
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(a)) {
			add("algorithms: %q is not possible; choose from %v", a, algorithms)
		}
	}
	for _, k := range append([]custos.Kind{i.Kind, i.ActorKind, i.SubjectKind}, sortedKinds(i.Kinds)...) {
		if !slices.Contains(kinds, k) {
			add("kind: %q is unknown; choose from %v", k, kinds)
		}
	}
	for claim, values := range i.Require {
		if len(values) == 0 {
			add("require: claim %q has no values, so every token would be refused", claim)
		}
	}
	return errors.Join(errs...)
}

func sortedKinds(m map[string]custos.Kind) []custos.Kind {
	var ks []custos.Kind
	for _, k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

// CheckURL reports what is wrong with a URL that identity is to be had from:
// it must be https, or http on a loopback address, with neither user nor query.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return errors.New("it is missing")
	case err != nil:
		return errors.New("it is not a URL")
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return fmt.Errorf("%q must be scheme, host and path only", u.Redacted())
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u):
		return nil
	default:
		return fmt.Errorf("%q must be https (http is for loopback addresses only)", s)
	}
}

func isLoopback(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
