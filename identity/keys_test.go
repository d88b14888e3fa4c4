package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func down(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

// settle waits until no fetch of an issuer's keys runs.
func settle(v *Verifier, url string) {
	k := (*v.issuers.Load())[url].keys
	k.mu.Lock()
	running := k.running
	k.mu.Unlock()
	if running != nil {
		<-running
	}
}

func TestRotationNeedsNoRestart(t *testing.T) {
	c := newClock()
	first, second := testKey{"k1", "RS256", rsaKey()}, newEC("k2", "ES384")
	a := newTestIssuer(t, first)
	v := newVerifier(t, c, a.issuer())
	old := first.token(nil, a.claims(c.Now(), nil))
	mustAccept(t, v, old)

	a.setKeys(second)
	c.advance(pauseAfterFetch)
	mustAccept(t, v, second.token(nil, a.claims(c.Now(), nil)))
	mustRefuse(t, v, old, UnknownKey)
}

func TestRemovedKeyStopsWorkingInTime(t *testing.T) {
	c := newClock()
	first, second := testKey{"k1", "RS256", rsaKey()}, newEC("k2", "ES256")
	a := newTestIssuer(t, first, second)
	v := newVerifier(t, c, a.issuer())
	token := first.token(nil, a.claims(c.Now(), nil))
	mustAccept(t, v, token)
	a.setKeys(second)
	mustAccept(t, v, token)
	c.advance(keysStale)
	mustRefuse(t, v, token, UnknownKey)

	t.Run("and in the background before that", func(t *testing.T) {
		third := newEd("k3")
		token := second.token(nil, a.claims(c.Now(), nil))
		a.setKeys(third)
		c.advance(keysFresh)
		mustAccept(t, v, token)
		settle(v, a.URL)
		mustRefuse(t, v, token, UnknownKey)
	})
	t.Run("also when none is left", func(t *testing.T) {
		a.setKeys()
		c.advance(keysStale)
		mustRefuse(t, v, second.token(nil, a.claims(c.Now(), nil)), UnknownKey)
	})
}

func TestFloodOfUnknownKeysFetchesOnce(t *testing.T) {
	c := newClock()
	key := testKey{"k1", "RS256", rsaKey()}
	a := newTestIssuer(t, key)
	v := newVerifier(t, c, a.issuer())
	mustAccept(t, v, key.token(nil, a.claims(c.Now(), nil)))
	flood := func() {
		var wg sync.WaitGroup
		for i := range 50 {
			forged := newEd(fmt.Sprint("k", i, "-", c.Now().Unix())).token(nil, a.claims(c.Now(), nil))
			wg.Go(func() {
				if _, err := v.Verify(context.Background(), forged); CodeOf(err) != UnknownKey {
					t.Errorf("forged token: %v", err)
				}
			})
		}
		wg.Wait()
	}
	flood()
	if n := a.fetches.Load(); n != 1 {
		t.Fatalf("%d fetches within the pause; want the first only", n)
	}
	c.advance(pauseAfterFetch)
	flood()
	flood()
	if n := a.fetches.Load(); n != 2 {
		t.Fatalf("%d fetches after the pause; want 2", n)
	}
	mustAccept(t, v, key.token(nil, a.claims(c.Now(), nil)))

	// A wrong signature under a known key id is no reason to ask at all.
	c.advance(pauseAfterFetch)
	mustRefuse(t, v, testKey{"k1", "RS256", otherRSA()}.token(nil, a.claims(c.Now(), nil)), Signature)
	if n := a.fetches.Load(); n != 2 {
		t.Fatalf("%d fetches after a wrong signature; want 2", n)
	}
}

// TestFetchIsShared holds the issuer's answer back until every caller waits.
func TestFetchIsShared(t *testing.T) {
	c := newClock()
	key := testKey{"k1", "RS256", rsaKey()}
	a := newTestIssuer(t, key)
	asked, release := make(chan struct{}), make(chan struct{})
	a.setDocument(func(w http.ResponseWriter, _ *http.Request) {
		close(asked) // a second request would panic
		<-release
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, a.URL, a.URL+"/keys")
	})
	v := newVerifier(t, c, a.issuer())
	token := key.token(nil, a.claims(c.Now(), nil))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := v.Verify(context.Background(), token); err != nil {
				t.Error(err)
			}
		})
	}
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Verify(ctx, token); !errors.Is(err, context.Canceled) || CodeOf(err) != Unavailable {
		t.Errorf("a caller who went away got %v", err)
	}
	close(release)
	wg.Wait()
	if n := a.fetches.Load(); n != 1 {
		t.Errorf("%d fetches; want 1", n)
	}
}

