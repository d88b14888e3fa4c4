package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/tunnel"
)

func newAgentCommand(g *globals) *cobra.Command {
	var path, level string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run an agent in a target's network, or see and admit those of a gateway",
		Long: "Run an agent until it is told to stop (SIGTERM or interrupt). It dials out to the gateway, and dials the targets that its own\n" +
			"configuration lists for the gateway. Told to stop, it takes no new sessions and lets the open ones end.\n\n" +
			"The commands under it are for a gateway's administrators.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.runAgent(cmd.Context(), path, level)
		},
	}
	cmd.Flags().StringVar(&path, "config", "agent.yaml", "the agent's configuration `file`")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.AddCommand(newAgentToken(g), newAgentList(g), newAgentRemove(g))
	return cmd
}

func (g *globals) runAgent(ctx context.Context, path, level string) error {
	logger, err := newLogger(g, level)
	if err != nil {
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	f, err := config.LoadAgent(path, func(targets, networks []string) error {
		_, err := tunnel.ParseTargets(targets, networks)
		return err
	})
	if err != nil {
		return err
	}
	targets, err := tunnel.ParseTargets(f.Targets, f.Networks)
	if err != nil {
		return err
	}
	var roots *x509.CertPool
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return fmt.Errorf("read CA certificates: %w; check ca_file", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("read CA certificates: %s holds no PEM certificate", f.CAFile)
		}
	}
	a, err := tunnel.NewAgent(tunnel.AgentOptions{Gateway: f.Gateway, Roots: roots, Name: f.Name, Dir: f.DataDir, Token: joinToken(f.Join), Targets: targets,
		Sessions: f.Sessions, Drain: time.Duration(f.Drain), Version: version(), Logger: logger, Now: time.Now})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// maxJoinToken bounds a token in bytes.
const maxJoinToken = 16 << 10

// joinToken reads the token anew each time: a workload's is replaced from time
// to time, and a one-time token when it is used up.
func joinToken(j config.JoinToken) func() (string, error) {
	return func() (string, error) {
		text, where := os.Getenv(j.Env), "the variable "+j.Env
		if j.File != "" {
			b, err := os.ReadFile(j.File)
			if err != nil {
				return "", fmt.Errorf("read token: %w; get one with custos agent token NAME", err)
			}
			text, where = string(b), j.File
		}
		text = strings.TrimSpace(text)
		if text == "" || len(text) > maxJoinToken || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return "", fmt.Errorf("read token: %s holds none; get one with custos agent token NAME", where)
		}
		return text, nil
	}
}

func oneAgent(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return &exitError{exitUsage, errors.New("name one agent; custos agent list shows them")}
	}
	return nil
}

func newAgentToken(g *globals) *cobra.Command {
	var life time.Duration
	cmd := &cobra.Command{Use: "token NAME", Short: "Get a one-time token with which one agent joins", Args: oneAgent,
		Long: "Get a one-time token with which one agent joins under a name of agents in the gateway's configuration. It is printed once;\n" +
			"the gateway keeps its hash. That it was given out, and to whom, is on record.",
		Example: "  custos agent token vpc-a >join-token",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			t, err := client.AgentToken(ctx, args[0], life)
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(t)
			}
			fmt.Fprintf(g.stderr, "good for one agent %s, until %s\n", t.Name, localTime(t.Expires))
			_, err = fmt.Fprintln(g.stdout, t.Token)
			return err
		}}
	cmd.Flags().DurationVar(&life, "life", 15*time.Minute, "how long it is good, 1m to 24h")
	return cmd
}

func newAgentList(g *globals) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the agents, and whether they are connected", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			all, err := client.Agents(ctx)
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(all)
			}
			t := newTable(g.stdout, "NAME", "ID", "STATE", "SESSIONS", "CERTIFICATE UNTIL", "FROM")
			for _, a := range all {
				state, sessions, expires, from := agentState(a), "-", "-", ""
				if a.Line != nil {
					sessions, from = strconv.Itoa(a.Line.Sessions), a.Line.Host+" "+a.Line.Address
				}
				if a.Expires != nil {
					expires = localTime(*a.Expires)
				}
				t.add(a.Name, cmp.Or(a.ID, "-"), state, sessions, expires, from)
			}
			return t.print(g.stdout)
		}}
}

func agentState(a api.Agent) string {
	switch {
	case a.ID == "":
		return "not joined"
	case a.Line == nil:
		return "away"
	case a.Line.Draining:
		return "draining"
	}
	return "connected"
}

func newAgentRemove(g *globals) *cobra.Command {
	return &cobra.Command{Use: "remove NAME [ID]", Short: "Let an agent in no more, and end its sessions; without an ID, all of a name",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return &exitError{exitUsage, errors.New("name an agent, and the ID of one if not all of the name are meant; custos agent list shows them")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			id := ""
			if len(args) == 2 {
				id = args[1]
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			if err := client.RemoveAgent(ctx, args[0], id); err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(map[string]string{"removed": args[0], "id": id})
			}
			_, err = fmt.Fprintf(g.stdout, "removed: agent %s\n", strings.TrimSpace(args[0]+" "+id))
			return err
		}}
}
