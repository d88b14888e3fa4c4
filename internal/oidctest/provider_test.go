package oidctest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

func start(t *testing.T) *Provider {
	t.Helper()
	p, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// check verifies a token with a relying party that others wrote, and returns
// its claims.
func check(t *testing.T, p *Provider, token string) map[string]any {
	t.Helper()
	claims, err := verify(p, token)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func verify(p *Provider, token string) (claims map[string]any, err error) {
	provider, err := oidc.NewProvider(context.Background(), p.URL)
	if err != nil {
		return nil, err
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: Audience}).Verify(context.Background(), token)
	if err != nil {
		return nil, err
	}
	return claims, verified.Claims(&claims)
}

func TestMint(t *testing.T) {
	p := start(t)
	for subject, want := range map[string][]any{"ana": {"dba"}, "bob": {"support"}, "carol": {"audit"}, SkillSubject: {"skills"}, "mallory": nil} {
		claims := check(t, p, p.Mint(subject))
		groups, _ := claims["groups"].([]any)
		if claims["sub"] != subject || !reflect.DeepEqual(groups, want) {
			t.Errorf("%s: %v", subject, claims)
		}
	}
	claims := check(t, p, p.Mint(SkillSubject, OnBehalfOf("ana"), Claim("jti", nil), Claim("x", 7)))
	act, _ := claims["act"].(map[string]any)
	if claims["sub"] != "ana" || act["sub"] != SkillSubject || act["kind"] != "skill" || claims["kind"] != "person" || claims["x"] != 7.0 {
		t.Errorf("on behalf of ana: %v", claims)
	}
	if groups := claims["groups"].([]any); len(groups) != 1 || groups[0] != "skills" {
		t.Errorf("on behalf of ana, in groups %v", groups)
	}
	if _, there := claims["jti"]; there {
		t.Error("a claim set to nil is there")
	}
	for name, token := range map[string]string{"expired": p.Mint("ana", Lifetime(-time.Minute)), "of another key": p.Mint("ana", KeyID("key-9"))} {
		if claims, err := verify(p, token); err == nil {
			t.Errorf("a token that is %s was accepted: %v", name, claims)
		}
	}
}

func TestRotate(t *testing.T) {
	p := start(t)
	before := p.Mint("ana")
	check(t, p, before)
	p.Rotate()
	check(t, p, p.Mint("ana"))
	if _, err := verify(p, before); err == nil {
		t.Error("a token of the former key is still good")
	}
}

// post sends a form to the token endpoint as the skill, or with another secret.
func post(t *testing.T, p *Provider, secret string, form url.Values) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.URL+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(SkillClientID, secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func TestSkillGetsTokens(t *testing.T) {
	p := start(t)
	own := url.Values{"grant_type": {"client_credentials"}}
	status, answer := post(t, p, p.SkillSecret, own)
	token, _ := answer["access_token"].(string)
	if claims := check(t, p, token); status != http.StatusOK || claims["sub"] != SkillSubject || claims["act"] != nil {
		t.Errorf("its own token: %d %v", status, claims)
	}
	if status, answer := post(t, p, "wrong", own); status == http.StatusOK {
		t.Errorf("with a wrong secret: %v", answer)
	}

	exchange := url.Values{
		"grant_type":    {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token": {p.Mint("ana")}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		"audience": {Audience},
	}
	status, answer = post(t, p, p.SkillSecret, exchange)
	token, _ = answer["access_token"].(string)
	claims := check(t, p, token)
	act, _ := claims["act"].(map[string]any)
	if status != http.StatusOK || claims["sub"] != "ana" || act["sub"] != SkillSubject || !reflect.DeepEqual(claims["groups"], []any{"skills"}) {
		t.Errorf("on behalf of ana: %d %v", status, claims)
	}

	for name, change := range map[string]url.Values{
		"another audience":      {"audience": {"billing"}},
		"no audience":           {"audience": nil},
		"an ID token":           {"requested_token_type": {"urn:ietf:params:oauth:token-type:id_token"}},
		"an expired token":      {"subject_token": {p.Mint("ana", Lifetime(-time.Minute))}},
		"somebody else's token": {"subject_token": {start(t).Mint("ana")}},
	} {
		form := url.Values{}
		for k, v := range exchange {
			form[k] = v
		}
		for k, v := range change {
			form[k] = v
		}
		if status, answer := post(t, p, p.SkillSecret, form); status < 400 || status >= 500 {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
}

func TestLoopbackOnly(t *testing.T) {
	if p, err := Start("0.0.0.0:0"); err == nil {
		p.Close()
		t.Fatal("it listens on every address")
	} else if !strings.Contains(err.Error(), "loopback") {
		t.Error(err)
	}
	p := start(t)
	req, err := http.NewRequest(http.MethodGet, p.URL+"/login", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a request for another host got %d", resp.StatusCode)
	}
}

func TestPagesAreSafe(t *testing.T) {
	p := start(t)
	resp, err := http.Get(p.URL + "/device?user_code=" + url.QueryEscape(`"><script>alert(1)</script>`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "<script>") || !strings.Contains(string(body), "asks for no password") {
		t.Errorf("%s", body)
	}
	for _, form := range []url.Values{{"id": {"nobody's"}, "user": {"ana"}}, {}} {
		resp, err := http.PostForm(p.URL+"/login", form)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("login with %v: %d", form, resp.StatusCode)
		}
	}
}

// TestOtherSitesGetNothing is a page of another site in a browser on this
// machine, which goes for the device flow.
func TestOtherSitesGetNothing(t *testing.T) {
	p := start(t)
	for _, path := range []string{"/device_authorization", "/device", "/login", "/oauth/token"} {
		req, err := http.NewRequest(http.MethodPost, p.URL+path, strings.NewReader("client_id="+ClientID))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", "https://evil.example")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d, %v", path, resp.StatusCode, resp.Header)
		}
	}
	req, err := http.NewRequest(http.MethodGet, p.URL+"/.well-known/openid-configuration", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://evil.example")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if h := resp.Header.Get("Access-Control-Allow-Origin"); h != "" {
		t.Errorf("other sites may read answers: %s", h)
	}
}
