package signin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/identity/login"
	"github.com/custos-gateway/custos/internal/oidctest"
)

// site is a provider, a door, and a browser before it.
type site struct {
	t        *testing.T
	provider *oidctest.Provider
	door     *Door
	server   *httptest.Server
	browser  *http.Client
	now      time.Time
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, now: time.Now()}
	var err error
	if s.provider, err = oidctest.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.provider.Close() })
	clock := func() time.Time { return s.now }
	verifier, err := identity.New(identity.Options{Now: clock, Issuers: []identity.Issuer{{URL: s.provider.URL, Audiences: []string{oidctest.Audience}, GroupsClaim: "groups"}}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := login.HTTPClient("")
	if err != nil {
		t.Fatal(err)
	}
	s.door = New(Options{
		Provider: func(context.Context) (Provider, error) {
			return Provider{Discovery: login.Discovery{Issuer: s.provider.URL, ClientID: oidctest.ClientID, Audience: oidctest.Audience, Scopes: []string{"openid", "groups", "offline_access"}}, HTTP: client}, nil
		},
		Verify: verifier.Verify, Now: clock, Logger: slog.New(slog.DiscardHandler),
	})
	mux := http.NewServeMux()
	s.door.Register(mux)
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		p, err := s.door.Caller(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		io.WriteString(w, p.Name)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "home") })
	s.server = httptest.NewTLSServer(mux)
	t.Cleanup(s.server.Close)
	s.browser = s.newBrowser()
	return s
}

func (s *site) newBrowser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &http.Client{Transport: s.server.Client().Transport, Jar: jar}
}

func (s *site) get(browser *http.Client, u string) (*http.Response, string) {
	s.t.Helper()
	resp, err := browser.Get(u)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(b)
}

// begin goes to the provider's page, and returns how to choose somebody there.
func (s *site) begin(browser *http.Client, next string) (page string, form url.Values) {
	s.t.Helper()
	resp, html := s.get(browser, s.server.URL+StartPath+"?next="+url.QueryEscape(next))
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(html)
	if id == nil {
		s.t.Fatalf("%s: %s", resp.Request.URL, html)
	}
	return resp.Request.URL.String(), url.Values{"id": {id[1]}}
}

