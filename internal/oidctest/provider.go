// Package oidctest is a small OpenID Connect provider for the demonstration
// and for tests: a real one, on zitadel/oidc, with its state in memory.
//
// It has three people, ana (group dba), bob (support) and carol (audit), and a
// skill, skill:reporter (skills), which may act on behalf of each of them by a
// token exchange. Nobody has a password: whoever reaches it may be anybody, so
// it listens on loopback only, and answers only requests addressed to it there.
//
// It speaks the authorization code flow with PKCE, the device flow, refresh
// tokens, client credentials and token exchange; access tokens are JWTs.
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// What clients of the provider are configured with.
const (
	// ClientID is the public client of people's command lines and browsers.
	ClientID = "custos"
	// Audience is the `aud` of every token.
	Audience = "custos"
	// SkillClientID is the confidential client of the skill.
	SkillClientID = "reporter"
	// SkillSubject is who that client is.
	SkillSubject = "skill:reporter"
)

// user is a person or a skill.
type user struct {
	Name   string
	Kind   string
	Groups []string
}

var users = map[string]user{
	"ana":        {"ana", "person", []string{"dba"}},
	"bob":        {"bob", "person", []string{"support"}},
	"carol":      {"carol", "person", []string{"audit"}},
	SkillSubject: {"reporter", "skill", []string{"skills"}},
}

// people are who can log in at the page, in its order.
var people = []string{"ana", "bob", "carol"}

// find returns a user. Somebody unknown is a person in no group, so that a
// token can be minted for a stranger.
func find(subject string) user {
	if u, ok := users[subject]; ok {
		return u
	}
	return user{Name: subject, Kind: "person"}
}

// claims are what tokens say of a user.
func (u user) claims() map[string]any {
	return map[string]any{"preferred_username": u.Name, "kind": u.Kind, "groups": u.Groups}
}

// signingKey is a key of the provider, private or, in the published set, not.
type signingKey struct {
	id  string
	key *ecdsa.PrivateKey
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) Key() any                                    { return k.key }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }

// publicKey is what is published of a signingKey.
type publicKey struct{ signingKey }

func (k publicKey) Key() any                           { return &k.key.PublicKey }
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k publicKey) Use() string                        { return "sig" }

// Provider is a running provider.
type Provider struct {
	// URL is its issuer identifier.
	URL string
	// SkillSecret is the secret of the client SkillClientID.
	SkillSecret string

	server *http.Server
	served chan struct{}

	mu       sync.Mutex
	lifetime time.Duration
	key      signingKey
	rotated  int
	requests map[string]*authRequest // by id
	codes    map[string]string       // code -> id
	devices  map[string]*device      // by device code
	refresh  map[string]grant        // by refresh token
}

// Start listens on addr, a loopback address such as "127.0.0.1:0", and serves
// until Close.
func Start(addr string) (*Provider, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start identity provider: %w", err)
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		listener.Close()
		return nil, fmt.Errorf("start identity provider: %s is not a loopback address, and it asks nobody for a password; use 127.0.0.1", addr)
	}
	p := &Provider{
		URL:         "http://" + listener.Addr().String(),
		SkillSecret: rand.Text(),
		served:      make(chan struct{}),
		lifetime:    time.Hour,
		requests:    map[string]*authRequest{},
		codes:       map[string]string{},
		devices:     map[string]*device{},
		refresh:     map[string]grant{},
	}
	p.Rotate()
	handler, err := p.handler()
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("start identity provider: %w", err)
	}
	p.server = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}
	go func() {
		defer close(p.served)
		p.server.Serve(listener) // returns when Close is called, with nothing to say
	}()
	return p, nil
}

// Close ends the provider and every connection to it.
func (p *Provider) Close() error {
	err := p.server.Close()
	<-p.served
	return err
}

// Rotate replaces the signing key: the provider publishes the new one only, so
// tokens signed before stop being good.
func (p *Provider) Rotate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(fmt.Sprintf("make a signing key: %v", err)) // crypto/rand does not fail
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rotated++
	p.key = signingKey{fmt.Sprintf("key-%d", p.rotated), key}
}

// SetLifetime sets how long tokens given from now on are good. Default: an
// hour.
func (p *Provider) SetLifetime(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lifetime = d
}

// MintOption changes what Mint mints.
type MintOption func(*minting)

type minting struct {
	claims   map[string]any
	lifetime time.Duration
	keyID    string
}

