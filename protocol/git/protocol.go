package git

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// Prefix is where the protocol stands on the HTTPS listener.
const Prefix = "/git/"

// Options are what a Handler is made of. Link and Idle may be left out.
type Options struct {
	Gate   *gate.Gate
	Dialer gate.Dialer
	Logger *slog.Logger
	// Temp is the folder of sealed spools.
	Temp string
	// Idle is how long a session is kept that nothing is asked of.
	Idle time.Duration
	// Link is where people answer an approval, by its id.
	Link func(id string) string
}

// Handler serves git over HTTPS, below Prefix, and tests connections.
type Handler struct {
	Options
	server   *Server
	sessions web.Sessions
}

// Wait returns when all sessions are closed, after their context has ended.
func (h *Handler) Wait() { h.sessions.Wait() }

// New returns a handler whose sessions end with ctx.
func New(ctx context.Context, o Options) *Handler {
	h := &Handler{Options: o, server: newServer(o.Temp, o.Link)}
	h.sessions = web.Sessions{Gate: o.Gate, Protocol: Name, Login: h.login, Idle: o.Idle, Context: ctx}
	return h
}

// ServeHTTP answers one request of git's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), Prefix), "/")
	token := web.Token(r)
	if token == "" {
		askForToken(w, "")
		return
	}
	kept := h.sessions.Use(r, name, token)
	defer kept.Release()
	if kept.Err != nil {
		h.turnAway(w, kept.Err)
		return
	}
	w.Header().Set("Custos-Session", string(kept.Session.ID()))
	if rest == "" && r.Method == http.MethodGet {
		// What opens a browser on the connection's address.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "git is here: put a repository's path behind this address\n")
		return
	}
	x := &exchange{server: h.server, session: kept.Session, w: w, r: r, log: h.Logger, base: "https://" + r.Host + Prefix + name}
	if r.TLS == nil {
		x.base = "http://" + r.Host + Prefix + name
	}
	var err error
	if x.e, err = parseEndpoint(r.Method, rest, r.URL.RawQuery); err != nil {
		x.e = &endpoint{class: classUnknown, repository: "?"}
		x.unknown(err)
		return
	}
	x.serve()
}

// unknown refuses what is nothing that git asks, on record.
func (x *exchange) unknown(err error) {
	d := refuse(ruleProtocol, printable(err.Error()), "use git over smart HTTP: an address that ends in the repository's path")
	o := &custos.Operation{Class: classUnknown, Text: clip(printable(x.r.Method+" "+x.r.URL.EscapedPath()), maxPath), Writes: true, Facts: &custos.Facts{Effects: []string{"unknown"}}}
	x.submit(gate.Request{Operation: o, Refused: d}, x.sayPlain)
}

// askForToken has git ask its user or its helpers for a token.
func askForToken(w http.ResponseWriter, text string) {
	w.Header().Set("WWW-Authenticate", `Basic realm="custos: any user, your token as password"`)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusUnauthorized)
	if text == "" {
		text = "present your token as the password: custos token prints it"
	}
	io.WriteString(w, text+"\n")
}

func (h *Handler) turnAway(w http.ResponseWriter, err error) {
	var r *custos.Refusal
	if !errors.As(err, &r) {
		r = &custos.Refusal{Decision: custos.Decision{Rule: "session", Reason: err.Error(), Hint: "try again"}, Retry: true}
	}
	text := strings.Join(told(r), "\n")
	if r.Rule == "token" {
		askForToken(w, text)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if w.WriteHeader(http.StatusForbidden); r.Retry {
		w.Header().Set("Retry-After", "5")
	}
	io.WriteString(w, text+"\n")
}

// Test logs in to an upstream and out again.
func (h *Handler) Test(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential) error {
	t, err := h.login(ctx, conn, c, cred, nil)
	if err != nil {
		return err
	}
	t.Close()
	return nil
}
