// Package vaulttest is a small HashiCorp Vault for tests: what its HTTP API
// (https://developer.hashicorp.com/vault/api-docs) documents of the AppRole,
// JWT and token methods, of the key/value engine version 2, of the database
// and transit engines, and of leases. The vault's own client library is run
// against it in its test.
package vaulttest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

// Server is such a vault.
type Server struct {
	*httptest.Server

	// RoleID and SecretID log in by AppRole, JWT by JWT as role "custos".
	RoleID, SecretID, JWT string
	// TokenLife and LeaseLife are how long logins and users last; set them
	// before the first request.
	TokenLife, LeaseLife time.Duration
	// Now is the server's clock.
	Now func() time.Time
	// Create and Drop make and remove a user of the database engine; they may
	// be nil.
	Create func(user, password string) error
	Drop   func(user string) error

	mu     sync.Mutex
	tokens map[string]time.Time // and when they end
	leases map[string]lease
	kv     map[string]map[string]string
	aead   cipher.AEAD
	asked  []string
	made   []string
	down   bool
}

type lease struct {
	user, token string
	ends        time.Time
}

// Start starts one on loopback, with TLS.
func Start() *Server {
	s := &Server{RoleID: rand.Text(), SecretID: rand.Text(), JWT: "ey." + rand.Text(), TokenLife: time.Hour, LeaseLife: time.Hour, Now: time.Now,
		tokens: map[string]time.Time{}, leases: map[string]lease{}, kv: map[string]map[string]string{}}
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err == nil {
		s.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err) // a key of 32 bytes is one
	}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	return s
}

// Put puts a secret where the key/value engine at "secret" has it.
func (s *Server) Put(path string, fields map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kv[path] = fields
}

// Token makes a token.
func (s *Server) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token()
}

func (s *Server) token() string {
	t := "hvs." + rand.Text()
	s.tokens[t] = s.Now().Add(s.TokenLife)
	return t
}

// Revoke ends every token, and what was made under it.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
	clear(s.leases)
}

// Down has the server answer that it is sealed.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Users are those of the database engine that there are.
func (s *Server) Users() (users []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, l := range s.leases {
		if s.Now().Before(l.ends) {
			users = append(users, l.user)
		} else {
			delete(s.leases, id)
		}
	}
	return users
}

// Secrets are all that nobody is to see: what logs in here, and the passwords
// of the users that were made.
func (s *Server) Secrets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(slices.Collect(maps.Keys(s.tokens)), append(s.made, s.SecretID, s.JWT)...)
}

// Asked lists the requests, as "GET secret/data/x", and forgets them.
func (s *Server) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

type reply struct {
	status int
	body   map[string]any
}

func failed(status int, words ...string) reply {
	return reply{status, map[string]any{"errors": words}}
}

func data(v any) reply { return reply{200, map[string]any{"data": v}} }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	s.asked = append(s.asked, r.Method+" "+path)
	var body map[string]any
	if b, err := io.ReadAll(r.Body); err == nil && len(b) > 0 {
		if json.Unmarshal(b, &body) != nil {
			write(w, failed(400, "failed to parse JSON input"))
			return
		}
	}
	switch {
	case s.down:
		write(w, failed(503, "Vault is sealed"))
	case strings.HasSuffix(path, "/login"):
		write(w, s.login(path, body))
	default:
		token := r.Header.Get("X-Vault-Token")
		if ends, ok := s.tokens[token]; !ok || !s.Now().Before(ends) {
			write(w, failed(403, "permission denied", "invalid token"))
			return
		}
		write(w, s.answer(r.Method, path, token, body))
	}
}

func write(w http.ResponseWriter, a reply) {
	if a.body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	json.NewEncoder(w).Encode(a.body)
}

func (s *Server) login(path string, body map[string]any) reply {
	switch {
	case path == "auth/approle/login" && body["role_id"] == s.RoleID && body["secret_id"] == s.SecretID:
	case path == "auth/jwt/login" && body["role"] == "custos" && body["jwt"] == s.JWT:
	default:
		return failed(400, "invalid role or secret ID")
	}
	return reply{200, map[string]any{"auth": map[string]any{"client_token": s.token(), "lease_duration": int64(s.TokenLife / time.Second), "renewable": true}}}
}

func (s *Server) answer(method, path, token string, body map[string]any) reply {
	get, post := method == http.MethodGet, method == http.MethodPut || method == http.MethodPost
	switch {
	case post && path == "auth/token/renew-self":
		s.tokens[token] = s.Now().Add(s.TokenLife)
		return reply{200, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": int64(s.TokenLife / time.Second), "renewable": true}}}
	case get && strings.HasPrefix(path, "secret/data/"):
		fields, ok := s.kv[strings.TrimPrefix(path, "secret/data/")]
		if !ok {
			return failed(404)
		}
		return data(map[string]any{"data": fields, "metadata": map[string]any{"version": 1}})
	case get && path == "database/creds/orders-app":
		return s.user(token)
	case post && path == "sys/leases/renew":
		return s.renewed(fmt.Sprint(body["lease_id"]))
	case post && path == "sys/leases/revoke":
		return s.revoke(fmt.Sprint(body["lease_id"]))
	case post && path == "transit/encrypt/custos":
		plain, err := base64.StdEncoding.DecodeString(fmt.Sprint(body["plaintext"]))
		if err != nil {
			return failed(400, "failed to base64-decode plaintext")
		}
		nonce := make([]byte, s.aead.NonceSize())
		rand.Read(nonce)
		return data(map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, nil)), "key_version": 1})
	case post && path == "transit/decrypt/custos":
		return s.decrypt(fmt.Sprint(body["ciphertext"]))
	}
	return failed(404)
}

func (s *Server) decrypt(text string) reply {
	b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "vault:v1:"))
	if n := s.aead.NonceSize(); err == nil && len(b) >= n {
		if b, err = s.aead.Open(nil, b[:n], b[n:], nil); err == nil {
			return data(map[string]any{"plaintext": base64.StdEncoding.EncodeToString(b)})
		}
	}
	return failed(400, "invalid ciphertext")
}

func (s *Server) user(token string) reply {
	user, password := "v-custos-"+strings.ToLower(rand.Text()[:12]), rand.Text()
	if s.Create != nil {
		if err := s.Create(user, password); err != nil {
			return failed(500, err.Error())
		}
	}
	s.made = append(s.made, password)
	id := "database/creds/orders-app/" + rand.Text()
	s.leases[id] = lease{user, token, s.Now().Add(s.LeaseLife)}
	return reply{200, map[string]any{"lease_id": id, "lease_duration": int64(s.LeaseLife / time.Second), "renewable": true,
		"data": map[string]any{"username": user, "password": password}}}
}

func (s *Server) renewed(id string) reply {
	l, ok := s.leases[id]
	if !ok || !s.Now().Before(l.ends) {
		return failed(400, "lease not found")
	}
	l.ends = s.Now().Add(s.LeaseLife)
	s.leases[id] = l
	return reply{200, map[string]any{"lease_id": id, "lease_duration": int64(s.LeaseLife / time.Second), "renewable": true}}
}

func (s *Server) revoke(id string) reply {
	if l, ok := s.leases[id]; ok && s.Drop != nil {
		if err := s.Drop(l.user); err != nil {
			return failed(500, err.Error())
		}
	}
	delete(s.leases, id)
	return reply{}
}
