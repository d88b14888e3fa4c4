package api

import (
	"encoding/json"
	"net/http"
)

// Problem is an error as the API gives it (RFC 9457, media type
// application/problem+json).
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail says what is wrong, and what to do next.
	Detail string `json:"detail,omitempty"`
}

// Error returns the detail, or the title where there is none.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

func problem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// notFound answers for what is not there and for what the caller may not
// see: nobody learns which of the two it is.
func notFound() *Problem {
	return problem(http.StatusNotFound, "there is no such thing, or you may not see it; custos session list shows what you may")
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // the caller may be gone: nothing is to be done about it
}
