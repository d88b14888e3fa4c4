package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// Way is the way to a target that speaks HTTP. Whoever logs in puts a credential
// on it; it holds none.
type Way struct {
	// Transport reaches the target, whatever host a request names.
	*http.Transport
	// Scheme is http or https.
	Scheme string

	dialer     gate.Dialer
	connection *custos.Connection

	mu    sync.Mutex // guards first
	first net.Conn
}

// NewWay makes the way to a connection's target. conn is the first line of it,
// which the gate has dialled.
func NewWay(c *custos.Connection, dialer gate.Dialer, conn net.Conn) (*Way, error) {
	secure, err := targetTLS(c)
	if err != nil {
		return nil, err
	}
	w := &Way{Scheme: "http", dialer: dialer, connection: c, first: conn}
	if secure != nil {
		w.Scheme = "https"
	}
	w.Transport = &http.Transport{DialContext: w.dial, TLSClientConfig: secure, DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: 15 * time.Second, MaxResponseHeaderBytes: 64 << 10, ExpectContinueTimeout: time.Second,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	return w, nil
}

// HTTP2 has the way speak HTTP/2 where the target does.
func (w *Way) HTTP2() { w.TLSNextProto, w.ForceAttemptHTTP2 = nil, true }

func (w *Way) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	w.mu.Lock()
	conn := w.first
	w.first = nil
	w.mu.Unlock()
	if conn == nil {
		var err error
		if conn, err = w.dialer.Dial(ctx, w.connection); err != nil {
			return nil, err
		}
	}
	// What a name resolves to is known only now.
	if err := checkTarget(conn.RemoteAddr()); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Close frees the way. What is on it still goes on.
func (w *Way) Close() {
	w.CloseIdleConnections()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first != nil {
		w.first.Close()
	}
}

// clouds are addresses beside those of the link at which clouds answer whoever
// runs there with credentials: AWS over IPv6, Alibaba, Azure's host, Oracle.
var clouds = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192")}

// checkTarget refuses the addresses at which clouds keep their metadata.
func checkTarget(a net.Addr) error {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return nil // an agent's line: the agent looks at what it dials
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bad := ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified()
	for _, c := range clouds {
		bad = bad || ip == c
	}
	if bad {
		return fmt.Errorf("reach target: %s is no place for one: it is where a cloud keeps credentials of its machines", ip)
	}
	return nil
}

// targetTLS is how the gateway speaks TLS to a target; nil: not at all.
func targetTLS(c *custos.Connection) (*tls.Config, error) {
	o := c.TLS
	if o.Mode == "disable" {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, fmt.Errorf("read address of target: %w", err)
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA of target: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read CA of target: no certificate in %s", o.CAFile)
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	switch o.Mode {
	case "", "verify-full":
	case "verify-ca":
		roots := config.RootCAs
		config.InsecureSkipVerify = true // the name only: the chain is verified here
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	default:
		return nil, fmt.Errorf("speak TLS to target: unknown mode %q", o.Mode)
	}
	return config, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("verify target: it showed no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return fmt.Errorf("verify target: %w", err)
	}
	return nil
}
