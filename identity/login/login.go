// Package login gets tokens for people and scripts, and keeps them: by the
// authorization code flow with PKCE in a browser (RFC 8252, RFC 7636), by the
// device flow (RFC 8628), or from a workload's own token file.
//
// The tokens are kept in one file of the user's own, mode 0600, written
// atomically and read under a lock, so that two commands at once don't spend
// the same refresh token.
package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/custos-gateway/custos/identity"
)

// DiscoveryPath is where a gateway says how to log in, without asking who is
// there: GET answers a Discovery as JSON.
const DiscoveryPath = "/.well-known/custos"

// Limits on one answer of an issuer or a gateway.
const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 1 << 20 // bytes
)

// Discovery is what a command line must know to log in.
type Discovery struct {
	// Issuer is the issuer's URL.
	Issuer string `json:"issuer"`
	// ClientID is the public client registered there for command lines, with
	// the redirect URI http://127.0.0.1/callback on any port.
	ClientID string `json:"client_id"`
	// Audience is what the gateway wants in `aud`. Empty: the client's id.
	Audience string `json:"audience,omitempty"`
	// Scopes to ask for. Empty: openid, profile, offline_access.
	Scopes []string `json:"scopes,omitempty"`
}

// withDefaults fills in what may be left out, or says what is wrong.
func (d Discovery) withDefaults() (Discovery, error) {
	if err := identity.CheckURL(d.Issuer); err != nil {
		return d, fmt.Errorf("issuer: %w", err)
	}
	if d.ClientID == "" {
		return d, errors.New("client id: it is missing")
	}
	if d.Audience == "" {
		d.Audience = d.ClientID
	}
	if len(d.Scopes) == 0 {
		d.Scopes = []string{oidc.ScopeOpenID, "profile", oidc.ScopeOfflineAccess}
	}
	return d, nil
}

// Discover asks a gateway how to log in.
func Discover(ctx context.Context, client *http.Client, gateway string) (Discovery, error) {
	var d Discovery
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(gateway, "/")+DiscoveryPath, nil)
	if err != nil {
		return d, fmt.Errorf("ask the gateway how to log in: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return d, fmt.Errorf("ask the gateway how to log in: %w; check --url and --ca", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return d, fmt.Errorf("ask the gateway how to log in: it answers %d; pass --issuer and --client-id, or set client_id for an issuer in the gateway's configuration", resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&d); err != nil {
		return d, fmt.Errorf("ask the gateway how to log in: its answer is not JSON: %w", err)
	}
	if d, err = d.withDefaults(); err != nil {
		return d, fmt.Errorf("ask the gateway how to log in: %w", err)
	}
	return d, nil
}

// HTTPClient returns a client with limits on time and size, that trusts the
// system's roots and the PEM certificates in caFile, if it is named.
func HTTPClient(caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read --ca: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read --ca: %s holds no certificate in PEM", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: bounded{transport}, Timeout: requestTimeout}, nil
}

// bounded cuts answers off at maxAnswer: the libraries above read them whole.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// Client logs in at one issuer.
type Client struct {
	Discovery
	// HTTP talks to the issuer. Needed; see HTTPClient.
	HTTP *http.Client
	// Secret is the client's, where it is not a public one.
	Secret string
	// Out is where people are told what to do. Needed.
	Out io.Writer
	// Open shows a URL in a browser. Nil: the system's opener. An error is
	// told, and the person opens it.
	Open func(url string) error
}

// endpoints are an issuer as both flows need it.
type endpoints struct {
	config   oauth2.Config
	provider *oidc.Provider
	client   Client // with defaults
}

// discover reads the issuer's own discovery document.
func (c *Client) discover(ctx context.Context) (context.Context, *endpoints, error) {
	d, err := c.withDefaults()
	if err != nil {
		return ctx, nil, fmt.Errorf("log in: %w", err)
	}
	// Both libraries take their HTTP client from the context.
	ctx = oidc.ClientContext(ctx, c.HTTP)
	provider, err := oidc.NewProvider(ctx, d.Issuer)
	if err != nil {
		// The library's error may hold a whole page of somebody's HTML.
		return ctx, nil, fmt.Errorf("log in: discover %s: %s", d.Issuer, printable(err.Error()))
	}
	e := &endpoints{provider: provider, client: *c}
	e.client.Discovery = d
	e.config = oauth2.Config{ClientID: d.ClientID, Scopes: d.Scopes, Endpoint: provider.Endpoint()}
	e.config.ClientSecret = c.Secret
	e.config.Endpoint.AuthStyle = authStyle(provider, c.Secret)
	for name, u := range map[string]string{"authorization_endpoint": e.config.Endpoint.AuthURL, "token_endpoint": e.config.Endpoint.TokenURL,
		"device_authorization_endpoint": e.config.Endpoint.DeviceAuthURL} {
		if name == "device_authorization_endpoint" && u == "" {
			continue
		}
		bare, _, _ := strings.Cut(u, "?")
		if err := identity.CheckURL(bare); err != nil {
			return ctx, nil, fmt.Errorf("log in: discover %s: %s: %w", d.Issuer, name, err)
		}
	}
	return ctx, e, nil
}

// authStyle is how a client shows itself at the token endpoint: by its name if
// it is public, else by HTTP Basic, which every issuer takes that does not say
// otherwise (OpenID Connect Discovery 1.0, section 3).
func authStyle(provider *oidc.Provider, secret string) oauth2.AuthStyle {
	var says struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	post := provider.Claims(&says) == nil && slices.Contains(says.Methods, "client_secret_post") && !slices.Contains(says.Methods, "client_secret_basic")
	if secret == "" || post {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// audienceOption asks for the gateway's audience where the client's id is not
// enough. Issuers that know no such parameter ignore it.
func (e *endpoints) audienceOption() oauth2.AuthCodeOption {
	return oauth2.SetAuthURLParam("audience", e.client.Audience)
}

// login makes a Login of what the issuer gave.
func (e *endpoints) login(t *oauth2.Token) (*Login, error) {
	l := &Login{Discovery: e.client.Discovery, RefreshToken: t.RefreshToken}
	if err := l.take(t); err != nil {
		return nil, err
	}
	return l, nil
}

// take chooses the token that the gateway will accept: the access token where
// it is a JWT for the gateway's audience, else the ID token where that is.
func (l *Login) take(t *oauth2.Token) error {
	idToken, _ := t.Extra("id_token").(string)
	for _, token := range []string{t.AccessToken, idToken} {
		if audiences, expires, ok := unverified(token); ok && slices.Contains(audiences, l.Audience) {
			l.Bearer, l.Expires = token, expires
			return nil
		}
	}
	return fmt.Errorf("log in: %s gave no token for audience %s; register the audience for client %s there, or name the one it gives in the gateway's configuration", l.Issuer, l.Audience, l.ClientID)
}

// describe makes an error of the token endpoint readable, without the body of
// an answer that may hold a token.
func describe(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return err
	}
	if refused.ErrorCode == "" {
		return fmt.Errorf("the issuer answers %d", refused.Response.StatusCode)
	}
	if refused.ErrorDescription == "" {
		return fmt.Errorf("the issuer says %s", printable(refused.ErrorCode))
	}
	return fmt.Errorf("the issuer says %s: %s", printable(refused.ErrorCode), printable(refused.ErrorDescription))
}

// printable keeps a foreign text to one line of a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// sameOrigin reports whether two URLs have scheme, host and port in common.
func sameOrigin(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	return errA == nil && errB == nil && ua.Scheme == ub.Scheme && strings.EqualFold(ua.Host, ub.Host)
}
