package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/custos-gateway/custos/internal/oidctest"
	"github.com/custos-gateway/custos/internal/testtarget"
)

// scratch is a folder for the whole run.
var scratch string

// binary builds custos once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "custos")
	cmd := exec.Command("go", "build", "-o", path, "../cmd/custos")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build custos: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if scratch, err = os.MkdirTemp("", "custos-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(scratch)
		return m.Run()
	}())
}

// site is a PostgreSQL, an OpenID provider, and a gateway as a process of its
// own between them.
type site struct {
	t        testing.TB
	target   *testtarget.Postgres
	provider *oidctest.Provider
	dir      string
	host     string // where the gateway is for its callers
	port     string // of its PostgreSQL listener
	https    string
	within   []string // what runs a command where the gateway is; nil: here

	gateway *exec.Cmd
	log     *tail
	ended   chan error
}

// newSite starts all of it. The connection orders is the target's database
// of that name.
func newSite(t testing.TB, settings ...string) *site {
	t.Helper()
	return newSiteWith(t, "", settings...)
}

// newSiteWith starts all of it with more connections than orders.
func newSiteWith(t testing.TB, more string, settings ...string) *site {
	t.Helper()
	return newSiteOf(t, more, func(*site) {}, settings...)
}

// newSiteOf starts all of it, the gateway after prepare was called.
func newSiteOf(t testing.TB, more string, prepare func(*site), settings ...string) *site {
	t.Helper()
	return newSiteOn(t, testtarget.Options{Settings: settings}, more, prepare)
}

// newSiteOn is newSiteOf with a target of any sort.
func newSiteOn(t testing.TB, options testtarget.Options, more string, prepare func(*site)) *site {
	t.Helper()
	s := &site{t: t, target: testtarget.StartPostgres(t, options), dir: t.TempDir(), host: "127.0.0.1"}
	var err error
	if s.provider, err = oidctest.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.provider.Close() })
	s.direct("postgres", "CREATE DATABASE orders")
	s.port, s.https = freePort(t), "127.0.0.1:"+freePort(t)
	s.write("orders.password", s.target.Password)
	s.write("custos.yaml", `
listen: {https: "`+s.https+`", postgres: "127.0.0.1:`+s.port+`"}
data_dir: data
issuers: [{url: "`+s.provider.URL+`", audience: custos, groups_claim: groups, kind_claim: kind}]
roles: {admin: [dba], auditor: [audit]}
connections:
  - name: orders
    protocol: postgres
    address: `+s.target.Address+`
    database: orders
    tls: disable
    credential: {username: `+s.target.User+`, password: {file: orders.password}}
    access: [{groups: [dba]}]
`+strings.NewReplacer("TARGET", s.target.Address, "USER", s.target.User).Replace(more)+`
limits: {free_space: {sessions: 200MiB, operations: 100MiB}}
`)
	t.Cleanup(func() {
		if s.gateway != nil {
			s.stop(syscall.SIGTERM)
		}
	})
	prepare(s)
	s.start()
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) data() string { return filepath.Join(s.dir, "data") }

// tail keeps what a process logs, and tells when it said something.
type tail struct {
	mu   sync.Mutex
	said bytes.Buffer
	more chan struct{}
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.String()
}

// follow takes lines until r ends.
func (l *tail) follow(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		l.mu.Lock()
		l.said.WriteString(line)
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// start starts the gateway and returns when it listens.
func (s *site) start() {
	s.t.Helper()
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	s.gateway = s.command(path, "serve", "--config", filepath.Join(s.dir, "custos.yaml"))
	stderr, err := s.gateway.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.gateway.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.log = &tail{more: make(chan struct{})}
	s.ended = make(chan error, 1)
	log, ended, cmd := s.log, s.ended, s.gateway
	go func() {
		log.follow(stderr)
		ended <- cmd.Wait()
	}()
	for strings.Count(s.log.String(), "msg=listening") < 2 {
		s.log.mu.Lock()
		more := s.log.more
		s.log.mu.Unlock()
		if strings.Count(s.log.String(), "msg=listening") >= 2 {
			break
		}
		select {
		case <-more:
		case err := <-s.ended:
			s.gateway = nil
			s.t.Fatalf("the gateway ended: %v\n%s", err, s.log)
		case <-time.After(time.Minute):
			s.t.Fatalf("the gateway does not listen\n%s", s.log)
		}
	}
}

// command is one that runs where the gateway is.
func (s *site) command(args ...string) *exec.Cmd {
	args = append(slices.Clone(s.within), args...)
	return exec.Command(args[0], args[1:]...)
}

// stop ends the gateway with a signal.
func (s *site) stop(signal syscall.Signal) {
	s.t.Helper()
	s.gateway.Process.Signal(signal)
	err := <-s.ended
	s.gateway = nil
	if signal != syscall.SIGKILL && err != nil {
		s.t.Errorf("the gateway ended with %v\n%s", err, s.log)
	}
}

// dsn is how user connects through the gateway, as keywords and values.
func (s *site) dsn(user string) string {
	return fmt.Sprintf("host=%s port=%s user=%s dbname=orders sslmode=verify-full sslrootcert=%s password=%s",
		s.host, s.port, user, filepath.Join(s.data(), "tls", "ca.pem"), s.provider.Mint(user))
}

// direct runs statements at the target itself.
func (s *site) direct(database, sql string) {
	s.t.Helper()
	cmd := exec.Command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1")
	cmd.Env = append(os.Environ(), s.directEnv(database)...)
	cmd.Stdin = strings.NewReader(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// directEnv makes a libpq client connect to the target itself.
func (s *site) directEnv(database string) []string {
	host, port, _ := net.SplitHostPort(s.target.Address)
	return []string{"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + s.target.User, "PGPASSWORD=" + s.target.Password, "PGDATABASE=" + database, "PGSSLMODE=prefer"}
}

// throughEnv makes it connect through the gateway as ana.
func (s *site) throughEnv() []string {
	return []string{"PGHOST=" + s.host, "PGPORT=" + s.port, "PGUSER=" + s.target.User, "PGPASSWORD=" + s.provider.Mint("ana"), "PGDATABASE=orders",
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + filepath.Join(s.data(), "tls", "ca.pem")}
}

// verify runs custos ledger verify on the gateway's data, which must be whole.
func (s *site) verify() {
	s.t.Helper()
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command(path, "ledger", "verify", "--json", "--data-dir", s.data()).Output()
	var report struct{ OK bool }
	if e := json.Unmarshal(out, &report); err != nil || e != nil || !report.OK {
		var stderr []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			stderr = exit.Stderr
		}
		s.t.Fatalf("verify ledger: %v %v\n%s%s", err, e, out, stderr)
	}
}
