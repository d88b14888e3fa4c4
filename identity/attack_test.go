package identity

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// attack is one token that must not be accepted.
type attack struct {
	name  string
	token string
	want  Code
}

// TestAttacks shows each known way to forge, replay or confuse a token to a
// verifier that trusts two issuers. The key of each forgery is real, and each
// token differs from an accepted one in what its name says.
func TestAttacks(t *testing.T) {
	c := newClock()
	key, ec := testKey{"k1", "RS256", rsaKey()}, newEC("e1", "ES256")
	foreign := testKey{"k2", "RS256", otherRSA()}
	a, b := newTestIssuer(t, key, ec), newTestIssuer(t, foreign)
	v := newVerifier(t, c, a.issuer(), b.issuer())

	good := a.claims(c.Now(), nil)
	mustAccept(t, v, key.token(nil, good))
	mustAccept(t, v, ec.token(nil, good))
	mustAccept(t, v, foreign.token(nil, b.claims(c.Now(), nil)))

	groups := map[string][]attack{
		"algorithm": algorithmAttacks(t, key, good),
		"key":       keyAttacks(t, a, key, foreign, good),
		"form":      formAttacks(t, key, ec, good),
		"claim":     claimAttacks(a, key, c.Now()),
	}
	for name, attacks := range groups {
		t.Run(name, func(t *testing.T) {
			for _, at := range attacks {
				t.Run(at.name, func(t *testing.T) { mustRefuse(t, v, at.token, at.want) })
			}
		})
	}
	if !strings.HasPrefix(a.URL, "http://127.0.0.1:") {
		t.Fatalf("the issuer listens at %s", a.URL)
	}
}

// hs256 signs with HMAC and any bytes at all as the secret.
func hs256(alg string, secret []byte, claims any) string {
	input := b64.EncodeToString(encode(map[string]any{"alg": alg, "typ": "JWT", "kid": "k1"})) + "." + b64.EncodeToString(encode(claims))
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(input))
	return input + "." + b64.EncodeToString(m.Sum(nil))
}

func algorithmAttacks(t *testing.T, key testKey, good map[string]any) []attack {
	der, err := x509.MarshalPKIXPublicKey(key.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := key.jwk().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(key.signer.Public().(*rsa.PublicKey))
	unsigned := func(alg string) string {
		return b64.EncodeToString(encode(map[string]any{"alg": alg})) + "." + b64.EncodeToString(encode(good)) + "."
	}
	signedAs := func(alg any) string { return key.token(map[string]any{"alg": alg}, good) }
	return []attack{
		{"none without a signature", unsigned("none"), Malformed},
		{"none with a signature", signedAs("none"), Algorithm},
		{"NONE with a signature", signedAs("NONE"), Algorithm},
		{"nOnE with a signature", signedAs("nOnE"), Algorithm},
		{"empty", signedAs(""), Algorithm},
		{"absent", signedAs(nil), Algorithm},
		{"a number", signedAs(256), Algorithm},
		{"a list", signedAs([]string{"RS256"}), Algorithm},
		{"lower case", signedAs("rs256"), Algorithm},
		{"HS256 with the PEM of the public key", hs256("HS256", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), good), Algorithm},
		{"HS256 with the PKCS #1 PEM of the public key", hs256("HS256", pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}), good), Algorithm},
		{"HS256 with the DER of the public key", hs256("HS256", der, good), Algorithm},
		{"HS256 with the JWK of the public key", hs256("HS256", jwk, good), Algorithm},
		{"HS256 with the modulus", hs256("HS256", key.signer.Public().(*rsa.PublicKey).N.Bytes(), good), Algorithm},
		{"HS256 with no secret", hs256("HS256", nil, good), Algorithm},
		{"HMAC that calls itself RS256", hs256("RS256", der, good), Signature},
		{"HMAC that calls itself ES256", hs256("ES256", der, good), UnknownKey},
		{"RSA key for ES256", signedAs("ES256"), UnknownKey},
		{"RSA key for PS256 where the key is for RS256", signedAs("PS256"), UnknownKey},
	}
}