func (s *site) signIn(browser *http.Client, who, next string) *http.Response {
	s.t.Helper()
	page, form := s.begin(browser, next)
	form.Set("user", who)
	resp, err := browser.PostForm(page, form)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// ask asks as a page of this origin would, unless headers say otherwise.
func (s *site) ask(method, path string, headers ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.browser.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

func TestSignInAndOut(t *testing.T) {
	s := newSite(t)
	if status, _ := s.ask("GET", "/page"); status != http.StatusUnauthorized {
		t.Errorf("before: %d", status)
	}
	if resp := s.signIn(s.browser, "ana", "/"); resp.StatusCode != http.StatusOK || resp.Request.URL.Path != "/" {
		t.Fatalf("%d at %s", resp.StatusCode, resp.Request.URL)
	}
	if status, body := s.ask("GET", "/page"); status != http.StatusOK || body != "ana" {
		t.Errorf("%d %s", status, body)
	}
	status, token := s.ask("GET", TokenPath)
	if status != http.StatusOK || len(token) < 26 {
		t.Fatalf("token: %d %q", status, token)
	}
	if status, _ := s.ask("POST", OutPath); status != http.StatusForbidden {
		t.Errorf("signed out without the token: %d", status)
	}
	stolen := s.browser.Jar.Cookies(must(url.Parse(s.server.URL)))
	if status, _ := s.ask("POST", OutPath, TokenHeader, token); status != http.StatusNoContent {
		t.Errorf("sign out: %d", status)
	}
	// A cookie that somebody kept is worth nothing afterwards.
	s.browser.Jar.SetCookies(must(url.Parse(s.server.URL)), stolen)
	if status, _ := s.ask("GET", "/page"); status != http.StatusUnauthorized {
		t.Errorf("after: %d", status)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestOnlyTheOwnPage holds requests with a good cookie to being made by a page
// of this origin.
func TestOnlyTheOwnPage(t *testing.T) {
	s := newSite(t)
	s.signIn(s.browser, "ana", "/")
	_, token := s.ask("GET", TokenPath)
	origin := s.server.URL
	for _, c := range []struct {
		method  string
		headers []string
		ok      bool
	}{
		{"GET", nil, true},
		{"GET", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"GET", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"GET", []string{"Sec-Fetch-Site", "none"}, false},
		{"GET", []string{"Sec-Fetch-Site", ""}, false},
		{"GET", []string{"Origin", "https://evil.test"}, false},
		{"POST", nil, false},
		{"POST", []string{TokenHeader, token}, true},
		{"POST", []string{TokenHeader, token, "Origin", origin}, true},
		{"POST", []string{TokenHeader, token, "Origin", "null"}, false},
		{"POST", []string{TokenHeader, token, "Origin", strings.Replace(origin, "https", "http", 1)}, false},
		{"POST", []string{TokenHeader, token, "Sec-Fetch-Site", "cross-site"}, false},
		{"POST", []string{TokenHeader, token[1:]}, false},
		{"DELETE", []string{TokenHeader, ""}, false},
		{"PUT", []string{TokenHeader, token}, true},
	} {
		status, body := s.ask(c.method, "/page", c.headers...)
		if (status == http.StatusOK) != c.ok {
			t.Errorf("%s %q: %d %s", c.method, c.headers, status, body)
		}
	}
	if status, body := s.ask("GET", TokenPath, "Sec-Fetch-Site", "cross-site"); status == http.StatusOK || strings.Contains(body, token) {
		t.Errorf("another site is given the token: %d %s", status, body)
	}
}

// TestForeignAnswers: an answer of the provider is good for the browser that
// asked, once, and for nobody else.
func TestForeignAnswers(t *testing.T) {
	s := newSite(t)
	page, form := s.begin(s.browser, "/")
	form.Set("user", "ana")
	// Whoever watches, or makes somebody else's browser follow it, has the
	// address with the code.
	var callback string
	watched := *s.browser
	watched.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path == CallbackPath {
			callback = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	resp, err := watched.PostForm(page, form)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if callback == "" {
		t.Fatal("the provider sent nobody back")
	}
	other := s.newBrowser()
	if resp, body := s.get(other, callback); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "did not begin to sign in here") {
		t.Errorf("a browser that asked nothing: %d %s", resp.StatusCode, body)
	}
	s.begin(other, "/")
	if resp, body := s.get(other, callback); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "not one to this browser") {
		t.Errorf("a browser that asked something else: %d %s", resp.StatusCode, body)
	}
	s.browser = other
	if status, _ := s.ask("GET", "/page"); status != http.StatusUnauthorized {
		t.Errorf("it is signed in: %d", status)
	}
	if resp, _ := s.get(&watched, callback); resp.StatusCode != http.StatusOK {
		t.Errorf("the browser that asked: %d", resp.StatusCode)
	}
	if resp, _ := s.get(&watched, callback); resp.StatusCode == http.StatusOK {
		t.Error("the answer is good twice")
	}
	if resp, body := s.get(other, s.server.URL+CallbackPath+"?error=access_denied&error_description=%3Cscript%3E&state=x"); resp.StatusCode == http.StatusOK || strings.Contains(body, "<script>") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestSessionEndsWithItsToken(t *testing.T) {
	s := newSite(t)
	s.provider.SetLifetime(10 * time.Minute)
	s.signIn(s.browser, "bob", "/")
	s.now = s.now.Add(9 * time.Minute)
	if status, body := s.ask("GET", "/page"); body != "bob" {
		t.Errorf("%d %s", status, body)
	}
	s.now = s.now.Add(2 * time.Minute)
	if status, _ := s.ask("GET", "/page"); status != http.StatusUnauthorized || len(s.door.sessions) != 0 {
		t.Errorf("%d, %d sessions", status, len(s.door.sessions))
	}
}

// TestCookies: what browsers are told to do with them.
func TestCookies(t *testing.T) {
	s := newSite(t)
	var all []*http.Cookie
	s.browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		all = append(all, r.Response.Cookies()...)
		return nil
	}
	s.signIn(s.browser, "ana", "/")
	found := map[string]bool{}
	for _, c := range all {
		if !strings.HasPrefix(c.Name, "__Host-") {
			continue // the provider's
		}
		found[c.Name] = true
		strict := c.SameSite == http.SameSiteStrictMode || c.Name == attemptCookie && c.SameSite == http.SameSiteLaxMode
		if !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || !strict {
			t.Errorf("%v", c)
		}
	}
	if !found[sessionCookie] || !found[attemptCookie] {
		t.Errorf("cookies: %v", all)
	}
}

func TestNextStaysHere(t *testing.T) {
	for next, want := range map[string]string{
		"": "/", "/": "/", "/approvals/abc": "/approvals/abc", "/search?q=a%20b": "/search?q=a%20b",
		"https://evil.test/": "/", "//evil.test/": "/", "/\\evil.test": "/", "javascript:alert(1)": "/", "approvals": "/", "/a\r\nb": "/", strings.Repeat("/a", 300): "/",
		"/\t/evil.test": "/",
	} {
		if got := local(next); got != want {
			t.Errorf("%q: %q", next, got)
		}
	}
}

// TestConfiguredURL: who comes by another name is sent on to the one that is
// registered with the provider.
func TestConfiguredURL(t *testing.T) {
	s := newSite(t)
	s.door.o.URL = func() string { return s.server.URL + "/" }
	other := strings.Replace(s.server.URL, "127.0.0.1", "example.com", 1)
	s.browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse }
	dial := s.server.Client().Transport.(*http.Transport).Clone()
	dial.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.server.Listener.Addr().String())
	}
	s.browser.Transport = dial
	resp, _ := s.get(s.browser, other+StartPath+"?next=/ledger")
	if got, want := resp.Header.Get("Location"), s.server.URL+StartPath+"?here=1&next=%2Fledger"; got != want {
		t.Errorf("sent to %s, want %s", got, want)
	}
	resp, _ = s.get(s.browser, s.server.URL+StartPath+"?here=1")
	if to := must(url.Parse(resp.Header.Get("Location"))); to.Query().Get("redirect_uri") != s.server.URL+CallbackPath {
		t.Errorf("sent to %s", to)
	}
}

