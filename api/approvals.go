package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/store"
)

// Approval is one as people see it.
type Approval struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	Caller     string `json:"caller"`
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
	Kind       string `json:"kind,omitempty"` // of caller
	Connection string `json:"connection"`
	// Protocol is what Text is of; "" where there is none.
	Protocol string   `json:"protocol,omitempty"`
	Text     string   `json:"text"`
	Params   []string `json:"params,omitempty"`
	Verbs    []string `json:"verbs,omitempty"`
	Objects  []string `json:"objects,omitempty"`
	Rule     string   `json:"rule"`
	Reason   string   `json:"reason,omitempty"`
	Policy   string   `json:"policy,omitempty"`
	// Purpose is what it is for, in the words of who asks.
	Purpose string `json:"purpose,omitempty"`
	// Estimate is how much it would change. Who asks is not shown it: it could
	// tell of what is hidden from them.
	Estimate *custos.Estimate `json:"estimate,omitempty"`
	// Session and Entry are where the operation is on record.
	Session string `json:"session,omitempty"`
	Entry   uint64 `json:"entry,omitempty"`
	// Groups may answer; none: any reviewer. Count of them must agree.
	Groups []string `json:"groups,omitempty"`
	Count  int      `json:"count"`
	// For is how long access is asked for; "": for the one operation.
	For string `json:"for,omitempty"`
	// Effects bound access to operations that do nothing besides these.
	Effects []string `json:"effects,omitempty"`
	// BreakGlass: nobody was asked.
	BreakGlass  bool             `json:"break_glass,omitempty"`
	RequestedAt time.Time        `json:"requested_at"`
	ExpiresAt   time.Time        `json:"expires_at"`
	Until       *time.Time       `json:"until,omitempty"`
	Answers     []ApprovalAnswer `json:"answers,omitempty"`
	// Masks are the rules that hide a part of the answer, and DryRun those that
	// would have decided otherwise.
	Masks  []string `json:"masks,omitempty"`
	DryRun []string `json:"dry_run,omitempty"`
	// Answerable reports that whoever asks may answer it now, and Own that it is
	// theirs: asked by them, or for them.
	Answerable bool `json:"answerable"`
	Own        bool `json:"own,omitempty"`
}

// ApprovalAnswer is what a reviewer said.
type ApprovalAnswer struct {
	By      string    `json:"by"`
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
}

// mayReview reports whether p is among those who are asked by a.
func (s *server) mayReview(p *custos.Principal, a *custos.Approval) bool {
	groups := a.Groups
	if len(groups) == 0 {
		groups = s.Roles().Reviewer
	}
	return p.OnBehalfOf == nil && p.InAny(groups)
}

// approvalFor shows a to p, or says that p may not see it. Who is asked sees
// the statement: it is what they judge.
func (s *server) approvalFor(ctx context.Context, p *custos.Principal, a *custos.Approval) (*Approval, bool) {
	reviews := s.mayReview(p, a)
	if !reviews && !a.Concerns(p) && !s.seesAll(p) {
		return nil, false
	}
	v := &Approval{ID: a.ID, Own: a.Concerns(p), State: string(a.State), Caller: named(&a.Caller), Kind: string(a.Caller.Kind), Connection: a.Connection, Rule: a.Rule, Reason: a.Reason, Policy: a.Policy, Purpose: a.Purpose, Verbs: a.Verbs, Objects: a.Objects,
		Session: string(a.Session), Entry: a.Operation, Groups: a.Groups, Count: a.Count, RequestedAt: a.Requested, ExpiresAt: a.Expires,
		Answerable: reviews && !a.Concerns(p) && a.State == custos.ApprovalPending &&
			!slices.ContainsFunc(a.Answers, func(x custos.ApprovalAnswer) bool { return x.By.Same(p) })}
	if b := a.Caller.OnBehalfOf; b != nil {
		v.OnBehalfOf = named(b)
	}
	if a.For > 0 {
		v.For = a.For.String()
		if !a.Until.IsZero() {
			v.Until = &a.Until
		}
		v.Effects, v.BreakGlass = a.Effects, a.BreakGlass
	} else if o, err := s.Index.Operation(ctx, a.Session, a.Operation); err == nil {
		if of, err := s.Index.Session(ctx, a.Session, store.Filter{}); err == nil {
			v.Protocol = of.Protocol
		}
		v.Text, v.Params, v.Verbs, v.Objects, v.Masks, v.DryRun = o.Text, o.Params, o.Verbs, o.Objects, o.Masks, o.DryRun
	}
	if !a.Concerns(p) {
		v.Estimate = a.Estimate
	}
	for _, x := range a.Answers {
		v.Answers = append(v.Answers, ApprovalAnswer{By: named(&x.By), Approve: x.Approve, Reason: x.Reason, At: x.At})
	}
	return v, true
}

func named(p *custos.Principal) string {
	if p.Name != "" {
		return p.Name
	}
	return p.Subject
}

