package login

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/custos-gateway/custos/internal/oidctest"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	return &Store{Dir: filepath.Join(t.TempDir(), "custos")}
}

func plainClient() (*http.Client, error) { return HTTPClient("") }

// offline is for logins that must not need the network.
func offline() (*http.Client, error) { return nil, errors.New("the network was asked for") }

func put(t *testing.T, s *Store, l *Login) {
	t.Helper()
	if err := s.Put(l); err != nil {
		t.Fatal(err)
	}
}

func TestKeptPrivately(t *testing.T) {
	s := newStore(t)
	if _, err := s.Bearer(t.Context(), "", offline); !errors.Is(err, ErrNone) {
		t.Fatalf("with no login: %v", err)
	}
	put(t, s, &Login{Discovery: Discovery{Issuer: "https://a.example"}, Bearer: "token-a", Expires: time.Now().Add(time.Hour)})
	file := filepath.Join(s.Dir, "token.json")
	for path, want := range map[string]os.FileMode{s.Dir: 0o700, file: 0o600, filepath.Join(s.Dir, "token.lock"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %#o; want %#o", path, info.Mode().Perm(), want)
		}
	}
	if got, err := s.Bearer(t.Context(), "", offline); got != "token-a" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	left, err := os.ReadDir(s.Dir)
	if err != nil || len(left) != 2 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
}

func TestOpenPermissionsAreRefused(t *testing.T) {
	for _, test := range []struct {
		name, want string
		spoil      func(dir, file string) error
	}{
		{"file the group reads", "chmod 600", func(_, file string) error { return os.Chmod(file, 0o640) }},
		{"file the world reads", "chmod 600", func(_, file string) error { return os.Chmod(file, 0o604) }},
		{"folder the world writes", "chmod 700", func(dir, _ string) error { return os.Chmod(dir, 0o777) }},
		{"a link", "not a plain file", func(dir, file string) error {
			if err := os.Rename(file, file+".real"); err != nil {
				return err
			}
			return os.Symlink(file+".real", file)
		}},
		{"damaged", "remove it", func(_, file string) error { return os.WriteFile(file, []byte(`{"logins":[{"bear`), 0o600) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			put(t, s, &Login{Bearer: "token-a", Expires: time.Now().Add(time.Hour)})
			file := filepath.Join(s.Dir, "token.json")
			if err := test.spoil(s.Dir, file); err != nil {
				t.Fatal(err)
			}
			token, err := s.Bearer(t.Context(), "", offline)
			if err == nil || token != "" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q, %v; want an error on %q", token, err, test.want)
			}
			if err := s.Put(&Login{Bearer: "token-b"}); err == nil {
				t.Error("another login was kept there")
			}
		})
	}
}

// TestTokenGoesToItsGatewayOnly: a login for one gateway is no login for
// another.
func TestTokenGoesToItsGatewayOnly(t *testing.T) {
	s := newStore(t)
	end := time.Now().Add(time.Hour)
	put(t, s, &Login{Gateway: "https://a.example:8443", Bearer: "a-old", Expires: end})
	put(t, s, &Login{Gateway: "https://b.example:8443", Bearer: "b", Expires: end})
	put(t, s, &Login{Gateway: "https://a.example:8443", Bearer: "a", Expires: end})
	for gateway, want := range map[string]string{"https://a.example:8443/": "a", "https://A.example:8443": "a", "https://b.example:8443": "b", "": "a"} {
		if got, err := s.Bearer(t.Context(), gateway, offline); got != want || err != nil {
			t.Errorf("for %q: %q, %v; want %q", gateway, got, err, want)
		}
	}
	for _, gateway := range []string{"https://a.example", "http://a.example:8443", "https://a.example:8443.evil.example", "https://evil.example/a.example:8443"} {
		if got, err := s.Bearer(t.Context(), gateway, offline); !errors.Is(err, ErrNone) {
			t.Errorf("for %q: %q, %v", gateway, got, err)
		}
	}
	put(t, s, &Login{Bearer: "any", Expires: end})
	if got, err := s.Bearer(t.Context(), "https://c.example", offline); got != "any" || err != nil {
		t.Errorf("a login for any gateway: %q, %v", got, err)
	}
	if got, err := s.Bearer(t.Context(), "https://b.example:8443", offline); got != "b" || err != nil {
		t.Errorf("beside a login for any gateway: %q, %v", got, err)
	}
}