// TestConfidentialClient has a client with a secret show it as HTTP has it, and
// not in the page's address.
func TestConfidentialClient(t *testing.T) {
	s := newSite(t)
	provider := s.door.o.Provider
	s.door.o.Provider = func(ctx context.Context) (Provider, error) {
		p, err := provider(ctx)
		p.Secret = "hidden-secret"
		p.HTTP = &http.Client{Transport: seen{p.HTTP.Transport, func(r *http.Request) {
			if id, secret, ok := r.BasicAuth(); r.URL.Path == "/oauth/token" && (!ok || id != oidctest.ClientID || secret != "hidden-secret") {
				t.Errorf("shown: %s %s %v", id, secret, ok)
			}
		}}}
		return p, err
	}
	page, _ := s.begin(s.browser, "/")
	if strings.Contains(page, "hidden-secret") {
		t.Error(page)
	}
	s.signIn(s.browser, "ana", "/")
}

// seen looks at requests.
type seen struct {
	http.RoundTripper
	look func(*http.Request)
}

func (s seen) RoundTrip(r *http.Request) (*http.Response, error) {
	s.look(r)
	return s.RoundTripper.RoundTrip(r)
}

// TestBounds: a provider that is not there, one that nobody set up, and more
// people than there is room for.
func TestBounds(t *testing.T) {
	s := newSite(t)
	provider := s.door.o.Provider
	s.door.o.Provider = func(context.Context) (Provider, error) { return Provider{}, errors.New("sign in: nobody set it up") }
	if resp, body := s.get(s.browser, s.server.URL+StartPath); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "nobody set it up") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	s.door.o.Provider = provider
	for range maxAsking {
		s.door.asking <- struct{}{}
	}
	if resp, _ := s.get(s.browser, s.server.URL+StartPath); resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%d", resp.StatusCode)
	}
	for range maxAsking {
		<-s.door.asking
	}
	p := &custos.Principal{Subject: "x", Expires: s.now.Add(time.Minute)}
	for range maxSessions {
		if _, err := s.door.admit(p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.door.admit(p); err == nil {
		t.Error("there is no bound")
	}
	s.now = s.now.Add(2 * time.Minute)
	p.Expires = s.now.Add(time.Minute)
	if _, err := s.door.admit(p); err != nil || len(s.door.sessions) != 1 {
		t.Errorf("%v, %d sessions", err, len(s.door.sessions))
	}
	s.door.o.Verify = func(context.Context, string) (*custos.Principal, error) { return nil, errors.New("it is not trusted") }
	if resp := s.signIn(s.browser, "ana", "/"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("%d", resp.StatusCode)
	}
}
