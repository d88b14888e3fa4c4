package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/policy"
	"github.com/custos-gateway/custos/server"
)

func newPolicyCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Check rules, see what they would decide, test them, and replay history against them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(newPolicyCheck(g), newPolicyExplain(g), newPolicyTest(g), newPolicyReplay(g))
	return c
}

// loadPolicies loads a configuration for its policies. Errors in it are
// printed, one a line.
func (g *globals) loadPolicies(path string) (*config.Config, error) {
	c, err := config.Load(path, server.Checks(protocols))
	var problems config.Errors
	if errors.As(err, &problems) {
		for _, p := range problems {
			fmt.Fprintln(g.stderr, p)
		}
		return nil, &exitError{exitFailed, fmt.Errorf("read policies: %d errors: correct them and run this again", len(problems))}
	}
	if err != nil {
		return nil, &exitError{exitFailed, err}
	}
	return c, nil
}

func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "custos.yaml", "the configuration with the policies: `FILE`")
}

func newPolicyCheck(g *globals) *cobra.Command {
	var path string
	c := &cobra.Command{Use: "check", Short: "Report rules that are wrong, and rules that can never decide, with their lines", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := g.loadPolicies(path)
			if err != nil {
				return err
			}
			warnings := policy.Check(c.Rules, c.Targets())
			if g.json {
				type warning struct {
					Rule    string `json:"rule"`
					Place   string `json:"place"`
					Message string `json:"message"`
				}
				out := struct {
					Rules    int       `json:"rules"`
					Warnings []warning `json:"warnings"`
				}{len(c.Rules), []warning{}}
				for _, w := range warnings {
					out.Warnings = append(out.Warnings, warning{c.Rules[w.Rule].Name, fmt.Sprint(w.At), w.Message})
				}
				return g.printJSON(out)
			}
			for _, w := range warnings {
				fmt.Fprintf(g.stderr, "%v: warning: rule %s: %s\n", w.At, c.Rules[w.Rule].Name, w.Message)
			}
			fmt.Fprintf(g.stdout, "%s: %d rules are valid, version %s\n", path, len(c.Rules), c.Policy.Version())
			return nil
		}}
	configFlag(c, &path)
	return c
}

// operationOf is what a statement's text is to a connection's protocol, without
// the target's catalogue.
func operationOf(c *custos.Connection, statement string) (*custos.Operation, error) {
	for _, p := range protocols {
		if p.Name == c.Protocol && p.Operation != nil {
			return p.Operation(statement)
		}
	}
	return nil, fmt.Errorf("read statement: nothing reads statements of protocol %s", c.Protocol)
}

// findConnection finds one by its name.
func findConnection(c *config.Config, name string) (*custos.Connection, error) {
	var names []string
	for _, t := range c.Targets() {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return nil, &exitError{exitUsage, fmt.Errorf("find connection %q: the configuration has %s", name, strings.Join(names, ", "))}
}

func newPolicyExplain(g *globals) *cobra.Command {
	var path, connection string
	caller := custos.Principal{Issuer: "explain"}
	var kind string
	c := &cobra.Command{Use: "explain [STATEMENT]", Short: "Say what rules decide on a statement of a caller, and why; without STATEMENT it is read from standard input",
		Example: `  custos policy explain --connection orders --kind skill --group skills 'DELETE FROM orders'`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			loaded, err := g.loadPolicies(path)
			if err != nil {
				return err
			}
			target, err := findConnection(loaded, connection)
			if err != nil {
				return err
			}
			var text string
			if len(args) > 0 {
				text = args[0]
			} else if b, err := io.ReadAll(io.LimitReader(g.stdin, 1<<20)); err != nil {
				return fmt.Errorf("read statement: %w", err)
			} else {
				text = string(b)
			}
			caller.Kind, caller.Name = custos.Kind(kind), caller.Subject
			op, err := operationOf(target, text)
			if err != nil {
				return &exitError{exitRefused, fmt.Errorf("read statement: %w: it is refused, whatever the rules say", err)}
			}
			fmt.Fprintln(g.stderr, "note: the target was not asked what it has; columns, keys and functions of its own are judged by the gateway as they are there")
			now := time.Now()
			return g.printExplained(op, loaded.Policy.Judge(&caller, target, op, &custos.Usage{}, now), loaded.Policy.Explain(&caller, target, op, &custos.Usage{}, now))
		}}
	configFlag(c, &path)
	c.Flags().StringVar(&connection, "connection", "", "the connection that it is run on, by `NAME`")
	c.Flags().StringVar(&caller.Subject, "caller", "somebody", "the caller's `SUBJECT`")
	c.Flags().StringSliceVar(&caller.Groups, "group", nil, "a `GROUP` of the caller's; may be repeated")
	c.Flags().StringVar(&kind, "kind", "person", "the caller's `KIND`: person, skill, ci or workload")
	c.MarkFlagRequired("connection")
	return c
}

