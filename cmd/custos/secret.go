package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newConnectionSecret(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "secret", Short: "Give the gateway what a connection logs in with, or take it back", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	set := &cobra.Command{Use: "set NAME", Short: "Store what a connection logs in with, read from standard input", Args: oneConnection,
		Long: "Store what a connection logs in with, read from standard input: nobody sees it on a command line. The connection uses it\n" +
			"when its definition says password: {stored: true}. The gateway keeps it encrypted and gives it out to nobody.",
		Example: "  custos connection secret set orders <password.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			secret, err := g.readSecret(args[0])
			if err != nil {
				return err
			}
			defer clear(secret)
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			return g.secretDone("stored", args[0], client.SetSecret(ctx, args[0], secret))
		}}
	remove := &cobra.Command{Use: "remove NAME", Short: "Forget what was stored for a connection", Args: oneConnection,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			return g.secretDone("removed", args[0], client.RemoveSecret(ctx, args[0]))
		}}
	c.AddCommand(set, remove)
	return c
}

func (g *globals) secretDone(what, name string, err error) error {
	if err != nil {
		return explain(err)
	}
	if g.json {
		return g.printJSON(map[string]string{what: name})
	}
	_, err = fmt.Fprintf(g.stdout, "%s: the secret of %s\n", what, name)
	return err
}

// maxSecret bounds a secret in bytes.
const maxSecret = 60 << 10

// readSecret reads a secret from standard input; from a terminal, without
// showing it.
func (g *globals) readSecret(name string) ([]byte, error) {
	if f, ok := g.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(g.stderr, "secret of %s: ", name)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(g.stderr)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(g.stdin, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read secret from standard input: %w", err)
	}
	if len(b) > maxSecret || len(bytes.TrimSpace(b)) == 0 {
		return nil, &exitError{exitUsage, errors.New("write the secret alone to standard input")}
	}
	return b, nil
}
