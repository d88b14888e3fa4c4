package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/policy"
	"github.com/custos-gateway/custos/store"
)

// Asking is what leave is asked for beforehand: one statement, or access for a
// time.
type Asking struct {
	Connection string `json:"connection"`
	// Reason says what it is for.
	Reason string `json:"reason"`
	// Statement is the one statement, byte for byte as it will be run.
	Statement string `json:"statement,omitempty"`
	// For is how long access lasts, from its approval on.
	For string `json:"for,omitempty"`
	// Effects bound access to operations that do nothing besides these; none:
	// whatever rules hold.
	Effects []string `json:"effects,omitempty"`
	// BreakGlass is access at once: nobody is asked, everybody is told. A rule
	// must allow it.
	BreakGlass bool `json:"break_glass,omitempty"`
}

// StateAllowed is the state of what nobody has to be asked for.
const StateAllowed = "allowed"

// How long access can be asked for, and how long a broken glass stays broken.
const (
	maxAccess = 24 * time.Hour
	maxGlass  = time.Hour
)

// ask takes a request for one statement, or for access for a time.
func (s *server) ask(w http.ResponseWriter, r *http.Request) error {
	var q Asking
	if err := readBody(r, &q); err != nil {
		return err
	}
	switch err := checkReason(q.Reason); {
	case err != nil:
		return err
	case strings.TrimSpace(q.Reason) == "":
		return problem(http.StatusBadRequest, "a reason is required; say what it is for")
	case q.Statement != "" && (q.For != "" || len(q.Effects) > 0 || q.BreakGlass):
		return problem(http.StatusBadRequest, "ask for one statement, or for access for a time: not for both at once")
	}
	p := caller(r.Context())
	if d := s.Enter(p, q.Connection); d.Effect != custos.Allow {
		return problem(http.StatusForbidden, d.Reason)
	}
	if q.Statement != "" {
		return s.askStatement(w, r, &q)
	}
	return s.askAccess(w, r, &q)
}

// askStatement files a request for a statement as if it had been run and held.
func (s *server) askStatement(w http.ResponseWriter, r *http.Request, q *Asking) error {
	a, d, err := s.Ask(r.Context(), gate.Question{Caller: caller(r.Context()), Connection: q.Connection, Statement: q.Statement, Purpose: q.Reason, Client: r.RemoteAddr})
	refusal, refused := errors.AsType[*custos.Refusal](err)
	switch {
	case refused && refusal.Retry:
		return problem(http.StatusServiceUnavailable, refusal.Error())
	case refused:
		text := refusal.Error() + "; nobody can be asked for it"
		if refusal.Hint != "" {
			text += ": " + refusal.Hint
		}
		return problem(http.StatusForbidden, text)
	case errors.Is(err, approval.ErrTooMany):
		return problem(http.StatusServiceUnavailable, err.Error())
	case err != nil:
		return err
	case d.Effect == custos.Allow:
		return writeJSON(w, &Approval{State: StateAllowed, Connection: q.Connection, Text: q.Statement, Rule: d.Rule, Reason: d.Reason, Policy: d.Policy})
	}
	return s.writeApproval(w, r, &a)
}

// askAccess asks for access to a connection for a time: what rules hold then
// goes through without waiting.
func (s *server) askAccess(w http.ResponseWriter, r *http.Request, q *Asking) error {
	most := maxAccess
	if q.BreakGlass {
		most = maxGlass
	}
	span, err := time.ParseDuration(q.For)
	if err != nil || span <= 0 || span > most {
		return problem(http.StatusBadRequest, fmt.Sprintf("for must be a time span of at most %v, such as 30m", most))
	}
	known := policy.Effects()
	for _, name := range q.Effects {
		if !slices.ContainsFunc(known, func(e policy.Effect) bool { return e.Name == name }) {
			return problem(http.StatusBadRequest, "there is no effect "+strconv.Quote(name)+"; docs/policy.md lists them")
		}
	}
	p := caller(r.Context())
	if q.BreakGlass && !s.BreakGlass(p, q.Connection) {
		return problem(http.StatusForbidden, "no rule lets you break the glass on "+q.Connection+"; ask for access without it")
	}
	q.Effects = slices.Compact(slices.Sorted(slices.Values(q.Effects)))
	// The digest tells requests apart: the same caller asks once at a time.
	kind := &custos.Operation{Text: strings.Join(q.Effects, " ")}
	a := custos.Approval{Digest: custos.BindingDigest(p, q.Connection, "", kind), Caller: *p, Connection: q.Connection, Rule: "access",
		Purpose: q.Reason, For: span, Effects: q.Effects, BreakGlass: q.BreakGlass}
	if q.BreakGlass {
		a.Rule = "break-glass"
	}
	if a, err = s.Approvals.Ask(a, 0); err != nil {
		return err
	}
	return s.writeApproval(w, r, &a)
}