func TestOutageServesKeptKeysForAWhile(t *testing.T) {
	c := newClock()
	key := testKey{"k1", "RS256", rsaKey()}
	a := newTestIssuer(t, key)
	v := newVerifier(t, c, a.issuer())
	token := func() string { return key.token(nil, a.claims(c.Now(), nil)) }
	mustAccept(t, v, token())

	a.setJWKS(down)
	c.advance(keysStale)
	mustAccept(t, v, token())
	mustRefuse(t, v, newEd("k2").token(nil, a.claims(c.Now(), nil)), Unavailable)
	c.advance(keysDead - keysStale)
	mustRefuse(t, v, token(), Unavailable)

	a.setJWKS(nil)
	c.advance(pauseLongest)
	mustAccept(t, v, token())
}

func TestBackOff(t *testing.T) {
	c := newClock()
	key := testKey{"k1", "RS256", rsaKey()}
	a := newTestIssuer(t, key)
	a.setJWKS(down)
	v := newVerifier(t, c, a.issuer())
	token := key.token(nil, a.claims(c.Now().Add(time.Hour), map[string]any{"iat": nil}))
	want := int64(0)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		want++
		mustRefuse(t, v, token, Unavailable)
		c.advance(pause*time.Second - 1)
		mustRefuse(t, v, token, Unavailable)
		if n := a.fetches.Load(); n != want {
			t.Fatalf("%d fetches just before a pause of %d s is over; want %d", n, pause, want)
		}
		c.advance(1)
	}
	a.setJWKS(nil)
	mustAccept(t, v, token)
}

func TestOneIssuerDownDoesNotHinderAnother(t *testing.T) {
	c := newClock()
	key := testKey{"k1", "RS256", rsaKey()}
	a, b := newTestIssuer(t, key), newTestIssuer(t, key)
	a.Close()
	v := newVerifier(t, c, a.issuer(), b.issuer())
	mustRefuse(t, v, key.token(nil, a.claims(c.Now(), nil)), Unavailable)
	mustAccept(t, v, key.token(nil, b.claims(c.Now(), nil)))
}

// TestBadSources lets an issuer answer in each way that it must not.
func TestBadSources(t *testing.T) {
	key := testKey{"k1", "RS256", rsaKey()}
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("a request left the issuer's host")
	}))
	t.Cleanup(other.Close)
	away := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }
	round := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }
	huge := func(w http.ResponseWriter, _ *http.Request) {
		for chunk := bytes.Repeat([]byte(" "), 64<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	slow := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "{")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	many := `{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`
	for _, test := range []struct {
		name           string
		document, jwks http.HandlerFunc
		want           string
	}{
		{"discovery of another issuer", say(`{"issuer":"https://id.example.com","jwks_uri":"https://id.example.com/keys"}`), nil, "another issuer"},
		{"discovery with a keys URL in plain http", nil, nil, "must be https"},
		{"discovery without a keys URL", nil, nil, "jwks_uri"},
		{"discovery in HTML", say("<html>"), nil, "not a JSON object"},
		{"discovery redirected away", away, nil, "another host"},
		{"discovery huge", huge, nil, "more than"},
		{"discovery slow", slow, nil, "deadline exceeded"},
		{"keys in HTML", nil, say("<html>"), "not a JSON Web Key set"},
		{"keys missing", nil, say("{}"), "not a JSON Web Key set"},
		{"keys null", nil, say(`{"keys":null}`), "not a JSON Web Key set"},
		{"keys too many", nil, say(many), "more than"},
		{"keys huge", nil, huge, "more than"},
		{"keys slow", nil, slow, "deadline exceeded"},
		{"keys redirected away", nil, away, "another host"},
		{"keys redirected in a circle", nil, round, "more than 3 times"},
		{"keys refused", nil, down, "answers 503"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClock()
			a := newTestIssuer(t, key)
			switch test.name {
			case "discovery with a keys URL in plain http":
				test.document = say(fmt.Sprintf(`{"issuer":%q,"jwks_uri":"http://id.example.com/keys"}`, a.URL))
			case "discovery without a keys URL":
				test.document = say(fmt.Sprintf(`{"issuer":%q}`, a.URL))
			}
			a.setDocument(test.document)
			a.setJWKS(test.jwks)
			client := &http.Client{}
			if strings.HasSuffix(test.name, "slow") {
				client.Timeout = 100 * time.Millisecond
			}
			v, err := New(Options{Issuers: []Issuer{a.issuer()}, Now: c.Now, HTTPClient: client})
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Verify(context.Background(), key.token(nil, a.claims(c.Now(), nil)))
			cause := errors.Unwrap(err)
			if CodeOf(err) != Unavailable || cause == nil || !strings.Contains(cause.Error(), test.want) {
				t.Fatalf("got %v because of %v; want something on %q", err, cause, test.want)
			}
			if strings.Contains(err.Error(), cause.Error()) {
				t.Errorf("the caller is told the cause: %v", err)
			}
			if n := a.fetches.Load(); n > 1+maxRedirects {
				t.Errorf("the keys were asked for %d times", n)
			}
		})
	}
}

