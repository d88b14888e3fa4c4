package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
)

// Ledger keeps entries, in order, for ever.
type Ledger interface {
	// Append writes an entry and returns its index. When it returns, the
	// entry survives the death of the process; see Durable.
	Append(leaf, attachment []byte) (index uint64, err error)
	// Durable returns when the entries up to index survive the loss of power.
	Durable(index uint64) error
}

// Recorder keeps the bulky bytes of sessions, sealed.
type Recorder interface {
	// Start makes a session's key, durable before it returns.
	Start(custos.SessionID) (Recording, error)
}

// Recording seals one session's bytes. It is safe for concurrent use.
type Recording interface {
	KeyDigest() string
	Seal(dst, plaintext []byte) []byte
	Answer(entry uint64, submitted time.Time) Answer
	Close() error
}

// Answer records what came back of one operation.
type Answer interface {
	// Write records b as seen at a time. It does not keep b.
	Write(at time.Time, b []byte) error
	// Finish returns a small answer sealed, or cites the file of a large one.
	// With an error it cites what was kept, if anything was.
	Finish() (sealed []byte, file *custos.Digest, err error)
	// Bytes is the count of bytes written.
	Bytes() int64
}

// Identifier verifies tokens.
type Identifier interface {
	Verify(ctx context.Context, token string) (*custos.Principal, error)
}

// Policy decides. Its zero decision refuses.
type Policy interface {
	Enter(*custos.Principal, *custos.Connection) custos.Decision
	Judge(*custos.Principal, *custos.Connection, *custos.Operation, *custos.Usage, time.Time) custos.Decision
}

// Vault lends the credential of a connection.
type Vault interface {
	Lend(context.Context, *custos.Connection) (custos.Credential, error)
}

// Dialer reaches the address of a connection: from here, or by an agent.
type Dialer interface {
	Dial(context.Context, *custos.Connection) (net.Conn, error)
}

// Directory knows the registered connections.
type Directory interface {
	Connection(name string) (*custos.Connection, bool)
}

// Space tells whether the disk has room for what is about to be recorded.
// Sessions are refused at a higher floor than operations.
type Space interface {
	ForSession() error
	ForOperation() error
}

// Login is the half of a protocol that logs in to the target: it holds the
// credential and never sees the client. It must give up when ctx ends. hello
// is what the client asked of the target before a session, such as its
// startup parameters, as the protocol judged them fit to pass on.
type Login func(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential, hello any) (*Target, error)

// Target is a line to a target on which somebody has logged in.
type Target struct {
	// Conn is the line, for protocols that are streams.
	Conn net.Conn
	// HTTP sends requests, for protocols that are HTTP.
	HTTP http.RoundTripper
	// Greeting is what Serve may know of the login.
	Greeting any
	// Cancel asks the target to stop what it does. It may be nil.
	Cancel func(context.Context) error
	// Close frees what is not closed with Conn. It may be nil.
	Close func()
	// Upkeep lists the only frames that need no record of their own, byte
	// for byte, such as Postgres's Sync: they carry nothing of the caller's.
	Upkeep [][]byte
}

func (t *Target) close() {
	if t.Conn != nil {
		t.Conn.Close()
	}
	if t.Close != nil {
		t.Close()
	}
}

// Config is what a Gate is made of. Every field but the limits and Approver is
// required.
type Config struct {
	Ledger     Ledger
	Recorder   Recorder
	Identifier Identifier
	Policy     Policy
	Vault      Vault
	Dialer     Dialer
	Directory  Directory
	Space      Space
	// Approver asks people about what policy holds; nil: what is held is
	// refused.
	Approver Approver
	Logger   *slog.Logger
	Now      func() time.Time

	// Sessions and SessionsPerCaller bound what is open at once; 0: no bound.
	Sessions, SessionsPerCaller int
	// Hold is how long an operation waits for people, by kind of caller.
	Hold map[custos.Kind]time.Duration
	// Past is what callers took before the gate was started; nil: nothing.
	Past *Past
	// TokenGrace is how long a session outlives its token.
	TokenGrace time.Duration
	// LoginTimeout bounds dialling and logging in to a target.
	LoginTimeout time.Duration
}

