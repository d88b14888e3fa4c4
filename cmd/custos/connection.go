package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/api"
)

func newConnectionCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "connection", Short: "See the targets that you may use; register and test them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(newConnectionList(g), newConnectionShow(g), newConnectionTest(g), newConnectionAdd(g), newConnectionEdit(g), newConnectionRemove(g),
		newConnectionSecret(g))
	return c
}

// oneConnection takes a connection's name.
func oneConnection(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" || strings.ContainsAny(args[0], "/?#") {
		return &exitError{exitUsage, errors.New("name one connection; custos connection list shows yours")}
	}
	return nil
}

func newConnectionList(g *globals) *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the connections that you may use", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			all, err := client.Connections(ctx)
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(all)
			}
			t := newTable(g.stdout, "NAME", "PROTOCOL", "AT", "LABELS")
			for i := range all {
				t.add(all[i].Name, all[i].Protocol, placeOf(&all[i]), labels(all[i].Labels))
			}
			return t.print(g.stdout)
		}}
}

// placeOf is where callers find a connection.
func placeOf(c *api.Connection) string {
	switch {
	case c.Path != "":
		return c.Path
	case c.Port != 0:
		return fmt.Sprintf("port %d", c.Port)
	}
	return "not listened for"
}

func labels(m map[string]string) string {
	var all []string
	for k, v := range m {
		all = append(all, k+"="+v)
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

func newConnectionShow(g *globals) *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "Show one connection; administrators see where it leads", Args: oneConnection,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			c, err := client.Connection(ctx, args[0])
			if err != nil {
				return explain(err)
			}
			return g.printConnection(c)
		}}
}

func (g *globals) printConnection(c *api.Connection) error {
	if g.json {
		return g.printJSON(c)
	}
	t := &table{}
	line := func(name, value string) {
		if value != "" {
			t.add(name, value)
		}
	}
	line("connection", c.Name)
	line("protocol", c.Protocol)
	line("at", placeOf(c))
	line("labels", labels(c.Labels))
	if a := c.Admin; a != nil {
		line("target", a.Address)
		line("database", a.Database)
		line("logs in as", a.Username)
		line("tls", a.TLS)
		line("groups", strings.Join(a.Groups, ", "))
		line("retention", a.Retention)
		managed := "the configuration file"
		if a.Managed {
			managed = "added at run time"
		}
		line("from", managed)
	}
	return t.print(g.stdout)
}

func newConnectionTest(g *globals) *cobra.Command {
	return &cobra.Command{Use: "test NAME", Short: "Let the gateway log in to a target and out again, and say how it went", Args: oneConnection,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			tested, err := client.TestConnection(ctx, args[0])
			if err != nil {
				return explain(err)
			}
			if g.json {
				if err := g.printJSON(tested); err != nil || tested.OK {
					return err
				}
				return &exitError{exitFailed, errors.New("")}
			}
			if !tested.OK {
				return fmt.Errorf("test connection %s: %s", args[0], tested.Error)
			}
			_, err = fmt.Fprintf(g.stdout, "The gateway can log in to %s.\n", args[0])
			return err
		}}
}

const definitionHelp = `The definition is YAML, as one of connections: in the configuration file:

  protocol: postgres
  address: db.internal:5432
  credential: {username: app, password: {env: ORDERS_PASSWORD}}
  access: [{groups: [support]}]

It names where a secret lies, and never holds one. What is added here lies in the gateway's
data folder beside the configuration file, which stays as it is; every change is on record.`

func newConnectionAdd(g *globals) *cobra.Command {
	var file string
	c := &cobra.Command{Use: "add NAME", Short: "Register a connection, or replace one that was added so", Long: "Register a connection, or replace one that was added so.\n\n" + definitionHelp, Args: oneConnection,
		Example: "  custos connection add billing --file billing.yaml\n  custos connection add billing < billing.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			from := g.stdin
			if file != "" && file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("read definition: %w", err)}
				}
				defer f.Close()
				from = f
			}
			definition, err := io.ReadAll(io.LimitReader(from, maxDefinition))
			if err != nil {
				return fmt.Errorf("read definition: %w", err)
			}
			return g.putConnection(cmd, args[0], definition)
		}}
	c.Flags().StringVar(&file, "file", "-", "the `FILE` with its definition; - is standard input")
	return c
}

// maxDefinition bounds a connection's definition in bytes: the gateway takes
// no more.
const maxDefinition = 64 << 10

func (g *globals) putConnection(cmd *cobra.Command, name string, definition []byte) error {
	client, err := g.client()
	if err != nil {
		return err
	}
	ctx, cancel := asked(cmd.Context())
	defer cancel()
	c, err := client.PutConnection(ctx, name, definition)
	if err != nil {
		return explain(err)
	}
	return g.printConnection(c)
}

func newConnectionEdit(g *globals) *cobra.Command {
	return &cobra.Command{Use: "edit NAME", Short: "Change a connection that was added, in your editor ($EDITOR)", Long: "Change a connection that was added, in your editor ($VISUAL, $EDITOR or vi).\n\n" + definitionHelp, Args: oneConnection,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			before, err := client.ConnectionDefinition(ctx, args[0])
			cancel()
			if err != nil {
				return explain(err)
			}
			after, err := g.edit(cmd, before)
			if err != nil {
				return err
			}
			if bytes.Equal(before, after) {
				_, err := fmt.Fprintln(g.stderr, "Nothing was changed.")
				return err
			}
			return g.putConnection(cmd, args[0], after)
		}}
}

// edit lets somebody change text in their editor.
func (g *globals) edit(cmd *cobra.Command, text []byte) ([]byte, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	dir, err := os.MkdirTemp("", "custos-")
	if err != nil {
		return nil, fmt.Errorf("edit connection: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "connection.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, fmt.Errorf("edit connection: %w", err)
	}
	words := strings.Fields(editor) // such as: code --wait
	run := exec.CommandContext(cmd.Context(), words[0], append(words[1:], path)...)
	run.Stdin, run.Stdout, run.Stderr = g.stdin, g.stdout, g.stderr
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("edit connection with %s: %w; set EDITOR to another", words[0], err)
	}
	text, err = os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("edit connection: %w", err)
	}
	return text, nil
}

func newConnectionRemove(g *globals) *cobra.Command {
	return &cobra.Command{Use: "remove NAME", Short: "Take away a connection that was added; its record stays", Args: oneConnection,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			if err := client.RemoveConnection(ctx, args[0]); err != nil {
				return explain(err)
			}
			_, err = fmt.Fprintf(g.stderr, "Removed %s.\n", args[0])
			return err
		}}
}