// TestUnfitKeys: an issuer publishes keys that must not be used, and one that
// may; only tokens of the latter are accepted.
func TestUnfitKeys(t *testing.T) {
	c := newClock()
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak := testKey{"weak", "RS256", newRSA(1024)}
	forEncryption := testKey{"enc", "RS256", otherRSA()}
	good, p384 := newEC("good", "ES256"), newEC("p384", "ES384")
	a := newTestIssuer(t)
	a.setJWKS(func(w http.ResponseWriter, _ *http.Request) {
		enc := forEncryption.jwk()
		enc.Use = "enc"
		set := keySetOf(weak, good)
		// A P-384 key that claims to be for ES256, a symmetric one, one of an
		// unknown type and one that is no key at all.
		mislabelled := p384.jwk()
		mislabelled.Algorithm = "ES256"
		set.Keys = append(set.Keys, enc, mislabelled)
		body := string(encode(set))
		extra := `,{"kty":"oct","kid":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},{"kty":"AKP","kid":"pq"},7]}`
		fmt.Fprint(w, strings.TrimSuffix(body, "]}")+extra)
	})
	v := newVerifier(t, c, a.issuer())
	claims := a.claims(c.Now(), nil)
	mustAccept(t, v, good.token(nil, claims))
	mustRefuse(t, v, weak.token(nil, claims), UnknownKey)
	mustRefuse(t, v, forEncryption.token(nil, claims), UnknownKey)
	mustRefuse(t, v, p384.token(map[string]any{"alg": "ES256"}, claims), UnknownKey)
	mustRefuse(t, v, p384.token(nil, claims), UnknownKey)
	if n := len((*v.issuers.Load())[a.URL].keys.keys); n != 2 {
		t.Errorf("%d keys were kept; want the good one and the mislabelled one", n)
	}
}

