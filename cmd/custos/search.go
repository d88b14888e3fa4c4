package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/store"
)

func newSearchCommand(g *globals) *cobra.Command {
	var f sessionFilter
	c := &cobra.Command{Use: "search QUERY...", Short: "Search every command ever recorded",
		Long: "Search every command ever recorded, newest first.\n\n" +
			"Words and \"phrases\" are looked for in statements and their parameters. FIELD:VALUE narrows by who, connection,\n" +
			"table, verb, session, effect, outcome, rule, skill, since and until; conversation, tool and trace by what clients\n" +
			"say of themselves. A - before any of them means its opposite.",
		Example: "  custos search 'delete customers'\n  custos search verb:update table:customers --since 24h\n  custos search outcome:unsettled",
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := f.query()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return &exitError{exitUsage, errors.New("search: say what for; custos search --help tells how")}
			}
			query.Set("q", strings.Join(args, " "))
			client, err := g.client()
			if err != nil {
				return err
			}
			all := []*store.Operation{}
			for o, err := range client.Search(cmd.Context(), query, f.limit) {
				if err != nil {
					return explain(err)
				}
				all = append(all, o)
			}
			if g.json {
				return g.printJSON(all)
			}
			t := newTable(g.stdout, "ENTRY", "AT", "CALLER", "CONNECTION", "OUTCOME", "SESSION", "STATEMENT")
			for _, o := range all {
				t.add(fmt.Sprint(o.Entry), localTime(o.At), callerOf(o.Caller, o.OnBehalfOf), o.Connection, outcomeOf(o), string(o.Session), o.Text)
			}
			return t.print(g.stdout)
		}}
	f.flags(c)
	c.Flags().IntVar(&f.limit, "limit", 50, "at most `N` operations; 0 for all")
	return c
}
