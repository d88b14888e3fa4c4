package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/ledger"
)

func newLedgerCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Verify the tamper-evident log, and let others witness it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(newLedgerVerify(g), newLedgerCheckpoint(g), newLedgerProve(g), newLedgerWitness(g))
	return c
}

func newLedgerVerify(g *globals) *cobra.Command {
	var dir, checkpoint string
	var f trustFlags
	var heartbeat time.Duration
	var progress bool
	c := &cobra.Command{Use: "verify --data-dir DIR", Short: "Verify all of a gateway's record with public keys only; no gateway is asked", Args: cobra.NoArgs,
		Long: "Verify all of a gateway's record with public keys only; no gateway is asked.\n\n" +
			"Every entry, attachment, tile and signature is read, and every recording that an entry cites. Take the key from\n" +
			"somebody you trust: without --key it is the one that lies beside the record, which proves no more than that the\n" +
			"record is as its last writer left it. Exit status 5 says that something was changed, and the output says what.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return &exitError{exitUsage, errors.New("verify ledger: name the gateway's data folder with --data-dir")}
			}
			if f.key == "" {
				f.key = filepath.Join(dir, "keys", "ledger.pub")
			}
			trust, err := f.trust()
			if err != nil {
				return err
			}
			o := export.VerifyOptions{Trust: trust, Heartbeat: heartbeat, Context: cmd.Context()}
			if checkpoint != "" {
				if o.Trusted, err = os.ReadFile(checkpoint); err != nil {
					return &exitError{exitUsage, fmt.Errorf("read checkpoint: %w", err)}
				}
			}
			m := newMeter(g.stderr, "verify ledger: byte", progress)
			o.Progress = m.show
			report, err := export.VerifyStore(dir, o)
			m.end()
			if err != nil {
				return err
			}
			return g.printStoreReport(report)
		}}
	c.Flags().StringVar(&dir, "data-dir", "", "the gateway's data `FOLDER`")
	c.Flags().StringVar(&checkpoint, "checkpoint", "", "a checkpoint that was kept elsewhere: a `FILE`; the ledger must be an addition to it")
	c.Flags().DurationVar(&heartbeat, "heartbeat", time.Hour, "how long the ledger may be silent, as ledger.heartbeat of the configuration says")
	c.Flags().BoolVar(&progress, "progress", false, "show progress though stderr is no terminal")
	f.flags(c)
	return c
}

func (g *globals) printStoreReport(r *export.StoreReport) error {
	if g.json {
		if err := g.printJSON(r); err != nil {
			return err
		}
	} else {
		var b strings.Builder
		for _, d := range r.Damage {
			fmt.Fprintf(&b, "DAMAGE  entry %d, %s: %s\n", d.Entry, export.Line(d.File), export.Line(d.What))
		}
		for _, name := range r.Unknown {
			fmt.Fprintf(&b, "note    %s: no entry cites it\n", export.Line(name))
		}
		for i := range r.Erased {
			fmt.Fprintf(&b, "note    session %s: its recording was %s\n", r.Erased[i].Session, export.Line(r.Erased[i].String()))
		}
		if r.More > 0 {
			fmt.Fprintf(&b, "DAMAGE  in %d more places\n", r.More)
		}
		if r.Uncovered > 0 {
			fmt.Fprintf(&b, "note    %d entries came after the latest checkpoint: no signature covers them yet\n", r.Uncovered)
		}
		if r.OK {
			fmt.Fprintf(&b, "ok      %d entries and %d recordings are as they were written\n", r.Entries, r.Recordings)
			fmt.Fprintf(&b, "ok      checkpoint of %s: %d entries, root %s\n", export.Line(r.Checkpoint.Origin), r.Checkpoint.Size, r.Checkpoint.Root)
			if r.Checkpoint.Cosigned > 0 {
				fmt.Fprintf(&b, "ok      witnesses cosigned %d entries\n", r.Checkpoint.Cosigned)
			}
			if c := r.Checkpoint; c.Cosigned > 0 && c.Cosigned < c.Size {
				fmt.Fprintf(&b, "note    %d entries came after what witnesses cosigned: ask whoever runs them whether they were away, or refused\n", c.Size-c.Cosigned)
			}
		}
		if _, err := g.stdout.Write([]byte(b.String())); err != nil {
			return err
		}
	}
	if !r.OK {
		return &exitError{exitDamage, errors.New("verify ledger: the record was damaged or changed: keep a copy of it as it is, and compare with a witness")}
	}
	return nil
}

func newLedgerCheckpoint(g *globals) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "checkpoint", Short: "Print the latest signed checkpoint, to keep or to compare", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var b []byte
			var err error
			if dir != "" {
				b, err = os.ReadFile(filepath.Join(dir, "ledger", "checkpoint"))
			} else {
				b, err = g.askCheckpoint(cmd)
			}
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(map[string]string{"checkpoint": string(b)})
			}
			_, err = fmt.Fprint(g.stdout, export.Printable(string(b)))
			return err
		}}
	c.Flags().StringVar(&dir, "data-dir", "", "read it from a gateway's data `FOLDER`; no gateway is asked")
	return c
}

func (g *globals) askCheckpoint(cmd *cobra.Command) ([]byte, error) {
	client, err := g.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := asked(cmd.Context())
	defer cancel()
	return client.Checkpoint(ctx)
}

// entryNumber takes exactly one argument, an entry's number.
func entryNumber(_ *cobra.Command, args []string) error {
	if len(args) == 1 {
		if _, err := strconv.ParseUint(args[0], 10, 64); err == nil {
			return nil
		}
	}
	return &exitError{exitUsage, errors.New("name one entry by its number; custos session show lists them")}
}

func newLedgerProve(g *globals) *cobra.Command {
	var dir, out string
	c := &cobra.Command{Use: "prove ENTRY", Short: "Prove that an entry is in the ledger (C2SP tlog-proof)", Args: entryNumber,
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return err
			}
			var proof []byte
			if dir != "" {
				proof, err = ledger.Prove(filepath.Join(dir, "ledger"), index)
			} else {
				proof, err = g.askProof(cmd, index)
			}
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(map[string]any{"entry": index, "proof": string(proof)})
			}
			if out != "" {
				return writeFile(out, func(f *os.File) error {
					_, err := f.Write(proof)
					return err
				})
			}
			_, err = fmt.Fprint(g.stdout, export.Printable(string(proof)))
			return err
		}}
	c.Flags().StringVar(&dir, "data-dir", "", "prove it from a gateway's data `FOLDER`; no gateway is asked")
	c.Flags().StringVarP(&out, "out", "o", "", "the `FILE` to write; absent: standard output")
	return c
}

func (g *globals) askProof(cmd *cobra.Command, index uint64) ([]byte, error) {
	client, err := g.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := asked(cmd.Context())
	defer cancel()
	p, err := client.Prove(ctx, index)
	if err != nil {
		return nil, err
	}
	return []byte(p.Proof), nil
}
