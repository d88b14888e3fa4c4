package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export"
)

// newHTTPClient returns a client for the gateway at g.url, which trusts the
// system's roots or the certificates of g.ca. It follows no redirect: the
// token goes to the gateway only.
func (g *globals) newHTTPClient() (*http.Client, error) {
	u, err := url.Parse(g.url)
	switch {
	case g.url == "":
		return nil, &exitError{exitUsage, errors.New("find the gateway: no URL; set --url or CUSTOS_URL")}
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, &exitError{exitUsage, fmt.Errorf("find the gateway: %q is not of the form https://host:port", g.url)}
	}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	if g.ca != "" {
		pem, err := os.ReadFile(g.ca)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("read CA certificates: %w", err)}
		}
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &exitError{exitUsage, fmt.Errorf("read CA certificates: %s holds no PEM certificate", g.ca)}
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:       trust,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 10 * time.Minute, // evidence is put together before its first byte
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// client returns a client of the gateway's API.
func (g *globals) client() (*api.Client, error) {
	h, err := g.newHTTPClient()
	if err != nil {
		return nil, err
	}
	return &api.Client{URL: g.url, HTTP: h, Token: g.bearer, SkillDigest: os.Getenv("CUSTOS_SKILL_DIGEST")}, nil
}

// explain gives an error of the gateway's the exit status that it has, and
// tells what to do about a certificate that is not trusted.
func explain(err error) error {
	if p, ok := errors.AsType[*api.Problem](err); ok && (p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden) {
		return &exitError{exitRefused, err}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w; trust the gateway's CA with --ca, such as its data_dir/tls/ca.pem", err)
	}
	return err
}

// printJSON prints v for machines, indented for the people who look anyway.
func (g *globals) printJSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode JSON: %w", err)
	}
	_, err := io.WriteString(g.stdout, export.JSON(b.String()))
	return err
}

// asked returns ctx with a time limit for one short question.
func asked(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Minute)
}
