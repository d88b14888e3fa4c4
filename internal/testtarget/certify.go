package testtarget

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"time"
)

// certify makes a CA, and of it a certificate for the server and one for its
// user. They outlive any test.
func (p *Postgres) certify() error {
	ca, caKey, err := p.issue("ca", nil, nil, "custos test CA")
	if err != nil {
		return err
	}
	if _, _, err := p.issue("server", ca, caKey, "localhost"); err != nil {
		return err
	}
	if _, _, err := p.issue("client", ca, caKey, p.User); err != nil {
		return err
	}
	p.CAFile = filepath.Join(p.dir, "ca.pem")
	p.CertFile = filepath.Join(p.dir, "client.pem")
	p.KeyFile = filepath.Join(p.dir, "client.key")
	return nil
}

// issue makes a certificate and its key, as files; without a parent, a CA.
func (p *Postgres) issue(name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, common string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: common},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if parent == nil {
		parent, parentKey = template, key
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		template.DNSNames, template.IPAddresses = nil, nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.file(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))); err != nil {
		return nil, nil, err
	}
	_, err = p.file(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return cert, key, err
}
