package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/internal/durable"
)

// Tester is a protocol's service that can log in to a target and out again,
// with nothing asked of it in between.
type Tester interface {
	Test(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential) error
}

// connections is the API's view of the registered connections.
type connections struct{ *Server }

func (s *Server) connections() connections { return connections{s} }

// Visible is of api.Connections.
func (s connections) Visible(p *custos.Principal, all bool) []api.Connection {
	r := s.inForce.Load()
	var list []api.Connection
	for i := range r.config.Connections {
		written := &r.config.Connections[i]
		target := r.connections[written.Name]
		if !all && s.inForce.Enter(p, target).Effect != custos.Allow {
			continue
		}
		c := api.Connection{Name: target.Name, Protocol: target.Protocol, Labels: target.Labels}
		c.Port, c.Path = s.endpoint(target)
		if all {
			c.Admin = about(written, target)
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b api.Connection) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func about(written *config.Connection, target *custos.Connection) *api.ConnectionAdmin {
	a := &api.ConnectionAdmin{Address: target.Address, Database: target.Database, Username: written.Credential.Username, TLS: target.TLS.Mode,
		Groups: []string{}, Managed: written.Managed}
	for _, access := range target.Access {
		a.Groups = append(a.Groups, access.Groups...)
	}
	if target.Retention > 0 {
		a.Retention = written.Retention.String()
	}
	return a
}

// endpoint is where callers find a connection: a port, or a path of the HTTPS
// listener.
func (s connections) endpoint(c *custos.Connection) (port int, path string) {
	for _, p := range s.Protocols {
		if p.Name == c.Protocol && p.HTTP != nil {
			return 0, p.Prefix + c.Name
		}
	}
	for _, l := range s.listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok && l.protocol == c.Protocol {
			return a.Port, ""
		}
	}
	return 0, ""
}

// testTimeout bounds the test of a connection.
const testTimeout = 20 * time.Second

// Test is of api.Connections. That somebody lets the credential be used is on
// record before it is.
func (s connections) Test(ctx context.Context, by, name string) error {
	c, ok := s.inForce.Connection(name)
	if !ok {
		return fmt.Errorf("test connection: there is no %s", name)
	}
	tester, ok := s.testers[c.Protocol]
	if !ok {
		return fmt.Errorf("test connection: the gateway does not listen for %s: add it under listen", c.Protocol)
	}
	if err := s.house.keep(&custos.Entry{Kind: custos.EntryTested, Note: &custos.Note{By: by, Text: name}}, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	cred, err := s.inForce.Lend(ctx, c)
	if err != nil {
		return err
	}
	if cred.Return != nil {
		defer cred.Return()
	}
	conn, err := s.dialer.Dial(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	return tester.Test(ctx, conn, c, cred)
}

// Put is of api.Connections. A crash after the change is on record, and before
// it is in the file, leaves the file as it was: the next start puts on record
// what is in force then.
func (s connections) Put(by, name string, definition []byte) error {
	what := "connection " + name + " changed"
	if _, known := s.inForce.Connection(name); !known {
		what = "connection " + name + " added"
	}
	return s.change(by, name, what, definition)
}

// Remove is of api.Connections. Sessions that are open on it find each further
// operation refused.
func (s connections) Remove(by, name string) error {
	return s.change(by, name, "connection "+name+" removed", nil)
}

func (s connections) change(by, name, what string, definition []byte) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	next, file, err := config.WithConnection(s.ConfigPath, name, definition, s.checks())
	if err != nil {
		return err
	}
	before := s.inForce.Load().config
	if next.ManagedFile() != before.ManagedFile() {
		return errOtherFolder
	}
	return s.adopt(next, by, what, func() error { return durable.WriteFile(durable.OS, next.ManagedFile(), file, 0o600) })
}

var errOtherFolder = errors.New("change configuration: data_dir was changed in the file: start the gateway anew first")

// Definition is of api.Connections.
func (s connections) Definition(name string) ([]byte, error) {
	return s.inForce.Load().config.Definition(name)
}