func keyAttacks(t *testing.T, a *testIssuer, key, foreign testKey, good map[string]any) []attack {
	mine, err := foreign.jwk().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the verifier fetched a key from where a token told it to")
		json.NewEncoder(w).Encode(keySetOf(testKey{"k1", "RS256", foreign.signer}))
	}))
	t.Cleanup(evil.Close)
	forged := func(header map[string]any) string { return foreign.token(header, good) }
	kid := func(id any) string { return forged(map[string]any{"kid": id}) }
	toB := map[string]any{}
	for k, v := range good {
		toB[k] = v
	}
	toB["iss"] = a.URL + "/"
	return []attack{
		{"another trusted issuer's key and its kid", kid("k2"), UnknownKey},
		{"another trusted issuer's key with this issuer's kid", kid("k1"), Signature},
		{"another trusted issuer's key without a kid", kid(nil), Signature},
		{"kid that climbs out of a folder", kid("../../../../dev/null"), UnknownKey},
		{"kid that closes a query", kid("k1' UNION SELECT 'secret' --"), UnknownKey},
		{"kid with a NUL", kid("k1\x00"), UnknownKey},
		{"kid that is a URL", kid(evil.URL), UnknownKey},
		{"kid that is an object", kid(map[string]any{"kid": "k1"}), Malformed},
		{"kid that is a list", kid([]string{"k1"}), Malformed},
		{"jwk in the header", forged(map[string]any{"kid": "k1", "jwk": json.RawMessage(mine)}), Signature},
		{"jwk in the header, no kid", forged(map[string]any{"kid": nil, "jwk": json.RawMessage(mine)}), Signature},
		{"jku in the header", forged(map[string]any{"kid": "k1", "jku": evil.URL}), Signature},
		{"jku in the header, no such kid", forged(map[string]any{"jku": evil.URL}), UnknownKey},
		{"x5u in the header", forged(map[string]any{"kid": "k1", "x5u": evil.URL}), Signature},
		{"x5c in the header", forged(map[string]any{"kid": "k1", "x5c": []string{selfSigned(t, foreign)}}), Signature},
		{"iss with a slash more", key.token(nil, toB), WrongIssuer},
	}
}

func formAttacks(t *testing.T, key, ec testKey, good map[string]any) []attack {
	valid := key.token(nil, good)
	parts := strings.Split(valid, ".")
	header, payload, sig := parts[0], parts[1], parts[2]
	raw, err := b64.DecodeString(sig)
	if err != nil {
		t.Fatal(err)
	}
	order := ec.signer.(*ecdsa.PrivateKey).Params().N
	ecInput := strings.Join(strings.Split(ec.token(nil, good), ".")[:2], ".")
	rs := func(r, s *big.Int) string {
		b := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		return ecInput + "." + b64.EncodeToString(b)
	}
	crit := func(names any) string { return key.token(map[string]any{"crit": names, "exp": 1}, good) }
	other := b64.EncodeToString(encode(map[string]any{"iss": good["iss"], "sub": "root"}))
	two := encode(map[string]any{"payload": payload, "signatures": []any{
		map[string]any{"protected": header, "signature": sig}, map[string]any{"protected": header, "signature": sig}}})
	return []attack{
		{"nothing", "", Malformed},
		{"dots", "..", Malformed},
		{"one part", header, Malformed},
		{"two parts", header + "." + payload, Malformed},
		{"four parts", valid + "." + sig, Malformed},
		{"encrypted (JWE)", encrypted(t, key, good), Malformed},
		{"JSON serialisation", string(encode(map[string]any{"payload": payload, "protected": header, "signature": sig})), Malformed},
		{"JSON serialisation with two signatures", string(two), Malformed},
		{"JSON serialisation after a blank", " " + string(two), Malformed},
		{"detached payload", header + ".." + sig, Malformed},
		{"signature cut short", header + "." + payload + "." + b64.EncodeToString(raw[:len(raw)-1]), Signature},
		{"signature of one byte", header + "." + payload + ".AA", Signature},
		{"signature with a byte more", header + "." + payload + "." + b64.EncodeToString(append(raw, 0)), Signature},
		{"signature over another payload", header + "." + other + "." + sig, Signature},
		{"ES256 with r and s zero", rs(new(big.Int), new(big.Int)), Signature},
		{"ES256 with r and s the order", rs(order, order), Signature},
		{"ES256 with r one and s zero", rs(big.NewInt(1), new(big.Int)), Signature},
		{"ES256 as ASN.1", ecInput + "." + b64.EncodeToString(asn1Signature(t, ec, ecInput)), Signature},
		{"padding", header + "." + payload + "." + sig + "==", Malformed},
		{"line break in the payload", header + "." + payload[:9] + "\n" + payload[9:] + "." + sig, Malformed},
		{"carriage return at the end", valid + "\r", Malformed},
		{"blank before", " " + valid, Malformed},
		{"Bearer before", "Bearer " + valid, Malformed},
		{"standard base64", header + "." + strings.TrimRight(base64.StdEncoding.EncodeToString([]byte("\xff\xfe\xfd{}>>>???")), "=") + "." + sig, Malformed},
		{"stray bits at the end", valid[:len(valid)-1] + nextLetter(valid[len(valid)-1]), Malformed},
		{"NUL", header + ".\x00" + payload + "." + sig, Malformed},
		{"critical extension", crit([]string{"exp"}), Malformed},
		{"critical extension that is empty", crit([]string{}), Malformed},
		{"critical b64", key.token(map[string]any{"crit": []string{"b64"}, "b64": false}, good), Malformed},
		{"b64 not critical", key.token(map[string]any{"b64": false}, good), Malformed},
		{"type of a logout token", key.token(map[string]any{"typ": "logout+jwt"}, good), Malformed},
		{"type that is no string", key.token(map[string]any{"typ": 7}, good), Malformed},
		{"header that is a list", b64.EncodeToString([]byte(`[]`)) + "." + payload + "." + sig, Malformed},
		{"header with alg twice", b64.EncodeToString([]byte(`{"alg":"RS256","alg":"none","kid":"k1"}`)) + "." + payload + "." + sig, Malformed},
		{"header over its limit", key.token(map[string]any{"x": strings.Repeat("x", maxHeader)}, good), Malformed},
		{"64 KiB and a byte", strings.Repeat("A", MaxToken+1), Malformed},
		{"a valid token over 64 KiB", key.token(nil, with(good, "pad", strings.Repeat("x", MaxToken))), Malformed},
	}
}

