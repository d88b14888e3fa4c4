package api

import (
	"fmt"
	"net/http"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/store"
)

// maxEvidence bounds how many sessions one bundle of evidence holds.
const maxEvidence = 10_000

// evidence streams a bundle on the sessions that are named, or chosen by a
// filter; all of them must be the caller's to see.
func (s *server) evidence(w http.ResponseWriter, r *http.Request) error {
	sessions, err := s.chosen(r)
	if err != nil {
		return err
	}
	if len(sessions) == 0 {
		return problem(http.StatusNotFound, "there is no such session, or you may not see it")
	}
	out := newPaced(w)
	w.Header().Set("Content-Type", "application/gzip")
	p := caller(r.Context())
	if err := s.Evidence(r.Context(), out, identity(p), sessions, r.URL.Query().Get("sealed") == "1"); err != nil {
		if out.begun {
			s.Logger.Error("export evidence", "cause", err)
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
		return err
	}
	return nil
}

func (s *server) chosen(r *http.Request) ([]custos.SessionID, error) {
	f, err := s.filter(r)
	if err != nil {
		return nil, err
	}
	var sessions []custos.SessionID
	if ids := r.URL.Query()["session"]; len(ids) > 0 {
		if len(ids) > maxEvidence {
			return nil, tooMany()
		}
		for _, id := range ids {
			session, err := s.lookUp(r, custos.SessionID(id))
			if err != nil {
				return nil, err
			}
			sessions = append(sessions, session.ID)
		}
		return sessions, nil
	}
	s.catchUp(r)
	f.Limit = maxPage
	for {
		items, next, err := s.Index.Sessions(r.Context(), f)
		if err != nil {
			return nil, listError(err)
		}
		for _, item := range items {
			if item.State != store.SessionTurnedAway {
				sessions = append(sessions, item.ID)
			}
		}
		if len(sessions) > maxEvidence {
			return nil, tooMany()
		}
		if next == "" {
			return sessions, nil
		}
		f.Cursor = next
	}
}

func tooMany() *Problem {
	return problem(http.StatusBadRequest, fmt.Sprintf("that is more than %d sessions; choose fewer, such as a shorter time", maxEvidence))
}
