package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	custos "github.com/custos-gateway/custos"
)

// Connection is a registered connection, as a caller may know it. What only
// administrators see is left out for others.
type Connection struct {
	Name     string            `json:"name"`
	Protocol string            `json:"protocol"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Port is that of the protocol's listener, and Path the connection's on the
	// HTTPS listener: it has one of them, or none where the gateway does not
	// listen for the protocol.
	Port int    `json:"port,omitempty"`
	Path string `json:"path,omitempty"`

	Admin *ConnectionAdmin `json:"admin,omitempty"`
}

// ConnectionAdmin is what only administrators see of a connection.
type ConnectionAdmin struct {
	Address   string   `json:"address"`
	Database  string   `json:"database,omitempty"`
	Username  string   `json:"username,omitempty"`
	TLS       string   `json:"tls"`
	Groups    []string `json:"groups"`
	Retention string   `json:"retention,omitempty"`
	// Managed: it was added here, and is not in the configuration file.
	Managed bool `json:"managed"`
}

// Connections are the registered connections.
type Connections interface {
	// Visible lists those that p may use, by name; with all, every one and what
	// administrators see.
	Visible(p *custos.Principal, all bool) []Connection
	// Test logs in to one and out again, for by. The error names the cause.
	Test(ctx context.Context, by, name string) error
	// Put adds or replaces one by its definition, in YAML as the configuration
	// file has it, and puts on record by whom. Remove takes one away.
	Put(by, name string, definition []byte) error
	Remove(by, name string) error
	// Definition is what Put was given.
	Definition(name string) ([]byte, error)
	// SetSecret stores what one logs in with, and RemoveSecret forgets it.
	SetSecret(ctx context.Context, by, name, secret string) error
	RemoveSecret(by, name string) error
}

func (s *server) visible(p *custos.Principal) []Connection {
	return s.Connections.Visible(p, s.isAdmin(p))
}

func (s *server) listConnections(w http.ResponseWriter, r *http.Request) error {
	all := s.visible(caller(r.Context()))
	if all == nil {
		all = []Connection{}
	}
	return writeJSON(w, all)
}

func (s *server) connection(r *http.Request) (*Connection, error) {
	for _, c := range s.visible(caller(r.Context())) {
		if c.Name == r.PathValue("name") {
			return &c, nil
		}
	}
	return nil, problem(http.StatusNotFound, "there is no such connection, or no group of yours may use it; custos connection list shows yours")
}

func (s *server) showConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connection(r)
	if err != nil {
		return err
	}
	return writeJSON(w, c)
}

// administrator refuses whoever is none.
func (s *server) administrator(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !s.isAdmin(caller(r.Context())) {
			return problem(http.StatusForbidden, "only an administrator may do this; roles: in the configuration says who is one")
		}
		return h(w, r)
	}
}

// Tested is how the test of a connection went.
type Tested struct {
	OK bool `json:"ok"`
	// Error is why not.
	Error string `json:"error,omitempty"`
}

func (s *server) testConnection(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connection(r)
	if err != nil {
		return err
	}
	if err := s.Connections.Test(r.Context(), identity(caller(r.Context())), c.Name); err != nil {
		return writeJSON(w, Tested{Error: err.Error()})
	}
	return writeJSON(w, Tested{OK: true})
}

func (s *server) putConnection(w http.ResponseWriter, r *http.Request) error {
	definition, err := io.ReadAll(r.Body)
	if err != nil {
		return problem(http.StatusBadRequest, fmt.Sprintf("the connection could not be read: %v", err))
	}
	if err := s.Connections.Put(identity(caller(r.Context())), r.PathValue("name"), definition); err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return s.showConnection(w, r)
}

func (s *server) removeConnection(w http.ResponseWriter, r *http.Request) error {
	if err := s.Connections.Remove(identity(caller(r.Context())), r.PathValue("name")); err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return writeJSON(w, struct{}{})
}

func (s *server) defineConnection(w http.ResponseWriter, r *http.Request) error {
	definition, err := s.Connections.Definition(r.PathValue("name"))
	if err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	w.Header().Set("Content-Type", "application/yaml")
	_, err = w.Write(definition)
	return err
}

// Connections asks for the connections that the caller may use.
func (c *Client) Connections(ctx context.Context) ([]Connection, error) {
	var all []Connection
	return all, c.get(ctx, "/api/v1/connections", nil, &all)
}

// Connection asks for one of them.
func (c *Client) Connection(ctx context.Context, name string) (*Connection, error) {
	one := new(Connection)
	return one, c.get(ctx, connectionPath(name), nil, one)
}

// TestConnection lets the gateway log in to a target.
func (c *Client) TestConnection(ctx context.Context, name string) (*Tested, error) {
	t := new(Tested)
	return t, c.post(ctx, connectionPath(name)+"/test", struct{}{}, t)
}

// PutConnection adds or replaces one by its definition.
func (c *Client) PutConnection(ctx context.Context, name string, definition []byte) (*Connection, error) {
	resp, err := c.send(ctx, http.MethodPut, connectionPath(name), nil, bytes.NewReader(definition))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	one := new(Connection)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(one); err != nil {
		return nil, fmt.Errorf("read gateway's answer: %w", err)
	}
	return one, nil
}

// ConnectionDefinition asks for what PutConnection was given.
func (c *Client) ConnectionDefinition(ctx context.Context, name string) ([]byte, error) {
	var b bytes.Buffer
	err := c.Raw(ctx, &b, connectionPath(name)+"/definition", nil)
	return b.Bytes(), err
}

// RemoveConnection takes one away that was added.
func (c *Client) RemoveConnection(ctx context.Context, name string) error {
	resp, err := c.do(ctx, http.MethodDelete, connectionPath(name), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func connectionPath(name string) string { return "/api/v1/connections/" + url.PathEscape(name) }
