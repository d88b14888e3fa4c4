package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/custos-gateway/custos/config"
	"github.com/spf13/cobra"
)

// newConfigCommand returns `custos config`. Opts is what a file is held against.
func newConfigCommand(g *globals, opts config.Options) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check and explain the configuration file",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newConfigCheck(g, opts), newConfigExplain(g), newConfigSchema(g))
	return c
}

func newConfigCheck(g *globals, opts config.Options) *cobra.Command {
	path := "custos.yaml"
	c := &cobra.Command{
		Use:   "check",
		Short: "Report everything that is wrong in a configuration, with line numbers",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return checkConfig(g, path, opts)
		},
	}
	c.Flags().StringVar(&path, "config", path, "the configuration `file`")
	return c
}

func checkConfig(g *globals, path string, opts config.Options) error {
	loaded, err := config.Load(path, opts)
	var problems config.Errors
	if err != nil && !errors.As(err, &problems) {
		return &exitError{exitFailed, err}
	}
	var warnings config.Errors
	if loaded != nil {
		warnings = loaded.Warnings
	}
	if g.json {
		report := struct {
			OK       bool          `json:"ok"`
			Errors   config.Errors `json:"errors"`
			Warnings config.Errors `json:"warnings"`
		}{err == nil, append(config.Errors{}, problems...), append(config.Errors{}, warnings...)}
		if err := json.NewEncoder(g.stdout).Encode(report); err != nil {
			return &exitError{exitFailed, fmt.Errorf("write report: %w", err)}
		}
	} else {
		// One a line and with nothing before it, so that editors jump there.
		for _, p := range problems {
			fmt.Fprintln(g.stderr, p)
		}
		for _, p := range warnings {
			p.Message = "warning: " + p.Message
			fmt.Fprintln(g.stderr, p)
		}
	}
	if err != nil {
		return &exitError{exitFailed, fmt.Errorf("check configuration: %d errors: correct them (custos config explain KEY says what a key takes) and run this again", len(problems))}
	}
	if !g.json {
		fmt.Fprintf(g.stdout, "%s is valid: %d connections, %d issuers\n", path, len(loaded.Connections), len(loaded.Issuers))
	}
	return nil
}

func newConfigExplain(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [KEY]",
		Short: "Print what the manual says of a key, such as connections.tls",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := config.Explain(append(args, "")[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			_, err = io.WriteString(g.stdout, text)
			return err
		},
	}
}

func newConfigSchema(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := g.stdout.Write(config.Schema)
			return err
		},
	}
}