// Gate lets callers through to targets, one recorded operation at a time.
type Gate struct {
	Config

	mu       sync.Mutex
	live     map[custos.SessionID]*Session
	byCaller map[callerKey]int
	meters   map[meterKey]*meter
	closed   bool
}

type callerKey struct{ issuer, subject string }

// New returns a gate, or says what it lacks.
func New(c Config) (*Gate, error) {
	for name, missing := range map[string]bool{
		"ledger": c.Ledger == nil, "recorder": c.Recorder == nil, "identifier": c.Identifier == nil,
		"policy": c.Policy == nil, "vault": c.Vault == nil, "dialer": c.Dialer == nil,
		"directory": c.Directory == nil, "space": c.Space == nil, "logger": c.Logger == nil, "clock": c.Now == nil,
	} {
		if missing {
			return nil, fmt.Errorf("make gate: no %s", name)
		}
	}
	if c.LoginTimeout <= 0 {
		c.LoginTimeout = 30 * time.Second
	}
	g := &Gate{Config: c, live: map[custos.SessionID]*Session{}, byCaller: map[callerKey]int{}, meters: map[meterKey]*meter{}}
	if c.Past != nil {
		maps.Copy(g.meters, c.Past.meters)
		g.Past = nil
	}
	return g, nil
}

// Knock is a client at the door.
type Knock struct {
	Protocol   string
	Connection string
	Token      string
	Client     string            // its address
	Asserted   map[string]string // what it says of itself: recorded, never believed
	Hello      any               // passed to Login
	Login      Login
}

// The reasons for which a session ends, as causes of its context.
var (
	ErrExpired  = errors.New("the token has expired")
	ErrStopped  = errors.New("the session was stopped")
	ErrShutdown = errors.New("the gateway is shutting down")
	errClosed   = errors.New("the session is closed")
)

// Open lets a caller in, or returns a *custos.Refusal. The session is on
// record, durably, before its credential is lent. The session ends with ctx,
// with its token, or by Close; whoever opened it must call Close.
func (g *Gate) Open(ctx context.Context, k Knock) (*Session, error) {
	caller, err := g.Identifier.Verify(ctx, k.Token)
	if err != nil {
		g.Logger.Warn("token refused", "client", k.Client, "connection", k.Connection, "cause", err)
		return nil, &custos.Refusal{Decision: custos.Decision{Rule: "token", Reason: err.Error(),
			Hint: "get a fresh token: custos login, then custos token"}}
	}
	return g.OpenFor(ctx, caller, k)
}

// OpenFor is Open for a caller whose token was verified at another door of the
// gateway's; that of k is not looked at.
func (g *Gate) OpenFor(ctx context.Context, caller *custos.Principal, k Knock) (*Session, error) {
	caller = caller.Saying(k.Asserted[custos.AssertedSkill])
	s := &Session{gate: g, id: custos.NewSessionID(), caller: caller, client: k.Client}
	c, known := g.Directory.Connection(k.Connection)
	if !known || c.Protocol != k.Protocol {
		// An unknown connection and a forbidden one look alike to the caller.
		c = &custos.Connection{Name: k.Connection, Protocol: k.Protocol}
	}
	s.conn = c
	if !caller.Ticket.Opens(k.Connection, k.Client) {
		return nil, g.turnAway(s, k, notItsTicket, false)
	}
	if d := g.Policy.Enter(caller, c); d.Effect != custos.Allow {
		return nil, g.turnAway(s, k, d, false)
	}
	if err := g.Space.ForSession(); err != nil {
		return nil, g.turnAway(s, k, unavailable("space", err), true)
	}
	// From here on Stop and Shutdown reach it, also while it is being opened.
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if err := g.register(s); err != nil {
		s.cancel(errClosed)
		return nil, g.turnAway(s, k, unavailable("sessions", err), true)
	}
	if err := s.open(k); err != nil {
		s.cancel(errClosed)
		g.forget(s)
		return nil, err
	}
	return s, nil
}