// listApprovals lists those that the caller may see, the newest first.
func (s *server) listApprovals(w http.ResponseWriter, r *http.Request) error {
	state := r.URL.Query().Get("state")
	s.catchUp(r)
	all, _ := s.Approvals.List()
	items := []Approval{}
	for i := range all {
		if state != "" && string(all[i].State) != state {
			continue
		}
		if v, ok := s.approvalFor(r.Context(), caller(r.Context()), &all[i]); ok {
			items = append(items, *v)
		}
	}
	return writeJSON(w, Page[Approval]{Items: items})
}

// maxWait bounds how long a question waits for an answer.
const maxWait = time.Minute

// showApproval shows one; with wait=30s it waits so long for it to be answered.
func (s *server) showApproval(w http.ResponseWriter, r *http.Request) error {
	a, err := s.approval(r)
	if err != nil {
		return err
	}
	if text := r.URL.Query().Get("wait"); text != "" {
		wait, err := time.ParseDuration(text)
		if err != nil || wait < 0 || wait > maxWait {
			return problem(http.StatusBadRequest, fmt.Sprintf("wait must be a time span of at most %v, such as 30s", maxWait))
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		if got, err := s.Approvals.Await(ctx, a.ID); err == nil || got.ID != "" {
			a = &got
		}
	}
	return s.writeApproval(w, r, a)
}

func (s *server) writeApproval(w http.ResponseWriter, r *http.Request, a *custos.Approval) error {
	s.catchUp(r)
	v, ok := s.approvalFor(r.Context(), caller(r.Context()), a)
	if !ok {
		return notFound()
	}
	return writeJSON(w, v)
}

func (s *server) approval(r *http.Request) (*custos.Approval, error) {
	a, err := s.Approvals.Get(r.PathValue("id"))
	p := caller(r.Context())
	if err != nil || !s.mayReview(p, &a) && !a.Concerns(p) && !s.seesAll(p) {
		return nil, notFound()
	}
	return &a, nil
}

// spoken is the body of an answer.
type spoken struct {
	Reason string `json:"reason,omitempty"`
}

// maxReason bounds what a person says, in bytes.
const maxReason = 1000

func readSpoken(r *http.Request) (b spoken, err error) {
	if err := readBody(r, &b); err != nil {
		return b, err
	}
	return b, checkReason(b.Reason)
}

// readBody reads the JSON of a request's body; none is as good as an empty
// object.
func readBody(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return problem(http.StatusBadRequest, "the body is not the JSON that is wanted: "+err.Error())
	}
	return nil
}

func checkReason(text string) error {
	if len(text) > maxReason {
		return problem(http.StatusBadRequest, fmt.Sprintf("the reason has %d bytes; say it in %d", len(text), maxReason))
	}
	return nil
}

// answerApproval is a reviewer's word on one.
func (s *server) answerApproval(approve bool) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		a, err := s.approval(r)
		if err != nil {
			return err
		}
		body, err := readSpoken(r)
		if err != nil {
			return err
		}
		got, err := s.Approvals.Answer(a.ID, caller(r.Context()), approve, body.Reason)
		if err != nil {
			return answerError(err)
		}
		return s.writeApproval(w, r, &got)
	}
}

// answerError tells a reviewer why an answer does not count.
func answerError(err error) error {
	switch {
	case errors.Is(err, approval.ErrOwn), errors.Is(err, approval.ErrReviewer):
		return problem(http.StatusForbidden, err.Error())
	case errors.Is(err, approval.ErrTwice), errors.Is(err, approval.ErrOver), errors.Is(err, approval.ErrNoAccess):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, approval.ErrReason):
		return problem(http.StatusBadRequest, err.Error())
	}
	return err
}

// Approvals lists those in a state; "" is all that are not long over.
func (c *Client) Approvals(ctx context.Context, state string) ([]Approval, error) {
	var page Page[Approval]
	query := url.Values{}
	if state != "" {
		query.Set("state", state)
	}
	err := c.get(ctx, "/api/v1/approvals", query, &page)
	return page.Items, err
}

// Approval returns one, and waits up to a minute for its answer if wait is not
// zero.
func (c *Client) Approval(ctx context.Context, id string, wait time.Duration) (*Approval, error) {
	query := url.Values{}
	if wait > 0 {
		query.Set("wait", wait.String())
	}
	a := new(Approval)
	return a, c.get(ctx, "/api/v1/approvals/"+url.PathEscape(id), query, a)
}

// Answer answers one. To deny takes a reason.
func (c *Client) Answer(ctx context.Context, id string, approve bool, reason string) (*Approval, error) {
	word := "deny"
	if approve {
		word = "approve"
	}
	a := new(Approval)
	return a, c.post(ctx, "/api/v1/approvals/"+url.PathEscape(id)+"/"+word, spoken{Reason: reason}, a)
}
