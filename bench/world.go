package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/custos-gateway/custos/internal/oidctest"
	"github.com/custos-gateway/custos/internal/testtarget"
)

// database is what every path calls the target: pgbouncer its database, custos
// its connection.
const database = "bench"

// busy and crowded are settings of the target: for work, and for many sessions
// that do nothing.
var (
	common  = []string{"fsync = on", "log_statement = none", "max_wal_size = 4GB", "autovacuum = off"}
	busy    = append([]string{"shared_buffers = 512MB", "max_connections = 450"}, common...)
	crowded = append([]string{"shared_buffers = 16MB"}, common...)
)

// startTimeout bounds how long a server may take until it takes connections.
const startTimeout = 30 * time.Second

// path is one way to the target.
type path struct {
	name, address, user, password string
	connection                    string    // "": the database's name
	review                        string    // of custos: a reviewer's token
	cmd                           *exec.Cmd // what stands in the way; nil: nothing
}

// dsn is how pgx connects by this path.
func (p *path) dsn() string {
	host, port, _ := net.SplitHostPort(p.address)
	return fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable", host, port, p.user, p.password, cmp.Or(p.connection, database))
}

// args and environ are how psql and pgbench do. A token is never an argument.
func (p *path) args() []string {
	host, port, _ := net.SplitHostPort(p.address)
	return []string{"-h", host, "-p", port, "-U", p.user}
}

func (p *path) environ() []string {
	return append(os.Environ(), "PGPASSWORD="+p.password, "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=30")
}

func (p *path) connect(ctx context.Context) (*pgconn.PgConn, error) {
	c, err := pgconn.Connect(ctx, p.dsn())
	if err != nil {
		return nil, fmt.Errorf("connect by %s: %w", p.name, err)
	}
	return c, nil
}

// world is a target and the ways to it, direct access first and custos last.
type world struct {
	dir    string
	target *testtarget.Postgres
	https  string // of custos
	paths  []*path
	stop   []func()
}

type worldOptions struct {
	sessions int // at one time, by one path
	settings []string
	fill     bool     // with pgbench's tables
	environ  []string // of custos, besides what this process has
	rules    string   // of custos, besides what masks
}

// start starts the target and all that leads to it.
func (b *bench) start(ctx context.Context, o worldOptions) (_ *world, err error) {
	w := &world{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start servers: %w\n%s", err, w.logs())
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp(b.dir, ""); err != nil {
		return w, err
	}
	if w.target, err = testtarget.Start(testtarget.Options{Settings: o.settings}); err != nil {
		return w, err
	}
	w.stop = append(w.stop, func() { w.target.Close() })
	direct := &path{name: "direct", address: w.target.Address, user: w.target.User, password: w.target.Password}
	w.paths = []*path{direct}
	if err := w.fill(ctx, direct, o.fill); err != nil {
		return w, err
	}
	for _, start := range []func(context.Context, worldOptions) (*path, error){w.pgbouncer, w.haproxy,
		func(ctx context.Context, o worldOptions) (*path, error) { return w.custos(ctx, b.custos, o) }} {
		p, err := start(ctx, o)
		if err != nil {
			return w, err
		}
		w.paths = append(w.paths, p)
	}
	return w, nil
}

// path returns a way by its name.
func (w *world) path(name string) *path {
	for _, p := range w.paths {
		if p.name == name {
			return p
		}
	}
	panic("no path " + name)
}

func (w *world) close() {
	for i := len(w.stop) - 1; i >= 0; i-- {
		w.stop[i]()
	}
}

// logs returns the end of what the servers said.
func (w *world) logs() string {
	var s strings.Builder
	files, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && len(text) > 0 {
			fmt.Fprintf(&s, "%s:\n%s\n", filepath.Base(f), text[max(0, len(text)-2000):])
		}
	}
	return s.String()
}

// fill makes the database, and pgbench's tables: 1M accounts.
func (w *world) fill(ctx context.Context, direct *path, tables bool) error {
	c, err := pgconn.Connect(ctx, w.target.DSN())
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "CREATE DATABASE "+database).ReadAll(); err != nil {
		return err
	}
	if !tables {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(w.target.Bin, "pgbench"), append(direct.args(), "-i", "-q", "-s", "10", database)...)
	cmd.Env = direct.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fill the target: %w\n%s", err, out)
	}
	psql := exec.CommandContext(ctx, filepath.Join(w.target.Bin, "psql"), append(direct.args(), "-q", "-v", "ON_ERROR_STOP=1", "-c", people, database)...)
	psql.Env = direct.environ()
	if out, err := psql.CombinedOutput(); err != nil {
		return fmt.Errorf("fill the target: %w\n%s", err, out)
	}
	return nil
}

// people is a table of 1M rows of about 100 bytes with an e-mail address in
// each.
const people = `CREATE TABLE people AS SELECT i AS id, 'Person number ' || i AS name, 'person' || i || '@mail.example' AS email,
  lpad((i % 899 + 100)::text, 3, '0') || '-45-' || lpad((i % 9999)::text, 4, '0') AS ssn, 'a note of some length on what was said' AS note, now() AS at
  FROM generate_series(1, 1000000) i`

// The connections of custos that hide something of it: columns, and what is
// found in values.
const (
	maskedConnection  = "masked"
	scannedConnection = "scanned"
)