func claimAttacks(a *testIssuer, key testKey, now time.Time) []attack {
	with := func(changes map[string]any) string { return key.token(nil, a.claims(now, changes)) }
	one := func(claim string, v any) string { return with(map[string]any{claim: v}) }
	raw := func(members string) string {
		base := string(encode(a.claims(now, nil)))
		return key.token(nil, base[:len(base)-1]+","+members+"}")
	}
	nest := func(n int, open, end string) string { return strings.Repeat(open, n) + strings.Repeat(end, n) }
	past, future := now.Add(-time.Hour).Unix(), now.Add(time.Hour).Unix()
	return []attack{
		{"another audience", one("aud", "billing"), Audience},
		{"audience that begins the same", one("aud", "custos-dev"), Audience},
		{"audience in other case", one("aud", "Custos"), Audience},
		{"audience absent", one("aud", nil), Audience},
		{"audience empty", one("aud", []string{}), Audience},
		{"audience list of others", one("aud", []string{"billing", "custosx"}), Audience},
		{"audience a number", one("aud", 7), Audience},
		{"audience list with a number", one("aud", []any{"custos", 7}), Audience},
		{"audience an object", one("aud", map[string]any{"custos": true}), Audience},
		{"several audiences and no azp", one("aud", []string{"billing", "custos"}), Audience},
		{"several audiences and another's azp", with(map[string]any{"aud": []string{"billing", "custos"}, "azp": "billing"}), Audience},
		{"azp a list", one("azp", []string{"custos"}), Claims},
		{"expired", one("exp", past), Expired},
		{"expired by the leeway", one("exp", now.Add(-DefaultLeeway).Unix()), Expired},
		{"expired, with a fraction", one("exp", float64(past)+0.5), Expired},
		{"exp absent", one("exp", nil), Claims},
		{"exp null", key.token(nil, strings.Replace(string(encode(a.claims(now, map[string]any{"exp": 1}))), `"exp":1`, `"exp":null`, 1)), Claims},
		{"exp a string", one("exp", "99999999999"), Claims},
		{"exp in milliseconds", one("exp", now.UnixMilli()), Claims},
		{"exp huge", one("exp", json.Number("1e300")), Claims},
		{"exp beyond a float", one("exp", json.Number("1e999")), Malformed},
		{"exp negative", one("exp", -1), Claims},
		{"exp true", one("exp", true), Claims},
		{"nbf in the future", one("nbf", future), NotYetValid},
		{"nbf a string", one("nbf", "0"), Claims},
		{"iat in the future", one("iat", future), NotYetValid},
		{"sub absent", one("sub", nil), Claims},
		{"sub empty", one("sub", ""), Claims},
		{"sub a number", one("sub", 1), Claims},
		{"sub blank", one("sub", "   "), Claims},
		{"sub with a line break", one("sub", "u-1\nadmin"), Claims},
		{"sub that turns the text around", one("sub", "u\u202e1"), Claims},
		{"sub too long", one("sub", strings.Repeat("u", maxSubject+1)), Claims},
		{"iss absent", one("iss", nil), WrongIssuer},
		{"iss a list", one("iss", []string{a.URL}), WrongIssuer},
		{"iss of nobody", one("iss", "https://evil.example"), WrongIssuer},
		{"iss in other case", one("iss", strings.ToUpper(a.URL)), WrongIssuer},
		{"sub twice", raw(`"sub":"root"`), Malformed},
		{"exp twice", raw(`"exp":99999999999`), Malformed},
		{"sub twice, one escaped", raw(`"su\u0062":"root"`), Malformed},
		{"a member twice inside act", raw(`"act":{"sub":"a","sub":"b"}`), Malformed},
		{"payload a list", key.token(nil, `["custos"]`), Malformed},
		{"payload null", key.token(nil, `null`), Malformed},
		{"payload two objects", key.token(nil, string(encode(a.claims(now, nil)))+`{}`), Malformed},
		{"payload cut short", key.token(nil, `{"iss":"`+a.URL+`"`), Malformed},
		{"payload that nests 10000 lists", raw(`"x":` + nest(10000, "[", "]")), Malformed},
		{"payload that nests past its limit", raw(`"x":` + nest(maxDepth, "[", "]")), Malformed},
		{"act that nests past its limit", raw(`"act":` + actors(maxActors+2)), Claims},
		{"act a string", one("act", "skill:reporter"), Claims},
		{"act null", raw(`"act":null`), Claims},
		{"act without a subject", one("act", map[string]any{"name": "x"}), Claims},
		{"act of another issuer", one("act", map[string]any{"sub": "admin", "iss": "https://id.example.com"}), Claims},
		{"act inside act a list", one("act", map[string]any{"sub": "s", "act": []string{"x"}}), Claims},
		{"groups an object", one("groups", map[string]any{"dba": true}), Claims},
		{"groups with a number", one("groups", []any{"dba", 7}), Claims},
		{"group with a line break", one("groups", []string{"dba\nadmin"}), Claims},
		{"groups past their limit", one("groups", strings.Fields(strings.Repeat("0123456789 ", maxGroups/10+1))), Claims},
		{"groups left out", with(map[string]any{"groups": nil, "_claim_names": map[string]any{"groups": "src1"}}), Claims},
	}
}

// actors writes an act claim of n actors, one in the other.
func actors(n int) string {
	return strings.Repeat(`{"sub":"s","act":`, n-1) + `{"sub":"s"}` + strings.Repeat("}", n-1)
}

func with(claims map[string]any, claim string, v any) map[string]any {
	out := map[string]any{claim: v}
	for k, v := range claims {
		if k != claim {
			out[k] = v
		}
	}
	return out
}

// nextLetter gives the base64url letter whose value is one more: for a last
// letter it changes only bits that no byte uses.
func nextLetter(c byte) string {
	i := strings.IndexByte(base64url, c)
	return string(base64url[i+1])
}

func encrypted(t *testing.T, key testKey, claims any) string {
	t.Helper()
	e, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.RSA_OAEP, Key: key.signer.Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := e.Encrypt(encode(claims))
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func asn1Signature(t *testing.T, k testKey, input string) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(input))
	b, err := ecdsa.SignASN1(nil, k.signer.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func selfSigned(t *testing.T, k testKey) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(nil, template, template, k.signer.Public(), k.signer)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}
