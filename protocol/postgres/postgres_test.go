package postgres_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/internal/testtarget"
	"github.com/custos-gateway/custos/internal/tlsca"
	"github.com/custos-gateway/custos/protocol/postgres"
	"github.com/custos-gateway/custos/sql"
)

// target is the PostgreSQL of all tests that need none of their own.
var target *testtarget.Postgres

var parser = sql.NewPostgres(sql.Limits{})

func parse(text string, c *sql.Catalog) (*sql.Text, error) { return parser.Parse(text, c) }

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if target, err = testtarget.Start(testtarget.Options{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer target.Close()
		return m.Run()
	}())
}

// gateway is a world with the protocol served in front.
type gateway struct {
	*gatetest.World
	addr   string
	server *postgres.Server
	stop   context.CancelFunc
	ended  chan error
}

// start serves the protocol in front of the target; change adjusts it.
func start(t testing.TB, change ...func(*postgres.Options)) *gateway {
	t.Helper()
	return startFor(t, target, custos.TargetTLS{Mode: "disable"}, change...)
}

func startFor(t testing.TB, target *testtarget.Postgres, secure custos.TargetTLS, change ...func(*postgres.Options)) *gateway {
	t.Helper()
	w := gatetest.New(t, custos.Connection{Name: "orders", Protocol: postgres.Name, Address: target.Address, Database: target.Database, TLS: secure},
		custos.Credential{Username: target.User, Password: target.Password})
	return serveWorld(t, w, change...)
}

// serveWorld serves the protocol in front of a world.
func serveWorld(t testing.TB, w *gatetest.World, change ...func(*postgres.Options)) *gateway {
	t.Helper()
	o := postgres.Options{Gate: w.Gate, Dialer: w, Parse: parse, Logger: w.Logger()}
	for _, c := range change {
		c(&o)
	}
	g := &gateway{World: w, server: postgres.New(o), ended: make(chan error, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	g.stop = cancel
	go func() { g.ended <- g.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-g.ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", g.Log())
		}
	})
	return g
}

// withTLS has the gateway speak TLS; caFile is what clients trust it by.
func withTLS(t testing.TB) (change func(*postgres.Options), roots *x509.CertPool, caFile string) {
	t.Helper()
	dir := t.TempDir()
	ca, err := tlsca.Load(dir, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(dir, "ca.pem")
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return func(o *postgres.Options) {
		o.TLS = &tls.Config{GetCertificate: ca.GetCertificate}
	}, roots, caFile
}

// dsn is how to connect to the gateway, as keywords and values.
func (g *gateway) dsn(more ...string) string {
	host, port, _ := net.SplitHostPort(g.addr)
	return strings.Join(append([]string{"host=" + host, "port=" + port, "user=any", "dbname=orders", "password=" + gatetest.Token, "sslmode=disable"}, more...), " ")
}

func (g *gateway) connect(t testing.TB, more ...string) *pgx.Conn {
	t.Helper()
	return connectTo(t, g.dsn(more...))
}

func connectTo(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// psql runs psql with a script, and returns what it printed, errors included.
func (g *gateway) psql(t testing.TB, script string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(target.Bin, "psql"), append([]string{"-X", "-q", "-A", "-t", "-d", g.dsn()}, args...)...)
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=20")
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func TestPsql(t *testing.T) {
	g := start(t)
	out := g.psql(t, "create temp table t(a int, b text);\ninsert into t values (1, 'x'), (2, null);\nselect * from t order by a;\n"+
		"\\copy t from stdin\n3\tthree\n4\tfour\n\\.\nselect count(*) from t;\n\\copy t to stdout\nselect 1/0;\nselct 1;\nselect 'alive';\n"+
		"do $$begin raise notice 'heed'; end$$;\nselect 1 \\; select 2;\n")
	want := "1|x\n2|\n4\n1\tx\n2\t\\N\n3\tthree\n4\tfour\nERROR:  division by zero\nERROR:  syntax error at or near \"selct\""
	if !strings.HasPrefix(out, want) || !strings.Contains(out, "\nalive\n") || !strings.HasSuffix(out, "NOTICE:  heed\n1\n2\n") {
		t.Errorf("psql printed:\n%s\nwant:\n%s...", out, want)
	}
	g.Ledger.AwaitClosed(1)
}

func TestPgxModes(t *testing.T) {
	g := start(t)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			conn := g.connect(t, "default_query_exec_mode="+strings.ReplaceAll(mode.String(), " ", "_"))
			for i := range 3 {
				var n int
				var s string
				if err := conn.QueryRow(t.Context(), "select $1::int + 1, $2::text", i, "it's").Scan(&n, &s); err != nil || n != i+1 || s != "it's" {
					t.Fatalf("%d %q %v", n, s, err)
				}
			}
			_, err := conn.Exec(t.Context(), "select 1/$1::int", 0)
			if err == nil || !strings.Contains(err.Error(), "22012") {
				t.Errorf("division by zero: %v", err)
			}
			if err := conn.Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
