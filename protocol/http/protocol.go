package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// Name is what connections of this protocol have as theirs.
const Name = "http"

// Prefix is where the protocol stands on the HTTPS listener.
const Prefix = "/http/"

// Options are what a Server is made of. Gate, Dialer, Logger and Temp are
// required.
type Options struct {
	Gate   *gate.Gate
	Dialer gate.Dialer
	Logger *slog.Logger
	// MaskKey keys the ways of masking that keep equal values equal.
	MaskKey [32]byte
	// Temp is the folder of sealed spools.
	Temp string
	// Idle is how long a session is kept that nothing is asked of.
	Idle time.Duration
	// Link is where people answer an approval, by its id. It may be nil.
	Link func(id string) string
}

// Server lets clients of HTTP APIs through a gate, below Prefix.
type Server struct {
	Options
	sessions Sessions
}

// New returns a Server whose sessions end with ctx.
func New(ctx context.Context, o Options) *Server {
	s := &Server{Options: o}
	s.sessions = Sessions{Gate: o.Gate, Protocol: Name, Login: s.login, Idle: o.Idle, Context: ctx}
	return s
}

// Wait returns when all sessions are closed, after their context has ended.
func (s *Server) Wait() { s.sessions.Wait() }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest := Connection(r, Prefix)
	connection, _ := s.Gate.Directory.Connection(name)
	token := s.token(r, connection)
	if token == "" {
		say(w, problemOf(&custos.Refusal{Decision: custos.Decision{Rule: "token", Reason: "there is no token", Hint: "send yours: Authorization: Bearer TOKEN; custos token prints it"}}, nil))
		return
	}
	kept := s.sessions.Use(r, name, token)
	defer kept.Release()
	if kept.Err != nil {
		say(w, problemOf(asRefusal(kept.Err), s.Link))
		return
	}
	w.Header().Set("Custos-Session", string(kept.Session.ID()))
	if rest == "" {
		// Nothing is asked of the target: the session is open.
		guard(w.Header())
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.serve(kept.Session, rest, w, r)
}

// token is what a request presents, where its client puts a credential: as a
// bearer's, as a password, or where the target itself wants its key. It is taken
// out of the request.
func (s *Server) token(r *http.Request, c *custos.Connection) (token string) {
	token = Token(r)
	if token != "" {
		// What else stands there is a second word on who is calling.
		if r.Header["Authorization"] = r.Header["Authorization"][1:]; len(r.Header["Authorization"]) == 0 {
			r.Header.Del("Authorization")
		}
	}
	if c == nil {
		return token
	}
	// Some clients say it twice.
	defer func() {
		for name, values := range r.Header {
			if token != "" && slices.ContainsFunc(values, func(v string) bool { return strings.HasSuffix(v, token) }) {
				r.Header.Del(name)
			}
		}
	}()
	switch c.Auth.Scheme {
	case custos.AuthHeader:
		if v := r.Header.Get(c.Auth.Name); v != "" && token == "" {
			token = v
		}
		r.Header.Del(c.Auth.Name)
	case custos.AuthQuery:
		var v string
		if v, r.URL.RawQuery = cutQuery(r.URL.RawQuery, c.Auth.Name); v != "" && token == "" {
			token = v
		}
	}
	return token
}

// Test logs in to a target and out again: with HEAD, which changes nothing.
func (s *Server) Test(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential) error {
	t, err := s.login(ctx, conn, c, cred, nil)
	if err != nil {
		return err
	}
	defer t.Close()
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://target/", nil)
	if err != nil {
		return fmt.Errorf("reach target: %w", err)
	}
	resp, err := t.HTTP.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("reach target: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxHead)) // so that the line can be used again
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return errors.New("log in to target: it does not take the credential: see how it wants it, as bearer, header, query or basic")
	case resp.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("log in to target: it answers %s", resp.Status)
	}
	return nil
}
