package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// Hub is the gateway's end: it holds the lines of the agents, and dials
// targets by them. It is safe for concurrent use.
type Hub struct {
	authority *Authority
	logger    *slog.Logger
	now       func() time.Time
	joining   chan struct{}
	identify  Identify
	pace      pace

	mu     sync.Mutex
	lines  map[string][]*line // by the agents' name
	closed bool
	gone   sync.WaitGroup
}

// maxLines bounds the lines of one name.
const maxLines = 64

// NewHub returns a hub without lines.
func NewHub(a *Authority, identify Identify, logger *slog.Logger) *Hub {
	return &Hub{authority: a, identify: identify, logger: logger, now: a.Now, joining: make(chan struct{}, maxJoining), pace: usual, lines: map[string][]*line{}}
}

// line is one agent that is connected.
type line struct {
	Line
	mux *yamux.Session
	// opening bounds the streams that wait for the agent to take them, so that
	// whoever waits longer can give up.
	opening chan struct{}
	streams int
	expiry  *time.Timer
	cause   string // why the gateway ended it
}

// Line is what there is to know of an agent that is connected.
type Line struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Address string    `json:"address"` // from where it dialled
	Host    string    `json:"host"`    // what it calls its host, and its version: not to be believed
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires"` // when its certificate ends
	// Sessions are the streams that are open, Dials and Failed all that were
	// asked for and those that the agent could not serve.
	Sessions int   `json:"sessions"`
	Dials    int64 `json:"dials"`
	Failed   int64 `json:"failed"`
	// Draining: it takes no new sessions, and ends when its last is over.
	Draining bool `json:"draining,omitempty"`
}

// hello is what an agent says of itself.
type hello struct {
	Host    string `json:"host"`
	Version string `json:"version"`
}

// TLS returns how base answers a client that asks for ALPN and nothing else of
// its: with a demand for an agent's certificate. Every other client gets base,
// and never ALPN.
func (h *Hub) TLS(base *tls.Config) *tls.Config {
	agents := base.Clone()
	agents.GetConfigForClient = nil
	agents.MinVersion = tls.VersionTLS13
	agents.NextProtos = []string{ALPN}
	agents.ClientAuth = tls.RequireAndVerifyClientCert
	agents.ClientCAs = h.authority.pool
	agents.Time = h.now
	agents.DynamicRecordSizingDisabled = true
	// A resumed session would not look at the certificate again.
	agents.SessionTicketsDisabled = true
	both := base.Clone()
	both.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, ALPN) {
			return agents, nil
		}
		return nil, nil
	}
	return both
}

// Attach has a web server, which has its TLSConfig, take agents too.
func (h *Hub) Attach(web *http.Server) {
	web.TLSConfig = h.TLS(web.TLSConfig)
	web.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		ALPN: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { h.Serve(conn) }}
	web.Protocols = new(http.Protocols)
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetHTTP2(true)
}

// Serve speaks with an agent until its line ends. The handshake is over, by a
// configuration that TLS returned.
func (h *Hub) Serve(conn *tls.Conn) {
	defer conn.Close()
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != ALPN || len(state.VerifiedChains) == 0 {
		h.logger.Error("agent's line without its certificate", "address", conn.RemoteAddr().String())
		return
	}
	l, err := h.admit(conn, state.PeerCertificates[0])
	if err != nil {
		h.logger.Warn("agent refused", "address", conn.RemoteAddr().String(), "cause", err)
		return
	}
	defer h.gone.Done()
	h.logger.Info("agent connected", "agent", l.Name, "id", l.ID, "address", l.Address, "host", l.Host, "version", l.Version)
	h.answer(l)
	h.drop(l)
	h.mu.Lock()
	sessions, cause := l.streams, l.cause
	h.mu.Unlock()
	h.logger.Warn("agent disconnected", "agent", l.Name, "id", l.ID, "sessions", sessions, "cause", cmp.Or(cause, "its line ended"))
}

