package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/internal/apitest"
	"github.com/custos-gateway/custos/internal/gittest"
	"github.com/custos-gateway/custos/internal/oidctest"
	"github.com/custos-gateway/custos/internal/testtarget"
	"github.com/custos-gateway/custos/server"
)

//go:embed sample/orders.sql
var sampleOrders string

//go:embed sample/custos.yaml
var sampleConfig string

func newDemoCommand(g *globals) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show all of it on loopback, with a real database",
		Long: "Start, on loopback only, a PostgreSQL with made-up data, a git server, an HTTP API, a small OpenID provider and a\n" +
			"gateway; run statements, pushes and requests as ana, bob and a skill, judged and masked by rules; show what is on record of them, and prove it unaltered.\n" +
			"Then stay up, for you to try it.\n" +
			"Everything lies in a temporary folder that goes when the demonstration ends.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{g: g, ctx: cmd.Context()}
			defer d.close()
			return d.run(once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the show")
	return cmd
}

// demo is a whole installation on loopback, and what is shown with it.
type demo struct {
	g        *globals
	ctx      context.Context
	dir      string
	self     string
	target   *testtarget.Postgres
	forge    *gittest.Server
	api      *apitest.Server
	provider *oidctest.Provider
	https    string
	postgres string
	stop     []func()
}

func (d *demo) close() {
	for i := len(d.stop) - 1; i >= 0; i-- {
		d.stop[i]()
	}
}

func (d *demo) run(once bool) error {
	for _, step := range []func() error{d.prepare, d.startTarget, d.startForge, d.startAPI, d.startProvider, d.startGateway, d.show} {
		if err := step(); err != nil {
			if log, e := os.ReadFile(d.logFile()); e == nil {
				fmt.Fprintf(d.g.stderr, "the gateway's log:\n%s", log)
			}
			return fmt.Errorf("run demonstration: %w", err)
		}
	}
	if once {
		return nil
	}
	d.invite()
	<-d.ctx.Done()
	return nil
}

func (d *demo) prepare() error {
	var err error
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	if _, err := exec.LookPath("psql"); err != nil {
		return errors.New("psql is not installed; install Debian's postgresql-client, or run: make demo")
	}
	if d.dir, err = os.MkdirTemp("", "custos-demo-"); err != nil {
		return err
	}
	d.stop = append(d.stop, func() { os.RemoveAll(d.dir) })
	return nil
}

// startTarget starts a PostgreSQL with the sample data and a role for the
// gateway, whose password nobody else learns.
func (d *demo) startTarget() error {
	d.say("starting PostgreSQL and filling it with made-up customers, orders and payments")
	var err error
	if d.target, err = testtarget.Start(testtarget.Options{}); err != nil {
		return err
	}
	d.stop = append(d.stop, func() { d.target.Close() })
	password := d.target.Password + "-gateway"
	for _, s := range []struct{ db, sql string }{
		{"dbname=postgres", "CREATE DATABASE orders"},
		{"dbname=orders", sampleOrders},
		{"dbname=orders", "CREATE ROLE gateway LOGIN PASSWORD '" + password + "'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gateway"},
	} {
		cmd := exec.CommandContext(d.ctx, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", d.targetDSN(s.db))
		cmd.Env = append(os.Environ(), "PGPASSWORD="+d.target.Password)
		cmd.Stdin = strings.NewReader(s.sql)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("load sample data: %w: %s", err, out)
		}
	}
	return os.WriteFile(filepath.Join(d.dir, "orders.password"), []byte(password+"\n"), 0o600)
}

// targetDSN leaves the password to the environment: arguments are for all to
// see.
func (d *demo) targetDSN(db string) string {
	host, port, _ := net.SplitHostPort(d.target.Address)
	return fmt.Sprintf("host=%s port=%s user=%s sslmode=disable %s", host, port, d.target.User, db)
}

