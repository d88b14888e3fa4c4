package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// ServiceOptions are where a HashiCorp Vault or OpenBao server is, and how the
// gateway logs in to it.
type ServiceOptions struct {
	Address   string // such as https://vault.internal:8200
	Namespace string
	CAFile    string // PEM; empty: the system's roots
	Auth      Auth
	Now       func() time.Time
	Logger    *slog.Logger
}

// Auth is how to log in: one of Token, RoleID and JWTRole is set.
type Auth struct {
	// Token is used as it is, read anew each time: who put it there keeps it
	// fresh.
	Token *Plain
	// RoleID and SecretID are of the AppRole method, mounted at Mount.
	Mount    string
	RoleID   string
	SecretID Plain
	// JWTRole and JWTFile are of the JWT and Kubernetes methods, mounted at
	// Mount: the file is read at each login.
	JWTRole string
	JWTFile string
}

// Plain is a secret in an environment variable or a file.
type Plain struct{ Env, File string }

func (p Plain) read() (string, error) {
	if p.Env != "" {
		return readEnv(p.Env)
	}
	return readFile(p.File)
}

// Service asks a HashiCorp Vault or OpenBao server over its HTTP API
// (https://developer.hashicorp.com/vault/api-docs). It is safe for concurrent
// use.
type Service struct {
	o    ServiceOptions
	http *http.Client

	mu      sync.Mutex // guards the login
	token   string
	expires time.Time // zero: never
	life    time.Duration

	leases leases
}

// Bounds on what the service is asked.
const (
	serviceTimeout = 10 * time.Second
	maxAnswer      = 1 << 20 // bytes
)

// NewService returns a service, which is asked nothing yet.
func NewService(o ServiceOptions) (*Service, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read vault.ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read vault.ca_file: %s has no certificate in PEM", o.CAFile)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = t
	transport.Proxy = nil
	s := &Service{o: o, http: &http.Client{Transport: transport, Timeout: serviceTimeout,
		// The token goes to no other server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	s.leases.by = map[Role]*lease{}
	return s, nil
}

// serviceError is what the service answered instead.
type serviceError struct {
	status int
	words  []string
}

func (e *serviceError) Error() string {
	what := http.StatusText(e.status)
	if len(e.words) > 0 {
		what = strings.Join(e.words, "; ")
	}
	return fmt.Sprintf("the vault answered %d: %.300s", e.status, what)
}

// call makes a request as the gateway, logged in. A token that is no longer
// good is exchanged for another, once.
func (s *Service) call(ctx context.Context, method, path string, body, to any) error {
	for again := false; ; again = true {
		token, err := s.login(ctx)
		if err != nil {
			return err
		}
		err = s.send(ctx, method, path, token, body, to)
		var answered *serviceError
		if again || s.o.Auth.Token != nil || !errors.As(err, &answered) || answered.status != http.StatusForbidden {
			return err
		}
		s.forget(token)
	}
}

func (s *Service) send(ctx context.Context, method, path, token string, body, to any) error {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return fmt.Errorf("ask vault: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.o.Address, "/")+"/v1/"+path, bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("ask vault: %w", err)
	}
	r.Header.Set("X-Vault-Request", "true")
	if token != "" {
		r.Header.Set("X-Vault-Token", token)
	}
	if s.o.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", s.o.Namespace)
	}
	resp, err := s.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask vault: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("ask vault: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		var told struct{ Errors []string }
		json.Unmarshal(answer, &told) // what is not JSON leaves the status
		return fmt.Errorf("ask vault for %s: %w", path, &serviceError{resp.StatusCode, told.Errors})
	}
	if to == nil {
		return nil
	}
	if json.Unmarshal(answer, to) != nil { // the cause would quote the answer
		return fmt.Errorf("ask vault for %s: its answer is not the JSON that is wanted", path)
	}
	return nil
}

// granted is a login, as the service answers one.
type granted struct {
	Auth struct {
		Token string `json:"client_token"`
		Life  int64  `json:"lease_duration"` // seconds; 0: it lasts
	} `json:"auth"`
}

// login returns a good token.
func (s *Service) login(ctx context.Context) (string, error) {
	a := s.o.Auth
	if a.Token != nil {
		return a.Token.read()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && (s.expires.IsZero() || s.o.Now().Before(s.expires)) {
		return s.token, nil
	}
	body := map[string]string{}
	if a.RoleID != "" {
		id, err := a.SecretID.read()
		if err != nil {
			return "", fmt.Errorf("log in to vault: %w", err)
		}
		body["role_id"], body["secret_id"] = a.RoleID, id
	} else {
		token, err := readFile(a.JWTFile)
		if err != nil {
			return "", fmt.Errorf("log in to vault: %w", err)
		}
		body["role"], body["jwt"] = a.JWTRole, token
	}
	var g granted
	if err := s.send(ctx, http.MethodPost, "auth/"+a.Mount+"/login", "", body, &g); err != nil {
		return "", fmt.Errorf("log in to vault: %w", err)
	}
	if g.Auth.Token == "" {
		return "", errors.New("log in to vault: its answer has no token")
	}
	s.granted(&g)
	return s.token, nil
}

// granted keeps a login. The caller holds mu.
func (s *Service) granted(g *granted) {
	s.token, s.life, s.expires = g.Auth.Token, time.Duration(g.Auth.Life)*time.Second, time.Time{}
	if s.life > 0 {
		s.expires = s.o.Now().Add(s.life)
	}
}

func (s *Service) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token = ""
	}
}

