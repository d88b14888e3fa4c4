package kubernetes

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// Name is what connections of this protocol have as theirs.
const Name = "kubernetes"

// Prefix is where the protocol stands on the HTTPS listener.
const Prefix = "/k8s/"

// standardIdle is how long a session is kept open for its caller's next request,
// where nothing else is said: kubectl makes several for one command.
const standardIdle = 2 * time.Minute

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
	ctx context.Context

	mu       sync.Mutex // guards lines
	kept     map[keptKey]*kept
	sessions sync.WaitGroup
}

// New returns a Server whose sessions end with ctx.
func New(ctx context.Context, o Options) *Server {
	if o.Idle <= 0 {
		o.Idle = standardIdle
	}
	return &Server{Options: o, ctx: ctx, kept: map[keptKey]*kept{}}
}

// Wait returns when all sessions are closed, after their context has ended.
func (s *Server) Wait() { s.sessions.Wait() }

// keptKey tells sessions apart: by token, connection, and where it is
// presented.
type keptKey struct {
	token              [sha256.Size]byte
	connection, client string
}

// kept is a session that is kept for its caller's next request.
type kept struct {
	key     keptKey
	opened  chan struct{} // closed once session or err is there
	session *gate.Session
	err     error
	users   int
	idle    *time.Timer
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, path := cutConnection(r)
	token := bearer(r)
	if token == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="custos"`)
		say(w, statusOf(&custos.Refusal{Decision: custos.Decision{Rule: "token", Reason: "there is no token", Hint: "present yours: kubectl --token, or custos connect"}}, nil))
		return
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	says := custos.AssertedBy(r.Header.Get)
	// Another conversation, or another skill, is another session.
	whose := token + "\x00" + says[custos.AssertedConversation] + "\x00" + says[custos.AssertedSkill]
	k := s.use(keptKey{sha256.Sum256([]byte(whose)), name, client}, token, says)
	defer s.release(k)
	if k.err != nil {
		say(w, statusOf(asRefusal(k.err), nil))
		return
	}
	if path == "" {
		// Nothing is asked of the target: the session is open.
		w.Header().Set("Custos-Session", string(k.session.ID()))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.serve(k.session, path, w, r)
}

// cutConnection cuts the connection's name off the path, as the client wrote it.
func cutConnection(r *http.Request) (name, path string) {
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(raw, Prefix) {
		raw = r.URL.EscapedPath()
	}
	name, path, below := strings.Cut(strings.TrimPrefix(raw, Prefix), "/")
	if below {
		path = "/" + path
	}
	return name, path
}

// bearer is the token (RFC 6750). It is never passed on.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// use returns the caller's session, opened if there is none, and keeps it in
// use until it is released.
func (s *Server) use(key keptKey, token string, says map[string]string) *kept {
	s.mu.Lock()
	k := s.kept[key]
	if k == nil {
		k = &kept{key: key, opened: make(chan struct{})}
		s.kept[key] = k
		s.sessions.Add(1)
		go s.open(k, token, says)
	} else if k.idle != nil {
		k.idle.Stop()
	}
	k.users++
	s.mu.Unlock()
	<-k.opened // a login is bounded in time
	return k
}

func (s *Server) open(k *kept, token string, says map[string]string) {
	defer close(k.opened)
	k.session, k.err = s.Gate.Open(s.ctx, gate.Knock{Protocol: Name, Connection: k.key.connection, Token: token, Client: k.key.client,
		Asserted: says, Login: s.login})
	if k.err != nil {
		s.drop(k)
		s.sessions.Done()
		return
	}
	// A session that ends by itself, such as with its token, is not used again.
	context.AfterFunc(k.session.Context(), func() {
		defer s.sessions.Done()
		s.drop(k)
		k.session.Close("")
	})
}

func (s *Server) drop(k *kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[k.key] == k {
		delete(s.kept, k.key)
	}
}

// release ends a request's use of a session.
func (s *Server) release(k *kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.users--; k.users > 0 || k.err != nil {
		return
	}
	if k.idle == nil {
		k.idle = time.AfterFunc(s.Idle, func() { s.expire(k) })
		return
	}
	k.idle.Reset(s.Idle)
}

func (s *Server) expire(k *kept) {
	s.mu.Lock()
	used := k.users > 0
	if !used && s.kept[k.key] == k {
		delete(s.kept, k.key)
	}
	s.mu.Unlock()
	if !used {
		k.session.Close("nothing was asked of it any more")
	}
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
