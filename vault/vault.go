// Package vault lends the credentials that log in to targets. A credential
// goes from its source to a protocol's Login and is kept nowhere: it is read
// anew for every session, so that a rotation needs no restart, and no error
// of this package holds any part of it. The exception are users that a vault
// service makes: these are kept, in memory, as long as sessions use them.
package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/custos-gateway/custos"
)

// maxSecret bounds a secret in bytes: cloud databases' tokens take a few KiB.
const maxSecret = 64 << 10

// Source says where one connection's credential lies. At most one of the
// fields besides Username is set; none is for a target that asks for no
// password.
type Source struct {
	Username string
	// Env names an environment variable of the gateway's process.
	Env string
	// File is the path of a file that only its owner, or also its group, may
	// read; one newline at its end is not part of the secret.
	File string
	// Stored: it was given to Services.Stored under the connection's name.
	Stored bool
	// KV is a secret of Services.Service.
	KV *KV
	// Role is a role of Services.Service, which makes Username as well.
	Role *Role
}

// Services are what sources are asked of besides environment and files.
type Services struct {
	Stored  *Stored
	Service *Service // nil: there is none
}

// Vault lends credentials. It is immutable, so it is safe for concurrent use.
type Vault struct {
	sources  map[string]Source
	services Services
}

// New returns a vault of sources by connection name.
func New(sources map[string]Source, services Services) *Vault {
	return &Vault{sources: sources, services: services}
}

// Lend returns the credential of c, read from its source now. It fails when
// the source is not there, is empty, or is open to others.
func (v *Vault) Lend(ctx context.Context, c *custos.Connection) (custos.Credential, error) {
	if err := ctx.Err(); err != nil {
		return custos.Credential{}, fmt.Errorf("lend credential of %s: %w", c.Name, err)
	}
	s, ok := v.sources[c.Name]
	if !ok {
		return custos.Credential{}, fmt.Errorf("lend credential of %s: it has none: "+
			"add credential to this connection in the configuration", c.Name)
	}
	cred := custos.Credential{Username: s.Username}
	var err error
	if s.Role != nil {
		cred, err = v.services.Service.borrow(ctx, *s.Role)
	} else {
		cred.Password, err = v.read(ctx, c.Name, &s)
	}
	if err != nil {
		return custos.Credential{}, fmt.Errorf("lend credential of %s: %w", c.Name, err)
	}
	return cred, nil
}

func (v *Vault) read(ctx context.Context, name string, s *Source) (string, error) {
	switch {
	case s.Env != "" && s.File != "":
		return "", errors.New("both env and file are set: keep one of them")
	case s.Env != "":
		return readEnv(s.Env)
	case s.File != "":
		return readFile(s.File)
	case s.Stored:
		return v.services.Stored.get(ctx, name)
	case s.KV != nil:
		return v.services.Service.read(ctx, *s.KV)
	default:
		return "", nil
	}
}

func readEnv(name string) (string, error) {
	secret := os.Getenv(name)
	if secret == "" {
		return "", fmt.Errorf("environment variable %s is not set: set it where the gateway is started", name)
	}
	return check(secret, "environment variable "+name)
}

func readFile(path string) (string, error) {
	// The mode is asked of the open file, so that what is checked is what is
	// read. O_NONBLOCK keeps a FIFO in the file's place from blocking a session.
	f, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return "", fmt.Errorf("read secret: %w: put it there, readable by the gateway's user", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("read secret: %s is not a regular file: name a file that holds the secret alone", path)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("read secret: %s is open to every user (mode %04o): run chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+2))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	b = bytes.TrimSuffix(b, []byte("\r"))
	if len(b) == 0 {
		return "", fmt.Errorf("read secret: %s is empty: write the secret into it", path)
	}
	return check(string(b), path)
}

// check refuses what no target takes as a password, naming where it came from
// and never what it was.
func check(secret, where string) (string, error) {
	if len(secret) > maxSecret {
		return "", fmt.Errorf("read secret: %s holds more than %d bytes: name a file that holds the secret alone", where, maxSecret)
	}
	if strings.ContainsAny(secret, "\x00\r\n") {
		return "", fmt.Errorf("read secret: %s holds several lines or a NUL byte: keep the secret alone, on one line", where)
	}
	return secret, nil
}
