package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// login makes the way to an API server, on which the credential is put into
// each request: a bearer token, which stands where a password does, or the
// client certificate of the connection's TLS. conn is the first line of it.
func (s *Server) login(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential, _ any) (*gate.Target, error) {
	way, err := web.NewWay(c, s.Dialer, conn)
	if err != nil {
		return nil, err
	}
	l := &lending{way, way.Scheme, c.Address, c.Path, cred}
	t := &gate.Target{HTTP: l, Close: way.Close}
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
	path          string // of the API server, before every request's own
	cred          custos.Credential
}

func (l *lending) RoundTrip(r *http.Request) (*http.Response, error) {
	u := *r.URL
	u.Scheme, u.Host = l.scheme, l.where
	if l.path != "" {
		u.Path, u.RawPath = l.path+u.Path, l.path+u.EscapedPath()
	}
	out := r.Clone(r.Context())
	out.URL, out.Host = &u, ""
	if l.cred.Password != "" {
		out.Header.Set("Authorization", "Bearer "+l.cred.Password)
	}
	return l.rt.RoundTrip(out)
}
