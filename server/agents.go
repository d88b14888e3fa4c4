package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/tunnel"
)

// newHub takes the agents' CA and their list into use.
func (s *Server) newHub() (*tunnel.Hub, error) {
	a, err := tunnel.OpenAuthority(tunnel.AuthorityOptions{
		Dir: filepath.Join(s.house.dir, "agents"), Now: s.Now,
		Life: func(name string) (time.Duration, bool) {
			c, ok := s.agent(name)
			return time.Duration(c.CertificateLife), ok
		},
		Record: func(kind custos.EntryKind, n custos.Note) error {
			return s.house.keep(&custos.Entry{Kind: kind, Note: &n}, nil)
		},
	})
	if err != nil {
		return nil, err
	}
	hub := tunnel.NewHub(a, s.identifyAgent, s.Logger)
	// What was taken out of the configuration while the gateway was not running.
	return hub, hub.Reload()
}

func (s *Server) agent(name string) (config.Agent, bool) {
	all := s.inForce.Load().config.Agents
	i := slices.IndexFunc(all, func(a config.Agent) bool { return a.Name == name })
	if i < 0 {
		return config.Agent{}, false
	}
	return all[i], true
}

// identifyAgent says which workload a token stands for, if it may join as the
// agent of a name. Somebody who acts for another may not.
func (s *Server) identifyAgent(ctx context.Context, token, name string) (string, error) {
	p, err := s.verifier.Verify(ctx, token)
	if err != nil {
		return "", err
	}
	a, _ := s.agent(name)
	for _, id := range a.Identities {
		if p.OnBehalfOf == nil && p.Issuer == id.Issuer && p.Subject == id.Subject {
			return p.Issuer + "|" + p.Subject, nil
		}
	}
	return "", fmt.Errorf("the token is not one of agent %.64q: identities of agents in the gateway's configuration say which are", name)
}

// dialer reaches targets from the gateway itself, or by an agent.
type dialer struct {
	net.Dialer
	agents *tunnel.Hub
}

func (d *dialer) Dial(ctx context.Context, c *custos.Connection) (net.Conn, error) {
	if c.Agent != "" {
		return d.agents.Dial(ctx, c.Agent, c.Address)
	}
	return d.DialContext(ctx, "tcp", c.Address)
}

func newDialer(agents *tunnel.Hub) *dialer {
	return &dialer{net.Dialer{Timeout: 15 * time.Second, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}, agents}
}

// closeAgents ends the agents' lines when no session needs them any more: one
// that is ending may still ask its target to stop what it does.
func (s *Server) closeAgents() {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	late := time.After(stopTimeout / 4)
	for s.gate.Live() > 0 {
		select {
		case <-look.C:
		case <-late:
			s.agents.Close()
			return
		}
	}
	s.agents.Close()
}

// agentList is the API's view of the agents.
type agentList struct{ *Server }

// List is of api.Agents.
func (s agentList) List() []api.Agent {
	lines := map[string]*api.AgentLine{}
	for _, l := range s.agents.Lines() {
		lines[l.ID] = &api.AgentLine{Address: l.Address, Host: l.Host, Version: l.Version, Since: l.Since,
			Sessions: l.Sessions, Dials: l.Dials, Failed: l.Failed, Draining: l.Draining}
	}
	all, joined := []api.Agent{}, map[string]bool{}
	for _, m := range s.agents.Members() {
		all = append(all, api.Agent{Name: m.Name, ID: m.ID, Joined: &m.Joined, By: m.By, Expires: &m.Expires, Line: lines[m.ID]})
		joined[m.Name] = true
	}
	for _, a := range s.inForce.Load().config.Agents {
		if !joined[a.Name] {
			all = append(all, api.Agent{Name: a.Name})
		}
	}
	slices.SortFunc(all, func(a, b api.Agent) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return all
}

// Token is of api.Agents.
func (s agentList) Token(by, name string, life time.Duration) (api.AgentToken, error) {
	token, expires, err := s.agents.Token(by, name, life)
	return api.AgentToken{Name: name, Token: token, Expires: expires}, err
}

// Remove is of api.Agents.
func (s agentList) Remove(by, name, id string) error {
	if _, known := s.agent(name); !known {
		return errors.New("remove agent: there is no agent of this name")
	}
	return s.agents.Remove(by, name, id)
}
