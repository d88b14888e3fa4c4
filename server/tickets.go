package server

import (
	"context"
	"fmt"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/identity/ticket"
)

// callers says who comes to a connection: by a token of an issuer's, or by a
// ticket of the gateway's own.
type callers struct {
	tokens  *identity.Verifier
	tickets *ticket.Book
}

// Verify is gate.Identifier.
func (c callers) Verify(ctx context.Context, token string) (*custos.Principal, error) {
	if !ticket.Is(token) {
		return c.tokens.Verify(ctx, token)
	}
	p, err := c.tickets.Verify(token)
	if err != nil {
		return nil, err
	}
	for q := p; q != nil; q = q.OnBehalfOf {
		if !c.tokens.Trusts(q.Issuer) {
			return nil, &identity.Error{Code: identity.WrongIssuer, Reason: "it was given for a token of an issuer that this gateway does not trust any more"}
		}
	}
	return p, nil
}

// ticketDesk exchanges tokens for tickets.
func (s *Server) ticketDesk() *ticket.Desk {
	return ticket.NewDesk(ticket.Options{
		Book: s.house.tickets, Read: s.verifier.Read, Now: s.Now, Logger: s.Logger,
		Enter: func(p *custos.Principal, name string) bool {
			return s.inForce.Enter(p, s.known(name)).Effect == custos.Allow
		},
		ActsFor: s.actsFor,
		Life:    func() time.Duration { return time.Duration(s.inForce.Load().config.Limits.TicketLife) },
		Stop:    func(match func(*custos.Principal) bool, cause error) { s.gate.StopAll(match, cause) },
	})
}

// openSessions is the API's view of the open sessions.
type openSessions struct{ *Server }

// Stop is of api.Sessions.
func (s openSessions) Stop(id custos.SessionID, cause error) bool { return s.gate.Stop(id, cause) }

// StopAll is of api.Sessions. The callers' tickets go first, so that none of
// them opens another session.
func (s openSessions) StopAll(match func(*custos.Principal) bool, by string, cause error) ([]custos.SessionID, error) {
	if err := s.house.tickets.RevokeAll(match, by, cause.Error()); err != nil {
		return nil, fmt.Errorf("revoke tickets: %w", err)
	}
	return s.gate.StopAll(match, cause), nil
}
