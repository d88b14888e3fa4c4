package server

import (
	"fmt"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
)

// policies is the API's view of the rules in force.
type policies struct{ *Server }

// Rules is of api.Policies.
func (s policies) Rules() (string, []policy.Rule) {
	r := s.inForce.Load()
	return r.policy.Version(), r.config.Rules
}

// Explain is of api.Policies.
func (s policies) Explain(p *custos.Principal, connection, statement string) (*custos.Operation, custos.Decision, []policy.Fired, error) {
	r := s.inForce.Load()
	c, ok := r.connections[connection]
	if !ok {
		return nil, custos.Decision{}, nil, fmt.Errorf("explain statement: there is no connection %s", connection)
	}
	for _, protocol := range s.Protocols {
		if protocol.Name != c.Protocol || protocol.Operation == nil {
			continue
		}
		op, err := protocol.Operation(statement)
		if err != nil {
			return nil, custos.Decision{}, nil, fmt.Errorf("read statement: %w: it is refused, whatever the rules say", err)
		}
		now := s.Now()
		return op, r.policy.Judge(p, c, op, &custos.Usage{}, now), r.policy.Explain(p, c, op, &custos.Usage{}, now), nil
	}
	return nil, custos.Decision{}, nil, fmt.Errorf("explain statement: nothing reads statements of %s outside of a session", c.Protocol)
}
