package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/custos-gateway/custos/ledger/witness"
)

// witnessFlags say what a witness is made of.
type witnessFlags struct {
	listen, name, key, state, certificate, tlsKey string
	logs, vkeys                                   []string
}

func newLedgerWitness(g *globals) *cobra.Command {
	var f witnessFlags
	c := &cobra.Command{Use: "witness", Short: "Run a witness: a server that cosigns other people's ledgers (C2SP tlog-witness)", Args: cobra.NoArgs,
		Long: "Run a witness: a server that cosigns a ledger's checkpoints, and never two that contradict each other.\n" +
			"Run it where the gateway's operator has no say. It prints its public key, for ledger.witnesses of the gateway's\n" +
			"configuration and for --witness-key. Without --tls-cert it speaks plain HTTP, and listens on loopback only.",
		Example: "  custos ledger witness --name witness.example.org --log ledger.pub --listen :9443 --tls-cert w.pem --tls-key w.key",
		RunE:    func(cmd *cobra.Command, _ []string) error { return g.runWitness(cmd.Context(), &f) }}
	c.Flags().StringVar(&f.listen, "listen", "127.0.0.1:9443", "the `ADDRESS` to listen on")
	c.Flags().StringVar(&f.name, "name", "", "the witness's `NAME`, such as witness.example.org")
	c.Flags().StringVar(&f.key, "key", "witness.key", "the `FILE` of its private key, made if it is not there")
	c.Flags().StringVar(&f.state, "state", "witness.json", "the `FILE` in which it remembers what it cosigned; never lose it and keep the key")
	c.Flags().StringArrayVar(&f.logs, "log", nil, "a ledger's public key: a `FILE`; may be given again")
	c.Flags().StringArrayVar(&f.vkeys, "log-vkey", nil, "a ledger's public key itself: name+hash+`KEY`; may be given again")
	c.Flags().StringVar(&f.certificate, "tls-cert", "", "the certificate in PEM: a `FILE`")
	c.Flags().StringVar(&f.tlsKey, "tls-key", "", "its private key in PEM: a `FILE`")
	return c
}

// open makes the witness, or says what of the flags is wrong.
func (f *witnessFlags) open(logger *slog.Logger) (*witness.Witness, error) {
	if f.name == "" || len(f.logs)+len(f.vkeys) == 0 {
		return nil, errors.New("run witness: it needs --name, and a ledger's public key with --log")
	}
	host, _, err := net.SplitHostPort(f.listen)
	if ip := net.ParseIP(host); err != nil || f.certificate == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("run witness: off loopback %s needs --tls-cert and --tls-key", f.listen)
	}
	texts := f.vkeys
	for _, file := range f.logs {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read ledger's public key: %w", err)
		}
		texts = append(texts, strings.TrimSpace(string(b)))
	}
	var logs []note.Verifier
	for _, text := range texts {
		v, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("read ledger's public key: %w; it looks like name+hash+key", err)
		}
		logs = append(logs, v)
	}
	key, err := witness.LoadOrCreateKey(f.key)
	if err != nil {
		return nil, err
	}
	return witness.New(witness.Options{Name: f.name, Key: key, Logs: logs, StateFile: f.state, Logger: logger})
}

func (g *globals) runWitness(ctx context.Context, f *witnessFlags) error {
	logger := slog.New(slog.NewTextHandler(g.stderr, nil))
	w, err := f.open(logger)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("run witness: %w", err)
	}
	fmt.Fprintf(g.stdout, "witness  %s\naddress  %s\n", w.VerifierKey(), l.Addr())
	server := &http.Server{Handler: w, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(late) != nil {
			server.Close()
		}
	})
	defer stop()
	if f.certificate != "" {
		err = server.ServeTLS(l, f.certificate, f.tlsKey)
	} else {
		err = server.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("run witness: %w", err)
}
