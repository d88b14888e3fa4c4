package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync/atomic"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/policy"
	"github.com/custos-gateway/custos/vault"
)

// rules is what a configuration sets and a reload replaces, all at once: a
// session opened before a reload is judged by what is in force now.
type rules struct {
	config      *config.Config
	digest      string
	connections map[string]*custos.Connection
	skills      map[string]*config.Skill
	policy      *policy.Policy
	vault       *vault.Vault
	services    vault.Services
}

func (s *Server) newRules(c *config.Config) (*rules, error) {
	services, err := newServices(c, s.inForce.Load(), s.Logger, s.Now)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(c.Raw)
	r := &rules{config: c, services: services, digest: hex.EncodeToString(sum[:]), policy: c.Policy, connections: map[string]*custos.Connection{}, skills: map[string]*config.Skill{}}
	for i := range c.Skills {
		r.skills[c.Skills[i].Name] = &c.Skills[i]
	}
	for _, target := range c.Targets() {
		r.connections[target.Name] = target
	}
	sources := map[string]vault.Source{}
	for _, conn := range c.Connections {
		sources[conn.Name] = source(&conn.Credential)
	}
	r.vault = vault.New(sources, services)
	return r, nil
}

// inForce is the gate's view of the rules in force.
type inForce struct {
	atomic.Pointer[rules]
	now func() time.Time
}

func (f *inForce) Connection(name string) (*custos.Connection, bool) {
	c, ok := f.Load().connections[name]
	return c, ok
}

func (f *inForce) Enter(p *custos.Principal, c *custos.Connection) custos.Decision {
	r := f.Load()
	if d, ok := r.bound(p, c.Name, f.now()); !ok {
		return d
	}
	// Whoever acts with a ticket has at most the rights of both.
	if of := p.OnBehalfOf; of != nil && p.Ticket != nil && len(of.Groups) > 0 {
		if d := r.policy.Enter(of, c); d.Effect != custos.Allow {
			return d
		}
	}
	return r.policy.Enter(p, c)
}

func (f *inForce) Judge(p *custos.Principal, c *custos.Connection, op *custos.Operation, u *custos.Usage, at time.Time) custos.Decision {
	r := f.Load()
	// The session holds the connection as it was when it was opened.
	now, ok := r.connections[c.Name]
	if !ok {
		now = &custos.Connection{Name: c.Name, Protocol: c.Protocol}
	}
	if d, ok := r.bound(p, c.Name, at); !ok {
		return d
	}
	return r.policy.Judge(p, now, op, u, at)
}

func (f *inForce) Lend(ctx context.Context, c *custos.Connection) (custos.Credential, error) {
	return f.Load().vault.Lend(ctx, c)
}
