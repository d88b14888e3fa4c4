package server

import (
	"context"
	"fmt"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// Asker is a protocol's service that can ask people about a statement before
// it is run.
type Asker interface {
	Ask(context.Context, gate.Question) (custos.Approval, custos.Decision, error)
}

// known is a connection by its name. One that does not exist admits nobody.
func (s *Server) known(name string) *custos.Connection {
	if c, ok := s.inForce.Connection(name); ok {
		return c
	}
	return &custos.Connection{Name: name}
}

// ask is of api.Config. The caller was admitted to the connection.
func (s *Server) ask(ctx context.Context, q gate.Question) (custos.Approval, custos.Decision, error) {
	c := s.known(q.Connection)
	asker, ok := s.testers[c.Protocol].(Asker)
	if !ok {
		return custos.Approval{}, custos.Decision{}, &custos.Refusal{Decision: custos.Decision{
			Reason: fmt.Sprintf("statements of %s cannot be asked for beforehand", c.Protocol), Hint: "ask for access for a time, or run it and wait"}}
	}
	return asker.Ask(ctx, q)
}

func (s *Server) breakGlass(p *custos.Principal, connection string) bool {
	return s.inForce.Load().policy.BreakGlass(p, s.known(connection))
}
