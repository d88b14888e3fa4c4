// Package signin signs people in with their browsers: by the authorization
// code flow with PKCE at an OpenID provider, and from then on by a cookie.
//
// A session is an opaque random name in a cookie that scripts cannot read, that
// goes over TLS only, and to pages of this very host only, asked for by such
// pages (__Host-, Secure, HttpOnly, SameSite=Strict). The gateway keeps the
// name's hash, in memory, beside the caller as the provider's token spoke of
// them, until that token expires: a gateway that restarts knows nobody.
//
// What changes anything wants more than the cookie: the session's token in a
// header, which only a page of this origin can read, and the browser's own word
// that such a page asks.
package signin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/identity/login"
)

// Where browsers come to.
const (
	// StartPath sends a browser to the provider; ?next= is where it goes to
	// afterwards.
	StartPath = "/signin"
	// CallbackPath is where the provider sends it back to: with the gateway's
	// address before it, the redirect URI to register there.
	CallbackPath = "/signin/callback"
	// OutPath ends a session, by POST.
	OutPath = "/signout"
	// TokenPath gives the pages of this origin their session's token.
	TokenPath = "/signin/token"
	// TokenHeader carries it, with what changes anything.
	TokenHeader = "Custos-Token"
)

// The cookies' names. The prefix has browsers take them from this host only,
// over TLS, for all of it (RFC 6265bis, section 4.1.3.2).
const (
	sessionCookie = "__Host-custos"
	attemptCookie = "__Host-custos-signin"
)

// Bounds on what browsers take of the gateway.
const (
	maxLife     = 12 * time.Hour   // of a session, whatever the provider's token says
	attemptLife = 10 * time.Minute // of a sign-in
	maxSessions = 10_000
	maxAsking   = 20 // sign-ins that ask the provider at once
	askTimeout  = 20 * time.Second
)

// Errors of a request that carries a session's cookie.
var (
	// ErrNobody: it carries none, or one that is over.
	ErrNobody = errors.New("you are not signed in, or your session is over; sign in again")
	// ErrForeign: it is not this origin's own page that asks.
	ErrForeign = errors.New("the request was not made by this gateway's own page; reload the page and try again")
)

// Provider is whom people sign in at.
type Provider struct {
	login.Discovery
	// Secret is the client's; "": it is a public one.
	Secret string
	// HTTP talks to it; see login.HTTPClient.
	HTTP *http.Client
}

// Options are what a Door is made of. All but URL are required.
type Options struct {
	// Provider is asked for at each sign-in.
	Provider func(context.Context) (Provider, error)
	// URL is where people reach the gateway; "": by whatever name they use. It is
	// asked at each request, and may be nil.
	URL func() string
	// Verify verifies the token that the provider gave, as if it had come as a
	// bearer's.
	Verify func(ctx context.Context, token string) (*custos.Principal, error)
	Now    func() time.Time
	Logger *slog.Logger
}

// Door lets people in, knows them, and lets them out. It is safe for concurrent
// use.
type Door struct {
	o      Options
	asking chan struct{}

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]*session // by the hash of the cookie's value
}

type session struct {
	caller  custos.Principal
	expires time.Time
	token   string // what changes anything carries it
}

// New returns a Door behind which nobody is.
func New(o Options) *Door {
	return &Door{o: o, asking: make(chan struct{}, maxAsking), sessions: map[[sha256.Size]byte]*session{}}
}

// Caller is who makes a request, by its cookie. A request that may change
// something must be of a page of this origin.
func (d *Door) Caller(r *http.Request) (*custos.Principal, error) {
	s := d.find(r)
	if s == nil {
		return nil, ErrNobody
	}
	// Reading a recording puts an entry on record: what another site makes a
	// browser ask for does neither.
	if !d.ownPage(r) {
		return nil, ErrForeign
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead &&
		subtle.ConstantTimeCompare([]byte(r.Header.Get(TokenHeader)), []byte(s.token)) != 1 {
		return nil, ErrForeign
	}
	p := s.caller
	return &p, nil
}

// ownPage reports whether the browser says that a page of this origin makes
// the request (Fetch Metadata, section 2.3). What is no browser has no cookie.
func (d *Door) ownPage(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && origin != d.origin(r) {
		return false
	}
	return r.Header.Get("Sec-Fetch-Site") == "same-origin"
}

// find returns the session of a request's cookie; nil: there is none.
func (d *Door) find(r *http.Request) *session {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil
	}
	key := sha256.Sum256([]byte(c.Value))
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[key]
	if s != nil && !d.o.Now().Before(s.expires) {
		delete(d.sessions, key)
		return nil
	}
	return s
}

// admit opens a session, and returns what names it.
func (d *Door) admit(p *custos.Principal) (name string, err error) {
	now := d.o.Now()
	s := &session{caller: *p, expires: now.Add(maxLife), token: rand.Text()}
	if p.Expires.Before(s.expires) {
		s.expires = p.Expires
	}
	name = rand.Text() + rand.Text()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.sessions) >= maxSessions {
		for key, other := range d.sessions {
			if !now.Before(other.expires) {
				delete(d.sessions, key)
			}
		}
	}
	if len(d.sessions) >= maxSessions {
		return "", errors.New("too many people are signed in; try again in a while")
	}
	d.sessions[sha256.Sum256([]byte(name))] = s
	return name, nil
}

// leave ends the session of a request.
func (d *Door) leave(r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.sessions, sha256.Sum256([]byte(c.Value)))
	}
}

// origin is the gateway's, as browsers write it: the one that was configured,
// or the one that the browser asked for. The provider sends nobody to one that
// is not registered there.
func (d *Door) origin(r *http.Request) string {
	if d.o.URL != nil {
		if u, err := url.Parse(d.o.URL()); err == nil && u.Host != "" {
			return u.Scheme + "://" + u.Host
		}
	}
	return "https://" + r.Host
}

// redirect is the address that the provider sends browsers back to.
func (d *Door) redirect(r *http.Request) string { return d.origin(r) + CallbackPath }

// local is where a browser goes to after it signed in: a path of this host.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || u.User != nil ||
		len(next) < 1 || len(next) > 500 || next[0] != '/' || len(next) > 1 && (next[1] == '/' || next[1] == '\\') {
		return "/"
	}
	return cmp.Or(u.String(), "/")
}
