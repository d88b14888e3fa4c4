package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// login makes the way to an API server, on which the credential is put into
// each request: a bearer token, which stands where a password does, or the
// client certificate of the connection's TLS. conn is the first line of it.
func (s *Server) login(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential, _ any) (*gate.Target, error) {
	secure, err := targetTLS(c)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if secure != nil {
		scheme = "https"
	}
	lines := &dialled{first: conn, dialer: s.Dialer, connection: c}
	transport := &http.Transport{DialContext: lines.dial, TLSClientConfig: secure, DisableCompression: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 15 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		// A change of protocols needs HTTP/1.1.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	l := &lending{transport, scheme, c.Address, cred}
	t := &gate.Target{HTTP: l, Greeting: &rehearsal{l}, Close: func() {
		transport.CloseIdleConnections()
		lines.close()
	}}
	if err := l.greet(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// greet asks for what everybody may see: whether the credential is taken shows
// all the same.
func (l *lending) greet(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://kubernetes/version", nil)
	if err != nil {
		return fmt.Errorf("log in to API server: %w", err)
	}
	resp, err := l.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("log in to API server: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the line can be used again
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return errors.New("log in to API server: it does not take the credential: give it a token that is valid, or a client certificate under tls")
	case resp.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("log in to API server: it answers %s", resp.Status)
	}
	return nil
}

// lending puts the credential into requests, and sends them to the target and
// nowhere else.
type lending struct {
	rt            http.RoundTripper
	scheme, where string
	cred          custos.Credential
}

func (l *lending) RoundTrip(r *http.Request) (*http.Response, error) {
	u := *r.URL
	u.Scheme, u.Host = l.scheme, l.where
	out := r.Clone(r.Context())
	out.URL, out.Host = &u, ""
	if l.cred.Password != "" {
		out.Header.Set("Authorization", "Bearer "+l.cred.Password)
	}
	return l.rt.RoundTrip(out)
}

// dialled are the lines to a target; the gate has dialled the first of them.
type dialled struct {
	dialer     gate.Dialer
	connection *custos.Connection

	mu    sync.Mutex // guards first
	first net.Conn
}

func (d *dialled) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	d.mu.Lock()
	conn := d.first
	d.first = nil
	d.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	return d.dialer.Dial(ctx, d.connection)
}

func (d *dialled) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first != nil {
		d.first.Close()
	}
}

// targetTLS is how the gateway speaks TLS to the target; nil: not at all.
func targetTLS(c *custos.Connection) (*tls.Config, error) {
	o := c.TLS
	if o.Mode == "disable" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, fmt.Errorf("read address of API server: %w", err)
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA of API server: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA of API server: no certificate in %s", o.CAFile)
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	switch o.Mode {
	case "", "verify-full":
	case "verify-ca":
		roots := config.RootCAs
		config.InsecureSkipVerify = true // the name only: the chain is verified here
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	default:
		return nil, fmt.Errorf("speak TLS to API server: unknown mode %q", o.Mode)
	}
	return config, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("verify API server: it showed no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return fmt.Errorf("verify API server: %w", err)
	}
	return nil
}