var notItsTicket = custos.Decision{Rule: "ticket", Reason: "the ticket is for another connection, or for another address",
	Hint: "get one for this: custos token --ticket --connection NAME"}

// turnAway records that a known caller was not let in, and returns the
// refusal. A crash before it is durable leaves nothing: nothing happened.
func (g *Gate) turnAway(s *Session, k Knock, d custos.Decision, retry bool) error {
	r := &custos.Refusal{Decision: d, Session: s.id, Retry: retry}
	opened := s.opened(k)
	opened.Rule, opened.Reason = d.Rule, d.Reason
	i, err := g.keep(&custos.Entry{Kind: custos.EntryTurned, Session: s.id, Opened: opened}, nil)
	if err != nil {
		return &custos.Refusal{Decision: unavailable("ledger-unavailable", err), Session: s.id, Retry: true}
	}
	r.Entry, r.Recorded = i, true
	return r
}

// keep appends an entry and waits until it is durable.
func (g *Gate) keep(e *custos.Entry, attachment []byte) (uint64, error) {
	e.At = g.Now()
	i, err := g.Ledger.Append(e.AppendJSON(nil), attachment)
	if err == nil {
		err = g.Ledger.Durable(i)
	}
	return i, err
}

func unavailable(rule string, err error) custos.Decision {
	return custos.Decision{Rule: rule, Reason: err.Error(), Hint: "try again later; if it lasts, tell whoever runs the gateway"}
}

func (g *Gate) register(s *Session) error {
	key := callerKey{s.caller.Issuer, s.caller.Subject}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return ErrShutdown
	case g.Sessions > 0 && len(g.live) >= g.Sessions:
		return fmt.Errorf("the gateway has its limit of %d sessions open", g.Sessions)
	case g.SessionsPerCaller > 0 && g.byCaller[key] >= g.SessionsPerCaller:
		return fmt.Errorf("you have your limit of %d sessions open", g.SessionsPerCaller)
	}
	g.live[s.id] = s
	g.byCaller[key]++
	s.meter = g.meter(s)
	return nil
}

func (g *Gate) forget(s *Session) {
	key := callerKey{s.caller.Issuer, s.caller.Subject}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, in := g.live[s.id]; !in {
		return
	}
	delete(g.live, s.id)
	s.meter.sessions--
	if g.byCaller[key]--; g.byCaller[key] <= 0 {
		delete(g.byCaller, key)
	}
}

// Live counts the open sessions.
func (g *Gate) Live() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.live)
}

// Stop ends one open session with a cause, and reports whether it was open.
func (g *Gate) Stop(id custos.SessionID, cause error) bool {
	g.mu.Lock()
	s := g.live[id]
	g.mu.Unlock()
	if s == nil {
		return false
	}
	s.cancel(cause)
	return true
}

// StopAll ends the open sessions of the callers that match, with a cause, and
// returns which those were.
func (g *Gate) StopAll(match func(*custos.Principal) bool, cause error) []custos.SessionID {
	g.mu.Lock()
	var all []*Session
	for _, s := range g.live {
		if match(s.caller) {
			all = append(all, s)
		}
	}
	g.mu.Unlock()
	var stopped []custos.SessionID
	for _, s := range all {
		s.cancel(cause)
		stopped = append(stopped, s.id)
	}
	return stopped
}

// Shutdown lets nobody in any more and ends all sessions.
func (g *Gate) Shutdown() {
	g.mu.Lock()
	g.closed = true
	sessions := make([]*Session, 0, len(g.live))
	for _, s := range g.live {
		sessions = append(sessions, s)
	}
	g.mu.Unlock()
	for _, s := range sessions {
		s.cancel(ErrShutdown)
	}
}
