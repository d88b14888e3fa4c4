package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/identity"
)

// newTokenCommand returns `custos token`.
func newTokenCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "token",
		Short:   "Print a fresh token, for scripts and native clients",
		Long:    "Print a token that is good for at least a minute, where there is one: it is CUSTOS_TOKEN,\nor that of custos login, renewed if need be. Put it where a client takes a password.",
		Example: `  PGPASSWORD=$(custos token) psql "host=gw port=15432 dbname=orders user=any sslmode=require"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			token, err := g.bearer(cmd.Context())
			if err != nil {
				return err
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
}