func TestRedirectWithinTheHostIsFollowed(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	a.Config.Handler.(*http.ServeMux).HandleFunc("/moved", func(w http.ResponseWriter, _ *http.Request) {
		w.Write(encode(keySetOf(key)))
	})
	a.setJWKS(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/moved", http.StatusFound) })
	mustAccept(t, newVerifier(t, c, a.issuer()), key.token(nil, a.claims(c.Now(), nil)))
}

// TestClusterIssuer is a Kubernetes API server as issuer: its `iss` is a name
// that does not resolve, it has a CA of its own, and it wants a bearer token.
func TestClusterIssuer(t *testing.T) {
	c := newClock()
	key := newEC("k1", "ES256")
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/openid/v1/jwks" || r.Header.Get("Authorization") != "Bearer the-pod's-own" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Write(encode(keySetOf(key)))
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	write(t, token, []byte("the-pod's-own\n"))
	is := Issuer{URL: "https://kubernetes.default.svc.cluster.local", Audiences: []string{"custos"}, Kind: "workload",
		JWKSURL: server.URL + "/openid/v1/jwks", CAFile: ca, TokenFile: token, Groups: []string{"cluster"}}
	v := newVerifier(t, c, is)
	claims := map[string]any{"iss": is.URL, "aud": []string{"custos"}, "sub": "system:serviceaccount:jobs:nightly", "exp": c.Now().Add(time.Hour).Unix()}
	p, err := v.Verify(context.Background(), key.token(map[string]any{"typ": nil}, claims))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "system:serviceaccount:jobs:nightly" || p.Kind != "workload" || len(p.Groups) != 1 || p.Groups[0] != "cluster" {
		t.Errorf("got %+v", p)
	}

	is.CAFile = ""
	mustRefuse(t, newVerifier(t, c, is), key.token(nil, claims), Unavailable)
	is.CAFile = token
	if _, err := New(Options{Issuers: []Issuer{is}}); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a CA file without a certificate: %v", err)
	}
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDiscoveryLeadsElsewhere: a discovery document over TLS may name keys on
// another host, which then doesn't get the bearer token, but not over plain
// HTTP.
func TestDiscoveryLeadsElsewhere(t *testing.T) {
	c := newClock()
	key := newEC("k1", "ES256")
	keys := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Authorization"); h != "" {
			t.Errorf("another host got the header %q", h)
		}
		w.Write(encode(keySetOf(key)))
	}))
	t.Cleanup(keys.Close)
	plain := newTestIssuer(t, key)
	var jwks string
	main := httptest.NewTLSServer(nil)
	t.Cleanup(main.Close)
	main.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer mine" {
			t.Error("the issuer's own host did not get the token")
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, main.URL, jwks)
	})
	dir := t.TempDir()
	ca, token := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: main.Certificate().Raw}))
	write(t, token, []byte("mine"))
	is := Issuer{URL: main.URL, Audiences: []string{"custos"}, CAFile: ca, TokenFile: token}
	caller := key.token(nil, map[string]any{"iss": main.URL, "aud": "custos", "sub": "u-1", "exp": c.Now().Add(time.Hour).Unix()})

	jwks = keys.URL
	mustAccept(t, newVerifier(t, c, is), caller)
	jwks = plain.URL + "/keys"
	mustRefuse(t, newVerifier(t, c, is), caller, Unavailable)
	if plain.fetches.Load() > 0 {
		t.Error("keys were fetched over plain HTTP")
	}
}

// TestPlainIssuerIsNotTrusted: a TLS server whose certificate the system does
// not trust is no issuer.
func TestPlainIssuerIsNotTrusted(t *testing.T) {
	key := newEd("k1")
	c := newClock()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	v := newVerifier(t, c, Issuer{URL: server.URL, Audiences: []string{"custos"}})
	_, err := v.Verify(context.Background(), key.token(nil, map[string]any{"iss": server.URL}))
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("got %v; want an unknown authority", err)
	}
}

func TestReloadKeepsKeys(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a, b := newTestIssuer(t, key), newTestIssuer(t, key)
	v := newVerifier(t, c, a.issuer())
	mustAccept(t, v, key.token(nil, a.claims(c.Now(), nil)))
	mustRefuse(t, v, key.token(nil, b.claims(c.Now(), nil)), WrongIssuer)

	changed := a.issuer()
	changed.Audiences = []string{"custos", "gateway"}
	if err := v.Reload([]Issuer{changed, b.issuer()}); err != nil {
		t.Fatal(err)
	}
	mustAccept(t, v, key.token(nil, a.claims(c.Now(), map[string]any{"aud": "gateway"})))
	mustAccept(t, v, key.token(nil, b.claims(c.Now(), nil)))
	if n := a.fetches.Load(); n != 1 {
		t.Errorf("%d fetches from the issuer that stayed; want 1", n)
	}
	if err := v.Reload([]Issuer{a.issuer(), a.issuer()}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("an issuer listed twice: %v", err)
	}
	mustAccept(t, v, key.token(nil, b.claims(c.Now(), nil)))
	if err := v.Reload(nil); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, v, key.token(nil, a.claims(c.Now(), nil)), WrongIssuer)
}

func TestLogSaysWhatHappened(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	v, err := New(Options{Issuers: []Issuer{a.issuer()}, Now: c.Now, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	a.setJWKS(down)
	token := key.token(nil, a.claims(c.Now(), nil))
	mustRefuse(t, v, token, Unavailable)
	a.setJWKS(nil)
	c.advance(pauseAfterError)
	mustAccept(t, v, token)
	for _, want := range []string{"level=WARN", "answers 503", "next_in=1s", `msg="keys of issuer changed"`, "k1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), token[:40]) {
		t.Error("the log holds the token")
	}
}
