package postgres

import (
	"context"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// Ask asks people about a statement before it is run, in a session of its own:
// it is judged as it would be when it runs, by what the target's database has.
// See gate.Session.Ask for what it returns.
func (s *Server) Ask(ctx context.Context, q gate.Question) (custos.Approval, custos.Decision, error) {
	session, err := s.Gate.OpenFor(ctx, q.Caller, gate.Knock{
		Protocol: Name, Connection: q.Connection, Client: q.Client, Login: s.login,
		Hello: &hello{connection: q.Connection, settings: map[string]string{"application_name": "custos", "client_encoding": "UTF8"}},
	})
	if err != nil {
		return custos.Approval{}, custos.Decision{}, err
	}
	defer session.Close("leave was asked for")
	v := &served{server: s, session: session, poison: session.Greeting().(*greeting)}
	v.keeper = v.poison.keeper
	u := &unit{work: new(work)}
	u.op.Class = "Query"
	u.judge(v.understand(q.Statement))
	if n := len(q.Statement); n > s.Limits.Message && u.refused == nil {
		u.refused = tooLong(n, s.Limits.Message)
	}
	v.previewed = u
	return session.Ask(ctx, &gate.Request{Operation: &u.op, Refused: u.refused, Preview: v.preview}, q.Purpose)
}
