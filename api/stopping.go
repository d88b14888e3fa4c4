package api

import (
	"context"
	"fmt"
	"net/http"

	custos "github.com/custos-gateway/custos"
)

// stopping is the body of a request to end all sessions of a caller.
type stopping struct {
	Caller string `json:"caller"`
}

// Stopped names the sessions that were ended.
type Stopped struct {
	Sessions []custos.SessionID `json:"stopped"`
}

// stopAll ends all open sessions of a caller, and all tickets, by name, subject or
// issuer|subject, also those of who acts for them: one's own, or as an admin
// anybody's. Each session's last entry says who did it.
func (s *server) stopAll(w http.ResponseWriter, r *http.Request) error {
	var body stopping
	if err := readBody(r, &body); err != nil {
		return err
	}
	if body.Caller == "" {
		return problem(http.StatusBadRequest, "say whose sessions to end, by caller")
	}
	p := caller(r.Context())
	admin := s.isAdmin(p)
	all, err := s.Sessions.StopAll(func(of *custos.Principal) bool {
		named, own := false, admin
		for c := of; c != nil; c = c.OnBehalfOf {
			named = named || body.Caller == c.Name || body.Caller == c.Subject || body.Caller == identity(c)
			own = own || c.Same(p)
		}
		return named && own
	}, identity(p), fmt.Errorf("stopped by %s (%s)", p.Name, identity(p)))
	if err != nil {
		return err
	}
	if len(all) == 0 && !admin && body.Caller != p.Name && body.Caller != p.Subject && body.Caller != identity(p) {
		return problem(http.StatusForbidden, "only admins end other people's sessions")
	}
	if all == nil {
		all = []custos.SessionID{}
	}
	return writeJSON(w, Stopped{all})
}

// StopAll ends all open sessions of a caller.
func (c *Client) StopAll(ctx context.Context, caller string) (*Stopped, error) {
	out := new(Stopped)
	return out, c.post(ctx, "/api/v1/sessions/stop", stopping{caller}, out)
}