// Claim sets a claim; a nil value leaves it out.
func Claim(name string, value any) MintOption {
	return func(m *minting) { m.claims[name] = value }
}

// Lifetime sets how long from now the token is good; a negative one has
// expired.
func Lifetime(d time.Duration) MintOption { return func(m *minting) { m.lifetime = d } }

// KeyID sets the header's `kid`, whatever the key.
func KeyID(id string) MintOption { return func(m *minting) { m.keyID = id } }

// OnBehalfOf makes the user the actor (RFC 8693, section 4.1) for a subject.
// The groups stay the actor's.
func OnBehalfOf(subject string) MintOption {
	return func(m *minting) {
		m.claims["act"] = map[string]any{"sub": m.claims["sub"], "preferred_username": m.claims["preferred_username"], "kind": m.claims["kind"]}
		u := find(subject)
		m.claims["sub"], m.claims["preferred_username"], m.claims["kind"] = subject, u.Name, u.Kind
	}
}

// Mint issues an access token to a user directly, signed with the current key.
// Options apply in order. A user whom the provider does not know is a person
// in no group.
func (p *Provider) Mint(subject string, opts ...MintOption) string {
	p.mu.Lock()
	key, lifetime := p.key, p.lifetime
	p.mu.Unlock()
	m := minting{claims: find(subject).claims(), lifetime: lifetime, keyID: key.id}
	m.claims["sub"] = subject
	m.claims["iss"], m.claims["aud"] = p.URL, Audience
	m.claims["client_id"], m.claims["jti"] = ClientID, rand.Text()
	for _, o := range opts {
		o(&m)
	}
	now := time.Now()
	defaults := map[string]any{"iat": now.Add(min(m.lifetime, 0)).Unix(), "exp": now.Add(m.lifetime).Unix()}
	for name, value := range defaults {
		if _, set := m.claims[name]; !set {
			m.claims[name] = value
		}
	}
	for name, value := range m.claims {
		if value == nil {
			delete(m.claims, name)
		}
	}
	token, err := sign(key.key, m.keyID, m.claims)
	if err != nil {
		panic(fmt.Sprintf("mint a token: %v", err)) // a claim that is no JSON: the caller's own code is wrong
	}
	return token
}

func sign(key *ecdsa.PrivateKey, keyID string, claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: keyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// handler wires the library's endpoints and the two pages.
func (p *Provider) handler() (http.Handler, error) {
	config := &op.Config{
		CodeMethodS256:        true,
		AuthMethodPost:        true,
		GrantTypeRefreshToken: true,
		SupportedScopes:       []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeOfflineAccess, "groups"},
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime: 5 * time.Minute, PollInterval: time.Second, UserFormPath: "/device", UserCode: op.UserCodeBase20,
		},
	}
	rand.Read(config.CryptoKey[:]) // never fails: crypto/rand ends the process instead
	provider, err := op.NewProvider(config, &storage{p}, op.StaticIssuer(p.URL), op.WithAllowInsecure(), op.WithCORSOptions(nil),
		op.WithAccessTokenVerifierOpts(op.WithSupportedAccessTokenSigningAlgorithms("ES256")),
		op.WithIDTokenHintVerifierOpts(op.WithSupportedIDTokenHintSigningAlgorithms("ES256")))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", provider)
	interceptor := op.NewIssuerInterceptor(provider.IssuerFromRequest)
	mux.HandleFunc("GET /login", p.loginPage)
	mux.Handle("POST /login", interceptor.HandlerFunc(p.login(op.AuthCallbackURL(provider))))
	mux.HandleFunc("GET /device", p.devicePage)
	mux.HandleFunc("POST /device", p.approveDevice)
	// Since nobody is asked for a password, a page of another site must be able
	// neither to read answers (no CORS) nor to send forms.
	sameSite := http.NewCrossOriginProtection().Handler(mux)
	host := strings.TrimPrefix(p.URL, "http://")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page elsewhere whose name resolves to loopback (DNS rebinding)
		// must not get anybody's token.
		if r.Host != host {
			http.Error(w, "this identity provider answers at "+p.URL+" only", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 256<<10)
		sameSite.ServeHTTP(w, r)
	}), nil
}

// isSkill reports whether the credentials are those of the skill's client.
func (p *Provider) isSkill(clientID, secret string) bool {
	return clientID == SkillClientID && subtle.ConstantTimeCompare([]byte(secret), []byte(p.SkillSecret)) == 1
}
