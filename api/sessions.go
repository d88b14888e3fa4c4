package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/store"
)

// Page is one page of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the next page; empty: there is none.
	Next string `json:"next,omitempty"`
}

// The length of a page, in items.
const (
	defaultPage = 100
	maxPage     = 1000
)

// catchUpTimeout bounds how long a question waits for the index.
const catchUpTimeout = 2 * time.Second

// catchUp waits until the index knows what the ledger has now, so that who
// looks right after he did something finds it. An index that is being rebuilt
// answers with what it knows so far.
func (s *server) catchUp(r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), catchUpTimeout)
	defer cancel()
	if err := s.Index.Wait(ctx, s.Ledger.Size()); err != nil && r.Context().Err() == nil {
		s.Logger.Warn("answer from an index that is behind the ledger", "path", r.URL.Path)
	}
}

// searchTimeout bounds one search.
const searchTimeout = 30 * time.Second

// filter reads what a list is narrowed by, and narrows it to what the caller
// may see.
func (s *server) filter(r *http.Request) (store.Filter, error) {
	q := r.URL.Query()
	f := store.Filter{Caller: q.Get("caller"), Connection: q.Get("connection"), State: q.Get("state"), Cursor: q.Get("cursor"), Limit: defaultPage}
	for name, t := range map[string]*time.Time{"since": &f.Since, "until": &f.Until} {
		if v := q.Get(name); v != "" {
			var err error
			if *t, err = time.Parse(time.RFC3339Nano, v); err != nil {
				return f, problem(http.StatusBadRequest, fmt.Sprintf("%s is no time; write it as 2006-01-02T15:04:05Z", name))
			}
		}
	}
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxPage {
			return f, problem(http.StatusBadRequest, fmt.Sprintf("limit must be a number from 1 to %d", maxPage))
		}
		f.Limit = n
	}
	if p := caller(r.Context()); !s.seesAll(p) {
		f.Viewer = &store.Viewer{Issuer: p.Issuer, Subject: p.Subject}
	} else if issuer, subject, exact := strings.Cut(f.Caller, "|"); exact && strings.Contains(issuer, "://") {
		f.Caller, f.Viewer = "", &store.Viewer{Issuer: issuer, Subject: subject}
	}
	return f, nil
}

func (s *server) listSessions(w http.ResponseWriter, r *http.Request) error {
	f, err := s.filter(r)
	if err != nil {
		return err
	}
	s.catchUp(r)
	items, next, err := s.Index.Sessions(r.Context(), f)
	if err != nil {
		return listError(err)
	}
	return writeJSON(w, Page[store.Session]{items, next})
}

func (s *server) search(w http.ResponseWriter, r *http.Request) error {
	f, err := s.filter(r)
	if err != nil {
		return err
	}
	s.catchUp(r)
	f.Query = r.URL.Query().Get("q")
	ctx, cancel := context.WithTimeout(r.Context(), searchTimeout)
	defer cancel()
	items, next, err := s.Index.Search(ctx, f)
	if ctx.Err() != nil && r.Context().Err() == nil {
		return problem(http.StatusGatewayTimeout, "the search took too long; narrow it, with a time, a connection or a rarer word")
	}
	if err != nil {
		return listError(err)
	}
	return writeJSON(w, Page[store.Operation]{items, next})
}

// listError tells a caller what is wrong with what he asked for.
func listError(err error) error {
	if errors.Is(err, store.ErrQuery) {
		return problem(http.StatusBadRequest, err.Error())
	}
	return err
}

// session finds the session that a request names, if the caller may see it.
func (s *server) session(r *http.Request) (*store.Session, error) {
	return s.lookUp(r, custos.SessionID(r.PathValue("id")))
}

func (s *server) lookUp(r *http.Request, id custos.SessionID) (*store.Session, error) {
	if !id.Valid() {
		return nil, notFound()
	}
	s.catchUp(r)
	f := store.Filter{}
	p := caller(r.Context())
	if !s.seesAll(p) {
		f.Viewer = &store.Viewer{Issuer: p.Issuer, Subject: p.Subject}
	}
	session, err := s.Index.Session(r.Context(), id, f)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound()
	}
	return session, err
}

func (s *server) showSession(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	return writeJSON(w, session)
}

func (s *server) listOperations(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	f, err := s.filter(r)
	if err != nil {
		return err
	}
	items, next, err := s.Index.Operations(r.Context(), session.ID, f)
	if err != nil {
		return listError(err)
	}
	return writeJSON(w, Page[store.Operation]{items, next})
}

// stop ends an open session: one's own, or as an admin anybody's. The
// session's last entry says who did it.
func (s *server) stop(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	p := caller(r.Context())
	if !s.isAdmin(p) {
		// An auditor sees everybody's; what he ends is his own.
		own := store.Filter{Viewer: &store.Viewer{Issuer: p.Issuer, Subject: p.Subject}}
		_, err := s.Index.Session(r.Context(), session.ID, own)
		if errors.Is(err, store.ErrNotFound) {
			return problem(http.StatusForbidden, "only admins end other people's sessions")
		}
		if err != nil {
			return err
		}
	}
	if !s.Sessions.Stop(session.ID, fmt.Errorf("stopped by %s (%s)", p.Name, identity(p))) {
		return problem(http.StatusConflict, "the session is not open")
	}
	return writeJSON(w, struct{}{})
}