// startAPI starts an HTTP API with two customers, whose key only the gateway has.
func (d *demo) startAPI() error {
	d.say("starting an HTTP API with customers")
	dir := filepath.Join(d.dir, "api")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var err error
	if d.api, err = apitest.Open(dir); err != nil {
		return err
	}
	d.stop = append(d.stop, d.api.Close)
	return errors.Join(
		d.api.Put("v1/customers/1.json", `{"id":1,"name":"Goran Evans","email":"goran.evans1@example.com","card":{"number":"4111 1111 1111 1111","expires":"11/29"}}`+"\n"),
		d.api.Put("v1/customers/2.json", `{"id":2,"name":"Keiko Weber","email":"keiko.weber2@example.com","card":{"number":"5500 0055 5555 5559","expires":"03/28"}}`+"\n"),
		os.WriteFile(filepath.Join(d.dir, "api.key"), []byte(d.api.Key+"\n"), 0o600))
}

func (d *demo) startProvider() error {
	d.say("starting an OpenID provider with ana (dba), bob (support), carol (audit) and the skill reporter")
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the provider's library logs there
	var err error
	if d.provider, err = oidctest.Start("127.0.0.1:0"); err != nil {
		return err
	}
	d.stop = append(d.stop, func() { d.provider.Close() })
	return nil
}

func (d *demo) startGateway() error {
	d.say("starting the gateway")
	config := strings.NewReplacer("ISSUER", d.provider.URL, "TARGET", d.target.Address, "FORGE", strings.TrimPrefix(d.forge.URL, "http://"), "BILLING", d.api.URL).Replace(sampleConfig)
	path := filepath.Join(d.dir, "custos.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	d.stop = append(d.stop, func() { log.Close() })
	s, err := server.Open(server.Options{ConfigPath: path, Protocols: protocols, Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		return err
	}
	addresses := s.Addresses()
	d.postgres, d.https = addresses[0].String(), addresses[len(addresses)-1].String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	d.stop = append(d.stop, func() {
		cancel()
		if err := <-done; err != nil {
			fmt.Fprintln(d.g.stderr, "custos:", err)
		}
	})
	return nil
}

func (d *demo) logFile() string { return filepath.Join(d.dir, "custos.log") }

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.g.stdout, "\033[1m# "+format+"\033[0m\n", args...)
}

// psql runs real psql through the gateway as a caller, and shows it: each
// statement, then what came back. A statement that is refused is part of the
// show; a psql that cannot be run is not.
func (d *demo) psql(who, token string, statements ...string) error {
	return d.psqlTo(d.g.stdout, who, token, statements...)
}

func (d *demo) psqlTo(w io.Writer, who, token string, statements ...string) error {
	fmt.Fprintf(d.g.stdout, "%s$ psql orders\n", who)
	host, port, _ := net.SplitHostPort(d.postgres)
	args := []string{"-X", "-e", fmt.Sprintf("host=%s port=%s dbname=orders user=any sslmode=verify-full sslrootcert=%s", host, port, d.ca())}
	for _, s := range statements {
		args = append(args, "-c", s)
	}
	cmd := exec.CommandContext(d.ctx, "psql", args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+token, "PGAPPNAME=demo")
	cmd.Stdout, cmd.Stderr = w, w
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return nil
	}
	return err
}

func (d *demo) ca() string { return filepath.Join(d.dir, "custos-data", "tls", "ca.pem") }

// env is the environment of this program, run as a caller.
func (d *demo) env(token string) []string {
	return append(os.Environ(), "CUSTOS_URL=https://"+d.https, "CUSTOS_CA="+d.ca(), "CUSTOS_TOKEN="+token)
}

// custos runs this program as a caller, shows it, and returns what it printed.
func (d *demo) custos(who, token string, args ...string) (string, error) {
	shown := slices.Clone(args)
	for i, a := range shown {
		if strings.Contains(a, " ") {
			shown[i] = "'" + a + "'"
		}
	}
	fmt.Fprintf(d.g.stdout, "%s$ custos %s\n", who, strings.Join(shown, " "))
	var out bytes.Buffer
	cmd := exec.CommandContext(d.ctx, d.self, args...)
	cmd.Env = d.env(token)
	both := io.MultiWriter(d.g.stdout, &out) // one writer, so that lines stay in order
	cmd.Stdout, cmd.Stderr = both, both
	err := cmd.Run()
	return out.String(), err
}
