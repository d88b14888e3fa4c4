package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Limits on what is fetched from an issuer.
const (
	fetchTimeout = 10 * time.Second // discovery and keys together
	maxDocument  = 1 << 20          // bytes of a document, uncompressed
	maxKeys      = 64
	maxRedirects = 3
	minRSA       = 2048 // bits (RFC 7518, section 3.3)
	maxRSA       = 8192 // bits: a larger one makes each verification slow
)

// sourceConfig is what of an Issuer says where its keys come from.
type sourceConfig struct {
	issuer, discovery, jwks, caFile, tokenFile string
}

// source fetches the keys of one issuer.
type source struct {
	config sourceConfig
	client *http.Client
}

func newSource(is Issuer, base *http.Client) (*source, error) {
	s := &source{config: sourceConfig{issuer: is.URL, discovery: is.DiscoveryURL, jwks: is.JWKSURL, caFile: is.CAFile, tokenFile: is.TokenFile}}
	if s.config.discovery == "" {
		s.config.discovery = strings.TrimSuffix(is.URL, "/") + "/.well-known/openid-configuration"
	}
	client := http.Client{}
	if base != nil {
		client = *base
	}
	if is.CAFile != "" {
		transport, err := trusting(is.CAFile)
		if err != nil {
			return nil, err
		}
		client.Transport = transport
	}
	if client.Timeout == 0 {
		client.Timeout = fetchTimeout
	}
	client.CheckRedirect = withinHost
	s.client = &client
	return s, nil
}

// trusting returns a transport that trusts the certificates in a PEM file and
// no others.
func trusting(file string) (http.RoundTripper, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read ca_file: %s holds no certificate in PEM", file)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	t.MaxResponseHeaderBytes = 64 << 10
	return t, nil
}

// withinHost lets a redirect stay on its scheme and host. One that leaves
// would let whoever controls one URL of an issuer choose its keys.
func withinHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Scheme != first.Scheme || req.URL.Host != first.Host {
		return errors.New("it redirects to another host")
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("it redirects more than %d times", maxRedirects)
	}
	return nil
}

// fetch gets the issuer's keys: its discovery document, if one is needed, and
// what that points at.
func (s *source) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	jwks, withToken := s.config.jwks, true
	if jwks == "" {
		var err error
		if jwks, err = s.discover(ctx); err != nil {
			return nil, err
		}
		withToken = sameHost(jwks, s.config.discovery)
	}
	body, err := s.get(ctx, jwks, withToken)
	if err != nil {
		return nil, fmt.Errorf("get keys: %w", err)
	}
	keys, err := parseKeys(body)
	if err != nil {
		return nil, fmt.Errorf("get keys from %s: %w", jwks, err)
	}
	return keys, nil
}

// discover reads the discovery document (OpenID Connect Discovery 1.0,
// section 4) and returns its jwks_uri.
func (s *source) discover(ctx context.Context) (string, error) {
	body, err := s.get(ctx, s.config.discovery, true)
	if err != nil {
		return "", fmt.Errorf("discover: %w", err)
	}
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return "", fmt.Errorf("discover: %s is not a JSON object", s.config.discovery)
	}
	if doc.Issuer != s.config.issuer {
		return "", fmt.Errorf("discover: %s is of another issuer; the url in the gateway's configuration must be the issuer it gives, to the last slash", s.config.discovery)
	}
	if err := CheckURL(doc.JWKS); err != nil {
		return "", fmt.Errorf("discover: jwks_uri in %s: %w", s.config.discovery, err)
	}
	if strings.HasPrefix(s.config.discovery, "https:") && !strings.HasPrefix(doc.JWKS, "https:") {
		return "", fmt.Errorf("discover: jwks_uri in %s is not https", s.config.discovery)
	}
	return doc.JWKS, nil
}

func (s *source) get(ctx context.Context, target string, withToken bool) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	if s.config.tokenFile != "" && withToken {
		token, err := os.ReadFile(s.config.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("read token_file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d", target, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", target, err)
	}
	if len(body) > maxDocument {
		return nil, fmt.Errorf("%s has more than %d bytes", target, maxDocument)
	}
	return body, nil
}

func sameHost(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	return errA == nil && errB == nil && ua.Scheme == ub.Scheme && ua.Host == ub.Host
}

// parseKeys reads a JWK set (RFC 7517, section 5). As that section asks, keys
// of an unknown type or use are passed over; so are weak ones, and anything
// but a public key.
func parseKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(body, &set) != nil || set.Keys == nil {
		return nil, errors.New("it is not a JSON Web Key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("there are more than %d keys", maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && usable(&k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func usable(k *jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= minRSA && key.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// fits reports whether a key may verify a token of that key id and algorithm.
// The type of the key decides what algorithms it is for, and not the token.
func fits(k *jose.JSONWebKey, keyID, algorithm string) bool {
	if keyID != "" && k.KeyID != keyID || k.Algorithm != "" && k.Algorithm != algorithm {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		return algorithm[:2] == "RS" || algorithm[:2] == "PS"
	case *ecdsa.PublicKey:
		return key.Curve == curves[algorithm]
	case ed25519.PublicKey:
		return algorithm == string(jose.EdDSA)
	}
	return false
}

var curves = map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}
