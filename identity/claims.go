package identity

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/custos-gateway/custos"
)

// Limits on what goes from a token into every record of a session.
const (
	maxSubject = 1 << 10  // bytes; OpenID Connect Core has 255, Kubernetes has more
	maxName    = 256      // bytes
	maxGroups  = 24 << 10 // bytes of all groups as JSON: two such lists fit an entry of the ledger
	maxActors  = 8        // nested actors
)

// principal turns the claims of a token whose signature holds into the caller.
func (is *issuer) principal(claims map[string]any, now time.Time, leeway time.Duration) (*custos.Principal, *Error) {
	if refusal := is.checkAudience(claims); refusal != nil {
		return nil, refusal
	}
	expires, refusal := checkTimes(claims, now, leeway)
	if refusal != nil {
		return nil, refusal
	}
	for claim, values := range is.Require {
		if s, ok := text(lookup(claims, claim)); !ok || !slices.Contains(values, s) {
			return nil, refuse(Claims, "", "its claim %s is not one of %q, as the gateway's configuration requires", claim, values)
		}
	}
	return is.caller(claims, expires)
}

// caller reads who the claims are about and on whose behalf.
func (is *issuer) caller(claims map[string]any, expires time.Time) (*custos.Principal, *Error) {
	act, delegated := claims["act"]
	kind := is.Kind
	if delegated {
		kind = is.SubjectKind
	}
	subject, refusal := is.party(claims, is.URL, kind)
	if refusal != nil {
		return nil, refusal
	}
	subject.Expires = expires
	groups, refusal := is.groups(claims, is.GroupsClaim)
	if refusal != nil {
		return nil, refusal
	}
	for _, g := range is.Groups {
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	if !delegated {
		subject.Groups = groups
		return subject, nil
	}
	actor, refusal := is.actor(act)
	if refusal != nil {
		return nil, refusal
	}
	if subject.Groups, refusal = is.groups(claims, is.SubjectGroupsClaim); refusal != nil {
		return nil, refusal
	}
	actor.Groups, actor.Expires, actor.OnBehalfOf = groups, expires, subject
	return actor, nil
}

// party reads who an object of claims, the payload or an `act`, is about.
func (is *issuer) party(claims map[string]any, url string, kind custos.Kind) (*custos.Principal, *Error) {
	p := &custos.Principal{Issuer: url, Kind: kind}
	sub, _ := claims["sub"].(string)
	if !printable(sub, maxSubject) {
		return nil, refuse(Claims, "have the issuer name who the token is for", "its claim sub is missing, empty, too long or not printable")
	}
	p.Subject, p.Name = sub, sub
	for _, claim := range is.NameClaims {
		if name, _ := lookup(claims, claim).(string); printable(name, maxName) {
			p.Name = name
			break
		}
	}
	if is.KindClaim == "" {
		return p, nil
	}
	if v := lookup(claims, is.KindClaim); v != nil {
		s, _ := v.(string)
		if p.Kind = is.Kinds[s]; p.Kind == "" {
			return nil, refuse(Claims, "add the value to the issuer's kinds", "its claim %s has a value that the gateway's configuration maps to no kind of caller", is.KindClaim)
		}
	}
	return p, nil
}

// actor reads an `act` claim: its outermost object is the caller.
func (is *issuer) actor(act any) (*custos.Principal, *Error) {
	outer, ok := act.(map[string]any)
	depth := 0
	for next := outer; ok && next["act"] != nil; depth++ {
		if depth == maxActors {
			return nil, refuse(Claims, "", "its claim act nests more than %d actors", maxActors)
		}
		next, ok = next["act"].(map[string]any)
	}
	if !ok || outer == nil {
		return nil, refuse(Claims, "see RFC 8693, section 4.1", "its claim act is not an object")
	}
	url := is.URL
	if v, present := outer["iss"]; present {
		s, _ := v.(string)
		if s != is.URL && !slices.Contains(is.ActorIssuers, s) {
			return nil, refuse(Claims, "list it under actor_issuers if it may", "its claim act names an actor of an issuer that %s may not speak for", is.URL)
		}
		url = s
	}
	return is.party(outer, url, is.ActorKind)
}

// checkAudience judges aud and azp.
func (is *issuer) checkAudience(claims map[string]any) *Error {
	hint := "ask the issuer for a token with audience " + is.Audiences[0]
	audiences, ok := list(claims["aud"])
	if !ok || !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(is.Audiences, a) }) {
		return refuse(Audience, hint, "it is not meant for %q", is.Audiences)
	}
	v, present := claims["azp"]
	party, isString := v.(string)
	if present && !isString {
		return refuse(Claims, "", "its claim azp is not a string")
	}
	if len(is.AuthorizedParties) > 0 {
		if !present {
			party, _ = claims["client_id"].(string)
		}
		if !slices.Contains(is.AuthorizedParties, party) {
			return refuse(Audience, "list the client under authorized_parties if it may", "the client it was issued to is not one of %q", is.AuthorizedParties)
		}
		return nil
	}
	if len(audiences) > 1 && !slices.Contains(is.Audiences, party) {
		return refuse(Audience, hint+" only, or list the client it is issued to under authorized_parties", "it has several audiences, and the client it was issued to is not this gateway's")
	}
	return nil
}

