package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/server"
)

func newConnectCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "connect NAME [-- COMMAND...]",
		Short: "Run a client, such as psql, with everything set for a connection",
		Long: "Run a client with its address, its trust and your token set for a connection. Without a\n" +
			"COMMAND it is the one that people mean: psql, kubectl, git, curl. It ends as the client ends.",
		Example: "  custos connect orders\n  custos connect orders -- pg_dump -t customers",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := os.MkdirTemp("", "custos-")
			if err != nil {
				return fmt.Errorf("connect: %w", err)
			}
			defer os.RemoveAll(dir)
			setup, err := g.setup(cmd.Context(), args[0], dir)
			if err != nil {
				return err
			}
			command := args[1:]
			if len(command) == 0 {
				command = setup.Command
			}
			return g.runClient(command, setup.Env)
		},
	}
}

// runClient runs a client and ends as it ends. What the terminal sends, such
// as Ctrl-C, is the client's to answer.
func (g *globals) runClient(command, env []string) error {
	signal.Ignore(os.Interrupt, syscall.SIGQUIT)
	defer signal.Reset(os.Interrupt, syscall.SIGQUIT)
	run := exec.Command(command[0], command[1:]...)
	run.Stdin, run.Stdout, run.Stderr = g.stdin, g.stdout, g.stderr
	run.Env = append(os.Environ(), env...)
	err := run.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return &exitError{max(ended.ExitCode(), exitFailed), errors.New("")}
	}
	if err != nil {
		return fmt.Errorf("run %s: %w; install it, or name another after --", command[0], err)
	}
	return nil
}

func newEnvCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "env NAME",
		Short: "Print a connection's settings as shell exports, your token among them",
		Long: "Print the settings of a connection for a shell, a skill or a CI job. Your token is among\n" +
			"them: keep them out of logs. They are good as long as it is.",
		Example: "  eval \"$(custos env orders)\" && psql",
		Args:    oneConnection,
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := os.UserConfigDir()
			if err != nil {
				return fmt.Errorf("make settings: %w", err)
			}
			dir := filepath.Join(config, "custos", "env", args[0])
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("make settings: %w", err)
			}
			setup, err := g.setup(cmd.Context(), args[0], dir)
			if err != nil {
				return err
			}
			if g.json {
				all := map[string]string{}
				for _, v := range setup.Env {
					name, value, _ := strings.Cut(v, "=")
					all[name] = value
				}
				return g.printJSON(all)
			}
			for _, v := range setup.Env {
				name, value, _ := strings.Cut(v, "=")
				fmt.Fprintf(g.stdout, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
			}
			return nil
		},
	}
}

// setup asks the gateway for a connection, and makes the settings of its
// clients. Files go to dir.
func (g *globals) setup(ctx context.Context, name, dir string) (*custos.Setup, error) {
	client, err := g.client()
	if err != nil {
		return nil, err
	}
	token, err := g.bearer(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := asked(ctx)
	defer cancel()
	c, err := client.Connection(ctx, name)
	if err != nil {
		return nil, explain(err)
	}
	protocol := protocolOf(c.Protocol)
	if protocol == nil || protocol.Client == nil {
		return nil, fmt.Errorf("connect to %s: this custos has no client settings for %s: use the version that the gateway has", name, c.Protocol)
	}
	if c.Port == 0 && c.Path == "" {
		return nil, fmt.Errorf("connect to %s: the gateway does not listen for %s: ask whoever runs it to add it under listen", name, c.Protocol)
	}
	reach, err := g.reach(c)
	if err != nil {
		return nil, err
	}
	reach.Token, reach.Dir = token, dir
	setup := protocol.Client(*reach)
	for name, content := range setup.Files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("make settings: %w", err)
		}
	}
	return &setup, nil
}

func protocolOf(name string) *server.Protocol {
	for i := range protocols {
		if protocols[i].Name == name {
			return &protocols[i]
		}
	}
	return nil
}

// reach is where a connection is found, from here: on the host of the
// gateway's URL.
func (g *globals) reach(c *api.Connection) (*custos.Reach, error) {
	u, err := url.Parse(g.url)
	if err != nil {
		return nil, fmt.Errorf("find the gateway: %w", err)
	}
	ca, err := trusted(g.ca)
	if err != nil {
		return nil, err
	}
	r := &custos.Reach{Connection: c.Name, Host: u.Hostname(), Port: c.Port, CAFile: ca}
	if c.Path != "" {
		r.URL = strings.TrimSuffix(g.url, "/") + c.Path
		r.Port = 443
		if p := u.Port(); p != "" {
			if r.Port, err = strconv.Atoi(p); err != nil {
				return nil, fmt.Errorf("find the gateway: %w", err)
			}
		}
	}
	return r, nil
}

// bundles are where systems keep the certificates that they trust.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Alpine
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
	"/etc/ssl/ca-bundle.pem",             // openSUSE
	"/etc/ssl/cert.pem",                  // macOS, BSD
}

// trusted names the file of the certificates that clients are to trust: the
// one given, or the system's.
func trusted(ca string) (string, error) {
	if ca != "" {
		return filepath.Abs(ca)
	}
	for _, path := range append([]string{os.Getenv("SSL_CERT_FILE")}, bundles...) {
		if _, err := os.Stat(path); path != "" && err == nil {
			return path, nil
		}
	}
	return "", errors.New("find the certificates to trust: the system keeps them in no known file; name one with --ca")
}
