package git

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// login makes the way to an upstream, on which the credential is put into each
// request. conn is the first line of it.
func (h *Handler) login(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential, _ any) (*gate.Target, error) {
	secure, err := targetTLS(c)
	if err != nil {
		return nil, err
	}
	base := &url.URL{Scheme: "http", Host: c.Address}
	if secure != nil {
		base.Scheme = "https"
	}
	lines := &lines{first: conn, dialer: h.Dialer, connection: c}
	transport := &http.Transport{DialContext: lines.dial, TLSClientConfig: secure, DisableCompression: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		ReadBufferSize: answerPiece, WriteBufferSize: answerPiece,
		TLSHandshakeTimeout: 15 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		// Of HTTP/2 nothing is gained with so few requests at once.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	t := &gate.Target{HTTP: &lending{transport, base.Host, cred}, Close: func() {
		transport.CloseIdleConnections()
		lines.close()
	}}
	t = newSide(t, base, foreign())
	if err := knock(ctx, t); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// knock tells whether the upstream takes the credential, by asking for a
// repository that nobody has: it answers 401 to whom it does not know.
func knock(ctx context.Context, t *gate.Target) error {
	s := t.HTTP.(*side)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base.JoinPath("custos-knocks.git", "info", "refs").String()+"?service="+serviceFetch, nil)
	if err != nil {
		return fmt.Errorf("log in to upstream: %w", err)
	}
	r.Header.Set("User-Agent", agent)
	resp, err := s.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("log in to upstream: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("log in to upstream: it answers %s", resp.Status)
	}
	// The line is used again once the answer is read.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxUnsaid)); err != nil {
		return fmt.Errorf("log in to upstream: %w", err)
	}
	return nil
}

// lending puts the credential into requests to the upstream, and into none to
// anybody else.
type lending struct {
	rt   http.RoundTripper
	host string
	cred custos.Credential
}

func (l *lending) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != l.host {
		return nil, fmt.Errorf("reach %s: it is not the upstream", r.URL.Host)
	}
	if l.cred.Username != "" || l.cred.Password != "" {
		r = r.Clone(r.Context())
		r.SetBasicAuth(l.cred.Username, l.cred.Password)
	}
	return l.rt.RoundTrip(r)
}

// lines dials an upstream; the gate has dialled the first of them.
type lines struct {
	dialer     gate.Dialer
	connection *custos.Connection

	mu    sync.Mutex
	first net.Conn
}

func (l *lines) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	l.mu.Lock()
	conn := l.first
	l.first = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	return l.dialer.Dial(ctx, l.connection)
}

func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != nil {
		l.first.Close()
	}
}

// targetTLS is how the gateway speaks TLS to the upstream; nil: not at all.
func targetTLS(c *custos.Connection) (*tls.Config, error) {
	o := c.TLS
	if o.Mode == "disable" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, fmt.Errorf("read address of upstream: %w", err)
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA of upstream: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA of upstream: no certificate in %s", o.CAFile)
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
		return nil, fmt.Errorf("speak TLS to upstream: unknown mode %q", o.Mode)
	}
	return config, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("verify upstream: it showed no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return fmt.Errorf("verify upstream: %w", err)
	}
	return nil
}

// foreign is the way to where an upstream keeps LFS objects, if that is
// elsewhere: by TLS, to addresses of the Internet only, whatever a name
// resolves to at the time.
func foreign() http.RoundTripper {
	dialer := &net.Dialer{Timeout: 15 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("reach %s: %w", address, err)
		}
		if ip := to.Addr().Unmap(); !ip.IsGlobalUnicast() || ip.IsPrivate() || shared.Contains(ip) {
			return fmt.Errorf("reach %s: it is no address of the Internet", address)
		}
		return nil
	}}
	return &http.Transport{DialContext: dialer.DialContext, DisableCompression: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 15 * time.Second, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10}
}

// shared are the addresses behind carriers' translation (RFC 6598), where some
// clouds keep services of their own.
var shared = netip.MustParsePrefix("100.64.0.0/10")