// renew has the login last longer: what was made under it goes with it.
func (s *Service) renew(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" || s.expires.IsZero() || s.expires.Sub(s.o.Now()) > s.life/3 {
		return
	}
	var g granted
	if err := s.send(ctx, http.MethodPost, "auth/token/renew-self", s.token, struct{}{}, &g); err != nil {
		s.o.Logger.Warn("renew login to vault: log in anew when it ends", "cause", err)
		return
	}
	if g.Auth.Token == "" {
		g.Auth.Token = s.token
	}
	s.granted(&g)
}

// KV is a field of a secret of the key/value engine, version 2.
type KV struct{ Mount, Path, Field string }

func (s *Service) read(ctx context.Context, kv KV) (string, error) {
	var answer struct {
		Data struct {
			Data map[string]any `json:"data"`
		} `json:"data"`
	}
	if err := s.call(ctx, http.MethodGet, kv.Mount+"/data/"+kv.Path, nil, &answer); err != nil {
		return "", err
	}
	where := kv.Field + " of " + kv.Mount + "/" + kv.Path
	secret, ok := answer.Data.Data[kv.Field].(string)
	if !ok || secret == "" {
		return "", fmt.Errorf("read secret: the vault has no text in %s: name the field that has it with field", where)
	}
	return check(secret, where)
}

// Transit is a key of the transit engine.
type Transit struct {
	Service    *Service
	Mount, Key string
}

func (t *Transit) encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	var answer struct{ Data struct{ Ciphertext string } }
	err := t.Service.call(ctx, http.MethodPost, t.Mount+"/encrypt/"+t.Key, map[string][]byte{"plaintext": plain}, &answer)
	if err == nil && answer.Data.Ciphertext == "" {
		err = errors.New("encrypt with vault: its answer has no ciphertext")
	}
	return []byte(answer.Data.Ciphertext), err
}

func (t *Transit) decrypt(ctx context.Context, ciphertext []byte) ([]byte, error) {
	var answer struct{ Data struct{ Plaintext []byte } }
	err := t.Service.call(ctx, http.MethodPost, t.Mount+"/decrypt/"+t.Key, map[string]string{"ciphertext": string(ciphertext)}, &answer)
	if err == nil && len(answer.Data.Plaintext) != keySize {
		err = errors.New("decrypt with vault: its answer is no key")
	}
	return answer.Data.Plaintext, err
}