func (w *world) file(name, content string) (string, error) {
	path := filepath.Join(w.dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// run starts a server on address and waits until it takes connections.
func (w *world) run(ctx context.Context, cmd *exec.Cmd, address string) error {
	name := filepath.Base(cmd.Path)
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	w.stop = append(w.stop, func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(startTimeout):
			cmd.Process.Kill()
			<-ended
		}
	})
	deadline, look := time.After(startTimeout), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-look.C:
		case <-ended:
			return fmt.Errorf("start %s: it ended: %v", name, cmd.ProcessState)
		case <-deadline:
			return fmt.Errorf("start %s: it takes no connections: %w", name, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// free finds an address to listen on.
func free() (address, port string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	address = l.Addr().String()
	_, port, err = net.SplitHostPort(address)
	return address, port, errors.Join(err, l.Close())
}

// program finds a program that may lie where only root's PATH looks.
func program(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	p, err := exec.LookPath("/usr/sbin/" + name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed; run: .ci/install test", name)
	}
	return p, nil
}

// pgbouncer starts it with session pooling: the one mode in which a session
// means as much as it does direct. It logs in to the target itself, and lets
// everybody in.
func (w *world) pgbouncer(ctx context.Context, o worldOptions) (*path, error) {
	bin, err := program("pgbouncer")
	if err != nil {
		return nil, err
	}
	address, port, err := free()
	if err != nil {
		return nil, err
	}
	host, targetPort, _ := net.SplitHostPort(w.target.Address)
	ini, err := w.file("pgbouncer.ini", fmt.Sprintf(`[databases]
%s = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = %d
max_client_conn = %d
listen_backlog = 4096
log_connections = 0
log_disconnections = 0
`, database, host, targetPort, w.target.User, w.target.Password, port, o.sessions, o.sessions+50))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, ini)
	// It refuses to be root.
	if os.Getuid() == 0 {
		if cmd.SysProcAttr, err = w.lend(ini); err != nil {
			return nil, err
		}
	}
	return &path{name: "pgbouncer", address: address, user: w.target.User, password: "none", cmd: cmd}, w.run(ctx, cmd, address)
}

// lend gives a file to the user postgres, and returns how to run as that user.
func (w *world) lend(file string) (*syscall.SysProcAttr, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	for dir := w.dir; dir != filepath.Dir(filepath.Dir(w.dir)); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil {
			return nil, err
		}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, os.Chown(file, uid, gid)
}

func (w *world) haproxy(ctx context.Context, o worldOptions) (*path, error) {
	bin, err := program("haproxy")
	if err != nil {
		return nil, err
	}
	address, _, err := free()
	if err != nil {
		return nil, err
	}
	cfg, err := w.file("haproxy.cfg", fmt.Sprintf(`global
  maxconn %d
defaults
  mode tcp
  timeout connect 30s
  timeout client 1h
  timeout server 1h
listen postgres
  bind %s
  server target %s
`, o.sessions+50, address, w.target.Address))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "-db", "-f", cfg)
	return &path{name: "haproxy", address: address, user: w.target.User, password: w.target.Password, cmd: cmd}, w.run(ctx, cmd, address)
}

// masks is the policy of the connections that hide something.
const masks = `policies:
  - rule: hide-columns
    connections: {name: masked}
    mask: [{columns: ["*.people.email"], with: partial}, {columns: ["*.people.ssn"], with: redact}]
  - rule: hide-values
    connections: {name: scanned}
    mask: [{detect: [credit_card, iban, us_ssn, secret], with: redact}]
`

// connection is one more connection of custos to the database.
func (w *world) connection(name string) string {
	return fmt.Sprintf(`  - name: %s
    protocol: postgres
    address: %s
    database: %s
    tls: disable
    credential: {username: %s, password: {file: target.password}}
    access: [{groups: [dba]}]
`, name, w.target.Address, database, w.target.User)
}

// custos starts an identity provider, and the gateway with one connection.
func (w *world) custos(ctx context.Context, bin string, o worldOptions) (*path, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	provider, err := oidctest.Start("127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.stop = append(w.stop, func() { provider.Close() })
	address, _, err := free()
	if err != nil {
		return nil, err
	}
	if w.https, _, err = free(); err != nil {
		return nil, err
	}
	if _, err := w.file("target.password", w.target.Password+"\n"); err != nil {
		return nil, err
	}
	config, err := w.file("custos.yaml", fmt.Sprintf(`listen: {https: %s, postgres: %s}
data_dir: custos-data
issuers: [{url: %s, audience: %s}]
roles: {admin: [dba]}
agents: [{name: near}]
connections:
  - name: %s
    protocol: postgres
    address: %s
    tls: disable
    credential: {username: %s, password: {file: target.password}}
    access: [{groups: [dba]}]
%s%slimits: {sessions: %d, sessions_per_caller: 0, pre_auth_timeout: 60s, free_space: {sessions: 1GiB, operations: 512MiB}}
`, w.https, address, provider.URL, oidctest.Audience, database, w.target.Address, w.target.User,
		w.connection(maskedConnection)+w.connection(scannedConnection)+w.connection(agentConnection)+"    agent: near\n", masks+o.rules, o.sessions+50))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, "serve", "--config", config, "--log-level", "warn")
	cmd.Env = append(os.Environ(), o.environ...)
	token := provider.Mint("ana", oidctest.Lifetime(24*time.Hour))
	review := provider.Mint("carol", oidctest.Lifetime(24*time.Hour))
	return &path{name: "custos", review: review, address: address, user: "any", password: token, cmd: cmd}, w.run(ctx, cmd, address)
}