// revokeApproval ends access before its time.
func (s *server) revokeApproval(w http.ResponseWriter, r *http.Request) error {
	a, err := s.approval(r)
	if err != nil {
		return err
	}
	body, err := readSpoken(r)
	if err != nil {
		return err
	}
	got, err := s.Approvals.Revoke(a.ID, caller(r.Context()), body.Reason)
	if err != nil {
		return answerError(err)
	}
	return s.writeApproval(w, r, &got)
}

// Background is what a reviewer may want to know besides the statement, the
// newest first.
type Background struct {
	// Session is what the caller did in the session before.
	Session []store.Operation `json:"session"`
	// Similar are operations that the same rule held, with the same verb and the
	// same first object, and what became of them.
	Similar []store.Operation `json:"similar"`
}

// backgroundLength bounds each of its lists.
const backgroundLength = 20

// showBackground shows who is asked, and who sees all, what stands around an
// operation: not who asks, who has sessions of their own to look at.
func (s *server) showBackground(w http.ResponseWriter, r *http.Request) error {
	a, err := s.approval(r)
	if err != nil {
		return err
	}
	p := caller(r.Context())
	if a.Concerns(p) || !s.mayReview(p, a) && !s.seesAll(p) {
		return problem(http.StatusForbidden, "it is shown to those who are asked")
	}
	s.catchUp(r)
	b := Background{Session: []store.Operation{}, Similar: []store.Operation{}}
	if a.Session != "" {
		if b.Session, err = s.before(r.Context(), a, "session:"+string(a.Session)); err != nil {
			return err
		}
	}
	if len(a.Verbs) > 0 {
		query := "effect:approve rule:" + quoted(a.Rule) + " connection:" + quoted(a.Connection) + " verb:" + quoted(a.Verbs[0])
		if len(a.Objects) > 0 {
			query += " table:" + quoted(a.Objects[0])
		}
		if b.Similar, err = s.before(r.Context(), a, query); err != nil {
			return err
		}
	}
	return writeJSON(w, b)
}

// quoted is a value of a query. A quote cannot be written in one.
func quoted(value string) string { return `"` + strings.ReplaceAll(value, `"`, " ") + `"` }

// before searches operations that were submitted before the one that a is
// about.
func (s *server) before(ctx context.Context, a *custos.Approval, query string) ([]store.Operation, error) {
	all, _, err := s.Index.Search(ctx, store.Filter{Query: query, Limit: 2 * backgroundLength})
	if err != nil {
		return nil, listError(err)
	}
	out := []store.Operation{}
	for _, o := range all {
		if o.Entry < a.Operation && len(out) < backgroundLength {
			out = append(out, o)
		}
	}
	return out, nil
}

// Request asks for what q says.
func (c *Client) Request(ctx context.Context, q Asking) (*Approval, error) {
	a := new(Approval)
	return a, c.post(ctx, "/api/v1/approvals", q, a)
}

// Revoke ends access before its time. It takes a reason.
func (c *Client) Revoke(ctx context.Context, id, reason string) (*Approval, error) {
	a := new(Approval)
	return a, c.post(ctx, "/api/v1/approvals/"+url.PathEscape(id)+"/revoke", spoken{Reason: reason}, a)
}

// Background returns what stands around an approval's operation.
func (c *Client) Background(ctx context.Context, id string) (*Background, error) {
	b := new(Background)
	return b, c.get(ctx, "/api/v1/approvals/"+url.PathEscape(id)+"/background", nil, b)
}