func (g *globals) printExplained(op *custos.Operation, d custos.Decision, rules []policy.Fired) error {
	if g.json {
		type fired struct {
			Rule    string `json:"rule"`
			Place   string `json:"place,omitempty"`
			Then    string `json:"then"`
			Matched bool   `json:"matched"`
			Decides bool   `json:"decides"`
			DryRun  bool   `json:"dry_run,omitempty"`
			Why     string `json:"why"`
		}
		out := struct {
			Effect  string   `json:"effect"`
			Rule    string   `json:"rule"`
			Reason  string   `json:"reason,omitempty"`
			Hint    string   `json:"hint,omitempty"`
			Verbs   []string `json:"verbs"`
			Objects []string `json:"objects"`
			Writes  bool     `json:"writes"`
			Effects []string `json:"effects"`
			Unknown []string `json:"unknown,omitempty"`
			Rules   []fired  `json:"rules"`
		}{d.Effect.String(), d.Rule, d.Reason, d.Hint, op.Verbs, op.Objects, op.Writes, op.Facts.Effects, op.Facts.Unknown, []fired{}}
		for _, r := range rules {
			out.Rules = append(out.Rules, fired{r.Rule, fmt.Sprint(r.At), r.Then, r.Matched, r.Decides, r.DryRun, r.Why})
		}
		return g.printJSON(out)
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(g.stdout, "%-10s%s\n", name, export.Line(value))
		}
	}
	line("decision", strings.TrimSuffix(fmt.Sprintf("%s by %s: %s", d.Effect, d.Rule, d.Reason), ": "))
	line("hint", d.Hint)
	line("verbs", strings.Join(op.Verbs, ", "))
	line("objects", strings.Join(op.Objects, ", "))
	line("effects", strings.Join(op.Facts.Effects, ", "))
	line("unknown", strings.Join(op.Facts.Unknown, ", "))
	fmt.Fprintln(g.stdout)
	t := newTable(g.stdout, "RULE", "THEN", "APPLIES", "WHY")
	for _, r := range rules {
		then, applies := r.Then, "no"
		if r.DryRun {
			then += " (dry-run)"
		}
		if r.Matched {
			applies = "yes"
		}
		if r.Decides {
			applies = "decides"
		}
		t.add(r.Rule, then, applies, r.Why)
	}
	return t.print(g.stdout)
}

func newPolicyTest(g *globals) *cobra.Command {
	var path string
	c := &cobra.Command{Use: "test FILE...", Short: "Judge the cases in files, and report those that come out otherwise than they want", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error {
			loaded, err := g.loadPolicies(path)
			if err != nil {
				return err
			}
			cases, failed := 0, 0
			for _, file := range files {
				all, err := config.LoadTests(file)
				var problems config.Errors
				if errors.As(err, &problems) {
					for _, p := range problems {
						fmt.Fprintln(g.stderr, p)
					}
				}
				if err != nil {
					return &exitError{exitFailed, fmt.Errorf("read cases of %s: correct them and run this again", file)}
				}
				failures := loaded.Policy.Test(all, loaded.Targets(), operationOf)
				for _, f := range failures {
					fmt.Fprintf(g.stderr, "%v: %s: %s\n", f.Case.At, f.Case.Name, f.Message)
				}
				cases, failed = cases+len(all), failed+len(failures)
			}
			if failed > 0 {
				return &exitError{exitFailed, fmt.Errorf("test policies: %d of %d cases came out otherwise", failed, cases)}
			}
			fmt.Fprintf(g.stdout, "ok: %d cases\n", cases)
			return nil
		}}
	configFlag(c, &path)
	return c
}
