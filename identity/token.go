package identity

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Limits on a token, checked before it is decoded.
const (
	// MaxToken is the most bytes a token may have.
	MaxToken = 64 << 10
	// maxHeader bounds the encoded header: a certificate chain that nobody
	// will look at still has to be parsed.
	maxHeader = 16 << 10
	// maxDepth bounds how deep the payload's arrays and objects nest.
	maxDepth = 32
)

// token is a parsed token. Nothing in it is verified.
type token struct {
	signed    *jose.JSONWebSignature
	algorithm string
	keyID     string
	issuer    string
	claims    map[string]any
}

// parse takes a token apart, without believing any of it.
func parse(raw string) (*token, *Error) {
	if len(raw) > MaxToken {
		return nil, refuse(Malformed, "have the issuer put fewer claims or groups into it", "it has more than %d bytes", MaxToken)
	}
	if refusal := checkForm(raw); refusal != nil {
		return nil, refusal
	}
	// All algorithms that could be configured are let through here; which of
	// them the issuer may use is judged when the issuer is known.
	signed, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		if _, ok := err.(*jose.ErrUnexpectedSignatureAlgorithm); ok {
			return nil, refuse(Algorithm, "have the issuer sign with RS256, ES256 or EdDSA", "it is unsigned, or signed with an algorithm that is never accepted")
		}
		return nil, refuse(Malformed, hintForm, "its header is not that of a signed token")
	}
	header := &signed.Signatures[0].Header
	t := &token{signed: signed, algorithm: header.Algorithm, keyID: header.KeyID}
	if refusal := checkHeader(header); refusal != nil {
		return nil, refusal
	}
	payload := signed.UnsafePayloadWithoutVerification()
	if tooDeep(payload) {
		return nil, refuse(Malformed, "", "its payload nests deeper than %d levels", maxDepth)
	}
	// This decoder refuses a member named twice, at any depth, and does not
	// fold case: two readers of one token can't see two different tokens.
	if err := json.Unmarshal(payload, &t.claims); err != nil || t.claims == nil {
		return nil, refuse(Malformed, hintForm, "its payload is not a JSON object with each member named once")
	}
	t.issuer, _ = t.claims["iss"].(string)
	return t, nil
}

// checkForm accepts three non-empty parts of canonical base64url without
// padding (RFC 7515, section 2). Decoders skip line breaks and stray trailing
// bits, so that one token could be written in many ways; here there is one.
func checkForm(raw string) *Error {
	parts := strings.Split(raw, ".")
	switch {
	case raw == "":
		return refuse(Malformed, hintLogin, "there is none")
	case raw[0] == '{':
		return refuse(Malformed, hintForm, "it is in the JSON serialisation, which is not accepted")
	case len(parts) == 5:
		return refuse(Malformed, "have the issuer sign tokens for custos and not encrypt them", "it is encrypted")
	case len(parts) != 3:
		return refuse(Malformed, hintForm, "it is not a JSON Web Token")
	case len(parts[0]) > maxHeader:
		return refuse(Malformed, "", "its header has more than %d bytes", maxHeader)
	}
	for _, p := range parts {
		if !canonical(p) {
			return refuse(Malformed, hintForm, "it is not written in base64url")
		}
	}
	return nil
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

var inBase64url = func() (set [256]bool) {
	for _, c := range []byte(base64url) {
		set[c] = true
	}
	return set
}()

// canonical reports whether s is what base64.RawURLEncoding would write.
func canonical(s string) bool {
	for i := 0; i < len(s); i++ {
		if !inBase64url[s[i]] {
			return false
		}
	}
	var last [3]byte
	tail := s[len(s)/4*4:]
	_, err := base64.RawURLEncoding.Strict().Decode(last[:], []byte(tail))
	return s != "" && err == nil
}

// checkHeader judges what the header says besides algorithm and key.
func checkHeader(h *jose.Header) *Error {
	if _, ok := h.ExtraHeaders["crit"]; ok {
		return refuse(Malformed, "", "its header has critical extensions, of which none is supported")
	}
	if _, ok := h.ExtraHeaders["b64"]; ok {
		return refuse(Malformed, "", "its header asks for an unencoded payload")
	}
	typ, present := h.ExtraHeaders[jose.HeaderType]
	if !present {
		return nil
	}
	s, _ := typ.(string)
	switch strings.TrimPrefix(strings.ToLower(s), "application/") {
	case "jwt", "at+jwt":
		return nil
	}
	return refuse(Malformed, "use an access token or an ID token", "its type is neither JWT nor at+jwt")
}

// tooDeep reports whether arrays and objects in b nest beyond maxDepth.
func tooDeep(b []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
