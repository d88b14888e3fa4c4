package vault

import (
	"bytes"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/vaulttest"
)

// served is a service, its server, and their clock.
type served struct {
	*vaulttest.Server
	service *Service
	log     *bytes.Buffer
	mu      sync.Mutex
	now     time.Time
}

func (s *served) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *served) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func serve(t *testing.T, auth func(*vaulttest.Server) Auth) *served {
	t.Helper()
	s := &served{Server: vaulttest.Start(), log: new(bytes.Buffer), now: time.Now()}
	t.Cleanup(s.Close)
	s.Now = s.clock
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.service, err = NewService(ServiceOptions{Address: s.URL, CAFile: ca, Auth: auth(s.Server), Now: s.clock,
		Logger: slog.New(slog.NewTextHandler(s.log, nil))}); err != nil {
		t.Fatal(err)
	}
	return s
}

func byAppRole(t *testing.T) func(*vaulttest.Server) Auth {
	return func(s *vaulttest.Server) Auth {
		return Auth{Mount: "approle", RoleID: s.RoleID, SecretID: Plain{File: write(t, s.SecretID, 0o600)}}
	}
}

func (s *served) lend(t *testing.T, source Source) (custos.Credential, error) {
	t.Helper()
	v := New(map[string]Source{"orders": source}, Services{Service: s.service})
	return v.Lend(t.Context(), &custos.Connection{Name: "orders"})
}

var kv = Source{Username: "app", KV: &KV{Mount: "secret", Path: "prod/orders", Field: "password"}}

func TestReadByEachLogin(t *testing.T) {
	for name, auth := range map[string]func(*vaulttest.Server) Auth{
		"approle": byAppRole(t),
		"jwt": func(s *vaulttest.Server) Auth {
			return Auth{Mount: "jwt", JWTRole: "custos", JWTFile: write(t, s.JWT, 0o600)}
		},
		"token": func(s *vaulttest.Server) Auth { return Auth{Token: &Plain{File: write(t, s.Token(), 0o600)}} },
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, auth)
			s.Put("prod/orders", map[string]string{"password": secret})
			if got, err := s.lend(t, kv); err != nil || got.Username != "app" || got.Password != secret {
				t.Errorf("%v", err)
			}
			s.Put("prod/orders", map[string]string{"password": "another"})
			if got, err := s.lend(t, kv); err != nil || got.Password != "another" {
				t.Errorf("after a rotation: %v", err)
			}
		})
	}
}

