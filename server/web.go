package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/console"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/identity/login"
	"github.com/custos-gateway/custos/identity/signin"
	"github.com/custos-gateway/custos/internal/tlsca"
	"github.com/custos-gateway/custos/store"
)

// serverTLS is how the gateway shows itself to callers: with the configured
// certificate, read anew when its file changes, or with one of its own CA.
func serverTLS(c *config.Config, now func() time.Time) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS != nil {
		pair := &keyPair{certificate: c.TLS.Certificate, key: c.TLS.Key}
		if _, err := pair.get(nil); err != nil {
			return nil, err
		}
		t.GetCertificate = pair.get
		return t, nil
	}
	ca, err := tlsca.Load(filepath.Join(c.DataDir, "tls"), hosts(c), now)
	if err != nil {
		return nil, err
	}
	t.GetCertificate = ca.GetCertificate
	return t, nil
}

// hosts are the names that the private CA vouches for: the host's own, and
// those of the addresses that are listened on.
func hosts(c *config.Config) []string {
	var names []string
	if name, err := os.Hostname(); err == nil && name != "" {
		names = append(names, name)
	}
	for _, address := range []string{c.Listen.HTTPS, c.Listen.Postgres} {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
			if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
				names = append(names, host)
			}
		}
	}
	return names
}

// site is what is served over HTTPS: the console, the door to it, and the API.
func (s *Server) site() (http.Handler, error) {
	door := signin.New(signin.Options{Provider: s.provider, Verify: s.verifier.Verify, Now: s.Now, Logger: s.Logger,
		URL: func() string { return s.inForce.Load().config.URL }})
	answers, err := s.api(door)
	if err != nil {
		return nil, err
	}
	pages, err := console.New()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/api/", "/healthz", "/readyz", "/metrics", "/.well-known/"} {
		mux.Handle(path, answers)
	}
	door.Register(mux)
	s.ticketDesk().Register(mux)
	mux.Handle("/", pages)
	return mux, nil
}

// provider is whom people sign in at with a browser: the first issuer that has
// a client for it.
func (s *Server) provider(ctx context.Context) (signin.Provider, error) {
	r := s.inForce.Load()
	for _, i := range r.config.Issuers {
		if i.ClientID == "" && i.Console == nil {
			continue
		}
		client, err := login.HTTPClient(i.CAFile)
		if err != nil {
			return signin.Provider{}, fmt.Errorf("sign in: the certificates of the issuer's ca_file can't be read; the gateway's administrator knows more: %w", err)
		}
		p := signin.Provider{Discovery: login.Discovery{Issuer: i.URL, ClientID: i.ClientID, Audience: i.Audience, Scopes: i.Scopes}, HTTP: client}
		if c := i.Console; c != nil {
			p.ClientID = c.ClientID
			if len(c.Scopes) > 0 {
				p.Scopes = c.Scopes
			}
			if c.Secret != nil {
				if p.Secret, err = r.secret(c.Secret)(ctx); err != nil {
					s.Logger.Error("read secret of the console's client", "cause", err)
					return signin.Provider{}, errors.New("sign in: the secret of the console's client can't be read; the gateway's log says why")
				}
			}
		}
		return p, nil
	}
	return signin.Provider{}, errors.New("sign in: no issuer of the configuration has a client_id; docs/console.md says how to set one up")
}

// api is what is served under /api.
func (s *Server) api(browsers api.Browsers) (http.Handler, error) {
	render := map[string]custos.Renderer{}
	for _, p := range s.Protocols {
		render[p.Name] = p.Render
	}
	bundles := &export.Evidence{Ledger: s.house.ledger, Recordings: s.house.recordings, Tiles: os.DirFS(filepath.Join(s.house.dir, "ledger")),
		PublicKey: s.house.publicKey, TempDir: s.house.temp(), Now: s.Now}
	var witnesses []string
	for _, w := range s.config.Ledger.Witnesses {
		witnesses = append(witnesses, w.Key)
	}
	return api.New(api.Config{
		Policies: policies{s}, PublicKey: s.house.publicKey, WitnessKeys: witnesses,
		Identifier: s.verifier, Browsers: browsers, Ledger: s.house.ledger, Recordings: s.house.recordings, Index: s.house.index, Sessions: openSessions{s}, Tiles: bundles.Tiles,
		Approvals: s.desk, Connections: s.connections(), Skills: skills{s}, Keeping: s.keeper, Agents: agentList{s}, Metrics: s.metrics.handler(),
		Enter: func(p *custos.Principal, name string) custos.Decision { return s.inForce.Enter(p, s.known(name)) },
		Ask:   s.ask, BreakGlass: s.breakGlass, Notices: s.notifier,
		Roles:     func() config.Roles { return s.inForce.Load().config.Roles },
		Renderers: render,
		Evidence: func(ctx context.Context, w io.Writer, by string, sessions []custos.SessionID, sealed bool) error {
			return s.evidence(ctx, bundles, w, export.Selection{By: by, Sessions: sessions, Sealed: sealed})
		},
		Login: s.login, Ready: s.ready, Logger: s.Logger, Now: s.Now,
	})
}

// evidence writes a bundle on sessions, which the index finds.
func (s *Server) evidence(ctx context.Context, bundles *export.Evidence, w io.Writer, selection export.Selection) error {
	for i, id := range selection.Sessions {
		session, err := s.house.index.Session(ctx, id, store.Filter{})
		if err != nil {
			return err
		}
		if i == 0 || session.Opened < selection.From {
			selection.From = session.Opened
		}
	}
	return bundles.Write(ctx, w, selection)
}

// login is what callers are told to log in with: the first issuer that has a
// public client for it.
func (s *Server) login() api.Login {
	for _, i := range s.inForce.Load().config.Issuers {
		if i.ClientID != "" {
			scopes := i.Scopes
			if len(scopes) == 0 {
				scopes = []string{"openid", "profile", "offline_access"}
			}
			return api.Login{Issuer: i.URL, ClientID: i.ClientID, Audience: i.Audience, Scopes: scopes}
		}
	}
	return api.Login{}
}

// ready says why the gateway can't serve, if it can't.
func (s *Server) ready() error {
	return errors.Join(s.house.ledger.Healthy(), s.space.ForSession())
}
