package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// codes are the statuses of refusals that are not 403.
var codes = map[string]int{
	"token": http.StatusUnauthorized, "sessions": http.StatusTooManyRequests, "space": http.StatusServiceUnavailable, "session": http.StatusUnauthorized,
	"target-unavailable": http.StatusServiceUnavailable, "ledger-unavailable": http.StatusServiceUnavailable, "recording-unavailable": http.StatusServiceUnavailable,
	"approval-unavailable": http.StatusServiceUnavailable, rulePath: http.StatusBadRequest, ruleBody: http.StatusBadRequest, ruleTooLong: http.StatusRequestEntityTooLarge,
	ruleForm: http.StatusNotAcceptable,
}

// reasons are the API's words for statuses (meta/v1, StatusReason): clients go
// by them.
var reasons = map[int]string{
	http.StatusUnauthorized: "Unauthorized", http.StatusForbidden: "Forbidden", http.StatusBadRequest: "BadRequest", http.StatusTooManyRequests: "TooManyRequests",
	http.StatusServiceUnavailable: "ServiceUnavailable", http.StatusRequestEntityTooLarge: "RequestEntityTooLarge", http.StatusNotAcceptable: "NotAcceptable",
	http.StatusBadGateway: "InternalError",
}

// status is a Status of the API's (meta/v1).
type status struct {
	Kind       string   `json:"kind"`
	APIVersion string   `json:"apiVersion"`
	Metadata   struct{} `json:"metadata"`
	Status     string   `json:"status"`
	Message    string   `json:"message"`
	Reason     string   `json:"reason"`
	Details    details  `json:"details"`
	Code       int      `json:"code"`
}

type details struct {
	Group  string  `json:"group,omitempty"`
	Kind   string  `json:"kind,omitempty"`
	Name   string  `json:"name,omitempty"`
	Causes []cause `json:"causes,omitempty"`
}

type cause struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// told is a refusal in a line: kubectl prints it after "Error from server".
func told(r *custos.Refusal) string {
	var b strings.Builder
	b.WriteString(r.Error())
	if r.Approval != "" {
		fmt.Fprintf(&b, "; approval %s", r.Approval)
		if r.Retry {
			b.WriteString(" is pending: run the same command again when it is given")
		}
	}
	if r.Hint != "" {
		b.WriteString("; " + r.Hint)
	}
	if r.Recorded {
		fmt.Fprintf(&b, " (session %s, entry %d)", r.Session, r.Entry)
	}
	return b.String()
}

// statusOf is a refusal as the API server would say it.
func statusOf(r *custos.Refusal, t *target) *status {
	code, ok := codes[r.Rule]
	if !ok {
		code = http.StatusForbidden
	}
	s := &status{Kind: "Status", APIVersion: "v1", Status: "Failure", Message: told(r), Reason: reasons[code], Code: code}
	if t != nil && t.resource {
		s.Details.Group, s.Details.Kind, s.Details.Name = t.group, t.kind, t.name
	}
	for name, v := range map[string]string{"rule": r.Rule, "session": string(r.Session), "approval": r.Approval, "hint": r.Hint} {
		if v != "" {
			s.Details.Causes = append(s.Details.Causes, cause{name, v})
		}
	}
	if r.Recorded {
		s.Details.Causes = append(s.Details.Causes, cause{"entry", fmt.Sprint(r.Entry)})
	}
	s.Details.Causes = append(s.Details.Causes, cause{"retry", fmt.Sprint(r.Retry)})
	return s
}

// say answers with a Status.
func say(w http.ResponseWriter, s *status) {
	b, err := json.Marshal(s)
	if err != nil {
		http.Error(w, s.Message, s.Code)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(s.Code)
	w.Write(append(b, '\n'))
}

// asRefusal is an error as a refusal: whatever is none is the gateway's.
func asRefusal(err error) *custos.Refusal {
	var r *custos.Refusal
	if errors.As(err, &r) {
		return r
	}
	return &custos.Refusal{Decision: custos.Decision{Rule: "target-unavailable", Reason: "the gateway could not reach the API server, or lost it", Hint: "look before you repeat what changes something"}, Retry: true}
}