func TestRenewal(t *testing.T) {
	p := startProvider(t)
	p.SetLifetime(10 * time.Minute)
	c, _ := newClient(t, p.URL, browse("ana"))
	l, err := c.Browser(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	var now atomic.Int64 // added to the real time, since the provider has no other
	s.Now = func() time.Time { return time.Now().Add(time.Duration(now.Load())) }
	put(t, s, l)
	first, err := s.Bearer(t.Context(), "", offline)
	if err != nil || first != l.Bearer {
		t.Fatalf("%q, %v", first, err)
	}

	// Several commands at once near its end: the refresh token is good once,
	// so all but one must find what that one got.
	p.SetLifetime(time.Hour)
	now.Store(int64(10*time.Minute - renewBefore + time.Second))
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for range 5 {
		wg.Go(func() {
			token, err := s.Bearer(context.Background(), "", plainClient)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[token]++
		})
	}
	wg.Wait()
	if len(got) != 1 || got[first] != 0 {
		t.Fatalf("%d different tokens, the old one %d times", len(got), got[first])
	}
	for token := range got {
		if who := caller(t, p.URL, token); who != "ana person [dba]" {
			t.Errorf("renewed as %s", who)
		}
	}

	p.Close()
	now.Store(int64(time.Hour - renewBefore/2))
	if token, err := s.Bearer(t.Context(), "", plainClient); err != nil || got[token] == 0 {
		t.Errorf("with the issuer down, while the token is good: %v", err)
	}
	now.Store(int64(2 * time.Hour))
	if token, err := s.Bearer(t.Context(), "", plainClient); err == nil || token != "" {
		t.Errorf("with the issuer down, after its end: %q", token)
	}
}

func TestEndedLogin(t *testing.T) {
	p := startProvider(t)
	s := newStore(t)
	d := Discovery{Issuer: p.URL, ClientID: oidctest.ClientID}
	put(t, s, &Login{Discovery: d, Bearer: p.Mint("ana"), Expires: time.Now().Add(-time.Second), RefreshToken: "revoked"})
	if token, err := s.Bearer(t.Context(), "", plainClient); err == nil || token != "" || !strings.Contains(err.Error(), "run: custos login") || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("%q, %v", token, err)
	}
	put(t, s, &Login{Discovery: d, Bearer: "x", Expires: time.Now().Add(-time.Second)})
	if token, err := s.Bearer(t.Context(), "", offline); err == nil || token != "" || !strings.Contains(err.Error(), "has expired; run: custos login") {
		t.Errorf("%q, %v", token, err)
	}
	put(t, s, &Login{Discovery: d, Bearer: "x", Expires: time.Now().Add(renewBefore / 2)})
	if token, err := s.Bearer(t.Context(), "", offline); token != "x" || err != nil {
		t.Errorf("near its end and not renewable: %q, %v", token, err)
	}
}

func TestTokenFile(t *testing.T) {
	s := newStore(t)
	file := filepath.Join(t.TempDir(), "token")
	put(t, s, &Login{Gateway: "https://gw.example", TokenFile: file})
	for _, test := range []struct{ content, want string }{
		{"first\n", "first"}, {"  second\r\n", "second"}, {"", ""}, {"two tokens", ""}, {strings.Repeat("x", 70_000), ""},
	} {
		if err := os.WriteFile(file, []byte(test.content), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := s.Bearer(t.Context(), "https://gw.example", offline)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%.20q: %q, %v", test.content, got, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Bearer(t.Context(), "https://gw.example", offline); err == nil || got != "" {
		t.Errorf("with the file gone: %q", got)
	}
}
