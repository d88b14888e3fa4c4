package oidctest

import (
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// client is a registered client: the public one of people, or the skill's.
type client struct {
	id       string
	public   bool
	lifetime time.Duration
}

func (c *client) GetID() string                    { return c.id }
func (c *client) PostLogoutRedirectURIs() []string { return nil }
func (c *client) LoginURL(id string) string        { return "/login?id=" + id }
func (c *client) IDTokenLifetime() time.Duration   { return c.lifetime }
func (c *client) DevMode() bool                    { return false }
func (c *client) ClockSkew() time.Duration         { return 0 }
func (c *client) IsScopeAllowed(scope string) bool { return scope == "groups" }

func (c *client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (c *client) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c *client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return slices.Clone[[]string]
}
func (c *client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return slices.Clone[[]string]
}

// RedirectURIs are loopback ones: their port is the client's choice (RFC 8252,
// section 7.3).
func (c *client) RedirectURIs() []string {
	if !c.public {
		return nil
	}
	return []string{"http://127.0.0.1/callback", "http://[::1]/callback", "https://127.0.0.1/signin/callback"}
}

func (c *client) ApplicationType() op.ApplicationType {
	if c.public {
		return op.ApplicationTypeNative
	}
	return op.ApplicationTypeWeb
}

func (c *client) AuthMethod() oidc.AuthMethod {
	if c.public {
		return oidc.AuthMethodNone
	}
	return oidc.AuthMethodBasic
}

func (c *client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c *client) GrantTypes() []oidc.GrantType {
	if c.public {
		return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode}
	}
	return []oidc.GrantType{oidc.GrantTypeClientCredentials, oidc.GrantTypeTokenExchange}
}

// grant is who gave what to which client.
type grant struct {
	client, subject string
	scopes          []string
	at              time.Time
}

func (g *grant) GetAMR() []string       { return nil }
func (g *grant) GetAudience() []string  { return []string{Audience} }
func (g *grant) GetAuthTime() time.Time { return g.at }
func (g *grant) GetClientID() string    { return g.client }
func (g *grant) GetScopes() []string    { return g.scopes }
func (g *grant) GetSubject() string     { return g.subject }

// refreshGrant is a grant that a refresh token stands for.
type refreshGrant struct{ grant }

func (r *refreshGrant) SetCurrentScopes(scopes []string) { r.scopes = scopes }

// authRequest is an authorization request under way.
type authRequest struct {
	grant
	id   string
	from oidc.AuthRequest
	done bool
}

func (a *authRequest) GetID() string                      { return a.id }
func (a *authRequest) GetACR() string                     { return "" }
func (a *authRequest) GetNonce() string                   { return a.from.Nonce }
func (a *authRequest) GetRedirectURI() string             { return a.from.RedirectURI }
func (a *authRequest) GetResponseType() oidc.ResponseType { return a.from.ResponseType }
func (a *authRequest) GetResponseMode() oidc.ResponseMode { return a.from.ResponseMode }
func (a *authRequest) GetState() string                   { return a.from.State }
func (a *authRequest) Done() bool                         { return a.done }
func (a *authRequest) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: a.from.CodeChallenge, Method: a.from.CodeChallengeMethod}
}

// device is a device authorization under way (RFC 8628).
type device struct {
	userCode string
	state    op.DeviceAuthorizationState
}