// admit hears what an agent says of itself, and lets it in or not.
func (h *Hub) admit(conn *tls.Conn, cert *x509.Certificate) (*line, error) {
	conn.SetDeadline(time.Now().Add(wordTimeout))
	said, err := readLine(conn)
	if err != nil {
		return nil, err
	}
	var about hello
	if err := json.Unmarshal([]byte(said), &about); err != nil {
		return nil, fmt.Errorf("it does not speak the agents' protocol: %w", err)
	}
	l := &line{opening: make(chan struct{}, backlog/2), Line: Line{Address: conn.RemoteAddr().String(), Host: short(about.Host), Version: short(about.Version), Since: h.now()}}
	if l.Name, l.ID, err = named(cert); err == nil {
		h.mu.Lock()
		_, err = h.admits(l)
		h.mu.Unlock()
	}
	if err != nil {
		writeRefusal(conn, err)
		return nil, err
	}
	if err := writeLine(conn, "ok"); err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	if l.mux, err = yamux.Server(&joined{Conn: conn}, muxConfig(h.logger.With("agent", l.Name, "id", l.ID), h.pace, true)); err != nil {
		return nil, err
	}
	if err := h.enter(l); err != nil {
		l.mux.Close()
		return nil, err
	}
	return l, nil
}

func short(s string) string { return strings.ToValidUTF8(s[:min(len(s), 100)], "") }

// admits says why a line is not let in. The caller holds mu.
func (h *Hub) admits(l *line) (Member, error) {
	m, known := h.authority.member(l.Name, l.ID)
	switch {
	case !known:
		return m, &refusal{codeUnknown, "this agent was removed"}
	case h.closed:
		return m, &refusal{codeBusy, "the gateway is shutting down"}
	case len(h.lines[l.Name]) >= maxLines:
		return m, &refusal{codeBusy, fmt.Sprintf("%d agents of this name are connected", maxLines)}
	}
	return m, nil
}

// enter lists a line.
func (h *Hub) enter(l *line) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := h.admits(l)
	if err != nil {
		return err
	}
	// An agent that lost its line comes back before the gateway has noticed:
	// the old line is dead, or somebody else has its key.
	for _, old := range h.lines[l.Name] {
		if old.ID == l.ID {
			h.end(old, "it connected again from "+l.Address)
		}
	}
	h.gone.Add(1)
	h.lines[l.Name] = append(h.lines[l.Name], l)
	l.expiry = time.AfterFunc(m.Expires.Sub(h.now()), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.end(l, "its certificate ended")
	})
	l.Expires = m.Expires
	return nil
}

// end ends a line for a cause. The caller holds mu.
func (h *Hub) end(l *line, cause string) {
	if l.cause == "" {
		l.cause = cause
		go l.mux.Close() // it waits for what is being written
	}
}

func (h *Hub) drop(l *line) {
	l.mux.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	l.expiry.Stop()
	h.lines[l.Name] = slices.DeleteFunc(h.lines[l.Name], func(o *line) bool { return o == l })
	if len(h.lines[l.Name]) == 0 {
		delete(h.lines, l.Name)
	}
}

// answer serves what an agent asks for, one thing at a time, until its line
// ends.
func (h *Hub) answer(l *line) {
	for {
		stream, err := l.mux.AcceptStream()
		if err != nil {
			return
		}
		stream.SetDeadline(time.Now().Add(wordTimeout))
		if err := h.word(l, stream); err != nil {
			h.logger.Warn("serve agent", "agent", l.Name, "id", l.ID, "cause", err)
			writeRefusal(stream, err)
		}
		stream.Close()
	}
}

// word serves one question: renew is all there is.
func (h *Hub) word(l *line, stream net.Conn) error {
	text, err := readLine(stream)
	if err != nil {
		return err
	}
	size, ok := strings.CutPrefix(text, "renew ")
	if !ok {
		return fmt.Errorf("%.20q is not a word of an agent's", text)
	}
	request, err := readBlob(stream, size)
	if err != nil {
		return err
	}
	m, cert, err := h.authority.renew(l.Name, l.ID, request)
	if err != nil {
		return err
	}
	h.mu.Lock()
	l.Expires = m.Expires
	l.expiry.Reset(m.Expires.Sub(h.now()))
	h.mu.Unlock()
	h.logger.Info("agent's certificate renewed", "agent", l.Name, "id", l.ID, "expires", m.Expires)
	return writeBlob(stream, "ok", cert)
}

