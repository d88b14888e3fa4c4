package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/store"
)

// Keeping lets recordings go, and holds them.
type Keeping interface {
	// Erase destroys the key of a session that has ended. That it does, by
	// whom and why, is on record before.
	Erase(by string, id custos.SessionID, reason string) error
	// Hold puts a legal hold on a recording, on record: neither retention nor
	// Erase touches it until Release.
	Hold(by string, id custos.SessionID, reason string) error
	Release(by string, id custos.SessionID, reason string) error
}

// ErrKept says why a recording is not erased, held or released: its state does
// not allow it. The error around it says which.
var ErrKept = errors.New("nothing was changed")

// keeping answers a request to do something to a session's recording. Nobody
// lets the record of what they did themselves go.
func (s *server) keeping(do func(Keeping, string, custos.SessionID, string) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		why, err := readSpoken(r)
		if err != nil {
			return err
		}
		if why.Reason = strings.TrimSpace(why.Reason); why.Reason == "" {
			return problem(http.StatusBadRequest, "say why: the reason goes on record")
		}
		session, err := s.session(r)
		if err != nil {
			return err
		}
		p := caller(r.Context())
		own := store.Filter{Viewer: &store.Viewer{Issuer: p.Issuer, Subject: p.Subject}}
		if _, err := s.Index.Session(r.Context(), session.ID, own); err == nil {
			return problem(http.StatusForbidden, "this session is your own, or was held for you: ask another administrator")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		err = do(s.Keeping, identity(p), session.ID, why.Reason)
		if errors.Is(err, ErrKept) {
			return problem(http.StatusConflict, err.Error())
		}
		if err != nil {
			return err
		}
		return writeJSON(w, struct{}{})
	}
}

// Erase has a session's recording erased, Hold puts a legal hold on it, and
// Release ends that.
func (c *Client) Erase(ctx context.Context, id, why string) error {
	return c.keeping(ctx, id, "erase", why)
}

// Hold is described at Erase.
func (c *Client) Hold(ctx context.Context, id, why string) error {
	return c.keeping(ctx, id, "hold", why)
}

// Release is described at Erase.
func (c *Client) Release(ctx context.Context, id, why string) error {
	return c.keeping(ctx, id, "release", why)
}

func (c *Client) keeping(ctx context.Context, id, what, why string) error {
	return c.post(ctx, "/api/v1/sessions/"+url.PathEscape(id)+"/"+what, spoken{Reason: why}, &struct{}{})
}
