package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/sql"
)

// Name is what connections of this protocol have as theirs.
const Name = "postgres"

// Options are what a Server is made of. Gate and Dialer are required.
type Options struct {
	Gate *gate.Gate
	// Dialer reaches targets for cancel requests, as Gate's does for sessions.
	Dialer gate.Dialer
	// TLS is the gateway's side towards clients. Without it clients speak in
	// the clear, their tokens too: for loopback listeners only.
	TLS *tls.Config
	// Parse says what a text of statements does, to a database that has what
	// the catalogue says; nil: nothing is known of it. An error means that the
	// text is not known, and it is refused.
	Parse func(text string, c *sql.Catalog) (*sql.Text, error)
	// Catalogs reports whether rules are in force, for which it takes the
	// catalogue of each target's database to judge: it is read with the
	// credential of its sessions and on a line of its own, and where it cannot
	// be read, statements are refused. nil: there never are.
	Catalogs func() bool
	// Link is where people answer an approval, by its id; nil, or "" of it:
	// nowhere but on the command line.
	Link func(id string) string
	// MaskKey keys the ways of masking that keep equal values equal.
	MaskKey [32]byte
	// PreAuthTimeout bounds the time from the connection to its login; 10 s.
	PreAuthTimeout time.Duration
	// IdleTimeout ends sessions that are silent for so long; 0: never.
	IdleTimeout time.Duration
	Limits      Limits
	Logger      *slog.Logger
}

// Server lets PostgreSQL clients through a gate.
type Server struct {
	Options
	tls    *tls.Config
	slots  chan struct{} // one for each connection that has not logged in
	cancel cancelKeys

	catalogs catalogs
	hiding   hiding
}

// New returns a Server.
func New(o Options) *Server {
	o.Limits.fill()
	if o.PreAuthTimeout <= 0 {
		o.PreAuthTimeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{Options: o, slots: make(chan struct{}, o.Limits.PreAuth)}
	s.cancel.sessions = map[uint32]*served{}
	if o.TLS != nil {
		// Direct negotiation requires the protocol's name (section "Direct
		// SSL Session"); clients that asked first may do without it.
		s.tls = o.TLS.Clone()
		s.tls.NextProtos = []string{alpn}
	}
	return s
}

// alpn is the protocol's name in TLS (RFC 7301), registered with IANA.
const alpn = "postgresql"

// Serve accepts clients on l until ctx ends, and closes l. It returns when
// the last of them is gone; sessions end with ctx, and their clients are told.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.TLS == nil && !loopback(l.Addr()) {
		l.Close()
		return fmt.Errorf("serve postgres on %s: without TLS only a loopback address is served: configure tls", l.Addr())
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var clients sync.WaitGroup
	defer clients.Wait()
	for wait := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("serve postgres: %w", err)
		default:
			// Such as too many open files: what there is goes on.
			s.Logger.Error("accept postgres client", "cause", err)
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			// As many are at the door as may be: this one is not served, and
			// nothing is spent on it.
			conn.Close()
			continue
		}
		clients.Go(func() { s.client(ctx, conn) })
	}
}

func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// client leads one connection from its first byte to its last.
func (s *Server) client(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	waiting := true
	leave := func() {
		if waiting {
			waiting = false
			<-s.slots
		}
	}
	defer leave()
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 20 * time.Second, Count: 3})
	}
	// One deadline for all that comes before the session, however slowly.
	conn.SetDeadline(time.Now().Add(s.PreAuthTimeout))
	unwatch := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	d := &door{server: s, conn: conn, client: conn.RemoteAddr().String()}
	session, err := d.enter(ctx)
	if !unwatch() && session != nil {
		session.Close("")
		session = nil
	}
	leave()
	if err != nil {
		s.Logger.Debug("postgres client at the door", "client", d.client, "cause", err)
	}
	if session == nil {
		return
	}
	conn.SetDeadline(time.Time{})
	s.serve(session, d)
}

// past is a deadline that has been reached.
var past = time.Unix(1, 0)

// Render is the custos.Renderer of this protocol.
var _ custos.Renderer = Render
