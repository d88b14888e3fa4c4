package tunnel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// JoinPath is where agents that have no certificate yet ask for one, on the
// gateway's HTTPS address.
const JoinPath = "/agent/join"

// Identify verifies a token of an issuer's, and returns who presented it, if
// the configuration lets them join as the agent of a name.
type Identify func(ctx context.Context, token, name string) (who string, err error)

// maxJoining bounds how many agents join at one time: it is before anybody
// has proved who they are.
const maxJoining = 16

// application is what a new agent asks; the token is in the Authorization
// header.
type application struct {
	Name    string `json:"name"`
	Request []byte `json:"request"` // a certificate request, DER
}

// admission is the answer.
type admission struct {
	ID          string `json:"id"`
	Certificate []byte `json:"certificate"` // DER
}

// problem is the answer when there is none (RFC 9457).
type problem struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// ServeHTTP lets an agent join.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case h.joining <- struct{}{}:
		defer func() { <-h.joining }()
	default:
		w.Header().Set("Retry-After", "5")
		answer(w, problem{http.StatusTooManyRequests, "too many agents join at this moment"})
		return
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(wordTimeout))
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(stalled))
	token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	var a application
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2*maxCertificate))
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	switch {
	case r.URL.Path != JoinPath || r.Method != http.MethodPost:
		answer(w, problem{http.StatusNotFound, "agents join with POST " + JoinPath})
		return
	case err != nil || !isBearer:
		answer(w, problem{http.StatusBadRequest, "want a token as the bearer, and a name and a certificate request as JSON"})
		return
	}
	m, cert, err := h.join(r.Context(), token, &a)
	if err != nil {
		h.logger.Warn("agent may not join", "address", r.RemoteAddr, "agent", short(a.Name), "cause", err)
		answer(w, problem{http.StatusForbidden, clean(err)})
		return
	}
	h.logger.Info("agent joined", "agent", m.Name, "id", m.ID, "address", r.RemoteAddr, "by", m.By)
	answer(w, admission{ID: m.ID, Certificate: cert})
}

func (h *Hub) join(ctx context.Context, token string, a *application) (m Member, cert []byte, err error) {
	if strings.HasPrefix(token, tokenPrefix) {
		return h.authority.join(token, a.Name, a.Request)
	}
	who, err := h.identify(ctx, token, a.Name)
	if err != nil {
		return m, nil, fmt.Errorf("join: %w", err)
	}
	return h.authority.joinAs(who, a.Name, a.Request)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	if p, failed := v.(problem); failed {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(p.Status)
	}
	json.NewEncoder(w).Encode(v) // to whoever is still there
}

// apply asks the gateway for an agent's first certificate.
func apply(ctx context.Context, client *http.Client, gateway, token string, a *application) (*admission, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, stalled)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway+JoinPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	res, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 4*maxCertificate))
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		var p problem
		if json.Unmarshal(text, &p) != nil || p.Detail == "" {
			p.Detail = "the gateway answered " + res.Status
		}
		return nil, errors.New(p.Detail[:min(len(p.Detail), maxLine)])
	}
	var in admission
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("join: read answer: %w", err)
	}
	return &in, nil
}