// Dial reaches an address by an agent of a name. Each that is connected is
// tried, the one with the fewest sessions first; what failed at one was not
// begun.
func (h *Hub) Dial(ctx context.Context, name, address string) (net.Conn, error) {
	var errs []error
	for _, l := range h.candidates(name) {
		conn, err := h.dialBy(ctx, l, address)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("by agent %s (%s): %w", name, l.ID, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("dial %s: no agent %s is connected: start one, or see its log; custos agent list shows those that are", address, name)
	}
	return nil, fmt.Errorf("dial %s: %w", address, errors.Join(errs...))
}

func (h *Hub) candidates(name string) []*line {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.lines[name])
	sessions := make(map[*line]int, len(all))
	for _, l := range all {
		sessions[l] = l.streams
	}
	all = slices.DeleteFunc(all, func(l *line) bool { return l.cause != "" })
	slices.SortStableFunc(all, func(a, b *line) int {
		if a.Draining != b.Draining {
			if a.Draining {
				return 1
			}
			return -1
		}
		return cmp.Compare(sessions[a], sessions[b])
	})
	return all
}

func (h *Hub) dialBy(ctx context.Context, l *line, address string) (_ net.Conn, err error) {
	h.count(l, func() { l.streams++; l.Dials++ })
	defer func() {
		if err != nil {
			h.count(l, func() { l.streams--; l.Failed++ })
		}
	}()
	select {
	case l.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	stream, err := l.mux.OpenStream()
	<-l.opening
	if errors.Is(err, yamux.ErrRemoteGoAway) {
		h.count(l, func() { l.Draining = true })
		return nil, errors.New("it is about to end, and takes no new sessions")
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			stream.Close()
		}
	}()
	// A deadline wakes whoever waits for the agent's answer.
	stop := context.AfterFunc(ctx, func() { stream.SetDeadline(time.Now()) })
	if err = writeLine(stream, "dial", address); err == nil {
		_, err = readAnswer(stream)
	}
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &fair{Stream: stream, mux: l.mux, onEnd: func() { h.count(l, func() { l.streams-- }) }}, nil
}

func (h *Hub) count(l *line, f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// Lines returns the agents that are connected, by name.
func (h *Hub) Lines() []Line {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := []Line{}
	for _, lines := range h.lines {
		for _, l := range lines {
			l.Sessions = l.streams
			all = append(all, l.Line)
		}
	}
	slices.SortFunc(all, func(a, b Line) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all
}

// Members returns the agents that have joined, connected or not.
func (h *Hub) Members() []Member { return h.authority.members() }

// Token is NewToken of the hub's authority.
func (h *Hub) Token(by, name string, life time.Duration) (token string, expires time.Time, err error) {
	return h.authority.NewToken(by, name, life)
}

// Remove lets an agent in no more, or where id is "" all of a name, and ends
// their lines. It is on record, by whom, before it is done.
func (h *Hub) Remove(by, name, id string) error {
	if _, err := h.authority.remove(by, name, id); err != nil {
		return err
	}
	h.cull("it was removed")
	return nil
}

// Reload looks at the lines anew after the configuration has changed.
func (h *Hub) Reload() error {
	err := h.authority.forget()
	h.cull("it is not configured any more")
	return err
}

// cull ends the lines of agents that are not known any more.
func (h *Hub) cull(cause string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, lines := range h.lines {
		for _, l := range lines {
			if _, known := h.authority.member(l.Name, l.ID); !known {
				h.end(l, cause)
			}
		}
	}
}

// Close ends all lines and returns when they are gone. Sessions over them
// have ended before, or end with them.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	for _, lines := range h.lines {
		for _, l := range lines {
			h.end(l, "the gateway is shutting down")
		}
	}
	h.mu.Unlock()
	h.gone.Wait()
}
