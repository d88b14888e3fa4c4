package login

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/internal/oidctest"
)

func startProvider(t *testing.T) *oidctest.Provider {
	t.Helper()
	p, err := oidctest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func newClient(t *testing.T, issuer string, open func(string) error) (*Client, *bytes.Buffer) {
	t.Helper()
	h, err := HTTPClient("")
	if err != nil {
		t.Fatal(err)
	}
	out := new(bytes.Buffer)
	return &Client{Discovery: Discovery{Issuer: issuer, ClientID: oidctest.ClientID}, HTTP: h, Out: out, Open: open}, out
}

// caller verifies a bearer as a gateway would, and says who it is.
func caller(t *testing.T, issuer, bearer string) string {
	t.Helper()
	v, err := identity.New(identity.Options{Issuers: []identity.Issuer{{URL: issuer, Audiences: []string{oidctest.Audience}, GroupsClaim: "groups", KindClaim: "kind"}}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Verify(context.Background(), bearer)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(p.Name, " ", p.Kind, " ", p.Groups)
}

var hidden = regexp.MustCompile(`name="id" value="([^"]+)"`)

// browse is a person with a browser: it opens the page and chooses a user.
func browse(user string) func(string) error {
	return func(page string) error {
		resp, err := http.Get(page)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		html, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		id := hidden.FindSubmatch(html)
		if id == nil {
			return fmt.Errorf("no login page at %s: %s", page, html)
		}
		// The redirects lead back to the command line, which answers when it
		// has its tokens: so it must not be waited for here.
		go func() {
			resp, err := http.PostForm(resp.Request.URL.String(), url.Values{"id": {string(id[1])}, "user": {user}})
			if err == nil {
				resp.Body.Close()
			}
		}()
		return nil
	}
}

func TestBrowser(t *testing.T) {
	p := startProvider(t)
	open := browse("ana")
	c, out := newClient(t, p.URL, open)
	l, err := c.Browser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := caller(t, p.URL, l.Bearer); got != "ana person [dba]" {
		t.Errorf("logged in as %s", got)
	}
	if l.RefreshToken == "" || l.Issuer != p.URL || l.Audience != "custos" || !l.Expires.After(time.Now()) {
		t.Errorf("got %+v", l)
	}
	page := regexp.MustCompile(`http://\S+`).FindString(out.String())
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("state") == "" || q.Get("nonce") == "" ||
		!strings.HasPrefix(q.Get("redirect_uri"), "http://127.0.0.1:") {
		t.Errorf("the page asked for is %s", page)
	}
	if strings.Contains(out.String(), l.Bearer[:20]) {
		t.Error("the token was printed")
	}
}

// TestBrowserIsNotFooled sends the callback what somebody else might, before
// the person's own answer, which must still be taken.
func TestBrowserIsNotFooled(t *testing.T) {
	p := startProvider(t)
	goOn := browse("bob")
	c, _ := newClient(t, p.URL, func(page string) error {
		u, err := url.Parse(page)
		if err != nil {
			return err
		}
		back := u.Query().Get("redirect_uri")
		for _, try := range []struct {
			method, url string
			want        int
		}{
			{"GET", back + "?code=stolen", 400},
			{"GET", back + "?code=stolen&state=guess", 400},
			{"GET", back + "?error=access_denied&state=", 400},
			{"POST", back + "?code=stolen&state=" + u.Query().Get("state"), 404},
			{"GET", strings.TrimSuffix(back, "callback") + "?code=stolen&state=" + u.Query().Get("state"), 404},
		} {
			req, err := http.NewRequest(try.method, try.url, nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != try.want {
				t.Errorf("%s %s: %d; want %d", try.method, try.url, resp.StatusCode, try.want)
			}
		}
		return goOn(page)
	})
	l, err := c.Browser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := caller(t, p.URL, l.Bearer); got != "bob person [support]" {
		t.Errorf("logged in as %s", got)
	}
}

func TestBrowserRefused(t *testing.T) {
	p := startProvider(t)
	for _, test := range []struct{ name, query, want string }{
		{"denied", "error=access_denied&error_description=not+today%1b%5b2J", "access_denied: not today [2J"},
		{"no code", "", "without a code"},
		{"another issuer", "code=x&iss=https://evil.example", "another issuer"},
		{"a code of somebody else's", "code=stolen", "exchange the code"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := newClient(t, p.URL, func(page string) error {
				u, err := url.Parse(page)
				if err != nil {
					return err
				}
				resp, err := http.Get(u.Query().Get("redirect_uri") + "?" + test.query + "&state=" + u.Query().Get("state"))
				if err != nil {
					return err
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusBadRequest {
					t.Errorf("the browser got %d", resp.StatusCode)
				}
				return nil
			})
			l, err := c.Browser(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v, %v; want an error on %q", l, err, test.want)
			}
		})
	}
	t.Run("nobody comes", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c, _ := newClient(t, p.URL, func(string) error { cancel(); return fmt.Errorf("no browser here") })
		if _, err := c.Browser(ctx); err == nil || !strings.Contains(err.Error(), "--device") {
			t.Error(err)
		}
	})
}

// TestReplayedIDToken: an issuer (or who stands before it) answers with a good
// ID token of an earlier login.
func TestReplayedIDToken(t *testing.T) {
	p := startProvider(t)
	old := p.Mint("carol", oidctest.Claim("nonce", "of an earlier login"))
	proxy := &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(req.URL.Path, "/oauth/token") {
			return http.DefaultTransport.RoundTrip(req)
		}
		body := fmt.Sprintf(`{"access_token":%q,"id_token":%q,"token_type":"Bearer"}`, old, old)
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	})}
	open := browse("ana")
	c, _ := newClient(t, p.URL, open)
	c.HTTP = proxy
	if l, err := c.Browser(t.Context()); err == nil || !strings.Contains(err.Error(), "another login") {
		t.Errorf("%+v, %v", l, err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// personAt is what a person does who sees the lines of the device flow: it
// waits for the code and answers at the page.
type personAt struct {
	t    *testing.T
	url  string
	user string
	mu   sync.Mutex
	seen bytes.Buffer
	done bool
}

func (p *personAt) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.Write(b)
	code := regexp.MustCompile(`enter the code (\S+)`).FindStringSubmatch(p.seen.String())
	if code != nil && !p.done {
		p.done = true
		resp, err := http.PostForm(p.url+"/device", url.Values{"user_code": {code[1]}, "user": {p.user}})
		if err != nil {
			p.t.Error(err)
			return len(b), nil
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			p.t.Errorf("the device page answers %d", resp.StatusCode)
		}
	}
	return len(b), nil
}

func TestDevice(t *testing.T) {
	p := startProvider(t)
	c, _ := newClient(t, p.URL, nil)
	person := &personAt{t: t, url: p.URL, user: "carol"}
	c.Out = person
	l, err := c.Device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := caller(t, p.URL, l.Bearer); got != "carol person [audit]" || l.RefreshToken == "" {
		t.Errorf("logged in as %s, %+v", got, l)
	}
	if !strings.Contains(person.seen.String(), p.URL+"/device?user_code=") {
		t.Errorf("the person saw %q", person.seen.String())
	}

	c.Out = &personAt{t: t, url: p.URL, user: ""}
	if l, err := c.Device(t.Context()); err == nil || !strings.Contains(err.Error(), "access_denied") {
		t.Errorf("denied: %+v, %v", l, err)
	}
}

// TestWhichToken: the access token goes first, the ID token where the access
// token is not for the gateway, and neither is no login.
func TestWhichToken(t *testing.T) {
	token := func(aud any) string {
		b, err := json.Marshal(map[string]any{"aud": aud, "exp": 2e9})
		if err != nil {
			t.Fatal(err)
		}
		return "e30." + base64.RawURLEncoding.EncodeToString(b) + ".AA"
	}
	for _, test := range []struct {
		name            string
		access, idToken string
		want            int // 0 none, 1 access, 2 ID
	}{
		{"both", token("custos"), token([]string{"custos"}), 1},
		{"opaque access token", "opaque", token([]string{"x", "custos"}), 2},
		{"access token for another API", token("graph"), token("custos"), 2},
		{"neither", token("graph"), token("other"), 0},
		{"no ID token", "a.b.c", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(nil)
			t.Cleanup(server.Close)
			server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token" {
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprintf(w, `{"access_token":%q,"id_token":%q,"token_type":"Bearer"}`, test.access, test.idToken)
					return
				}
				fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":"https://id.example.com/a?tenant=1","token_endpoint":%q,"jwks_uri":"https://id.example.com/k"}`, server.URL, server.URL+"/token")
			})
			h, err := HTTPClient("")
			if err != nil {
				t.Fatal(err)
			}
			l := &Login{Discovery: Discovery{Issuer: server.URL, ClientID: "cli", Audience: "custos"}, RefreshToken: "r"}
			err = l.refresh(t.Context(), h)
			want := []string{"", test.access, test.idToken}[test.want]
			if l.Bearer != want || (err == nil) != (test.want > 0) {
				t.Errorf("chose %q, %v", l.Bearer, err)
			}
			if err == nil && l.Expires.Unix() != 2e9 {
				t.Errorf("it ends %v", l.Expires)
			}
		})
	}
}

