package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/identity"
)

// Where tickets are got and given back.
const (
	TokenPath  = "/oauth/token"
	RevokePath = "/oauth/revoke"
)

// The names that RFC 8693 gives, in sections 2.1 and 3.
const (
	GrantType   = "urn:ietf:params:oauth:grant-type:token-exchange"
	AccessToken = "urn:ietf:params:oauth:token-type:access_token"
	IDToken     = "urn:ietf:params:oauth:token-type:id_token"
	JWT         = "urn:ietf:params:oauth:token-type:jwt"
)

// Bounds on requests, which come from whoever reaches the gateway.
const (
	maxForm   = 2*identity.MaxToken + 16<<10 // bytes
	maxAtOnce = 64                           // requests that are answered at one time
)

// Options are what a Desk is made of. Every field is required.
type Options struct {
	Book *Book
	// Read verifies the token of an issuer.
	Read func(ctx context.Context, token string) (*identity.Token, error)
	// Enter reports whether a caller may open a session on a connection.
	Enter func(p *custos.Principal, connection string) bool
	// ActsFor reports whether the configuration lets actor act for subject.
	ActsFor func(actor, subject *custos.Principal) bool
	// Life is how long a ticket is good at most.
	Life func() time.Duration
	// Stop ends the sessions of the callers that match.
	Stop   func(match func(*custos.Principal) bool, cause error)
	Now    func() time.Time
	Logger *slog.Logger
}

// Desk gives tickets for tokens, and takes them back, over HTTP.
type Desk struct {
	Options
	slots chan struct{}
}

// NewDesk returns a desk.
func NewDesk(o Options) *Desk { return &Desk{Options: o, slots: make(chan struct{}, maxAtOnce)} }

// Register adds the desk's paths to a mux.
func (d *Desk) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+TokenPath, d.answer(d.exchange))
	mux.HandleFunc("POST "+RevokePath, d.answer(d.revoke))
}

// Failure is an error as RFC 6749, section 5.2, and RFC 8693, section 2.2.2,
// have it.
type Failure struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	status      int
}

// Error returns the description.
func (f *Failure) Error() string { return f.Description }

func fail(code, format string, args ...any) *Failure {
	// The characters that section 5.2 allows.
	text := strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < ' ' || r > '~' || r == '\\':
			return '?'
		}
		return r
	}, fmt.Sprintf(format, args...))
	return &Failure{code, text, http.StatusBadRequest}
}

// Answer is what an exchange gives (RFC 8693, section 2.2.1).
type Answer struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type"`
	TokenType       string `json:"token_type"`
	// ExpiresIn is in seconds.
	ExpiresIn int64 `json:"expires_in"`
	// TicketID names the ticket in the ledger. It is not of the RFC.
	TicketID string `json:"ticket_id"`
}

func (d *Desk) answer(h func(*http.Request, url.Values) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		controller := http.NewResponseController(w)
		controller.SetReadDeadline(time.Now().Add(10 * time.Second))
		controller.SetWriteDeadline(time.Now().Add(30 * time.Second))
		var got any
		var err error = &Failure{"temporarily_unavailable", "the gateway is busy with such requests; try again in a moment", http.StatusTooManyRequests}
		select {
		case d.slots <- struct{}{}:
			got, err = d.handle(w, r, h)
			<-d.slots
		default:
			w.Header().Set("Retry-After", "1")
		}
		if err != nil {
			f, ok := errors.AsType[*Failure](err)
			if !ok {
				d.Logger.Error("serve request", "path", r.URL.Path, "cause", err)
				f = &Failure{"server_error", "the gateway failed to answer; its log says why", http.StatusInternalServerError}
			}
			w.WriteHeader(f.status)
			got = f
		}
		json.NewEncoder(w).Encode(got) // the caller may be gone: nothing is to be done about it
	}
}

// handle reads the form. Tokens are taken from the body only, never from the
// URL, which others log.
func (d *Desk) handle(w http.ResponseWriter, r *http.Request, h func(*http.Request, url.Values) (any, error)) (any, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, fail("invalid_request", "the body can't be read: it is no form, or larger than %d bytes", maxForm)
	}
	return h(r, r.PostForm)
}

// one returns a parameter that may stand once (RFC 6749, section 3.2).
func one(form url.Values, name string, required bool) (string, error) {
	switch v := form[name]; {
	case len(v) > 1:
		return "", fail("invalid_request", "%s is there more than once", name)
	case len(v) == 1 && v[0] != "":
		return v[0], nil
	case required:
		return "", fail("invalid_request", "%s is missing", name)
	}
	return "", nil
}

// request is what somebody asks to exchange.
type request struct {
	subject, actor, connection, source, digest string
}

