package kubernetes

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// Name is what connections of this protocol have as theirs.
const Name = "kubernetes"

// Prefix is where the protocol stands on the HTTPS listener.
const Prefix = "/k8s/"

// Options are what a Server is made of. Gate, Dialer and Logger are required.
type Options struct {
	Gate   *gate.Gate
	Dialer gate.Dialer
	Logger *slog.Logger
	// MaskKey keys the ways of masking that keep equal values equal.
	MaskKey [32]byte
	// Idle is how long a session is kept that nothing is asked of.
	Idle time.Duration
}

// Server lets clients of the Kubernetes API through a gate, below Prefix.
type Server struct {
	Options
	sessions web.Sessions
}

// New returns a Server whose sessions end with ctx.
func New(ctx context.Context, o Options) *Server {
	s := &Server{Options: o}
	s.sessions = web.Sessions{Gate: o.Gate, Protocol: Name, Login: s.login, Idle: o.Idle, Context: ctx}
	return s
}

// Wait returns when all sessions are closed, after their context has ended.
func (s *Server) Wait() { s.sessions.Wait() }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, path := web.Connection(r, Prefix)
	token := web.Token(r)
	if token == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="custos"`)
		say(w, statusOf(&custos.Refusal{Decision: custos.Decision{Rule: "token", Reason: "there is no token", Hint: "present yours: kubectl --token, or custos connect"}}, nil))
		return
	}
	kept := s.sessions.Use(r, name, token)
	defer kept.Release()
	if kept.Err != nil {
		say(w, statusOf(asRefusal(kept.Err), nil))
		return
	}
	if path == "" {
		// Nothing is asked of the target: the session is open.
		w.Header().Set("Custos-Session", string(kept.Session.ID()))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.serve(kept.Session, path, w, r)
}

// Test logs in to an API server.
func (s *Server) Test(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential) error {
	t, err := s.login(ctx, conn, c, cred, nil)
	if err != nil {
		return err
	}
	t.Close()
	return nil
}
