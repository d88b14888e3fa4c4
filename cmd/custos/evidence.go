package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/ledger"
)

func newEvidenceCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "evidence", Short: "Make and verify bundles that prove what was run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(newEvidenceExport(g), newEvidenceVerify(g))
	return c
}

func newEvidenceExport(g *globals) *cobra.Command {
	var f sessionFilter
	var sessions []string
	var out string
	var sealed, progress bool
	c := &cobra.Command{Use: "export --out FILE", Short: "Write a bundle that a stranger verifies with a public key only", Args: cobra.NoArgs,
		Long: "Write a bundle, a gzipped tar, of sessions with their recordings and the proofs that nothing in them was changed.\n" +
			"Name the sessions, or choose them by caller, connection and time.\n\nThat you exported them is itself put on record.",
		Example: "  custos evidence export --session 7f3k... --out case-17.tar.gz\n  custos evidence export --caller bob --since 7d --out bob.tar.gz",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := f.query()
			if err != nil {
				return err
			}
			for _, id := range sessions {
				if !custos.SessionID(id).Valid() {
					return &exitError{exitUsage, fmt.Errorf("read --session: %q is no session's id; custos session list shows them", id)}
				}
				query.Add("session", id)
			}
			switch {
			case out == "":
				return &exitError{exitUsage, errors.New("export evidence: name the file to write with --out")}
			case len(query) == 0:
				return &exitError{exitUsage, errors.New("export evidence: of which sessions? name them with --session, or set --caller, --connection, --since or --until")}
			}
			if sealed {
				query.Set("sealed", "1")
			}
			return g.exportEvidence(cmd, query, out, progress)
		}}
	f.flags(c)
	c.Flags().StringArrayVar(&sessions, "session", nil, "this session, by `ID`; may be given again")
	c.Flags().StringVarP(&out, "out", "o", "", "the `FILE` to write")
	c.Flags().BoolVar(&sealed, "sealed", false, "leave out the keys: what was run and what came back stays unreadable")
	c.Flags().BoolVar(&progress, "progress", false, "show progress though stderr is no terminal")
	return c
}

func (g *globals) exportEvidence(cmd *cobra.Command, query url.Values, out string, progress bool) error {
	client, err := g.client()
	if err != nil {
		return err
	}
	m := newMeter(g.stderr, "export evidence: bytes", progress)
	var size int64
	err = writeFile(out, func(f *os.File) error {
		w := &meteredWriter{w: f, m: m}
		err := client.Raw(cmd.Context(), w, "/api/v1/evidence", query)
		size = w.n
		return err
	})
	m.end()
	if err != nil {
		return explain(err)
	}
	if g.json {
		return g.printJSON(map[string]any{"file": out, "bytes": size})
	}
	_, err = fmt.Fprintf(g.stdout, "wrote %s (%s); verify it with: custos evidence verify %s --key ledger.pub\n", out, bytesOf(size), out)
	return err
}

type meteredWriter struct {
	w io.Writer
	m *meter
	n int64
}

func (w *meteredWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.n += int64(n)
	w.m.show(w.n, 0)
	return n, err
}

func newEvidenceVerify(g *globals) *cobra.Command {
	var f trustFlags
	c := &cobra.Command{Use: "verify BUNDLE --key FILE", Short: "Verify a bundle with public keys only; no gateway is asked",
		Long: "Verify a bundle, a gzipped tar or a folder, with public keys only; no gateway is asked.\n\n" +
			"The key is the ledger's (keys/ledger.pub in the gateway's data_dir): take it from somebody you trust, not from\n" +
			"the bundle. Exit status 5 says that something was changed, and the output says what.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exitError{exitUsage, errors.New("verify evidence: name one bundle")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if f.key == "" {
				return &exitError{exitUsage, errors.New("verify evidence: name the ledger's public key with --key; whoever runs the gateway has it in data_dir/keys/ledger.pub")}
			}
			trust, err := f.trust()
			if err != nil {
				return err
			}
			report, err := export.VerifyBundle(args[0], trust)
			if err != nil {
				return err
			}
			if g.json {
				err = g.printJSON(report)
			} else {
				err = printBundleReport(g.stdout, report)
			}
			if err == nil && !report.OK {
				err = &exitError{exitDamage, fmt.Errorf("verify evidence: %s does not hold: do not rely on it", args[0])}
			}
			return err
		}}
	f.flags(c)
	return c
}

func printBundleReport(w io.Writer, r *export.BundleReport) error {
	var b strings.Builder
	for _, d := range r.Damage {
		fmt.Fprintf(&b, "DAMAGE  %s: %s\n", export.Line(d.File), export.Line(d.What))
	}
	if r.OK {
		fmt.Fprintf(&b, "ok      %d entries of the ledger %s are as its key's holder signed them (%d entries, root %s)\n",
			r.Entries, export.Line(r.Checkpoint.Origin), r.Checkpoint.Size, r.Checkpoint.Root)
		for _, name := range r.Checkpoint.Witnesses {
			fmt.Fprintf(&b, "ok      cosigned by %s\n", export.Line(name))
		}
		fmt.Fprintf(&b, "ok      exported by %s at %s, and not changed since\n", export.Line(r.MadeBy), localTime(r.MadeAt))
		for _, s := range r.Sessions {
			fmt.Fprintf(&b, "ok      session %s: %s on %s, %s\n", s.ID, export.Line(s.Caller), export.Line(s.Connection), sessionVerdict(&s))
		}
		b.WriteString("not proven: that there were no other sessions; README.txt in the bundle says more\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func sessionVerdict(s *export.BundleSession) string {
	words := []string{fmt.Sprintf("%d operations", s.Operations)}
	if s.Complete {
		words[0] = "complete: all " + words[0]
	} else {
		words = append(words, "not complete: it had not ended")
	}
	if len(s.Unsettled) > 0 {
		words = append(words, fmt.Sprintf("%d without an outcome here", len(s.Unsettled)))
	}
	switch {
	case s.Erased != nil:
		words = append(words, "its recording was "+export.Line(s.Erased.String()))
	case !s.Readable:
		words = append(words, "sealed: its key is left out")
	}
	return strings.Join(words, ", ")
}

// readTrust reads public keys from files: the ledger's and witnesses', of
// whom quorum must have cosigned.
func readTrust(key string, witnesses []string, quorum int) (ledger.Trust, error) {
	read := func(files []string) ([]string, error) {
		var keys []string
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("read public key: %w", err)
			}
			keys = append(keys, strings.TrimSpace(string(b)))
		}
		return keys, nil
	}
	logs, err := read([]string{key})
	if err != nil {
		return ledger.Trust{}, &exitError{exitUsage, err}
	}
	cosigners, err := read(witnesses)
	if err != nil {
		return ledger.Trust{}, &exitError{exitUsage, err}
	}
	trust, err := ledger.ParseTrust(logs, cosigners, quorum)
	if err != nil {
		return trust, &exitError{exitUsage, err}
	}
	return trust, nil
}

// trustFlags are the flags that say whom to believe.
type trustFlags struct {
	key       string
	witnesses []string
	quorum    int
}

func (f *trustFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.key, "key", "", "the ledger's public key: a `FILE` that holds it")
	c.Flags().StringArrayVar(&f.witnesses, "witness-key", nil, "a witness's public key: a `FILE`; may be given again")
	c.Flags().IntVar(&f.quorum, "witness-quorum", 0, "how many of the witnesses must have cosigned")
}

func (f *trustFlags) trust() (ledger.Trust, error) { return readTrust(f.key, f.witnesses, f.quorum) }
