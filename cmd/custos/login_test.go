package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/identity/login"
	"github.com/custos-gateway/custos/internal/oidctest"
)

// loginHouse is an identity provider, a gateway's front that verifies its
// tokens, and a user's own empty configuration folder.
type loginHouse struct {
	*oidctest.Provider
	gateway, ca string
}

func newLoginHouse(t *testing.T) *loginHouse {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	p, err := oidctest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	v, err := identity.New(identity.Options{Issuers: []identity.Issuer{{URL: p.URL, Audiences: []string{oidctest.Audience}, GroupsClaim: "groups", KindClaim: "kind"}}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+login.DiscoveryPath, func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(login.Discovery{Issuer: p.URL, ClientID: oidctest.ClientID, Audience: oidctest.Audience})
	})
	mux.HandleFunc("GET /api/v1/whoami", func(w http.ResponseWriter, r *http.Request) {
		who, err := v.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			json.NewEncoder(w).Encode(map[string]any{"status": http.StatusUnauthorized, "detail": err.Error()})
			return
		}
		json.NewEncoder(w).Encode(who)
	})
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &loginHouse{p, server.URL, ca}
}

// globals are a command line's that names the gateway.
func (h *loginHouse) globals() (g *globals, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return &globals{url: h.gateway, ca: h.ca, stdin: strings.NewReader(""), stdout: stdout, stderr: stderr}, stdout, stderr
}

// runs executes one command.
func runs(t *testing.T, c *cobra.Command, args ...string) error {
	t.Helper()
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	return c.ExecuteContext(t.Context())
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return exitFailed
}

// asAna is a browser with ana before it.
func asAna(page string) error {
	resp, err := http.Get(page)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	html, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindSubmatch(html)
	if id == nil {
		return errors.New("no login page")
	}
	go func() {
		resp, err := http.PostForm(resp.Request.URL.String(), url.Values{"id": {string(id[1])}, "user": {"ana"}})
		if err == nil {
			resp.Body.Close()
		}
	}()
	return nil
}

func TestLoginByBrowserThenUseIt(t *testing.T) {
	h := newLoginHouse(t)
	g, _, _ := h.globals()
	if err := runs(t, newTokenCommand(g)); err == nil || !strings.Contains(err.Error(), "custos login --url "+h.gateway) {
		t.Errorf("token before a login: %v", err)
	}

	g, stdout, stderr := h.globals()
	if err := runLogin(t.Context(), g, &loginFlags{open: asAna}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "Logged in as ana at "+h.URL) || !strings.Contains(stderr.String(), h.URL+"/authorize") {
		t.Errorf("%s\n%s", stdout, stderr)
	}

	g, stdout, _ = h.globals()
	if err := runs(t, newWhoamiCommand(g)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ana\n", "person", "dba", h.URL} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout.String(), "unverified") {
		t.Errorf("the gateway's answer is called unverified:\n%s", stdout)
	}

	g, stdout, _ = h.globals()
	if err := runs(t, newTokenCommand(g)); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSuffix(stdout.String(), "\n")
	p, err := identity.Peek(token)
	if err != nil || p.Subject != "ana" || strings.Contains(token, "\n") {
		t.Errorf("%q, %v", token, err)
	}

	// The token is for that gateway and no other.
	g, stdout, _ = h.globals()
	g.url = "https://gw.example"
	if err := runs(t, newTokenCommand(g)); err == nil || stdout.Len() > 0 {
		t.Errorf("a token for another gateway: %s", stdout)
	}
}

func TestLoginIsRenewed(t *testing.T) {
	h := newLoginHouse(t)
	h.SetLifetime(time.Second) // less than what a token must have left
	g, _, _ := h.globals()
	if err := runLogin(t.Context(), g, &loginFlags{open: asAna}); err != nil {
		t.Fatal(err)
	}
	h.SetLifetime(time.Hour)
	var tokens []string
	for range 2 {
		g, stdout, _ := h.globals()
		g.json = true
		if err := runs(t, newTokenCommand(g)); err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Token   string    `json:"token"`
			Expires time.Time `json:"expires"`
		}
		if err := json.Unmarshal(stdout.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.Expires.Before(time.Now().Add(time.Minute)) {
			t.Errorf("a fresh token ends %v", answer.Expires)
		}
		tokens = append(tokens, answer.Token)
	}
	if tokens[0] != tokens[1] {
		t.Error("a token was renewed that had not to be")
	}
}

func TestLoginByDevice(t *testing.T) {
	h := newLoginHouse(t)
	g, stdout, _ := h.globals()
	g.stderr = approve(func(code string) {
		resp, err := http.PostForm(h.URL+"/device", url.Values{"user_code": {code}, "user": {"bob"}})
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})
	g.json = true
	if err := runs(t, newLoginCommand(g), "--device"); err != nil {
		t.Fatal(err)
	}
	var who struct{ Subject string }
	if err := json.Unmarshal(stdout.Bytes(), &who); err != nil || who.Subject != "bob" {
		t.Errorf("%s, %v", stdout, err)
	}
}

