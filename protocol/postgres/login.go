package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// greeting is what the client's side may know of the login.
type greeting struct {
	parameters [][2]string   // of ParameterStatus, by name
	poison     []byte        // fails the transaction at the target; upkeep
	poisonSync []byte        // the same and Sync; upkeep
	keeper     *keeper       // of the database's catalogue; nil: none is read
	patience   time.Duration // the client's own statement_timeout; 0: none
}

// The frames that need no record of their own.
var (
	syncFrame  = []byte{'S', 0, 0, 0, 4}
	flushFrame = []byte{'H', 0, 0, 0, 4}
)

// maxLoginMessage bounds what a target may send in one message of its login.
const maxLoginMessage = 1 << 20

// maxCatalogMessage bounds a row of a catalogue, such as a view's definition.
const maxCatalogMessage = 16 << 20

// login logs in to a target on conn. Its errors name the user and the address,
// never the password.
func (s *Server) login(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential, h any) (*gate.Target, error) {
	asked, ok := h.(*hello)
	if !ok {
		return nil, errors.New("log in: there is no startup message")
	}
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 20 * time.Second, Count: 3})
	}
	secure, err := targetTLS(c)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	config, err := loginConfig(conn, c, cred, asked.settings, secure)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	var keeper *keeper
	if s.Catalogs != nil {
		keeper = s.catalogs.of(c, cmp.Or(cred.Role, cred.Username))
		keeper.loggedIn(func(ctx context.Context) (*pgconn.PgConn, error) { return s.connect(ctx, c, cred, secure) })
	}
	// pgconn starts a reader of its own when a write takes long, and leaves it
	// at the line: what that reads next is the answer to the first operation.
	// So the line is read through it from here on.
	var reader io.Reader
	build := config.BuildFrontend
	config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		reader = r
		return build(r, w)
	}
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	line, err := pg.Hijack()
	if err != nil {
		pg.Close(ctx)
		return nil, fmt.Errorf("log in: %w", err)
	}
	if line.Frontend.ReadBufferLen() > 0 {
		line.Conn.Close()
		return nil, errors.New("log in: the target sent more than a login's answer")
	}
	line.Conn.SetDeadline(time.Time{})
	g := newGreeting(line.ParameterStatuses)
	g.keeper = keeper
	g.patience, _ = timeoutOf(asked.settings["statement_timeout"])
	return &gate.Target{
		Conn:     &politeConn{Conn: line.Conn, reader: reader},
		Greeting: g,
		Cancel:   s.canceler(c, secure, line.PID, line.SecretKey),
		Upkeep:   [][]byte{syncFrame, flushFrame, g.poison, g.poisonSync},
	}, nil
}

// Test logs in to a target on conn and out again.
func (s *Server) Test(ctx context.Context, conn net.Conn, c *custos.Connection, cred custos.Credential) error {
	secure, err := targetTLS(c)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	config, err := loginConfig(conn, c, cred, map[string]string{"application_name": "custos"}, secure)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return pg.Close(ctx)
}

// connect logs in to a target on a line of the gateway's own.
func (s *Server) connect(ctx context.Context, c *custos.Connection, cred custos.Credential, secure *tls.Config) (*pgconn.PgConn, error) {
	conn, err := s.Dialer.Dial(ctx, c)
	if err != nil {
		return nil, err
	}
	config, err := loginConfig(conn, c, cred, map[string]string{"application_name": "custos"}, secure)
	if err != nil {
		conn.Close()
		return nil, err
	}
	config.MaxProtocolMessageBodyLen = maxCatalogMessage
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		conn.Close()
	}
	return pg, err
}

func newGreeting(parameters map[string]string) *greeting {
	g := &greeting{}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		g.parameters = append(g.parameters, [2]string{name, parameters[name]})
	}
	// Execute of a portal that does not exist. Its name cannot be guessed, so
	// that nobody makes one of that name.
	m, at := begin(nil, 'E')
	m = appendText(m, "refused by custos "+rand.Text())
	m = finish(append(m, 0, 0, 0, 0), at)
	g.poison = slices.Clip(m)
	g.poisonSync = slices.Concat(m, syncFrame)
	return g
}

// loginConfig is all that pgconn goes by: nothing is left to the gateway's own
// environment, and there is one attempt, on conn.
func loginConfig(conn net.Conn, c *custos.Connection, cred custos.Credential, settings map[string]string, secure *tls.Config) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 port=5432 user=x dbname=x password=x sslmode=disable passfile=/dev/null target_session_attrs=any")
	if err != nil {
		return nil, err
	}
	config.User, config.Password, config.Database = cred.Username, cred.Password, c.Database
	if config.Database == "" {
		config.Database = cred.Username
	}
	config.TLSConfig, config.Fallbacks, config.ValidateConnect, config.AfterConnect = secure, nil, nil, nil
	config.OAuthTokenProvider, config.SSLNegotiation, config.SSLCertMode = nil, "postgres", ""
	config.ConnectTimeout, config.KerberosSrvName, config.KerberosSpn = 0, "", ""
	config.MinProtocolVersion, config.MaxProtocolVersion, config.ChannelBinding = "3.0", "3.0", "prefer"
	// A password crosses the line in the clear only inside TLS.
	config.RequireAuth = "scram-sha-256,md5,none"
	if secure != nil {
		config.RequireAuth += ",password"
	}
	config.MaxProtocolMessageBodyLen = maxLoginMessage
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	config.RuntimeParams = settings
	return config, nil
}

// targetTLS is how the gateway speaks TLS to the target; nil: not at all.
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
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
	return err
}

// canceler returns what cancels at the target: a line of its own, with the
// target's key, which stays in here.
func (s *Server) canceler(c *custos.Connection, secure *tls.Config, pid uint32, secret []byte) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := s.Dialer.Dial(ctx, c)
		if err != nil {
			return fmt.Errorf("cancel at target: %w", err)
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
		defer stop()
		if secure != nil {
			if conn, err = startTLS(ctx, conn, secure); err != nil {
				return fmt.Errorf("cancel at target: %w", err)
			}
		}
		m := binary.BigEndian.AppendUint32(nil, uint32(12+len(secret)))
		m = binary.BigEndian.AppendUint32(m, cancelRequest)
		m = binary.BigEndian.AppendUint32(m, pid)
		if _, err := conn.Write(append(m, secret...)); err != nil {
			return fmt.Errorf("cancel at target: %w", err)
		}
		// The target answers by closing, when it has passed the request on.
		if _, err := io.Copy(io.Discard, io.LimitReader(conn, 1)); err != nil && ctx.Err() != nil {
			return fmt.Errorf("cancel at target: %w", ctx.Err())
		}
		return nil
	}
}

func startTLS(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, error) {
	m := binary.BigEndian.AppendUint32(nil, 8)
	if _, err := conn.Write(binary.BigEndian.AppendUint32(m, sslRequest)); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, errors.New("the target speaks no TLS")
	}
	t := tls.Client(conn, config)
	return t, t.HandshakeContext(ctx)
}

// politeConn says goodbye when it is closed, so that the target does not take
// the end of a session for a broken line. It makes no one wait.
type politeConn struct {
	net.Conn
	reader io.Reader
	once   sync.Once
}

func (c *politeConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

var terminateFrame = []byte{'X', 0, 0, 0, 4}

func (c *politeConn) Close() error {
	c.once.Do(func() {
		c.Conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		c.Conn.Write(terminateFrame)
	})
	return c.Conn.Close()
}
