package http

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// login makes the way to a target, on which the credential is put into each
// request. conn is the first line of it.
func (s *Server) login(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential, _ any) (*gate.Target, error) {
	way, err := NewWay(c, s.Dialer, conn)
	if err != nil {
		return nil, err
	}
	if way.Scheme == "https" {
		way.HTTP2()
	}
	l := &lending{way: way, host: hostOf(way.Scheme, c.Address), at: c.Address, auth: c.Auth, cred: cred}
	if c.Auth.Scheme == custos.AuthOAuth {
		if l.tokens, err = clientTokens(c, cred); err == nil {
			err = l.fetch(ctx)
		}
		if err != nil {
			way.Close()
			return nil, err
		}
	}
	return &gate.Target{HTTP: l, Close: way.Close}, nil
}

// hostOf is the target as its own clients name it: without the port that its
// scheme has anyway.
func hostOf(scheme, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || scheme == "https" && port != "443" || scheme == "http" && port != "80" {
		return address
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// lending puts the credential into requests, and sends them to the target and
// nowhere else. It is the only place that has it.
type lending struct {
	way      *Way
	host, at string
	auth     custos.Auth
	cred     custos.Credential
	tokens   oauth2.TokenSource
}

// payloadField carries the digest of a request's body to where it is signed.
const payloadField = "X-Amz-Content-Sha256"

// RoundTrip is of http.RoundTripper. It follows no redirect.
func (l *lending) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	u := *r.URL
	u.Scheme, u.Host = l.way.Scheme, l.at
	out.URL, out.Host = &u, l.host
	switch l.auth.Scheme {
	case custos.AuthHeader:
		out.Header.Set(l.auth.Name, l.cred.Password)
	case custos.AuthQuery:
		_, rest := cutQuery(u.RawQuery, l.auth.Name)
		if rest != "" {
			rest += "&"
		}
		u.RawQuery = rest + url.QueryEscape(l.auth.Name) + "=" + url.QueryEscape(l.cred.Password)
	case custos.AuthOAuth:
		t, err := l.tokens.Token()
		if err != nil {
			return nil, errors.New("get token for target: its OAuth server does not give one")
		}
		t.SetAuthHeader(out)
	case custos.AuthSigV4:
		if err := l.sign(out); err != nil {
			return nil, err
		}
	case custos.AuthBearer:
		out.Header.Set("Authorization", "Bearer "+l.cred.Password)
	case custos.AuthBasic:
		out.SetBasicAuth(l.cred.Username, l.cred.Password)
	}
	resp, err := l.way.RoundTrip(out)
	if err != nil {
		return nil, fmt.Errorf("reach target: %w", err)
	}
	return resp, nil
}

// sign signs a request (AWS Signature Version 4).
func (l *lending) sign(r *http.Request) error {
	sum := r.Header.Get(payloadField)
	if l.auth.Service != "s3" {
		r.Header.Del(payloadField)
	}
	r.URL.Host = l.at
	creds := aws.Credentials{AccessKeyID: l.cred.Username, SecretAccessKey: l.cred.Password}
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = l.auth.Service == "s3" }).
		SignHTTP(r.Context(), creds, r, sum, l.auth.Service, l.auth.Region, time.Now())
	if err != nil {
		return errors.New("sign request: it cannot be signed")
	}
	return nil
}

// tokenTimeout bounds what an OAuth server takes.
const tokenTimeout = 15 * time.Second

// clientTokens gets tokens by the grant of client credentials (RFC 6749, section
// 4.4), a new one before the last has expired.
func clientTokens(c *custos.Connection, cred custos.Credential) (oauth2.TokenSource, error) {
	config := clientcredentials.Config{ClientID: cred.Username, ClientSecret: cred.Password, TokenURL: c.Auth.TokenURL, Scopes: c.Auth.Scopes}
	if c.Auth.Audience != "" {
		config.EndpointParams = url.Values{"audience": {c.Auth.Audience}}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	client := &http.Client{Transport: transport, Timeout: tokenTimeout,
		// The secret goes to no other server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return config.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, client)), nil
}

// fetch gets the first token, within the time of a login.
func (l *lending) fetch(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		_, err := l.tokens.Token()
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			return nil
		}
		var told *oauth2.RetrieveError
		if errors.As(err, &told) {
			return fmt.Errorf("get token for target: its OAuth server answers %s %s: check client_id, client_secret and scopes", told.Response.Status, oneLine(told.ErrorCode, 60))
		}
		return errors.New("get token for target: its OAuth server cannot be reached: check token_url")
	case <-ctx.Done():
		return fmt.Errorf("get token for target: %w", ctx.Err())
	}
}
