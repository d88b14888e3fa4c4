package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/custos-gateway/custos"
)

// DefaultLeeway is how far the clocks of the gateway and an issuer may be
// apart.
const DefaultLeeway = 30 * time.Second

// Options are what a Verifier is made of.
type Options struct {
	Issuers []Issuer
	// Leeway is allowed on exp, nbf and iat; at most 5 minutes. Zero means
	// DefaultLeeway, negative none.
	Leeway time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// HTTPClient fetches discovery documents and keys, for issuers without a
	// CAFile. Its Timeout bounds one refresh (default 10 seconds). Redirects
	// are followed within a host only, whatever it says.
	HTTPClient *http.Client
	// Logger is told of failing issuers and changed keys. Default: nobody.
	Logger *slog.Logger
}

// Verifier verifies tokens of a set of issuers. It is safe for concurrent use.
type Verifier struct {
	opts    Options
	issuers atomic.Pointer[map[string]*issuer]
	skills  atomic.Pointer[[]Skill]
	reload  sync.Mutex
}

// issuer is an Issuer in use.
type issuer struct {
	Issuer
	keys *keySet
}

// New returns a Verifier. No issuer need be reachable: each is asked for its
// keys when its first token comes. It fails on an unusable configuration only.
func New(opts Options) (*Verifier, error) {
	if opts.Leeway == 0 {
		opts.Leeway = DefaultLeeway
	}
	if opts.Leeway > 5*time.Minute {
		return nil, fmt.Errorf("verify tokens: a leeway of %v is too long; at most 5m", opts.Leeway)
	}
	opts.Leeway = max(opts.Leeway, 0)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	v := &Verifier{opts: opts}
	v.issuers.Store(&map[string]*issuer{})
	if err := v.Reload(opts.Issuers); err != nil {
		return nil, err
	}
	return v, nil
}

// Reload replaces the issuers. Keys already fetched are kept for an issuer
// whose sources of keys did not change. On an error nothing is replaced.
func (v *Verifier) Reload(issuers []Issuer) error {
	v.reload.Lock()
	defer v.reload.Unlock()
	old, next := *v.issuers.Load(), map[string]*issuer{}
	var errs []error
	for _, is := range issuers {
		if next[is.URL] != nil {
			errs = append(errs, fmt.Errorf("issuer %s: it is listed twice; list all its audiences in one place", is.URL))
			continue
		}
		if err := is.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("issuer %s: %w", is.URL, err))
			continue
		}
		src, err := newSource(is, v.opts.HTTPClient)
		if err != nil {
			errs = append(errs, fmt.Errorf("issuer %s: %w", is.URL, err))
			continue
		}
		keys := newKeySet(src, v.opts.Now, v.opts.Logger)
		if o := old[is.URL]; o != nil && reflect.DeepEqual(o.keys.src.config, src.config) {
			keys = o.keys
		}
		next[is.URL] = &issuer{Issuer: is.withDefaults(), keys: keys}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	v.issuers.Store(&next)
	return nil
}

// Verify returns the caller that the token speaks for. It blocks for keys
// only, bounded by ctx and by the time-out of a refresh. Every error is an
// *Error.
func (v *Verifier) Verify(ctx context.Context, token string) (*custos.Principal, error) {
	read, err := v.Read(ctx, token)
	if err != nil {
		return nil, err
	}
	return read.Caller, nil
}

// Token is what a verified token says.
type Token struct {
	Caller *custos.Principal
	// mayAct is the claim of that name; nil: there is none.
	mayAct any
}

// MayAct reports whether the token names actor as one who may act for its
// caller (RFC 8693, section 4.4). Where the claim names no issuer, it means
// the token's own. What it says besides iss and sub narrows it in ways that
// are not known here, and so it names nobody.
func (t *Token) MayAct(actor *custos.Principal) bool {
	claim, ok := t.mayAct.(map[string]any)
	if !ok {
		return false
	}
	subject, _ := claim["sub"].(string)
	issuer, named := claim["iss"].(string)
	known := 1
	if _, present := claim["iss"]; present {
		if known++; !named {
			return false
		}
	} else {
		issuer = t.Caller.Issuer
	}
	return len(claim) == known && subject == actor.Subject && issuer == actor.Issuer
}

