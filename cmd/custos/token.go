package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/identity/ticket"
)

// newTokenCommand returns `custos token`.
func newTokenCommand(g *globals) *cobra.Command {
	var wanted ticket.Wanted
	var short, revoke bool
	var actorFile, folder string
	c := &cobra.Command{
		Use:   "token",
		Short: "Print a fresh token, or a short ticket, for scripts and native clients",
		Long: "Print a token that is good for at least a minute, where there is one: it is CUSTOS_TOKEN,\nor that of custos login, renewed if need be. Put it where a client takes a password.\n\n" +
			"With --ticket, exchange it for a short one (55 bytes) that is good for one connection, for\nsome minutes, and for nothing else. With --revoke, give the ticket in CUSTOS_TOKEN back.",
		Example: `  PGPASSWORD=$(custos token) psql "host=gw port=15432 dbname=orders user=any sslmode=require"` + "\n" +
			`  PGPASSWORD=$(custos token --ticket --connection orders) psql "host=gw port=15432 dbname=orders user=any sslmode=require"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := g.bearer(cmd.Context())
			switch {
			case !short && (wanted.Connection != "" || actorFile != "" || wanted.Source != "" || folder != ""), short && revoke:
				return &exitError{exitUsage, errors.New("print token: --connection, --actor-token-file, --source and --skill-dir go with --ticket, and --revoke stands alone")}
			case short && wanted.Connection == "":
				return &exitError{exitUsage, errors.New("get ticket: it is for one connection: name it with --connection")}
			case err != nil:
				return err
			case revoke:
				return g.revokeTicket(cmd.Context(), token)
			case short:
				wanted.Subject = token
				if folder != "" {
					if wanted.SkillDigest, err = folderDigest(folder); err != nil {
						return err
					}
				}
				if actorFile != "" {
					if wanted.Actor, err = readToken(actorFile); err != nil {
						return err
					}
				}
				return g.printTicket(cmd.Context(), wanted)
			}
			if g.json {
				answer := map[string]any{"token": token}
				if p, err := identity.Peek(token); err == nil {
					answer["expires"] = p.Expires
				}
				return g.printJSON(answer)
			}
			_, err = fmt.Fprintln(g.stdout, token)
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&short, "ticket", false, "exchange it for a ticket, which is short and for one connection")
	f.StringVar(&wanted.Connection, "connection", "", "the ticket's connection")
	f.StringVar(&actorFile, "actor-token-file", "", "the `FILE` with the token of who acts for you, such as a skill")
	f.StringVar(&wanted.Source, "source", "", "the one IP address that the ticket may come from; self is the one that you ask from")
	f.StringVar(&folder, "skill-dir", "", "the `DIR` of the skill that the ticket is for, which the ticket says the digest of")
	f.BoolVar(&revoke, "revoke", false, "give the ticket in CUSTOS_TOKEN back, and end its sessions")
	return c
}

// readToken reads a token from a file, as a workload finds its own.
func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", &exitError{exitUsage, fmt.Errorf("read token: %w", err)}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, identity.MaxToken+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (g *globals) ticketDesk() (*ticket.Client, error) {
	h, err := g.newHTTPClient()
	if err != nil {
		return nil, err
	}
	return &ticket.Client{URL: g.url, HTTP: h}, nil
}

func (g *globals) printTicket(ctx context.Context, wanted ticket.Wanted) error {
	desk, err := g.ticketDesk()
	if err != nil {
		return err
	}
	ctx, cancel := asked(ctx)
	defer cancel()
	answer, err := desk.Exchange(ctx, wanted)
	if err != nil {
		return explainTicket(err)
	}
	if g.json {
		return g.printJSON(answer)
	}
	_, err = fmt.Fprintln(g.stdout, answer.AccessToken)
	return err
}

func (g *globals) revokeTicket(ctx context.Context, raw string) error {
	desk, err := g.ticketDesk()
	if err != nil {
		return err
	}
	ctx, cancel := asked(ctx)
	defer cancel()
	if err := desk.Revoke(ctx, raw); err != nil {
		return explainTicket(err)
	}
	_, err = fmt.Fprintln(g.stderr, "The ticket is good for nothing any more.")
	return err
}

// explainTicket gives a refusal its exit status.
func explainTicket(err error) error {
	if _, ok := errors.AsType[*ticket.Failure](err); ok {
		return &exitError{exitRefused, err}
	}
	return explain(err)
}
