package postgres_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/internal/tlsca"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// outside is a listener that looks as if its clients came by the network.
type outside struct{ net.Listener }

func (l outside) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return outsideConn{c}, nil
}

type outsideConn struct{ net.Conn }

func (outsideConn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5432} }

// On loopback a client may do without TLS; from the network it is turned away
// before it is asked for its token.
func TestInTheClear(t *testing.T) {
	change, _, _ := withTLS(t)
	start(t, change).connect(t)

	ca, err := tlsca.Load(t.TempDir(), nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w := gatetest.New(t, custos.Connection{Name: "orders", Protocol: postgres.Name, Address: target.Address, Database: target.Database,
		TLS: custos.TargetTLS{Mode: "disable"}}, custos.Credential{Username: target.User, Password: target.Password})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	server := postgres.New(postgres.Options{Gate: w.Gate, Dialer: w, Parse: parse, TLS: &tls.Config{GetCertificate: ca.GetCertificate}})
	go func() { ended <- server.Serve(ctx, outside{l}) }()
	g := &gateway{World: w, addr: l.Addr().String()}
	if _, err := pgx.Connect(t.Context(), g.dsn()); code(err) != "28000" {
		t.Errorf("in the clear: %v", err)
	}
	if _, err := pgx.Connect(t.Context(), g.dsn("sslmode=require")); err != nil {
		t.Errorf("inside TLS: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