// checkTimes judges exp, nbf and iat (RFC 7519, section 4.1).
func checkTimes(claims map[string]any, now time.Time, leeway time.Duration) (expires time.Time, refusal *Error) {
	expires, ok := date(claims["exp"])
	if !ok {
		return expires, refuse(Claims, "have the issuer limit the token's life", "its claim exp is missing or not a time in seconds")
	}
	if !now.Before(expires.Add(leeway)) {
		return expires, refuse(Expired, hintLogin, "it has expired")
	}
	for _, claim := range []string{"nbf", "iat"} {
		v, present := claims[claim]
		if !present {
			continue
		}
		from, ok := date(v)
		if !ok {
			return expires, refuse(Claims, "", "its claim %s is not a time in seconds", claim)
		}
		if now.Add(leeway).Before(from) {
			return expires, refuse(NotYetValid, "compare the clocks of the issuer and the gateway", "its claim %s is in the future", claim)
		}
	}
	return expires, nil
}

// date reads a NumericDate: seconds since 1970, perhaps with a fraction. One
// after the year 9999 is most likely in milliseconds, and is refused.
func date(v any) (time.Time, bool) {
	f, ok := v.(float64)
	if !ok || f < 0 || f > 253402300799 {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), true
}

// groups reads a claim of groups. An absent claim is no group.
func (is *issuer) groups(claims map[string]any, claim string) ([]string, *Error) {
	if claim == "" {
		return nil, nil
	}
	v := lookup(claims, claim)
	if v == nil {
		// Microsoft Entra ID leaves out groups beyond 200 and points elsewhere.
		if left, _ := claims["_claim_names"].(map[string]any); left[claim] != nil {
			return nil, refuse(Claims, "configure the issuer to send only the groups assigned to custos", "the issuer left out its groups because there are too many")
		}
		return nil, nil
	}
	groups, ok := list(v)
	total := 0
	for i, g := range groups {
		ok = ok && printable(g, maxGroups)
		groups[i] = is.GroupsPrefix + g
		total += jsonSize(groups[i])
	}
	if !ok {
		return nil, refuse(Claims, "", "its claim %s is not a list of printable strings", claim)
	}
	if total > maxGroups {
		return nil, refuse(Claims, "have the issuer send only the groups that matter to custos", "its groups have more than %d bytes", maxGroups)
	}
	return groups, nil
}

// jsonSize is how many bytes encoding/json makes of a printable string in an
// array.
func jsonSize(s string) int {
	n := len(s) + len(`"",`)
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '<', '>', '&':
			n += len(`\u0026`) - 1
		case '"', '\\':
			n++
		}
	}
	return n
}

// lookup finds a claim by name or JSON pointer; nil if it is absent or null.
func lookup(claims map[string]any, name string) any {
	rest, pointer := strings.CutPrefix(name, "/")
	if !pointer {
		return claims[name]
	}
	var v any = claims
	for part := range strings.SplitSeq(rest, "/") {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[unescape.Replace(part)]
	}
	return v
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// list reads a string or an array of strings.
func list(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return []string{v}, true
	case []any:
		out := make([]string, len(v))
		for i := range v {
			s, ok := v[i].(string)
			if !ok {
				return nil, false
			}
			out[i] = s
		}
		return out, true
	}
	return nil, false
}

// text gives a string or a boolean as a string.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// printable reports whether s, of 1 to limit bytes, can be shown and recorded
// as it is: no control character, no blank at either end.
func printable(s string, limit int) bool {
	if s == "" || len(s) > limit || !utf8.ValidString(s) || strings.TrimSpace(s) != s {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
