package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// b64 is the encoding of a token's parts.
var b64 = base64.RawURLEncoding

// testKey is a signing key of a test issuer.
type testKey struct {
	id, alg string
	signer  crypto.Signer
}

func (k testKey) jwk() jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: k.id, Algorithm: k.alg, Use: "sig", Key: k.signer.Public()}
}

// sign signs input as alg says (RFC 7518, section 3).
func (k testKey) sign(alg string, input []byte) []byte {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	var digest []byte
	if hash != 0 {
		h := hash.New()
		h.Write(input)
		digest = h.Sum(nil)
	}
	var sig []byte
	var err error
	switch key := k.signer.(type) {
	case *rsa.PrivateKey:
		if alg[:2] == "PS" {
			sig, err = rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(nil, key, hash, digest)
		}
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, key, digest)
		n := (key.Curve.Params().BitSize + 7) / 8
		sig, err = append(r.FillBytes(make([]byte, n)), s.FillBytes(make([]byte, n))...), e
	case ed25519.PrivateKey:
		sig = ed25519.Sign(key, input)
	}
	if err != nil {
		panic(err)
	}
	return sig
}

// token writes a token of k: header over its usual alg, typ and kid, and
// claims, either a map or raw JSON.
func (k testKey) token(header map[string]any, claims any) string {
	h := map[string]any{"alg": k.alg, "typ": "JWT", "kid": k.id}
	maps.Copy(h, header)
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == nil })
	input := b64.EncodeToString(encode(h)) + "." + b64.EncodeToString(encode(claims))
	return input + "." + b64.EncodeToString(k.sign(k.alg, []byte(input)))
}

func encode(v any) []byte {
	if s, ok := v.(string); ok {
		return []byte(s)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Keys that all tests share, since RSA keys take a while to make.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
)

func newRSA(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

func newEC(id, alg string) testKey {
	k, err := ecdsa.GenerateKey(map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg], rand.Reader)
	if err != nil {
		panic(err)
	}
	return testKey{id, alg, k}
}

func newEd(id string) testKey {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return testKey{id, "EdDSA", k}
}

// testIssuer is an issuer over HTTP, whose keys and answers a test changes.
type testIssuer struct {
	*httptest.Server
	fetches atomic.Int64 // of its keys

	mu       sync.Mutex
	keys     []testKey
	document func(w http.ResponseWriter, r *http.Request) // instead of discovery
	jwks     func(w http.ResponseWriter, r *http.Request) // instead of the keys
}

func newTestIssuer(t testing.TB, keys ...testKey) *testIssuer {
	i := &testIssuer{keys: keys}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		h := i.document
		i.mu.Unlock()
		if h != nil {
			h(w, r)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		i.mu.Lock()
		h, keys := i.jwks, i.keys
		i.mu.Unlock()
		if h != nil {
			h(w, r)
			return
		}
		json.NewEncoder(w).Encode(keySetOf(keys...))
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func keySetOf(keys ...testKey) jose.JSONWebKeySet {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.jwk())
	}
	return set
}

func (i *testIssuer) setKeys(keys ...testKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

func (i *testIssuer) setJWKS(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.jwks = h
}

func (i *testIssuer) setDocument(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.document = h
}

// claims are those of a good token, over which changes go; nil removes.
func (i *testIssuer) claims(now time.Time, changes map[string]any) map[string]any {
	c := map[string]any{"iss": i.URL, "aud": "custos", "sub": "u-1", "preferred_username": "ana", "groups": []string{"dba"},
		"exp": now.Add(time.Hour).Unix(), "iat": now.Unix()}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (i *testIssuer) issuer() Issuer {
	return Issuer{URL: i.URL, Audiences: []string{"custos"}, GroupsClaim: "groups"}
}

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newVerifier(t testing.TB, c *clock, issuers ...Issuer) *Verifier {
	t.Helper()
	v, err := New(Options{Issuers: issuers, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// mustRefuse fails the test unless the token is refused with the code, in
// words that hold none of its bytes.
func mustRefuse(t *testing.T, v *Verifier, token string, want Code) {
	t.Helper()
	p, err := v.Verify(context.Background(), token)
	if err == nil {
		t.Fatalf("accepted as %+v; want %s", p, want)
	}
	if got := CodeOf(err); got != want {
		t.Fatalf("code %q (%v); want %q", got, err, want)
	}
	for part := range bytes.SplitSeq([]byte(token), []byte(".")) {
		if len(part) > 8 && bytes.Contains([]byte(err.Error()), part) {
			t.Fatalf("the error holds a part of the token: %v", err)
		}
	}
}

func mustAccept(t *testing.T, v *Verifier, token string) {
	t.Helper()
	if _, err := v.Verify(context.Background(), token); err != nil {
		t.Fatal(err)
	}
}