func TestDiscover(t *testing.T) {
	answers := map[string]struct {
		status int
		body   string
		want   string
	}{
		"good":         {200, `{"issuer":"https://id.example.com","client_id":"cli"}`, ""},
		"plain issuer": {200, `{"issuer":"http://id.example.com","client_id":"cli"}`, "must be https"},
		"no client":    {200, `{"issuer":"https://id.example.com"}`, "client id"},
		"no JSON":      {200, `<html>`, "not JSON"},
		"old gateway":  {404, ``, "--issuer"},
	}
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != DiscoveryPath {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(a.status)
				io.WriteString(w, a.body)
			}))
			t.Cleanup(server.Close)
			d, err := Discover(t.Context(), server.Client(), server.URL+"/")
			if a.want != "" {
				if err == nil || !strings.Contains(err.Error(), a.want) {
					t.Errorf("%+v, %v", d, err)
				}
				return
			}
			if err != nil || d.Audience != "cli" || len(d.Scopes) != 3 {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

// TestEndpointsMustBeSafe: what an issuer's discovery names is opened in a
// browser and sent codes, so its form is checked.
func TestEndpointsMustBeSafe(t *testing.T) {
	for _, change := range []struct{ name, value string }{
		{"authorization_endpoint", "file:///etc/passwd"},
		{"authorization_endpoint", "--help"},
		{"authorization_endpoint", "http://id.example.com/a"},
		{"token_endpoint", "http://id.example.com/t"},
		{"token_endpoint", ""},
		{"device_authorization_endpoint", "http://id.example.com/d"},
	} {
		server := httptest.NewServer(nil)
		t.Cleanup(server.Close)
		doc := map[string]string{"issuer": server.URL, "authorization_endpoint": server.URL + "/a", "token_endpoint": server.URL + "/t", "jwks_uri": server.URL + "/k"}
		doc[change.name] = change.value
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(doc) })
		c, _ := newClient(t, server.URL, func(page string) error {
			t.Errorf("opened %s", page)
			return nil
		})
		if _, err := c.Browser(t.Context()); err == nil || !strings.Contains(err.Error(), change.name) {
			t.Errorf("%s %q: %v", change.name, change.value, err)
		}
	}
}

func TestHugeAnswerIsCutOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for chunk := bytes.Repeat([]byte("x"), 64<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	c, _ := newClient(t, server.URL, nil)
	_, err := c.Device(t.Context())
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("the error has %d bytes: %.100v", len(fmt.Sprint(err)), err)
	}
}