// approve acts on the code of the device flow as soon as it is shown.
type approve func(code string)

func (f approve) Write(b []byte) (int, error) {
	if m := regexp.MustCompile(`enter the code (\S+)`).FindSubmatch(b); m != nil {
		f(string(m[1]))
	}
	return len(b), nil
}

func TestLoginByTokenFile(t *testing.T) {
	h := newLoginHouse(t)
	file := filepath.Join(t.TempDir(), "token")
	skill := func() string { return h.Mint(oidctest.SkillSubject, oidctest.OnBehalfOf("ana")) }
	if err := os.WriteFile(file, []byte(skill()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, _, _ := h.globals()
	if err := runs(t, newLoginCommand(g), "--token-file", file); err != nil {
		t.Fatal(err)
	}
	second := skill()
	if err := os.WriteFile(file, []byte(second), 0o600); err != nil {
		t.Fatal(err)
	}
	g, stdout, _ := h.globals()
	if err := runs(t, newTokenCommand(g)); err != nil || stdout.String() != second+"\n" {
		t.Errorf("%v, the new token: %v", err, stdout.String() == second+"\n")
	}
	g, stdout, _ = h.globals()
	if err := runs(t, newWhoamiCommand(g)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"reporter\n", "skill", "skills", "on behalf of  ana, ana at " + h.URL} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}

func TestLoginUsedWrongly(t *testing.T) {
	h := newLoginHouse(t)
	for _, test := range []struct {
		name string
		url  string
		args []string
		want int
	}{
		{"nowhere", "", nil, exitUsage},
		{"issuer without a client", h.gateway, []string{"--issuer", h.URL}, exitUsage},
		{"two ways", h.gateway, []string{"--device", "--token-file", "x"}, exitUsage},
		{"plain gateway", "http://127.0.0.1:1", nil, exitUsage},
		{"no such file", h.gateway, []string{"--token-file", filepath.Join(t.TempDir(), "none")}, exitFailed},
		{"plain issuer", h.gateway, []string{"--issuer", "http://id.example.com", "--client-id", "c"}, exitFailed},
		{"audience that no token has", h.gateway, []string{"--device", "--audience", "other"}, exitFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, stdout, _ := h.globals()
			g.url = test.url
			g.stderr = approve(func(code string) {
				resp, err := http.PostForm(h.URL+"/device", url.Values{"user_code": {code}, "user": {"bob"}})
				if err == nil {
					resp.Body.Close()
				}
			})
			err := runs(t, newLoginCommand(g), test.args...)
			if err == nil || exitCode(err) != test.want || stdout.Len() > 0 {
				t.Errorf("%v, status %d, %q; want %d", err, exitCode(err), stdout, test.want)
			}
		})
	}
}

func TestWhoami(t *testing.T) {
	h := newLoginHouse(t)
	g, stdout, _ := h.globals()
	g.token = h.Mint("carol")
	g.json = true
	if err := runs(t, newWhoamiCommand(g)); err != nil {
		t.Fatal(err)
	}
	var who map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &who); err != nil || who["subject"] != "carol" || who["kind"] != "person" || who["unverified"] != nil {
		t.Errorf("%s, %v", stdout, err)
	}

	g, stdout, _ = h.globals()
	g.token = h.Mint("carol", oidctest.Lifetime(-time.Hour))
	if err := runs(t, newWhoamiCommand(g)); exitCode(err) != exitRefused || !strings.Contains(err.Error(), "it has expired") || stdout.Len() > 0 {
		t.Errorf("%v, %s", err, stdout)
	}

	g, stdout, _ = h.globals()
	g.url, g.token = "", h.Mint("carol", oidctest.Lifetime(-time.Hour))
	if err := runs(t, newWhoamiCommand(g)); err != nil || !strings.HasPrefix(stdout.String(), "carol (unverified") || !strings.Contains(stdout.String(), "audit") {
		t.Errorf("%v, %s", err, stdout)
	}
	g, stdout, _ = h.globals()
	g.url, g.token, g.json = "", h.Mint("carol"), true
	if err := runs(t, newWhoamiCommand(g)); err != nil || json.Unmarshal(stdout.Bytes(), &who) != nil || who["unverified"] != true {
		t.Errorf("%v, %s", err, stdout)
	}
	g.token = "opaque"
	if err := runs(t, newWhoamiCommand(g)); err == nil || strings.Contains(err.Error(), "opaque") {
		t.Errorf("a token that is no JWT: %v", err)
	}
}

func TestTokenFromTheEnvironmentGoesFirst(t *testing.T) {
	h := newLoginHouse(t)
	g, _, _ := h.globals()
	if err := runLogin(t.Context(), g, &loginFlags{open: asAna}); err != nil {
		t.Fatal(err)
	}
	g.token = "from the environment"
	if got, err := g.bearer(context.Background()); got != g.token || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
