package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"
)

// maxFile bounds a configuration file in bytes.
const maxFile = 1 << 20

// Options is what a Config is checked against.
type Options struct {
	// Protocols are the names that a connection's protocol may have.
	Protocols []string
	// Addressed are those of them whose targets may be given by a URL.
	Addressed []string
	// Detectors are the kinds of value that a mask may look for. Empty: any
	// name is taken.
	Detectors []string
	// Managed: the connections that were added at run time, which lie in
	// data_dir, count too. Only the gateway itself sees them.
	Managed bool

	// managed gives the file of those connections, or what it would be.
	managed func(*Config) ([]byte, error)
}

// Load reads and checks the file at path. What is wrong in it comes as
// Errors. It opens no other file, but that of the managed connections: those
// that it names are read where they are used.
func Load(path string, opts Options) (*Config, error) {
	raw, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("load configuration: %w", err)
	}
	if opts.Managed {
		opts.managed = readManaged
	}
	return parse(path, raw, opts)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: name the file with --config", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return raw, nil
}

func parse(path string, raw []byte, opts Options) (*Config, error) {
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("load configuration: %w", err)
	}
	c := &Config{Raw: raw}
	d := newDecoder(path, raw)
	if d.decode(raw, c) {
		d.rules(reflect.ValueOf(c).Elem(), "")
		if opts.managed != nil {
			more, err := opts.managed(c.at(base))
			if err != nil {
				return nil, fmt.Errorf("load managed connections: %w", err)
			}
			d.overlay(c, more)
		}
		d.check(c, opts)
	}
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	d.warnings.sort()
	c.Warnings = d.warnings
	c.complete(base)
	return c, nil
}

// complete fills in what follows from other settings.
func (c *Config) complete(base string) {
	paths := []*string{&c.DataDir}
	if c.TLS != nil {
		paths = append(paths, &c.TLS.Certificate, &c.TLS.Key)
	}
	for i := range c.Issuers {
		s := &c.Issuers[i]
		paths = append(paths, &s.CAFile, &s.TokenFile)
		if len(s.Algorithms) == 0 {
			s.Algorithms = []string{"RS256", "ES256"}
		}
	}
	for i := range c.Connections {
		n := &c.Connections[i]
		paths = append(paths, &n.TLS.CAFile, &n.TLS.Certificate, &n.TLS.Key, &n.Credential.Password.File)
		if secret, _ := n.Credential.secret(); secret != &n.Credential.Password {
			paths = append(paths, &secret.File)
		}
		if n.Database == "" {
			n.Database = n.Name
		}
	}
	for _, p := range slices.Concat(paths, c.secretPaths(), c.notifyPaths(), c.consolePaths()) {
		*p = absolute(base, *p)
	}
}

func absolute(base, path string) string {
	if path != "" && !filepath.IsAbs(path) {
		return filepath.Join(base, path)
	}
	return path
}

// Digest returns the SHA-256 of the file, in hexadecimal: the version that
// entries cite.
func (c *Config) Digest() string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Watch calls onChange whenever the file at path holds other bytes than
// before, and returns when ctx is done or tick is closed. loaded is what the
// caller has in force. New bytes count once two ticks have seen the same, so
// that a file is not taken while it is being written; one that cannot be
// read, as for a moment while an editor replaces it, is looked at again at the
// next tick.
func Watch(ctx context.Context, path string, loaded *Config, tick <-chan time.Time, onChange func()) {
	known := sha256.Sum256(loaded.Raw)
	seen := known
	for {
		select {
		case <-ctx.Done():
			return
		case _, more := <-tick:
			if !more {
				return
			}
		}
		raw, err := read(path)
		if err != nil {
			continue
		}
		now := sha256.Sum256(raw)
		if now == seen && now != known {
			known = now
			onChange()
		}
		seen = now
	}
}
