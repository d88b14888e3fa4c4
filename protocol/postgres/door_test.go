package postgres_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/internal/testtarget"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// Every way in to a target works, and each checks who the target is.
func TestLogins(t *testing.T) {
	secure := testtarget.StartPostgres(t, testtarget.Options{TLS: true})
	cert := testtarget.StartPostgres(t, testtarget.Options{TLS: true, Auth: "cert"})
	md5 := testtarget.StartPostgres(t, testtarget.Options{Auth: "md5"})
	clear := testtarget.StartPostgres(t, testtarget.Options{Auth: "password"})
	clearTLS := testtarget.StartPostgres(t, testtarget.Options{Auth: "password", TLS: true})
	full := custos.TargetTLS{Mode: "verify-full", CAFile: secure.CAFile}
	for name, c := range map[string]struct {
		target *testtarget.Postgres
		tls    custos.TargetTLS
		ok     bool
	}{
		"scram-plus":            {secure, full, true},
		"default mode":          {secure, custos.TargetTLS{CAFile: secure.CAFile}, true},
		"verify-ca":             {secure, custos.TargetTLS{Mode: "verify-ca", CAFile: secure.CAFile}, true},
		"another's CA":          {secure, custos.TargetTLS{Mode: "verify-full", CAFile: cert.CAFile}, false},
		"another's CA, ca":      {secure, custos.TargetTLS{Mode: "verify-ca", CAFile: cert.CAFile}, false},
		"no CA":                 {secure, custos.TargetTLS{}, false},
		"no TLS":                {secure, custos.TargetTLS{Mode: "disable"}, false},
		"TLS to one without":    {target, full, false},
		"unknown mode":          {target, custos.TargetTLS{Mode: "prefer"}, false},
		"certificate":           {cert, custos.TargetTLS{Mode: "verify-full", CAFile: cert.CAFile, CertFile: cert.CertFile, KeyFile: cert.KeyFile}, true},
		"certificate missing":   {cert, custos.TargetTLS{Mode: "verify-full", CAFile: cert.CAFile}, false},
		"md5":                   {md5, custos.TargetTLS{Mode: "disable"}, true},
		"password in the clear": {clear, custos.TargetTLS{Mode: "disable"}, false},
		"password inside TLS":   {clearTLS, custos.TargetTLS{Mode: "verify-full", CAFile: clearTLS.CAFile}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := startFor(t, c.target, c.tls)
			conn, err := pgx.Connect(t.Context(), g.dsn())
			if !c.ok {
				if code(err) != "57P03" || strings.Contains(err.Error(), c.target.Address) {
					t.Errorf("got %v", err)
				}
				if bytes.Contains(g.Tap.Sent(), []byte(c.target.Password)) {
					t.Error("the password went out in the clear")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			var inside bool
			if err := conn.QueryRow(t.Context(), "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&inside); err != nil || inside != (c.tls.Mode != "disable") {
				t.Errorf("inside TLS: %v, %v", inside, err)
			}
			ended := make(chan error)
			go func() {
				_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
				ended <- err
			}()
			for done := false; !done; {
				if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-ended:
					if done = true; code(err) != "57014" {
						t.Error(err)
					}
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
}

func TestClientTLS(t *testing.T) {
	change, roots, caFile := withTLS(t)
	g := start(t, change)
	for _, negotiation := range []string{"postgres", "direct"} {
		conn, err := pgx.Connect(t.Context(), strings.ReplaceAll(g.dsn("sslrootcert="+caFile, "sslnegotiation="+negotiation), "sslmode=disable", "sslmode=verify-full"))
		if err != nil {
			t.Errorf("%s: %v", negotiation, err)
			continue
		}
		mustExec(t, conn, "select 1")
		if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
			t.Error(err)
		}
		conn.Close(t.Context())
	}
	// In the clear the gateway asks for no token, but on loopback.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go g.server.Serve(ctx, elsewhere{l})
	far := &line{t: t, conn: must(net.Dial("tcp", l.Addr().String()))}
	far.send(startup())
	if b := far.rest(); !bytes.Contains(b, []byte("C28000")) || bytes.Contains(b, []byte("R\x00\x00\x00\x08")) {
		t.Errorf("in the clear: %q", b)
	}
	mustExec(t, g.connect(t), "select 1")
	// Direct negotiation names the protocol, or fails.
	conn := tls.Client(g.dial(t), &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	conn.Write((must(encode(startup()))))
	if b, _ := io.ReadAll(conn); !bytes.Contains(b, []byte("ALPN")) {
		t.Errorf("without ALPN: %q", b)
	}
	// What is slipped in behind the request in the clear is not taken for a
	// part of what is said inside.
	raw := g.dial(t)
	raw.Write(append(must(encode(&pgproto3.SSLRequest{})), must(encode(startup()))...))
	if b, _ := io.ReadAll(raw); len(b) == 0 || b[0] != 'S' || bytes.Contains(b, []byte("R\x00\x00\x00")) {
		t.Errorf("slipped in: %q", b)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func encode(messages ...pgproto3.FrontendMessage) (b []byte, err error) {
	for _, m := range messages {
		if b, err = m.Encode(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// startup is a startup message with further parameters.
func startup(more ...string) *pgproto3.StartupMessage {
	m := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "any", "database": "orders"}}
	for i := 0; i < len(more); i += 2 {
		m.Parameters[more[i]] = more[i+1]
	}
	return m
}

func TestStartupParameters(t *testing.T) {
	g := start(t)
	for name, c := range map[string]struct {
		more []string
		code string
	}{
		"allowed":          {[]string{"application_name", "x", "TimeZone", "UTC", "search_path", "public", "extra_float_digits", "3"}, ""},
		"options":          {[]string{"options", "-c statement_timeout=5s --search-path=public -cgeqo=off"}, ""},
		"replication":      {[]string{"replication", "database"}, "42501"},
		"no replication":   {[]string{"replication", "false"}, ""},
		"unknown":          {[]string{"session_preload_libraries", "x"}, "42501"},
		"unknown option":   {[]string{"options", "-c log_statement=none"}, "42501"},
		"option of server": {[]string{"options", "-f s"}, "42501"},
		"role":             {[]string{"role", "postgres"}, "42501"},
		"encoding":         {[]string{"client_encoding", "LATIN1"}, "22023"},
		"encoding option":  {[]string{"options", "-c client_encoding=SJIS"}, "22023"},
		"other database":   {[]string{"database", "nowhere"}, "42501"},
		"bad value":        {[]string{"TimeZone", "nowhere"}, "57P03"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &line{t: t, conn: g.dial(t)}
			f.send(startup(c.more...), &pgproto3.PasswordMessage{Password: gatetest.Token}, &pgproto3.Terminate{})
			got := f.rest()
			if c.code == "" && !bytes.HasSuffix(got, []byte("Z\x00\x00\x00\x05I")) || !bytes.Contains(got, []byte("C"+c.code)) {
				t.Errorf("want %q, got %q", c.code, got)
			}
		})
	}
	opened := g.Ledger.Await(func(e gatetest.Kept) bool { return e.Opened != nil && e.Opened.Asserted["application_name"] == "x" })
	if opened.Opened.Caller.Subject != "ana" {
		t.Errorf("the caller on record: %+v", opened.Opened)
	}
}

func TestNegotiation(t *testing.T) {
	g := start(t)
	m := must(encode(startup("_pq_.compression", "zstd")))
	binary.BigEndian.PutUint32(m[4:], 3<<16|9999)
	conn := g.dial(t)
	conn.Write(append(m, must(encode(&pgproto3.PasswordMessage{Password: gatetest.Token}, &pgproto3.Terminate{}))...))
	b, _ := io.ReadAll(conn)
	want := append([]byte("v\x00\x00\x00\x1d\x00\x03\x00\x02\x00\x00\x00\x01"), "_pq_.compression\x00R"...)
	if !bytes.HasPrefix(b, want) || !bytes.Contains(b, []byte("K\x00\x00\x00\x28")) {
		t.Errorf("got %q", b)
	}
	if b := g.say(t, []byte("\x00\x00\x00\x08\x04\xd2\x16\x30")); string(b) != "N" {
		t.Errorf("GSSENCRequest: %q", b)
	}
	if b := g.say(t, []byte("\x00\x00\x00\x09\x00\x02\x00\x00\x00")); !bytes.Contains(b, []byte("0A000")) {
		t.Errorf("protocol 2: %q", b)
	}
}

func TestTokens(t *testing.T) {
	g := start(t)
	connect := func(dsn string) error {
		conn, err := pgconn.Connect(t.Context(), dsn)
		if err == nil {
			conn.Close(t.Context())
		}
		return err
	}
	// A token of 16 KiB and more.
	if err := connect(g.dsn("password=" + gatetest.Token + "." + strings.Repeat("x", 64<<10))); err != nil {
		t.Error(err)
	}
	if err := connect(g.dsn("password=wrong")); code(err) != "28P01" {
		t.Error(err)
	}
	if b := g.say(t, must(encode(startup(), &pgproto3.PasswordMessage{Password: strings.Repeat("x", 200<<10)}))); !bytes.Contains(b, []byte("08P01")) {
		t.Errorf("a huge token: %q", b)
	}
	config := must(pgconn.ParseConfig(g.dsn("user=oauth", "require_auth=oauth")))
	config.OAuthTokenProvider = func(context.Context) (string, error) { return gatetest.Token, nil }
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	config.OAuthTokenProvider = func(context.Context) (string, error) { return "wrong", nil }
	if _, err := pgconn.ConnectConfig(t.Context(), config); code(err) != "28P01" {
		t.Error(err)
	}
	if strings.Contains(g.Log(), gatetest.Token) {
		t.Error("the log holds a token")
	}
}

// attacks are what strangers say before they have logged in.
var attacks = map[string]string{
	"a length of 4 GiB":             "\xff\xff\xff\xff\x00\x03\x00\x00",
	"a length of 2 GiB":             "\x7f\xff\xff\xff\x00\x03\x00\x00",
	"a startup of 10,001 bytes":     "\x00\x00\x27\x11\x00\x03\x00\x00",
	"a length that is too short":    "\x00\x00\x00\x04\x00\x03\x00\x00",
	"no terminator":                 "\x00\x00\x00\x0d\x00\x03\x00\x00user\x00",
	"bytes behind the terminator":   "\x00\x00\x00\x13\x00\x03\x00\x00user\x00a\x00\x00\x00xx",
	"no user":                       "\x00\x00\x00\x09\x00\x03\x00\x00\x00",
	"HTTP":                          "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	"TLS to a listener without":     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"requests for encryption":       strings.Repeat("\x00\x00\x00\x08\x04\xd2\x16\x30", 5),
	"a password of 4 GiB":           "\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00" + "p\xff\xff\xff\xff",
	"a password of 2 GiB":           "\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00" + "p\x7f\xff\xff\xff",
	"a password with a NUL":         "\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00" + "p\x00\x00\x00\x08a\x00b\x00",
	"no password":                   "\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00" + "p\x00\x00\x00\x05\x00",
	"a query in place of it":        "\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00" + "Q\x00\x00\x00\x0dselect 1\x00",
	"a mechanism that is not there": "\x00\x00\x00\x14\x00\x03\x00\x00user\x00oauth\x00\x00" + "p\x00\x00\x00\x0aPLAIN\x00",
	"a bearer of nothing":           "\x00\x00\x00\x14\x00\x03\x00\x00user\x00oauth\x00\x00" + "p\x00\x00\x00\x1cOAUTHBEARER\x00\x00\x00\x00\x08n,,\x01\x01\x01\x01\x01",
	"a cancel key of nothing":       "\x00\x00\x00\x0c\x04\xd2\x16\x2e\x00\x00\x00\x00",
	"a cancel key of 9,000 bytes":   "\x00\x00\x23\x28\x04\xd2\x16\x2e" + strings.Repeat("x", 8992),
}

func TestAttacksAtTheDoor(t *testing.T) {
	g := start(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, wire := range attacks {
		for _, step := range []int{len(wire), 1} {
			conn := g.dial(t)
			for i := 0; i < len(wire); i += step {
				if _, err := conn.Write([]byte(wire[i:min(i+step, len(wire))])); err != nil {
					break
				}
			}
			conn.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(conn)
			if bytes.Contains(b, []byte("R\x00\x00\x00\x08\x00\x00\x00\x00")) {
				t.Errorf("%s: it was let in: %q", name, b)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	if n := len(g.Ledger.Entries()); n != 0 {
		t.Errorf("%d entries", n)
	}
	mustExec(t, g.connect(t), "select 1")
}

// A client that is slow on purpose is cut off by one deadline over all that
// comes before the session.
func TestSlowClientsAreCutOff(t *testing.T) {
	g := start(t, func(o *postgres.Options) { o.PreAuthTimeout = 50 * time.Millisecond })
	for _, wire := range []string{"", "\x00", "\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00", "\x00\x00\x00\x10\x00\x03\x00\x00user\x00a\x00\x00p\x00\x00\x00\x40x"} {
		conn := g.dial(t)
		conn.Write([]byte(wire))
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%q: it was not cut off: %v", wire, err)
		}
	}
}

// Those at the door are counted, and do not keep out who is in.
func TestManyAtTheDoor(t *testing.T) {
	g := start(t, func(o *postgres.Options) { o.Limits.PreAuth = 3 })
	in := g.connect(t)
	var held []net.Conn
	for range 3 {
		c := g.dial(t)
		// The answer shows that it has its place.
		c.Write([]byte("\x00\x00\x00\x08\x04\xd2\x16\x30"))
		io.ReadFull(c, make([]byte, 1))
		held = append(held, c)
	}
	if b := g.say(t, must(encode(startup()))); len(b) != 0 {
		t.Errorf("a fourth was heard: %q", b)
	}
	mustExec(t, in, "select 1")
	held[0].Close()
	for {
		conn, err := pgx.Connect(t.Context(), g.dsn())
		if err == nil {
			conn.Close(t.Context())
			break
		}
	}
}

// Plaintext is for loopback.
func TestPlaintextOffLoopback(t *testing.T) {
	g := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.server.Serve(t.Context(), elsewhere{l}); err == nil || !strings.Contains(err.Error(), "configure tls") {
		t.Errorf("got %v", err)
	}
}

// elsewhere is a listener that is not on loopback, by what it says.
type elsewhere struct{ net.Listener }

var farAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5432}

func (elsewhere) Addr() net.Addr { return farAddr }

func (l elsewhere) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return farConn{conn}, err
}

type farConn struct{ net.Conn }

func (farConn) LocalAddr() net.Addr { return farAddr }
