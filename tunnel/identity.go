package tunnel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/custos-gateway/custos/internal/durable"
)

// identity is an agent's certificate and key. They lie in one file, so that a
// crash leaves one pair or the other.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

const identityFile = "identity.pem"

// loadIdentity returns nil where there is none yet.
func loadIdentity(dir string) (*identity, error) {
	path := filepath.Join(dir, identityFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("load identity: %s is open to others (mode %04o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	var text []byte
	if err == nil {
		text, err = durable.ReadFile(durable.OS, path, 2*maxCertificate)
	}
	i := new(identity)
	if err == nil {
		i.key, err = parseKey(text)
	}
	if err == nil {
		_, rest := pem.Decode(text)
		i.cert, err = parseCertificate(rest)
	}
	if err == nil && !i.key.PublicKey.Equal(i.cert.PublicKey) {
		err = errors.New("its certificate is for another key")
	}
	if err != nil {
		return nil, fmt.Errorf("load identity %s: %w: remove it, and join again", path, err)
	}
	return i, nil
}

func (i *identity) store(dir string) error {
	text, err := encodeKey(i.key)
	if err == nil {
		err = durable.WriteFile(durable.OS, filepath.Join(dir, identityFile), append(text, encodeCertificate(i.cert.Raw)...), 0o600)
	}
	if err != nil {
		return fmt.Errorf("store identity: %w", err)
	}
	return nil
}

// newRequest makes a key, and a request for its certificate.
func newRequest() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return key, request, err
}

// newIdentity joins a key with the certificate that was given for it.
func newIdentity(key *ecdsa.PrivateKey, der []byte) (*identity, error) {
	cert, err := x509.ParseCertificate(der)
	if err == nil && !key.PublicKey.Equal(cert.PublicKey) {
		err = errors.New("it is for another key")
	}
	if err != nil {
		return nil, fmt.Errorf("read the certificate that the gateway gave: %w", err)
	}
	return &identity{key, cert}, nil
}

func (i *identity) certificate() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.cert.Raw}, PrivateKey: i.key, Leaf: i.cert}
}
