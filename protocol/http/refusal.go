package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	custos "github.com/custos-gateway/custos"
)

// codes are the statuses of refusals that are not 403.
var codes = map[string]int{
	"token": http.StatusUnauthorized, "session": http.StatusUnauthorized, "sessions": http.StatusTooManyRequests, "space": http.StatusServiceUnavailable,
	"target-unavailable": http.StatusBadGateway, "ledger-unavailable": http.StatusServiceUnavailable, "recording-unavailable": http.StatusServiceUnavailable,
	"approval-unavailable": http.StatusServiceUnavailable,
	ruleAddress:            http.StatusBadRequest, ruleHeader: http.StatusBadRequest, ruleBody: http.StatusBadRequest, ruleMethod: http.StatusMethodNotAllowed,
	ruleForm: http.StatusNotAcceptable, ruleMoved: http.StatusBadGateway, ruleCredential: http.StatusBadGateway, ruleTooLong: http.StatusRequestEntityTooLarge,
}

// problem is a refusal as RFC 9457 has it, with members that name the rule, where
// it is on record and what to do.
type problem struct {
	Type     string           `json:"type"`
	Title    string           `json:"title"`
	Status   int              `json:"status"`
	Detail   string           `json:"detail"`
	Rule     string           `json:"rule"`
	Session  custos.SessionID `json:"session,omitempty"`
	Entry    *uint64          `json:"entry,omitempty"`
	Approval string           `json:"approval,omitempty"`
	Link     string           `json:"approval_url,omitempty"`
	Retry    bool             `json:"retry"`
	Hint     string           `json:"hint,omitempty"`
}

// problemOf is a refusal in HTTP's words.
func problemOf(r *custos.Refusal, link func(string) string) *problem {
	code, ok := codes[r.Rule]
	if !ok {
		code = http.StatusForbidden
	}
	p := &problem{Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: r.Error(), Rule: r.Rule, Session: r.Session, Approval: r.Approval, Retry: r.Retry, Hint: r.Hint}
	if r.Recorded {
		p.Entry = &r.Entry
	}
	if r.Approval != "" && link != nil {
		p.Link = link(r.Approval)
	}
	return p
}

// say answers with a problem.
func say(w http.ResponseWriter, p *problem) {
	b, err := json.Marshal(p)
	if err != nil {
		http.Error(w, p.Detail, p.Status)
		return
	}
	h := w.Header()
	guard(h)
	h.Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="custos"`)
	}
	if p.Entry != nil {
		h.Set("Custos-Entry", fmt.Sprint(*p.Entry))
	}
	w.WriteHeader(p.Status)
	w.Write(append(b, '\n'))
}

// guard keeps an answer from being run in a browser with the rights of the
// gateway's own pages, whose host it shares.
func guard(h http.Header) {
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
}

// asRefusal is an error as a refusal: whatever is none is the gateway's.
func asRefusal(err error) *custos.Refusal {
	var r *custos.Refusal
	if errors.As(err, &r) {
		return r
	}
	return &custos.Refusal{Decision: custos.Decision{Rule: "target-unavailable", Reason: "the gateway could not reach the target, or lost it", Hint: "look before you repeat what changes something"}, Retry: true}
}
