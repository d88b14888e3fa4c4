package server

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/vault"
)

// newServices makes what credentials are asked of besides environment and
// files. A vault that is configured as before stays: sessions use what it made.
func newServices(c *config.Config, before *rules, logger *slog.Logger, now func() time.Time) (vault.Services, error) {
	s := vault.Services{Stored: &vault.Stored{Dir: filepath.Join(c.DataDir, "credentials"), KeyFile: c.Stored.KeyFile}}
	if c.Stored.KeyFile == "" {
		s.Stored.KeyFile, s.Stored.MakeKey = filepath.Join(c.DataDir, "keys", "credentials.key"), true
	}
	switch v := c.Vault; {
	case v == nil:
	case before != nil && reflect.DeepEqual(before.config.Vault, v):
		s.Service = before.services.Service
	default:
		var err error
		if s.Service, err = vault.NewService(vault.ServiceOptions{Address: v.Address, Namespace: v.Namespace, CAFile: v.CAFile,
			Auth: vaultAuth(&v.Auth), Now: now, Logger: logger}); err != nil {
			return s, err
		}
	}
	if t := c.Stored.Transit; t != nil {
		s.Stored.Transit = &vault.Transit{Service: s.Service, Mount: t.Mount, Key: t.Key}
	}
	return s, nil
}

func vaultAuth(a *config.VaultAuth) vault.Auth {
	switch {
	case a.AppRole != nil:
		return vault.Auth{Mount: a.AppRole.Mount, RoleID: a.AppRole.RoleID, SecretID: vault.Plain{Env: a.AppRole.SecretID.Env, File: a.AppRole.SecretID.File}}
	case a.JWT != nil:
		return vault.Auth{Mount: a.JWT.Mount, JWTRole: a.JWT.Role, JWTFile: a.JWT.TokenFile}
	}
	return vault.Auth{Token: &vault.Plain{Env: a.Token.Env, File: a.Token.File}}
}

// source says where a connection's credential lies.
func source(c *config.Credential) vault.Source {
	username, password := c.Login()
	s := vault.Source{Username: username, Env: password.Env, File: password.File, Stored: password.Stored}
	if v := password.Vault; v != nil {
		s.KV = &vault.KV{Mount: v.Mount, Path: v.Path, Field: v.Field}
	}
	if v := c.Vault; v != nil {
		s.Role = &vault.Role{Mount: v.Mount, Role: v.Role}
	}
	return s
}

// tendVault renews what is lent until ctx ends. What a vault made that is no
// longer configured is not renewed: it ends by itself.
func (s *Server) tendVault(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if service := s.inForce.Load().services.Service; service != nil {
				service.Tend(ctx)
			}
		}
	}
}

// SetSecret is of api.Connections. That it is set, and by whom, is on record
// before it is; nothing of it is.
func (s connections) SetSecret(ctx context.Context, by, name, secret string) error {
	if _, ok := s.inForce.Connection(name); !ok {
		return fmt.Errorf("store secret: there is no connection %s", name)
	}
	if err := s.house.keep(&custos.Entry{Kind: custos.EntrySecret, Note: &custos.Note{By: by, Text: "secret of connection " + name + " set"}}, nil); err != nil {
		return err
	}
	return s.inForce.Load().services.Stored.Put(ctx, name, secret)
}

// RemoveSecret is of api.Connections.
func (s connections) RemoveSecret(by, name string) error {
	if err := s.house.keep(&custos.Entry{Kind: custos.EntrySecret, Note: &custos.Note{By: by, Text: "secret of connection " + name + " removed"}}, nil); err != nil {
		return err
	}
	there, err := s.inForce.Load().services.Stored.Remove(name)
	if err == nil && !there {
		err = fmt.Errorf("remove secret: none is stored for %s", name)
	}
	return err
}