// A login that is revoked, or over, is made again; it is not made anew for
// every secret.
func TestLoginAgain(t *testing.T) {
	s := serve(t, byAppRole(t))
	s.Put("prod/orders", map[string]string{"password": secret})
	logins := func() int {
		t.Helper()
		for range 3 {
			if _, err := s.lend(t, kv); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for _, a := range s.Asked() {
			if strings.HasSuffix(a, "/login") {
				n++
			}
		}
		return n
	}
	if n := logins(); n != 1 {
		t.Errorf("at first, %d logins", n)
	}
	s.Revoke()
	if n := logins(); n != 1 {
		t.Errorf("after it was revoked, %d logins", n)
	}
	s.pass(s.TokenLife + time.Second)
	if n := logins(); n != 1 {
		t.Errorf("after it was over, %d logins", n)
	}
	s.pass(s.TokenLife * 3 / 4)
	s.service.Tend(t.Context())
	s.pass(s.TokenLife * 3 / 4)
	if n := logins(); n != 0 {
		t.Errorf("after it was renewed, %d logins", n)
	}
}

func TestServiceRefuses(t *testing.T) {
	s := serve(t, byAppRole(t))
	s.Put("prod/orders", map[string]string{"password": "two\nlines", "pin": ""})
	for name, c := range map[string]struct {
		source Source
		want   string
	}{
		"nothing there":   {Source{KV: &KV{"secret", "prod/billing", "password"}}, "answered 404"},
		"no such field":   {Source{KV: &KV{"secret", "prod/orders", "pass"}}, "no text in pass of secret/prod/orders"},
		"an empty field":  {Source{KV: &KV{"secret", "prod/orders", "pin"}}, "no text"},
		"several lines":   {Source{KV: &KV{"secret", "prod/orders", "password"}}, "several lines"},
		"no such role":    {Source{Role: &Role{"database", "other"}}, "answered 404"},
		"an engine's off": {Source{Role: &Role{"databases", "orders-app"}}, "answered 404"},
	} {
		if _, err := s.lend(t, c.source); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "two\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Down(true)
	if _, err := s.lend(t, kv); err == nil || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("a sealed vault: %v", err)
	}
}

var role = Source{Role: &Role{"database", "orders-app"}}

// One user serves the sessions of a role that are open at one time, lasts as
// long as they do, and is removed after the last.
func TestLease(t *testing.T) {
	s := serve(t, byAppRole(t))
	first, err := s.lend(t, role)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.lend(t, role)
	if err != nil || first.Username == "" || first.Username != second.Username || first.Role != "database/orders-app" {
		t.Fatalf("%q and %q, %v", first.Username, second.Username, err)
	}
	for range 10 { // each is past two thirds of its life
		s.pass(s.LeaseLife * 3 / 4)
		s.service.Tend(t.Context())
	}
	if users := s.Users(); !slices.Equal(users, []string{first.Username}) {
		t.Fatalf("after it was renewed there is %v", users)
	}
	first.Return()
	first.Return() // counts once
	if len(s.Users()) != 1 {
		t.Error("it was removed while a session uses it")
	}
	second.Return()
	if users := s.Users(); len(users) != 0 {
		t.Errorf("after the last session there is %v", users)
	}
	third, err := s.lend(t, role)
	if err != nil || third.Username == first.Username {
		t.Errorf("the next session gets %q, %v", third.Username, err)
	}
	third.Return()
}

// A user that can't be renewed serves nobody new; who has it gives it back.
func TestLeaseThatEnds(t *testing.T) {
	s := serve(t, byAppRole(t))
	first, err := s.lend(t, role)
	if err != nil {
		t.Fatal(err)
	}
	s.Revoke() // somebody did, at the vault
	s.pass(s.LeaseLife * 19 / 20)
	s.service.Tend(t.Context())
	if !strings.Contains(s.log.String(), "renew lease") {
		t.Errorf("the log says %s", s.log)
	}
	second, err := s.lend(t, role)
	if err != nil || second.Username == first.Username {
		t.Fatalf("the next session gets %q, %v", second.Username, err)
	}
	first.Return()
	if users := s.Users(); !slices.Equal(users, []string{second.Username}) {
		t.Errorf("there is %v", users)
	}
	s.Down(true)
	second.Return()
	if !strings.Contains(s.log.String(), "it ends by itself") || strings.Contains(s.log.String(), second.Password) {
		t.Errorf("the log says %s", s.log)
	}
}

func TestStored(t *testing.T) {
	s := serve(t, byAppRole(t))
	for name, stored := range map[string]*Stored{
		"by a file":  {KeyFile: filepath.Join(t.TempDir(), "keys", "credentials.key"), MakeKey: true},
		"by transit": {Transit: &Transit{Service: s.service, Mount: "transit", Key: "custos"}},
	} {
		t.Run(name, func(t *testing.T) {
			stored.Dir = filepath.Join(t.TempDir(), "credentials")
			v := New(map[string]Source{"orders": {Username: "app", Stored: true}, "billing": {Username: "b", Stored: true}}, Services{Stored: stored})
			lend := func(name string) (string, error) {
				got, err := v.Lend(t.Context(), &custos.Connection{Name: name})
				return got.Password, err
			}
			if _, err := lend("orders"); !errors.Is(err, errNotStored) {
				t.Errorf("before: %v", err)
			}
			for _, want := range []string{secret, "another"} {
				if err := stored.Put(t.Context(), "orders", want); err != nil {
					t.Fatal(err)
				}
				if got, err := lend("orders"); err != nil || got != want {
					t.Errorf("%v", err)
				}
			}
			path := filepath.Join(stored.Dir, "orders")
			b, err := os.ReadFile(path)
			if info, _ := os.Stat(path); err != nil || bytes.Contains(b, []byte("another")) || info.Mode().Perm() != 0o600 {
				t.Errorf("the file is %s, %v", b, err)
			}
			// One connection's is not another's.
			if err := os.WriteFile(filepath.Join(stored.Dir, "billing"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := lend("billing"); err == nil || got != "" {
				t.Error("the secret of one connection was lent to another")
			}
			for i := range b {
				broken := bytes.Clone(b)
				broken[i] ^= 1
				if err := os.WriteFile(path, broken, 0o600); err != nil {
					t.Fatal(err)
				}
				if got, err := lend("orders"); err == nil && got != "another" || err != nil && strings.Contains(err.Error(), "another\"") {
					t.Fatalf("with byte %d changed: %v", i, err)
				}
			}
			if there, err := stored.Remove("orders"); !there || err != nil {
				t.Errorf("remove: %v", err)
			}
			if there, err := stored.Remove("orders"); there || err != nil {
				t.Errorf("remove again: %v", err)
			}
			for _, bad := range []string{"", "two\nlines", strings.Repeat("x", maxSecret+1)} {
				if err := stored.Put(t.Context(), "orders", bad); err == nil {
					t.Errorf("%d bytes were stored", len(bad))
				}
			}
		})
	}
}

// The key is asked for, and not made anew, when it is lost or another is set.
func TestStoredWithoutItsKey(t *testing.T) {
	s := &Stored{Dir: filepath.Join(t.TempDir(), "credentials"), KeyFile: filepath.Join(t.TempDir(), "credentials.key"), MakeKey: true}
	if err := s.Put(t.Context(), "orders", secret); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func() error
		want   string
	}{
		"lost":    {func() error { return os.Remove(s.KeyFile) }, "put it back from your backup"},
		"another": {func() error { return os.WriteFile(s.KeyFile, make([]byte, keySize), 0o600) }, "its key is another"},
		"cut":     {func() error { return os.WriteFile(s.KeyFile, key[:16], 0o600) }, "16 bytes"},
		"open":    {func() error { return os.Chmod(s.KeyFile, 0o644) }, "open to others"},
		"transit": {func() error { s.Transit = &Transit{}; return nil }, "before stored.transit was set"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() { s.Transit = nil; os.WriteFile(s.KeyFile, key, 0o600); os.Chmod(s.KeyFile, 0o600) }()
			if err := c.change(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.get(t.Context(), "orders"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
