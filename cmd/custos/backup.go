package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/export"
)

func newBackupCommand(g *globals) *cobra.Command {
	var dir, to string
	c := &cobra.Command{Use: "backup --data-dir DIR --to DIR", Short: "Copy a gateway's record to another folder, also while it runs", Args: cobra.NoArgs,
		Long: "Copy a gateway's record to another folder, also while the gateway runs: entries, recordings, and the connections that\n" +
			"were added at run time. Run again onto the same folder, it copies what is new and removes what was erased.\n\n" +
			"The keys are not in it: copy keys/ once, to another place. Whoever has both reads everything. docs/backup.md has\n" +
			"the whole procedure, and how to restore.",
		RunE: func(*cobra.Command, []string) error {
			if dir == "" || to == "" {
				return &exitError{exitUsage, errors.New("name the gateway's data folder with --data-dir, and where to copy it with --to")}
			}
			r, err := export.Backup(dir, to)
			if err != nil {
				return err
			}
			if g.json {
				return g.printJSON(r)
			}
			_, err = fmt.Fprintf(g.stdout, "copied %d files, %s; %d were there already, %d were erased\n", r.Files, bytesOf(r.Bytes), r.Same, r.Removed)
			return err
		}}
	c.Flags().StringVar(&dir, "data-dir", "", "the gateway's data `FOLDER`")
	c.Flags().StringVar(&to, "to", "", "the `FOLDER` to copy it to; an earlier backup is brought up to date")
	return c
}
