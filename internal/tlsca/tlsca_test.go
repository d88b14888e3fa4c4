package tlsca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func mustLoad(t *testing.T, dir string, c *clock, hosts ...string) *CA {
	t.Helper()
	ca, err := Load(dir, hosts, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// dial opens TLS to ca's certificate as host, trusting roots.
func dial(ca *CA, roots []byte, host string, c *clock) (*x509.Certificate, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		s := tls.Server(server, &tls.Config{GetCertificate: ca.GetCertificate, Time: c.now})
		io.Copy(io.Discard, s)
		s.Close()
	}()
	conn := tls.Client(client, &tls.Config{RootCAs: pool, ServerName: host, Time: c.now})
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestCallersTrustIt(t *testing.T) {
	c := newClock()
	ca := mustLoad(t, filepath.Join(t.TempDir(), "tls"), c, "gw.example.com", "10.1.2.3", "localhost")
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "gw.example.com", "10.1.2.3"} {
		if _, err := dial(ca, ca.PEM(), host, c); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := dial(ca, ca.PEM(), "other.example.com", c); err == nil {
		t.Error("it stands for a name that was not given")
	}
	other := mustLoad(t, t.TempDir(), c)
	if _, err := dial(ca, other.PEM(), "localhost", c); err == nil {
		t.Error("another CA's callers trust it")
	}
}

func TestItStaysTheSame(t *testing.T) {
	c, dir := newClock(), filepath.Join(t.TempDir(), "tls")
	first := mustLoad(t, dir, c)
	again := mustLoad(t, dir, c)
	if !bytes.Equal(first.PEM(), again.PEM()) {
		t.Error("a restart made a new CA")
	}
	if _, err := dial(again, first.PEM(), "localhost", c); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "ca.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestRenewal(t *testing.T) {
	c := newClock()
	ca := mustLoad(t, t.TempDir(), c)
	first, err := dial(ca, ca.PEM(), "localhost", c)
	if err != nil {
		t.Fatal(err)
	}
	c.t = first.NotAfter.Add(-renewal - time.Second)
	same, err := dial(ca, ca.PEM(), "localhost", c)
	if err != nil || !same.Equal(first) {
		t.Errorf("replaced early, or %v", err)
	}
	c.t = c.t.Add(time.Second)
	second, err := dial(ca, ca.PEM(), "localhost", c)
	if err != nil || second.Equal(first) {
		t.Errorf("not replaced, or %v", err)
	}
	// No certificate outlives the CA.
	c.t = ca.cert.NotAfter.Add(-time.Minute)
	last, err := dial(ca, ca.PEM(), "localhost", c)
	if err != nil || last.NotAfter.After(ca.cert.NotAfter) {
		t.Errorf("%v", err)
	}
	c.t = ca.cert.NotAfter
	if _, err := ca.GetCertificate(nil); err == nil || !strings.Contains(err.Error(), "give callers the new ca.pem") {
		t.Errorf("got %v", err)
	}
}

func TestLoadFails(t *testing.T) {
	c := newClock()
	for name, test := range map[string]struct {
		harm func(dir string) error
		say  string
	}{
		"key open to others":  {func(dir string) error { return os.Chmod(filepath.Join(dir, "ca.key"), 0o640) }, "chmod 600"},
		"key lost":            {func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) }, "restore it"},
		"certificate damaged": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"), 0o600) }, "restore them"},
		"another's key": {func(dir string) error {
			other := filepath.Join(dir, "other")
			if _, err := Load(other, nil, c.now); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, "ca.key"), filepath.Join(dir, "ca.key"))
		}, "restore them"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustLoad(t, dir, c)
			if err := test.harm(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(dir, nil, c.now); err == nil || !strings.Contains(err.Error(), test.say) {
				t.Errorf("got %v, want %q", err, test.say)
			}
		})
	}
	dir := t.TempDir()
	ca := mustLoad(t, dir, c)
	c.t = ca.cert.NotAfter
	if _, err := Load(dir, nil, c.now); err == nil {
		t.Error("loaded past its time")
	}
}

// A crash between the two files leaves a key that nobody trusts yet.
func TestCrashWhileMaking(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	mustLoad(t, dir, c)
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	ca := mustLoad(t, dir, c)
	if _, err := dial(ca, ca.PEM(), "localhost", c); err != nil {
		t.Error(err)
	}
}
