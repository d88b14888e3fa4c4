package git

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// login makes the way to an upstream, on which the credential is put into each
// request. conn is the first line of it.
func (h *Handler) login(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential, _ any) (*gate.Target, error) {
	way, err := web.NewWay(c, h.Dialer, conn)
	if err != nil {
		return nil, err
	}
	way.ReadBufferSize, way.WriteBufferSize = answerPiece, answerPiece
	base := &url.URL{Scheme: way.Scheme, Host: c.Address, Path: c.Path}
	t := newSide(&gate.Target{HTTP: &lending{way, base.Host, cred}, Close: way.Close}, base, foreign())
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