// read reads the form of RFC 8693, section 2.1.
func read(form url.Values, client string) (q request, err error) {
	value := map[string]string{}
	for name, required := range map[string]bool{
		"grant_type": true, "subject_token": true, "subject_token_type": true, "actor_token": false, "actor_token_type": false,
		"audience": false, "resource": false, "scope": false, "requested_token_type": false, "source": false, "skill_digest": false,
	} {
		if value[name], err = one(form, name, required); err != nil {
			return q, err
		}
	}
	q = request{subject: value["subject_token"], actor: value["actor_token"], connection: value["audience"], source: value["source"], digest: value["skill_digest"]}
	resource := strings.TrimPrefix(value["resource"], "urn:custos:connection:")
	if q.connection == "" {
		q.connection = resource
	}
	types := []string{AccessToken, IDToken, JWT}
	switch {
	case value["grant_type"] != GrantType:
		return q, fail("unsupported_grant_type", "this gateway exchanges tokens, with grant_type=%s; it logs nobody in", GrantType)
	case !slices.Contains(types, value["subject_token_type"]):
		return q, fail("invalid_request", "subject_token_type is none of %s", strings.Join(types, ", "))
	case q.actor != "" && !slices.Contains(types, value["actor_token_type"]):
		return q, fail("invalid_request", "actor_token_type is none of %s", strings.Join(types, ", "))
	case q.actor == "" && value["actor_token_type"] != "":
		return q, fail("invalid_request", "actor_token_type is there without an actor_token")
	case value["requested_token_type"] != "" && value["requested_token_type"] != AccessToken:
		return q, fail("invalid_request", "requested_token_type can be %s only", AccessToken)
	case value["scope"] != "":
		return q, fail("invalid_scope", "tickets have no scopes: leave it out")
	case q.connection == "":
		return q, fail("invalid_target", "name one connection, as audience")
	case resource != "" && resource != q.connection:
		return q, fail("invalid_target", "audience and resource name different connections")
	}
	switch {
	case q.digest != "" && !custos.ValidDigest(q.digest):
		return q, fail("invalid_request", "skill_digest is not sha256: and 64 hexadecimal digits")
	case q.source == "self":
		q.source = host(client)
	case q.source != "" && net.ParseIP(q.source) == nil:
		return q, fail("invalid_request", "source is neither self nor an IP address")
	case q.source != "":
		q.source = net.ParseIP(q.source).String()
	}
	return q, nil
}

func host(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func (d *Desk) exchange(r *http.Request, form url.Values) (any, error) {
	q, err := read(form, r.RemoteAddr)
	if err != nil {
		return nil, err
	}
	caller, err := d.caller(r.Context(), q)
	if err != nil {
		d.Logger.Warn("exchange refused", "client", r.RemoteAddr, "connection", q.connection, "cause", err)
		return nil, err
	}
	now := d.Now()
	if end := now.Add(d.Life()); end.Before(caller.Expires) {
		caller.Expires = end
	}
	if !now.Before(caller.Expires) {
		return nil, fail("invalid_request", "the token has expired; get a new one")
	}
	raw, as, err := d.Book.Issue(caller, q.connection, q.source)
	if errors.Is(err, ErrFull) || errors.Is(err, ErrTooMany) {
		return nil, &Failure{"temporarily_unavailable", err.Error(), http.StatusTooManyRequests}
	}
	if err != nil {
		return nil, err
	}
	return Answer{raw, AccessToken, "Bearer", int64(as.Expires.Sub(now) / time.Second), as.Ticket.ID}, nil
}

// caller is who the ticket is for, a copy. With an actor's token it is the
// actor, on behalf of the subject, if either the subject's issuer or the
// gateway's configuration lets it, and if both of them may use the connection.
func (d *Desk) caller(ctx context.Context, q request) (*custos.Principal, error) {
	subject, err := d.verify(ctx, "subject_token", q.subject)
	if err != nil {
		return nil, err
	}
	caller := *subject.Caller.Saying(q.digest)
	if q.actor != "" {
		actor, err := d.verify(ctx, "actor_token", q.actor)
		if err != nil {
			return nil, err
		}
		of, by := subject.Caller, actor.Caller.Saying(q.digest)
		switch {
		case of.OnBehalfOf != nil || by.OnBehalfOf != nil:
			return nil, fail("invalid_request", "one of the tokens is itself on behalf of somebody: exchange it alone")
		case of.Issuer == by.Issuer && of.Subject == by.Subject:
			return nil, fail("invalid_request", "both tokens are of the same caller: leave actor_token out")
		case !subject.MayAct(by) && !d.ActsFor(by, of):
			return nil, fail("invalid_request", "%.100s may not act for %.100s: neither a may_act claim of the subject_token nor on_behalf_of of a skill in the gateway's configuration says so", by.Name, of.Name)
		}
		caller = *by
		caller.OnBehalfOf = of
		if of.Expires.Before(caller.Expires) {
			caller.Expires = of.Expires
		}
	}
	for p := &caller; p != nil; p = p.OnBehalfOf {
		// Of a token that its issuer gave for a delegation the groups are those of
		// both, and the subject alone has none.
		if (p == &caller || len(p.Groups) > 0 || q.actor != "") && !d.Enter(p, q.connection) {
			return nil, fail("invalid_target", "there is no connection of that name that %.100s may use", p.Name)
		}
	}
	return &caller, nil
}

func (d *Desk) verify(ctx context.Context, name, token string) (*identity.Token, error) {
	if Is(token) {
		return nil, fail("invalid_request", "%s is a ticket: a ticket is exchanged for nothing", name)
	}
	t, err := d.Read(ctx, token)
	if identity.CodeOf(err) == identity.Unavailable {
		return nil, &Failure{"temporarily_unavailable", fail("", "%s: %v", name, err).Description, http.StatusServiceUnavailable}
	}
	if err != nil {
		return nil, fail("invalid_request", "%s: %v", name, err)
	}
	return t, nil
}

// revoke ends a ticket and its sessions (RFC 7009). Whoever has it may. One
// that is not known is as good as revoked (section 2.2).
func (d *Desk) revoke(r *http.Request, form url.Values) (any, error) {
	raw, err := one(form, "token", true)
	if err != nil {
		return nil, err
	}
	if !Is(raw) {
		return nil, fail("unsupported_token_type", "only tickets of this gateway are revoked here; tokens are, at their issuer")
	}
	caller, err := d.Book.Revoke(raw, "", "revoked with the ticket, from "+host(r.RemoteAddr))
	if err != nil {
		return nil, err
	}
	if caller != nil {
		d.Stop(func(p *custos.Principal) bool { return p.Ticket != nil && p.Ticket.ID == caller.Ticket.ID }, errors.New("its ticket was revoked"))
	}
	return struct{}{}, nil
}
