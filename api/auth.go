package api

import (
	"context"
	"net/http"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// maxToken bounds a bearer token in bytes, before anything is done with it.
const maxToken = 16 << 10

type callerKey struct{}

// caller is who makes the request. Handlers behind authenticated have one.
func caller(ctx context.Context) *custos.Principal {
	return ctx.Value(callerKey{}).(*custos.Principal)
}

// Browsers knows people who signed in with a browser.
type Browsers interface {
	// Caller is who makes a request, by its cookie. It holds the request to what
	// cookies need: that a page of this origin makes it.
	Caller(r *http.Request) (*custos.Principal, error)
}

// authenticated lets requests through that carry a valid bearer token (RFC
// 6750, section 2.1), in the header only, never in the URL; and those of
// browsers that signed in.
func (s *server) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" && r.Header.Get("Cookie") != "" && s.Browsers != nil {
			p, err := s.Browsers.Caller(r)
			if err != nil {
				unauthorized(w, `Bearer realm="custos"`, err.Error())
				return
			}
			next(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, p)))
			return
		}
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			unauthorized(w, `Bearer realm="custos"`, "the request carries no bearer token; get one with: custos login")
			return
		}
		if len(token) > maxToken {
			unauthorized(w, `Bearer realm="custos", error="invalid_token"`, "the token is longer than 16 KiB")
			return
		}
		p, err := s.Identifier.Verify(r.Context(), token)
		if err != nil {
			s.Logger.Warn("token refused", "client", r.RemoteAddr, "path", r.URL.Path, "cause", err)
			unauthorized(w, `Bearer realm="custos", error="invalid_token"`, err.Error())
			return
		}
		p = p.Saying(r.Header.Get("Custos-Skill-Digest"))
		next(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, p)))
	}
}

func unauthorized(w http.ResponseWriter, challenge, detail string) {
	w.Header().Set("WWW-Authenticate", challenge)
	writeProblem(w, problem(http.StatusUnauthorized, detail))
}

// seesAll reports whether p sees every session.
func (s *server) seesAll(p *custos.Principal) bool {
	return s.isAdmin(p) || p.OnBehalfOf == nil && p.InAny(s.Roles().Auditor)
}

// isAdmin reports whether p may end other people's sessions. A caller that
// acts for another has no role: what it was lent is the right to act on
// targets, not the right to watch people.
func (s *server) isAdmin(p *custos.Principal) bool {
	return p.OnBehalfOf == nil && p.InAny(s.Roles().Admin)
}

// rolesOf lists what p is on the gateway, in words.
func (s *server) rolesOf(p *custos.Principal) []string {
	roles, names := s.Roles(), []string{}
	if p.OnBehalfOf != nil {
		return names
	}
	for _, r := range []struct {
		name   string
		groups []string
	}{{"admin", roles.Admin}, {"reviewer", roles.Reviewer}, {"auditor", roles.Auditor}} {
		if p.InAny(r.groups) {
			names = append(names, r.name)
		}
	}
	return names
}

// identity names a caller exactly, for the ledger.
func identity(p *custos.Principal) string { return p.Issuer + "|" + p.Subject }
