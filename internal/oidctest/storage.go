package oidctest

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// storage is a Provider as the library wants to see it.
type storage struct{ *Provider }

var _ interface {
	op.Storage
	op.ClientCredentialsStorage
	op.TokenExchangeStorage
	op.DeviceAuthorizationStorage
	op.CanSetUserinfoFromRequest
	op.CanGetPrivateClaimsFromRequest
} = (*storage)(nil)

var errNotFound = errors.New("it does not exist, or no longer")

// Clients.

func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != ClientID && id != SkillClientID {
		return nil, errNotFound
	}
	return &client{id: id, public: id == ClientID, lifetime: s.lifetime}, nil
}

func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if !s.isSkill(id, secret) {
		return errors.New("the client's secret is wrong")
	}
	return nil
}

func (s *storage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return s.GetClientByClientID(ctx, id)
}

func (s *storage) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	return &grant{client: id, subject: SkillSubject, scopes: scopes, at: time.Now()}, nil
}

// Authorization requests.

func (s *storage) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if r.CodeChallenge == "" || r.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE with S256 is required")
	}
	a := &authRequest{grant: grant{client: r.ClientID, scopes: r.Scopes}, id: rand.Text(), from: *r}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[a.id] = a
	return a, nil
}

func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.request(id)
}

// request returns a copy, since the library keeps what it is given; s.mu is
// held.
func (s *storage) request(id string) (op.AuthRequest, error) {
	a, ok := s.requests[id]
	if !ok {
		return nil, errNotFound
	}
	copied := *a
	return &copied, nil
}

// AuthRequestByCode takes a code once (RFC 6749, section 4.1.2).
func (s *storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.codes[code]
	delete(s.codes, code)
	return s.request(id)
}

func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

// Tokens.

func (s *storage) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rand.Text(), time.Now().Add(s.lifetime), nil
}

// CreateAccessAndRefreshTokens gives a new refresh token each time; the one
// that was used is good no more.
func (s *storage) CreateAccessAndRefreshTokens(_ context.Context, r op.TokenRequest, used string) (id, refresh string, expires time.Time, err error) {
	from, ok := r.(op.IDTokenRequest)
	if !ok {
		return "", "", expires, errors.New("this grant has no refresh token")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refresh, used)
	refresh = rand.Text()
	s.refresh[refresh] = grant{client: from.GetClientID(), subject: from.GetSubject(), scopes: from.GetScopes(), at: from.GetAuthTime()}
	return rand.Text(), refresh, time.Now().Add(s.lifetime), nil
}

func (s *storage) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.refresh[token]
	if !ok {
		return nil, errNotFound
	}
	return &refreshGrant{g}, nil
}

func (s *storage) GetRefreshTokenInfo(_ context.Context, _, token string) (string, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.refresh[token]
	if !ok {
		return "", "", op.ErrInvalidRefreshToken
	}
	return g.subject, token, nil
}

func (s *storage) RevokeToken(_ context.Context, token, _, clientID string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, ok := s.refresh[token]; ok && g.client == clientID {
		delete(s.refresh, token)
	}
	return nil
}

func (s *storage) TerminateSession(_ context.Context, subject, clientID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, g := range s.refresh {
		if g.subject == subject && g.client == clientID {
			delete(s.refresh, token)
		}
	}
	return nil
}

// Keys.

func (s *storage) SigningKey(context.Context) (op.SigningKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key, nil
}

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []op.Key{publicKey{s.key}}, nil
}

// Claims.

func (s *storage) GetPrivateClaimsFromRequest(_ context.Context, r op.TokenRequest, _ []string) (map[string]any, error) {
	return find(r.GetSubject()).claims(), nil
}

func (s *storage) GetPrivateClaimsFromScopes(_ context.Context, subject, _ string, _ []string) (map[string]any, error) {
	return find(subject).claims(), nil
}

func (s *storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, r op.IDTokenRequest, _ []string) error {
	fill(info, r.GetSubject())
	return nil
}

func (s *storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, _, subject, _ string) error {
	fill(info, subject)
	return nil
}

// SetUserinfoFromScopes leaves it to SetUserinfoFromRequest, as the library
// asks.
func (s *storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

func fill(info *oidc.UserInfo, subject string) {
	u := find(subject)
	info.Subject, info.PreferredUsername = subject, u.Name
	info.AppendClaims("groups", u.Groups)
	info.AppendClaims("kind", u.Kind)
}

// Token exchange (RFC 8693): the skill becomes the actor for whose token it
// has. Only the skill gets here, since only its client has a secret.

func (s *storage) ValidateTokenExchangeRequest(_ context.Context, r op.TokenExchangeRequest) error {
	switch {
	case !slices.Equal(r.GetAudience(), []string{Audience}):
		return oidc.ErrInvalidTarget().WithDescription("the audience must be " + Audience)
	case r.GetRequestedTokenType() == "":
		r.SetRequestedTokenType(oidc.AccessTokenType)
	case r.GetRequestedTokenType() != oidc.AccessTokenType:
		return oidc.ErrInvalidRequest().WithDescription("only access tokens are given")
	}
	return nil
}

func (s *storage) CreateTokenExchangeRequest(context.Context, op.TokenExchangeRequest) error {
	return nil
}

func (s *storage) GetPrivateClaimsFromTokenExchangeRequest(_ context.Context, r op.TokenExchangeRequest) (map[string]any, error) {
	subject, skill := find(r.GetSubject()), find(SkillSubject)
	claims := subject.claims()
	claims["groups"] = skill.Groups
	claims["act"] = map[string]any{"sub": SkillSubject, "preferred_username": skill.Name, "kind": skill.Kind}
	return claims, nil
}

func (s *storage) SetUserinfoFromTokenExchangeRequest(_ context.Context, info *oidc.UserInfo, r op.TokenExchangeRequest) error {
	fill(info, r.GetSubject())
	return nil
}

// Device authorization (RFC 8628).

func (s *storage) StoreDeviceAuthorization(_ context.Context, clientID, deviceCode, userCode string, expires time.Time, scopes []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, d := range s.devices {
		if time.Now().After(d.state.Expires) {
			delete(s.devices, code)
		} else if d.userCode == userCode {
			return op.ErrDuplicateUserCode
		}
	}
	s.devices[deviceCode] = &device{userCode, op.DeviceAuthorizationState{ClientID: clientID, Audience: []string{Audience}, Scopes: scopes, Expires: expires}}
	return nil
}

// GetDeviceAuthorizatonState has the library's spelling. An approved device
// gets its tokens once.
func (s *storage) GetDeviceAuthorizatonState(_ context.Context, clientID, deviceCode string) (*op.DeviceAuthorizationState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.devices[deviceCode]
	if !ok || d.state.ClientID != clientID {
		return nil, errNotFound
	}
	if d.state.Done {
		delete(s.devices, deviceCode)
	}
	state := d.state
	return &state, nil
}

// What this provider does not offer.

func (s *storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return oidc.ErrInvalidRequest().WithDescription("there is no introspection: tokens are JWTs")
}

func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotFound
}

func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, oidc.ErrInvalidScope()
}

func (s *storage) Health(context.Context) error { return nil }
