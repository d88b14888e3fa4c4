package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Agent is one agent that has joined, or, without an ID, a name under which
// none has.
type Agent struct {
	Name    string     `json:"name"`
	ID      string     `json:"id,omitempty"`
	Joined  *time.Time `json:"joined,omitempty"`
	By      string     `json:"by,omitempty"`      // by whose one-time token, or as which workload
	Expires *time.Time `json:"expires,omitempty"` // when its certificate ends, unless it is renewed
	// Line is nil where it is not connected.
	Line *AgentLine `json:"line,omitempty"`
}

// AgentLine is an agent's line to the gateway.
type AgentLine struct {
	Address string    `json:"address"` // from where it dialled
	Host    string    `json:"host"`    // what it says of itself
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	// Sessions are those open over it; Dials are all that were asked for, and
	// Failed those of them that the agent could not serve.
	Sessions int   `json:"sessions"`
	Dials    int64 `json:"dials"`
	Failed   int64 `json:"failed"`
	// Draining: it takes no new sessions.
	Draining bool `json:"draining,omitempty"`
}

// AgentToken is a one-time token with which an agent joins.
type AgentToken struct {
	Name    string    `json:"name"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// Agents are the agents in targets' networks. What is changed is on record, by
// whom, before it is done.
type Agents interface {
	List() []Agent
	Token(by, name string, life time.Duration) (AgentToken, error)
	// Remove lets one in no more; with id "", all of a name.
	Remove(by, name, id string) error
}

func (s *server) listAgents(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.Agents.List())
}

// tokenRequest is what a token is asked for with.
type tokenRequest struct {
	Life string `json:"life"` // as time.ParseDuration reads it
}

func (s *server) agentToken(w http.ResponseWriter, r *http.Request) error {
	var ask tokenRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &ask)
	}
	life, err2 := time.ParseDuration(ask.Life)
	if err != nil || err2 != nil {
		return problem(http.StatusBadRequest, `want JSON as {"life": "15m"}`)
	}
	t, err := s.Agents.Token(identity(caller(r.Context())), r.PathValue("name"), life)
	if err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return writeJSON(w, t)
}

func (s *server) removeAgent(w http.ResponseWriter, r *http.Request) error {
	if err := s.Agents.Remove(identity(caller(r.Context())), r.PathValue("name"), r.URL.Query().Get("id")); err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return writeJSON(w, struct{}{})
}

// Agents lists the agents, connected or not.
func (c *Client) Agents(ctx context.Context) (all []Agent, err error) {
	return all, c.get(ctx, "/api/v1/agents", nil, &all)
}

// AgentToken asks for a one-time token with which an agent joins.
func (c *Client) AgentToken(ctx context.Context, name string, life time.Duration) (t AgentToken, err error) {
	return t, c.post(ctx, fmt.Sprintf("/api/v1/agents/%s/token", url.PathEscape(name)), tokenRequest{life.String()}, &t)
}

// RemoveAgent lets an agent in no more; with id "", all of a name.
func (c *Client) RemoveAgent(ctx context.Context, name, id string) error {
	query := url.Values{}
	if id != "" {
		query.Set("id", id)
	}
	resp, err := c.do(ctx, http.MethodDelete, "/api/v1/agents/"+url.PathEscape(name), query)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
