// Package testtarget starts real targets for tests: a PostgreSQL of the
// machine's own packages, on a free loopback port, in a folder of its own.
package testtarget

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options say what the target is like. The zero value takes passwords by
// SCRAM-SHA-256, without TLS.
type Options struct {
	// Auth is a method of pg_hba.conf: "scram-sha-256" (the default), "md5",
	// "password", "trust", or "cert", which needs TLS.
	Auth string
	// TLS has the target speak TLS, and nothing else.
	TLS bool
	// Settings are further lines of postgresql.conf.
	Settings []string
}

// Postgres is a running PostgreSQL. Its superuser is User.
type Postgres struct {
	Address                  string // 127.0.0.1:port
	User, Password, Database string
	// CAFile, CertFile and KeyFile are PEM files, with TLS: the CA of the
	// target's certificate, and a client certificate for User.
	CAFile, CertFile, KeyFile string
	// Bin is where its programs lie, such as psql.
	Bin string

	dir  string
	pid  int
	done chan struct{}
}

// startTimeout bounds how long a target may take until it takes connections.
const startTimeout = 60 * time.Second

// StartPostgres is Start for a test, which it fails or ends.
func StartPostgres(t testing.TB, o Options) *Postgres {
	t.Helper()
	p, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// Start starts a PostgreSQL and returns when it takes connections.
func Start(o Options) (*Postgres, error) {
	p := &Postgres{User: "app", Database: "postgres", Password: rand.Text()}
	if err := p.prepare(o); err != nil {
		os.RemoveAll(p.dir)
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	// Another process may take the port between its choice and its use.
	var err error
	for range 5 {
		if err = p.start(); err == nil {
			return p, nil
		}
	}
	os.RemoveAll(p.dir)
	return nil, fmt.Errorf("start PostgreSQL: %w", err)
}

// bin finds the folder of the server's programs.
func bin() (string, error) {
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dir := strings.TrimSpace(string(out))
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("it is not installed: install the package postgresql")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) })
	return filepath.Dir(newest), nil
}

// identity returns as whom the server runs: it refuses to be root.
func identity() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

func (p *Postgres) command(name string, args ...string) (*exec.Cmd, error) {
	who, err := identity()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(p.Bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "HOME="+p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	return cmd, nil
}

// own hands a file over to the server.
func own(path string) error {
	who, err := identity()
	if err != nil || who == nil {
		return err
	}
	return os.Chown(path, int(who.Uid), int(who.Gid))
}

func (p *Postgres) file(name, content string) (string, error) {
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return "", err
	}
	return path, own(path)
}

// prepare makes the cluster.
func (p *Postgres) prepare(o Options) (err error) {
	if p.Bin, err = bin(); err != nil {
		return err
	}
	if p.dir, err = os.MkdirTemp("", "custos-target-"); err != nil {
		return err
	}
	if err := own(p.dir); err != nil {
		return err
	}
	password, err := p.file("password", p.Password+"\n")
	if err != nil {
		return err
	}
	method := cmp.Or(o.Auth, "scram-sha-256")
	stored := "scram-sha-256"
	if method == "md5" {
		stored = "md5"
	}
	cmd, err := p.command("initdb", "-D", "data", "-U", p.User, "--pwfile="+password, "-E", "UTF8", "--locale=C.UTF-8", "-N", "--auth="+stored)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	settings := append([]string{"listen_addresses = '127.0.0.1'", "unix_socket_directories = '" + p.dir + "'", "fsync = off",
		"log_statement = all", "log_destination = stderr", "logging_collector = off", "max_connections = 100", "timezone = UTC",
		"log_min_messages = notice", "shared_buffers = 32MB"}, o.Settings...)
	kind := "host"
	if o.TLS {
		kind = "hostssl"
		if err := p.certify(); err != nil {
			return err
		}
		settings = append(settings, "ssl = on", "ssl_cert_file = '"+p.dir+"/server.pem'", "ssl_key_file = '"+p.dir+"/server.key'", "ssl_ca_file = '"+p.CAFile+"'")
	}
	if _, err := p.file("data/pg_hba.conf", kind+" all all 127.0.0.1/32 "+method+"\n"); err != nil {
		return err
	}
	conf, err := os.OpenFile(filepath.Join(p.dir, "data/postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString("\n" + strings.Join(settings, "\n") + "\n")
	return errors.Join(err, conf.Close())
}

// start runs the server on a free port and waits until it takes connections.
func (p *Postgres) start() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.Address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(p.Address)
	cmd, err := p.command("postgres", "-D", "data", "-p", port)
	if err != nil {
		return err
	}
	// A file holds what was logged as soon as the server answers; a pipe would
	// have a reader that lags.
	log, err := os.Create(p.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	p.done = make(chan struct{})
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		run(cmd, started)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.pid = cmd.Process.Pid
	return p.await()
}

// await waits until the server takes connections.
func (p *Postgres) await() error {
	deadline, look := time.After(startTimeout), time.NewTicker(20*time.Millisecond)
	defer look.Stop()
	for !strings.Contains(p.Log(), "database system is ready to accept connections") {
		select {
		case <-look.C:
		case <-p.done:
			return fmt.Errorf("it ended:\n%s", p.Log())
		case <-deadline:
			p.stop()
			return fmt.Errorf("it took no connections for %v:\n%s", startTimeout, p.Log())
		}
	}
	return nil
}

func (p *Postgres) logFile() string { return filepath.Join(p.dir, "log") }

// Log returns what the server logged so far, statements among it: whatever it
// has answered is in it.
func (p *Postgres) Log() string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// DSN is how to connect to it directly, as keywords and values. With more,
// such as "dbname=x", the last of a keyword counts.
func (p *Postgres) DSN(more ...string) string {
	host, port, _ := net.SplitHostPort(p.Address)
	dsn := []string{"host=" + host, "port=" + port, "user=" + p.User, "password=" + p.Password, "dbname=" + p.Database}
	if p.CAFile == "" {
		dsn = append(dsn, "sslmode=disable")
	} else {
		dsn = append(dsn, "sslmode=verify-full", "sslrootcert="+p.CAFile)
	}
	return strings.Join(append(dsn, more...), " ")
}

func (p *Postgres) stop() {
	// SIGQUIT is the immediate shutdown, which also ends the children.
	syscall.Kill(p.pid, syscall.SIGQUIT)
	<-p.done
}

// Close stops the server and removes its folder.
func (p *Postgres) Close() error {
	p.stop()
	if err := os.RemoveAll(p.dir); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	return nil
}

// Signal sends the server a signal, such as SIGQUIT to make it die under its
// clients.
func (p *Postgres) Signal(s syscall.Signal) error {
	if err := syscall.Kill(p.pid, s); err != nil {
		return fmt.Errorf("signal PostgreSQL: %w", err)
	}
	return nil
}
