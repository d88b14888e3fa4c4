// Package tlsca is the gateway's private CA, for an installation that brings
// no certificate: one CA for the life of the data folder, and short-lived
// certificates of it for the names that the gateway is reached by.
package tlsca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour
	// A server certificate is replaced when this much of its life is left.
	renewal = serverLife / 3
	// skew lets clocks that are behind accept a new certificate.
	skew = time.Hour
)

// CA issues the gateway's own certificates. It is safe for concurrent use.
type CA struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	pem   []byte
	hosts []string
	now   func() time.Time

	mu      sync.Mutex
	server  *tls.Certificate
	expires time.Time
}

// Load returns the CA in dir, which holds ca.pem, for callers to trust, and
// ca.key; where neither is there it makes both, dir included. Hosts are the
// names and IP addresses of its server certificates, besides localhost,
// 127.0.0.1 and ::1. It fails when one of the files is missing, damaged, or
// past its time, or when others may read the key: a CA is never replaced
// unasked, for its callers trust it.
func Load(dir string, hosts []string, now func() time.Time) (*CA, error) {
	ca, err := load(dir, now)
	if err != nil {
		return nil, fmt.Errorf("load private CA: %w", err)
	}
	for _, host := range append([]string{"localhost", "127.0.0.1", "::1"}, hosts...) {
		if !slices.Contains(ca.hosts, host) {
			ca.hosts = append(ca.hosts, host)
		}
	}
	if _, err := ca.GetCertificate(nil); err != nil {
		return nil, fmt.Errorf("load private CA: %w", err)
	}
	return ca, nil
}

// PEM returns the CA's certificate, for callers to trust.
func (ca *CA) PEM() []byte { return bytes.Clone(ca.pem) }

// GetCertificate returns the server certificate in force, for tls.Config. It
// lives in memory only, and is replaced when a third of its life is left.
func (ca *CA) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	now := ca.now()
	if ca.server != nil && now.Before(ca.expires.Add(-renewal)) {
		return ca.server, nil
	}
	server, expires, err := ca.issue(now)
	if err != nil {
		return nil, fmt.Errorf("issue server certificate: %w", err)
	}
	ca.server, ca.expires = server, expires
	return server, nil
}

func (ca *CA) issue(now time.Time) (*tls.Certificate, time.Time, error) {
	if !now.Before(ca.cert.NotAfter) {
		return nil, time.Time{}, errExpired(ca.cert)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, time.Time{}, err
	}
	expires := now.Add(serverLife)
	if expires.After(ca.cert.NotAfter) {
		expires = ca.cert.NotAfter
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "custos gateway"},
		NotBefore:   now.Add(-skew),
		NotAfter:    expires,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range ca.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, time.Time{}, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key}, expires, nil
}

func errExpired(cert *x509.Certificate) error {
	return fmt.Errorf("the CA's time ended on %s: move ca.pem and ca.key away, restart, and give callers the new ca.pem",
		cert.NotAfter.UTC().Format(time.DateOnly))
}

func load(dir string, now func() time.Time) (*CA, error) {
	certPath, keyPath := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	certPEM, certErr := os.ReadFile(certPath)
	keyPEM, keyErr := readKey(keyPath)
	switch {
	// A crash while the CA was made leaves a key without a certificate, which
	// nobody can trust yet: it is made again.
	case errors.Is(certErr, fs.ErrNotExist) && (keyErr == nil || errors.Is(keyErr, fs.ErrNotExist)):
		return create(dir, certPath, keyPath, now)
	case certErr != nil:
		return nil, certErr
	case errors.Is(keyErr, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: restore it from a backup, or move %s away to make a new CA", keyErr, certPath)
	case keyErr != nil:
		return nil, keyErr
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w: restore them from a backup, or move both away to make a new CA", certPath, keyPath, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s is not a CA of this gateway: to use a certificate of your own, name it under tls in the configuration", certPath)
	}
	if !now().Before(pair.Leaf.NotAfter) {
		return nil, errExpired(pair.Leaf)
	}
	return &CA{cert: pair.Leaf, key: key, pem: certPEM, now: now}, nil
}

func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others (mode %04o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return os.ReadFile(path)
}

// create makes a CA: the key first, then the certificate, each whole and
// durable before the next, so that a certificate in place has its key.
func create(dir, certPath, keyPath string, now func() time.Time) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "custos private CA " + now().UTC().Format(time.DateOnly)},
		NotBefore:             now().Add(-skew),
		NotAfter:              now().Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := place(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return nil, err
	}
	if err := place(certPath, certPEM); err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key, pem: certPEM, now: now}, nil
}

// place writes a file so that a crash leaves the old one or the new one.
func place(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // no longer there when all went well
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
