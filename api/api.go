package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
	"github.com/custos-gateway/custos/store"
)

// Login is what a client must know to get a token: it is public, and served
// at /.well-known/custos.
type Login struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"client_id"`
	Audience string   `json:"audience"`
	Scopes   []string `json:"scopes"`
}

// Sessions are the open sessions.
type Sessions interface {
	// Stop ends one with a cause, and reports whether it was open.
	Stop(id custos.SessionID, cause error) bool
	// StopAll ends those of the callers that match, and returns which. The
	// callers' tickets are good for nothing any more: by whom goes on record.
	StopAll(match func(*custos.Principal) bool, by string, cause error) ([]custos.SessionID, error)
}

// Evidence writes a bundle of evidence on sessions, as a gzipped tar. It puts
// the export on record, by whom, before it writes a byte.
type Evidence func(ctx context.Context, w io.Writer, by string, sessions []custos.SessionID, sealed bool) error

// Config is what the API is made of. Every field is required but Ready,
// Browsers and WitnessKeys.
type Config struct {
	Identifier gate.Identifier
	// Browsers knows who signed in with one; nil: nobody does.
	Browsers   Browsers
	Ledger     *ledger.Log
	Recordings *recording.Store
	Index      *store.Index
	// Tiles is the ledger's folder.
	Tiles    fs.FS
	Sessions Sessions
	// Approvals are those that lie on the desk.
	Approvals   *approval.Desk
	Connections Connections
	Skills      Skills
	Keeping     Keeping
	Agents      Agents
	Policies    Policies
	// PublicKey is the ledger's, and WitnessKeys those of its witnesses, as C2SP
	// signed-note writes them. There may be no witnesses.
	PublicKey   string
	WitnessKeys []string
	// Metrics answers who may see everything.
	Metrics http.Handler
	// Enter decides whether a caller may open a session on a connection.
	Enter func(p *custos.Principal, connection string) custos.Decision
	// Ask asks people about a statement before it is run; see gate.Session.Ask.
	Ask func(context.Context, gate.Question) (custos.Approval, custos.Decision, error)
	// Notices are what people are told of approvals.
	Notices Notices
	// BreakGlass reports whether a rule lets a caller go ahead unasked.
	BreakGlass func(p *custos.Principal, connection string) bool
	// Roles are the roles in force.
	Roles func() config.Roles
	// Renderers turn recorded answers into events, by protocol.
	Renderers map[string]custos.Renderer
	Evidence  Evidence
	// Login is what clients are told to log in with.
	Login func() Login
	// Ready says why the gateway can't serve, if it can't.
	Ready  func() error
	Logger *slog.Logger
	Now    func() time.Time
}

type server struct {
	Config
	mux *http.ServeMux
}

// New returns the API's handler, or says what it lacks.
func New(c Config) (http.Handler, error) {
	for name, missing := range map[string]bool{
		"identifier": c.Identifier == nil, "ledger": c.Ledger == nil, "recordings": c.Recordings == nil,
		"index": c.Index == nil, "tiles": c.Tiles == nil, "sessions": c.Sessions == nil, "approvals": c.Approvals == nil, "connections": c.Connections == nil, "skills": c.Skills == nil, "keeping": c.Keeping == nil, "agents": c.Agents == nil, "policies": c.Policies == nil, "public key": c.PublicKey == "", "metrics": c.Metrics == nil, "enter": c.Enter == nil, "ask": c.Ask == nil, "break glass": c.BreakGlass == nil, "notices": c.Notices == nil, "roles": c.Roles == nil,
		"evidence": c.Evidence == nil, "login": c.Login == nil, "logger": c.Logger == nil, "clock": c.Now == nil,
	} {
		if missing {
			return nil, fmt.Errorf("make api: no %s", name)
		}
	}
	s := &server{Config: c, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.HandleFunc("GET /api/v1/openapi.json", s.openapi)
	s.mux.HandleFunc("GET /.well-known/custos", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Login()) })
	s.mux.HandleFunc("POST /api/v1/notify/slack", s.slack)
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /metrics":                                        s.metrics,
		"GET /api/v1/whoami":                                  s.whoami,
		"GET /api/v1/sessions":                                s.listSessions,
		"GET /api/v1/sessions/{id}":                           s.showSession,
		"GET /api/v1/sessions/{id}/operations":                s.listOperations,
		"GET /api/v1/sessions/{id}/operations/{entry}/answer": s.answer,
		"GET /api/v1/sessions/{id}/replay":                    s.replay,
		"GET /api/v1/sessions/{id}/tail":                      limited(maxTails, s.tail),
		"POST /api/v1/sessions/{id}/stop":                     s.stop,
		"POST /api/v1/sessions/{id}/erase":                    s.administrator(s.keeping(Keeping.Erase)),
		"POST /api/v1/sessions/{id}/hold":                     s.administrator(s.keeping(Keeping.Hold)),
		"POST /api/v1/sessions/{id}/release":                  s.administrator(s.keeping(Keeping.Release)),
		"GET /api/v1/approvals":                               s.listApprovals,
		"POST /api/v1/sessions/stop":                          s.stopAll,
		"POST /api/v1/approvals":                              limited(maxAsking, s.ask),
		"POST /api/v1/approvals/{id}/revoke":                  s.revokeApproval,
		"GET /api/v1/approvals/undelivered":                   s.listUndelivered,
		"POST /api/v1/approvals/undelivered/again":            s.administrator(s.sendAgain),
		"GET /api/v1/approvals/{id}/background":               s.showBackground,
		"GET /api/v1/approvals/{id}":                          limited(maxWaits, s.showApproval),
		"POST /api/v1/approvals/{id}/approve":                 s.answerApproval(true),
		"POST /api/v1/approvals/{id}/deny":                    s.answerApproval(false),
		"GET /api/v1/connections":                             s.listConnections,
		"GET /api/v1/connections/{name}":                      s.showConnection,
		"GET /api/v1/connections/{name}/definition":           s.administrator(s.defineConnection),
		"PUT /api/v1/connections/{name}":                      s.administrator(s.putConnection),
		"DELETE /api/v1/connections/{name}":                   s.administrator(s.removeConnection),
		"POST /api/v1/connections/{name}/test":                s.administrator(s.testConnection),
		"PUT /api/v1/connections/{name}/secret":               s.administrator(s.setSecret),
		"DELETE /api/v1/connections/{name}/secret":            s.administrator(s.removeSecret),
		"GET /api/v1/skills":                                  s.administrator(s.listSkills),
		"GET /api/v1/skills/{name}":                           s.administrator(s.showSkill),
		"PUT /api/v1/skills/{name}":                           s.administrator(s.putSkill),
		"DELETE /api/v1/skills/{name}":                        s.administrator(s.removeSkill),
		"GET /api/v1/agents":                                  s.administrator(s.listAgents),
		"POST /api/v1/agents/{name}/token":                    s.administrator(s.agentToken),
		"DELETE /api/v1/agents/{name}":                        s.administrator(s.removeAgent),
		"GET /api/v1/events":                                  limited(maxEvents, s.events),
		"GET /api/v1/search":                                  s.search,
		"GET /api/v1/evidence":                                limited(maxExports, s.evidence),
		"GET /api/v1/activity":                                s.activity,
		"GET /api/v1/policies":                                s.staff(s.listPolicies),
		"POST /api/v1/policies/explain":                       s.staff(s.explain),
		"GET /api/v1/ledger":                                  s.ledgerState,
		"GET /api/v1/ledger/checkpoint":                       s.checkpoint,
		"GET /api/v1/ledger/prove":                            s.prove,
		"GET /api/v1/ledger/entries":                          s.entries,
		"GET /api/v1/ledger/tile/{path...}":                   s.tile,
	} {
		s.mux.HandleFunc(pattern, s.authenticated(s.handle(h)))
	}
	return http.HandlerFunc(s.serve), nil
}

// Sizes and times of requests. Streams may last; each piece of one must be
// taken within writeTimeout.
const (
	maxBody      = 64 << 10
	writeTimeout = 30 * time.Second
)

// serve sets what holds for every answer.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("X-Content-Type-Options", "nosniff")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	extend(w)
	if _, pattern := s.mux.Handler(r); pattern == "" {
		writeProblem(w, notFound())
		return
	}
	s.mux.ServeHTTP(w, r)
}

// How much of the costly work goes on at once: a tail reads every entry that
// comes, an export takes room on the gateway's disk.
const (
	maxTails   = 100
	maxEvents  = 1000 // streams of a few bytes
	maxWaits   = 1000 // questions that wait for an answer
	maxAsking  = 20   // each logs in to a target
	maxExports = 2
)

// limited lets n requests at a time through to h.
func limited(n int, h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	slots := make(chan struct{}, n)
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			return h(w, r)
		default:
			w.Header().Set("Retry-After", "10")
			return problem(http.StatusTooManyRequests, fmt.Sprintf("the gateway does %d of these at once, and is doing them; try again in a while", n))
		}
	}
}

// extend gives the client writeTimeout from now to take what comes. A writer
// that knows no deadlines has none.
func extend(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// paced writes an answer that may take its time to come: the client has
// writeTimeout for each piece, and the gateway as long as it needs between
// them. In HTTP/2 a deadline that passes between writes ends the stream too.
type paced struct {
	w     http.ResponseWriter
	begun bool
}

func newPaced(w http.ResponseWriter) *paced {
	http.NewResponseController(w).SetWriteDeadline(time.Time{})
	return &paced{w: w}
}

func (p *paced) Write(b []byte) (int, error) {
	p.begun = true
	extend(p.w)
	defer http.NewResponseController(p.w).SetWriteDeadline(time.Time{})
	return p.w.Write(b)
}

func (p *paced) flush() error {
	extend(p.w)
	defer http.NewResponseController(p.w).SetWriteDeadline(time.Time{})
	return http.NewResponseController(p.w).Flush()
}

// handle answers with the error of h, unless its answer has begun.
func (s *server) handle(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil || errors.Is(err, errBegun) {
			return
		}
		if p, ok := errors.AsType[*Problem](err); ok {
			writeProblem(w, p)
			return
		}
		s.Logger.Error("serve request", "path", r.URL.Path, "cause", err)
		writeProblem(w, problem(http.StatusInternalServerError, "the gateway failed to answer; its log says why"))
	}
}

// errBegun is the error of an answer that began, and ended with a line that
// says so.
var errBegun = errors.New("the answer has begun")

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.Ready != nil {
		if err := s.Ready(); err != nil {
			s.Logger.Warn("not ready", "cause", err)
			writeProblem(w, problem(http.StatusServiceUnavailable, "the gateway is not ready; its log says why"))
			return
		}
	}
	io.WriteString(w, "ready\n")
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return fmt.Errorf("%w: %w", errBegun, err)
	}
	return nil
}

// WhoAmI is who the gateway takes a token's bearer for.
type WhoAmI struct {
	custos.Principal
	// Roles are the caller's on the gateway: admin, reviewer, auditor.
	Roles []string `json:"roles"`
}

func (s *server) whoami(w http.ResponseWriter, r *http.Request) error {
	p := caller(r.Context())
	return writeJSON(w, WhoAmI{*p, s.rolesOf(p)})
}
