package git

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// Prefix is where the protocol stands on the HTTPS listener.
const Prefix = "/git/"

// standardIdle is how long a session is kept open for its caller's next request,
// where nothing else is said: git makes several for one command.
const standardIdle = 2 * time.Minute

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
	server *Server
	ctx    context.Context

	mu       sync.Mutex // guards lines
	lines    map[lineKey]*line
	sessions sync.WaitGroup
}

// Wait returns when all sessions are closed, after their context has ended.
func (h *Handler) Wait() { h.sessions.Wait() }

// New returns a handler whose sessions end with ctx.
func New(ctx context.Context, o Options) *Handler {
	if o.Idle <= 0 {
		o.Idle = standardIdle
	}
	return &Handler{Options: o, server: newServer(o.Temp, o.Link), ctx: ctx, lines: map[lineKey]*line{}}
}

// lineKey tells sessions apart: by token, connection, and where it is presented.
type lineKey struct {
	token              [sha256.Size]byte
	connection, client string
}

// line is a session that is kept for its caller's next request.
type line struct {
	key     lineKey
	opened  chan struct{} // closed once session or err is there
	session *gate.Session
	err     error
	users   int
	idle    *time.Timer
}

// ServeHTTP answers one request of git's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), Prefix), "/")
	token := bearer(r)
	if token == "" {
		askForToken(w, "")
		return
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	l := h.line(lineKey{sha256.Sum256([]byte(token)), name, client}, token, r)
	defer h.release(l)
	if l.err != nil {
		h.turnAway(w, l.err)
		return
	}
	w.Header().Set("Custos-Session", string(l.session.ID()))
	if rest == "" && r.Method == http.MethodGet {
		// What opens a browser on the connection's address.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "git is here: put a repository's path behind this address\n")
		return
	}
	x := &exchange{server: h.server, session: l.session, w: w, r: r, log: h.Logger, base: "https://" + r.Host + Prefix + name}
	if r.TLS == nil {
		x.base = "http://" + r.Host + Prefix + name
	}
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

// bearer is the token: a bearer's (RFC 6750), or what stands in place of a
// password (RFC 7617). It is never passed on.
func bearer(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
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

// line returns the caller's session, opened if there is none, and keeps it in
// use until it is released.
func (h *Handler) line(key lineKey, token string, r *http.Request) *line {
	h.mu.Lock()
	l := h.lines[key]
	if l == nil {
		l = &line{key: key, opened: make(chan struct{})}
		h.lines[key] = l
		h.sessions.Add(1)
		go h.open(l, token, r.UserAgent())
	} else if l.idle != nil {
		l.idle.Stop()
	}
	l.users++
	h.mu.Unlock()
	select {
	case <-l.opened:
	case <-r.Context().Done():
		<-l.opened // a login is bounded in time
	}
	return l
}

func (h *Handler) open(l *line, token, agent string) {
	defer close(l.opened)
	l.session, l.err = h.Gate.Open(h.ctx, gate.Knock{Protocol: Name, Connection: l.key.connection, Token: token, Client: l.key.client,
		Asserted: map[string]string{"user_agent": oneLine(agent)}, Login: h.login})
	if l.err != nil {
		h.drop(l)
		h.sessions.Done()
		return
	}
	// A session that ends by itself, such as with its token, is not used again.
	context.AfterFunc(l.session.Context(), func() {
		defer h.sessions.Done()
		h.drop(l)
		l.session.Close("")
	})
}

func (h *Handler) drop(l *line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lines[l.key] == l {
		delete(h.lines, l.key)
	}
}

// release ends a request's use of a session.
func (h *Handler) release(l *line) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.users--; l.users > 0 || l.err != nil {
		return
	}
	if l.idle == nil {
		l.idle = time.AfterFunc(h.Idle, func() { h.expire(l) })
		return
	}
	l.idle.Reset(h.Idle)
}

func (h *Handler) expire(l *line) {
	h.mu.Lock()
	used := l.users > 0
	if !used && h.lines[l.key] == l {
		delete(h.lines, l.key)
	}
	h.mu.Unlock()
	if !used {
		l.session.Close("nothing was asked of it any more")
	}
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
