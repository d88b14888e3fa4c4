package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/custos-gateway/custos"
)

// Role is a role of the database engine.
type Role struct{ Mount, Role string }

// lease is a user that the service made, for the sessions that use it.
//
// One serves all sessions on a role that are open at the same time: the
// service's leases are few, and what a protocol keeps up beside the sessions
// with their credential goes on while there is one of them. It is renewed while
// it is used, and revoked after the last. A gateway that is killed leaves it to
// end by itself.
type lease struct {
	cred    custos.Credential
	id      string
	life    time.Duration
	expires time.Time
	users   int
}

type leases struct {
	mu sync.Mutex // also while one is asked for: who comes next shares it
	by map[Role]*lease
	// left are those that serve nobody new, and somebody still.
	left []*lease
}

// borrow returns the credential of a role, for one session.
func (s *Service) borrow(ctx context.Context, role Role) (custos.Credential, error) {
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	l := s.leases.by[role]
	if l != nil && l.expires.Sub(s.o.Now()) <= l.life/10 {
		// It could not be renewed.
		s.leases.left = append(s.leases.left, l)
		l = nil
	}
	if l == nil {
		var err error
		if l, err = s.ask(ctx, role); err != nil {
			return custos.Credential{}, err
		}
		s.leases.by[role] = l
	}
	l.users++
	cred := l.cred
	cred.Return = sync.OnceFunc(func() { s.giveBack(role, l) })
	return cred, nil
}

func (s *Service) ask(ctx context.Context, role Role) (*lease, error) {
	var answer struct {
		ID   string                              `json:"lease_id"`
		Life int64                               `json:"lease_duration"` // seconds
		Data struct{ Username, Password string } `json:"data"`
	}
	if err := s.call(ctx, http.MethodGet, role.Mount+"/creds/"+role.Role, nil, &answer); err != nil {
		return nil, err
	}
	if answer.ID == "" || answer.Life <= 0 || answer.Data.Username == "" || answer.Data.Password == "" {
		return nil, fmt.Errorf("ask vault for %s/creds/%s: its answer is no user with a lease", role.Mount, role.Role)
	}
	if _, err := check(answer.Data.Password, role.Mount+"/creds/"+role.Role); err != nil {
		return nil, err
	}
	l := &lease{id: answer.ID, life: time.Duration(answer.Life) * time.Second,
		cred: custos.Credential{Username: answer.Data.Username, Password: answer.Data.Password, Role: role.Mount + "/" + role.Role}}
	l.expires = s.o.Now().Add(l.life)
	return l, nil
}

// giveBack ends one session's use. After the last the user is removed.
func (s *Service) giveBack(role Role, l *lease) {
	s.leases.mu.Lock()
	l.users--
	last := l.users == 0
	if last {
		if s.leases.by[role] == l {
			delete(s.leases.by, role)
		}
		s.dropLeft(l)
	}
	s.leases.mu.Unlock()
	if !last {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), serviceTimeout/2)
	defer cancel()
	if err := s.call(ctx, http.MethodPut, "sys/leases/revoke", map[string]string{"lease_id": l.id}, nil); err != nil {
		s.o.Logger.Warn("revoke lease: it ends by itself", "lease", l.id, "at", l.expires, "cause", err)
	}
}

func (s *Service) dropLeft(l *lease) {
	for i, x := range s.leases.left {
		if x == l {
			s.leases.left = append(s.leases.left[:i], s.leases.left[i+1:]...)
			return
		}
	}
}

// renewLeases has those last longer that are used and a third from their end.
func (s *Service) renewLeases(ctx context.Context) {
	s.leases.mu.Lock()
	var due []*lease
	for _, l := range s.leases.by {
		if l.expires.Sub(s.o.Now()) <= l.life/3 {
			due = append(due, l)
		}
	}
	s.leases.mu.Unlock()
	for _, l := range due {
		var answer struct {
			Life int64 `json:"lease_duration"` // seconds, from now
		}
		err := s.call(ctx, http.MethodPut, "sys/leases/renew", map[string]any{"lease_id": l.id, "increment": int64(l.life / time.Second)}, &answer)
		if err == nil && answer.Life <= 0 {
			err = errors.New("its answer has no lease_duration")
		}
		if err != nil {
			s.o.Logger.Warn("renew lease: sessions to come get another", "lease", l.id, "ends", l.expires, "cause", err)
			continue
		}
		s.leases.mu.Lock()
		l.expires = s.o.Now().Add(time.Duration(answer.Life) * time.Second)
		s.leases.mu.Unlock()
	}
}

// Tend renews what is to be renewed. Call it every few seconds.
func (s *Service) Tend(ctx context.Context) {
	s.renew(ctx)
	s.renewLeases(ctx)
}