// Trusts reports whether an issuer is one of those listed.
func (v *Verifier) Trusts(issuer string) bool { return (*v.issuers.Load())[issuer] != nil }

// Read is Verify for who has to know more of the token than its caller.
func (v *Verifier) Read(ctx context.Context, token string) (*Token, error) {
	t, refusal := parse(token)
	if refusal != nil {
		return nil, refusal
	}
	// The issuer is still a mere claim: all it does is select whose keys are
	// tried, and the signature then proves it.
	is := (*v.issuers.Load())[t.issuer]
	if is == nil {
		return nil, refuse(WrongIssuer, "use a token of an issuer that the gateway's configuration lists; a URL must match to the last slash",
			"its issuer is not one that this gateway trusts")
	}
	if !slices.Contains(is.Algorithms, t.algorithm) {
		return nil, refuse(Algorithm, "have the issuer sign with one of them, or list the algorithm under algorithms",
			"it is not signed with an algorithm accepted from %s: %v", is.URL, is.Algorithms)
	}
	if refusal := is.checkSignature(ctx, t); refusal != nil {
		return nil, refusal
	}
	p, refusal := is.principal(t.claims, v.opts.Now(), v.opts.Leeway)
	if refusal != nil {
		return nil, refusal
	}
	own := t.claims
	if p.OnBehalfOf != nil {
		own, _ = t.claims["act"].(map[string]any)
	}
	if refusal := v.recognise(p, own); refusal != nil {
		return nil, refusal
	}
	return &Token{Caller: p, mayAct: t.claims["may_act"]}, nil
}

// checkSignature tries the issuer's keys that fit the token, and, when none of
// them does it, once more those of a refresh, if one is due.
func (is *issuer) checkSignature(ctx context.Context, t *token) *Error {
	keys, generation, err := is.keys.current(ctx)
	if err != nil {
		return unavailable(is.URL, err)
	}
	found, ok := tryKeys(keys, t)
	if ok {
		return nil
	}
	if found && t.keyID != "" {
		return refuse(Signature, hintLogin, "its signature is not that of %s", is.URL)
	}
	keys, err = is.keys.newer(ctx, generation)
	if err != nil {
		return unavailable(is.URL, err)
	}
	again, ok := tryKeys(keys, t)
	switch {
	case ok:
		return nil
	case found || again:
		return refuse(Signature, hintLogin, "its signature is not that of %s", is.URL)
	default:
		return refuse(UnknownKey, "get a new token; if the issuer has just changed its keys, try again in a few seconds",
			"it is signed with a key that %s does not publish for that algorithm", is.URL)
	}
}

// tryKeys reports whether a key fits t, and whether one verifies it.
func tryKeys(keys []jose.JSONWebKey, t *token) (found, ok bool) {
	for i := range keys {
		if !fits(&keys[i], t.keyID, t.algorithm) {
			continue
		}
		found = true
		if _, err := t.signed.Verify(keys[i].Key); err == nil {
			return true, true
		}
	}
	return found, false
}

func unavailable(url string, err error) *Error {
	return &Error{Code: Unavailable, Cause: err, Reason: "the keys of " + url + " can't be had",
		Hint: "try again; if it stays, check that the gateway reaches the issuer"}
}

// Peek reads whom a token names, as the defaults read its claims, and verifies
// nothing: it is for showing people their own token, never for a decision.
// Kind is left empty, since only the configuration of a gateway tells it.
func Peek(token string) (*custos.Principal, error) {
	t, refusal := parse(token)
	if refusal != nil {
		return nil, refusal
	}
	is := &issuer{Issuer: Issuer{URL: t.issuer, GroupsClaim: "groups"}.withDefaults()}
	if act, ok := t.claims["act"].(map[string]any); ok {
		iss, _ := act["iss"].(string)
		is.ActorIssuers = []string{iss}
	}
	expires, _ := date(t.claims["exp"])
	p, refusal := is.caller(t.claims, expires)
	if refusal != nil {
		return nil, refusal
	}
	for q := p; q != nil; q = q.OnBehalfOf {
		q.Kind = ""
	}
	return p, nil
}
