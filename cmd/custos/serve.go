package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/server"
)

func newServeCommand(g *globals) *cobra.Command {
	var path, level string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: "Run the gateway until it is told to stop (SIGTERM or interrupt).\n" +
			"The configuration is read again when the file changes and on SIGHUP; sessions go on.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(g, level)
			if err != nil {
				return err
			}
			if err := harden(); err != nil {
				return err
			}
			s, err := server.Open(server.Options{ConfigPath: path, Protocols: protocols, Logger: logger, Now: time.Now})
			if err != nil {
				return err
			}
			for _, a := range s.Addresses() {
				logger.Info("listening", "address", a.String())
			}
			return s.Serve(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&path, "config", "custos.yaml", "the configuration `file`")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func newLogger(g *globals, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("read --log-level %q: use debug, info, warn or error", level)}
	}
	return slog.New(slog.NewTextHandler(g.stderr, &slog.HandlerOptions{Level: l})), nil
}
