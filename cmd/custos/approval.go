package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/store"
)

func newApprovalCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "approval", Short: "See what is held for a person, and answer it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(newApprovalList(g), newApprovalShow(g), newApprovalAnswer(g, true), newApprovalAnswer(g, false), newApprovalRequest(g), newApprovalWait(g), newApprovalRevoke(g), newApprovalUndelivered(g))
	return c
}

// oneApproval takes exactly one argument, an approval's id.
func oneApproval(_ *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" || strings.ContainsAny(args[0], "/?#") {
		return &exitError{exitUsage, errors.New("name one approval by its id; custos approval list shows them")}
	}
	return nil
}

func newApprovalList(g *globals) *cobra.Command {
	var state string
	var all bool
	c := &cobra.Command{Use: "list", Short: "List approvals, newest first: those that wait, or --all of the last day", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			if all {
				state = ""
			}
			approvals, err := client.Approvals(cmd.Context(), state)
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(approvals)
			}
			t := newTable(g.stdout, "ID", "STATE", "CALLER", "CONNECTION", "RULE", "EXPIRES", "WHAT")
			for i := range approvals {
				a := &approvals[i]
				t.add(a.ID, a.State, callerOf(a.Caller, a.OnBehalfOf), a.Connection, a.Rule, localTime(a.ExpiresAt), what(a))
			}
			return t.print(g.stdout)
		}}
	c.Flags().StringVar(&state, "state", "pending", "only in this `STATE`: pending, approved, denied, expired, used, withdrawn, revoked")
	c.Flags().BoolVar(&all, "all", false, "in any state")
	return c
}

// what an approval is about, in a line.
func what(a *api.Approval) string {
	if a.For == "" {
		return a.Text
	}
	text := "access for " + a.For
	if len(a.Effects) > 0 {
		text += " (" + strings.Join(a.Effects, ", ") + ")"
	}
	if a.BreakGlass {
		text = "glass broken, " + text
	}
	return text + ": " + a.Purpose
}

func (g *globals) printApproval(a *api.Approval) error {
	if g.json {
		return g.printJSON(a)
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(g.stdout, "%-12s%s\n", name, export.Line(value))
		}
	}
	line("approval", a.ID)
	line("state", a.State)
	line("caller", callerOf(a.Caller, a.OnBehalfOf))
	line("connection", a.Connection)
	line("rule", a.Rule)
	line("reason", a.Reason)
	line("purpose", a.Purpose)
	if a.For != "" {
		line("access for", a.For)
		line("effects", strings.Join(a.Effects, ", "))
	}
	if a.BreakGlass {
		line("break glass", "nobody was asked")
	}
	line("asked of", strings.Join(a.Groups, ", "))
	if a.Count > 1 {
		line("needs", fmt.Sprintf("%d of them", a.Count))
	}
	line("requested", localTime(a.RequestedAt))
	line("expires", localTime(a.ExpiresAt))
	if a.Until != nil {
		line("until", localTime(*a.Until))
	}
	if a.Session != "" {
		line("session", fmt.Sprintf("%s, entry %d", a.Session, a.Entry))
	}
	line("touches", strings.Join(a.Objects, ", "))
	line("rows", rowsOf(a.Estimate))
	for _, x := range a.Answers {
		word := "denied"
		if x.Approve {
			word = "approved"
		}
		if x.Reason != "" {
			word += ": " + x.Reason
		}
		line(x.By, word)
	}
	if a.Text != "" {
		fmt.Fprintf(g.stdout, "\n%s\n", export.Printable(a.Text))
		for i, p := range a.Params {
			fmt.Fprintf(g.stdout, "$%d = %s\n", i+1, export.Line(p))
		}
	}
	return nil
}

// rowsOf says how much an operation would change.
func rowsOf(e *custos.Estimate) string {
	switch {
	case e == nil:
		return ""
	case e.Unknown != "":
		return "not known: " + e.Unknown
	case e.Exact:
		return fmt.Sprintf("%d, counted", e.Rows)
	}
	return fmt.Sprintf("about %d, as the target's planner guesses", e.Rows)
}

// printBackground shows a reviewer what stands around an approval's operation.
// Who may not see it is not told of it.
func (g *globals) printBackground(cmd *cobra.Command, client *api.Client, id string) error {
	b, err := client.Background(cmd.Context(), id)
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Status == http.StatusForbidden {
		return nil
	}
	if err != nil {
		return explain(err)
	}
	for _, list := range []struct {
		title string
		of    []store.Operation
	}{{"in this session before", b.Session}, {"held by the same rule before", b.Similar}} {
		if len(list.of) == 0 {
			continue
		}
		fmt.Fprintf(g.stdout, "\n%s:\n", list.title)
		t := newTable(g.stdout, "AT", "CALLER", "DECISION", "OUTCOME", "ROWS", "STATEMENT")
		for i := range list.of {
			o := &list.of[i]
			t.add(localTime(o.At), callerOf(o.Caller, o.OnBehalfOf), decisionOf(o), outcomeOf(o), fmt.Sprint(o.Rows), o.Text)
		}
		if err := t.print(g.stdout); err != nil {
			return err
		}
	}
	return nil
}

func newApprovalShow(g *globals) *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show one approval: who asks, for what, what came before, and who said what", Args: oneApproval,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			a, err := client.Approval(cmd.Context(), args[0], 0)
			if err != nil {
				return explain(err)
			}
			if err := g.printApproval(a); err != nil || g.json || a.For != "" {
				return err
			}
			return g.printBackground(cmd, client, args[0])
		}}
}

func newApprovalAnswer(g *globals, approve bool) *cobra.Command {
	var reason string
	c := &cobra.Command{Use: "approve ID", Short: "Let what was asked for through, once", Args: oneApproval}
	if !approve {
		c.Use, c.Short = "deny ID", "Refuse what was asked for; say why with --reason"
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !approve && strings.TrimSpace(reason) == "" {
			return &exitError{exitUsage, errors.New("a reason is required to deny; give it with --reason")}
		}
		client, err := g.client()
		if err != nil {
			return err
		}
		a, err := client.Answer(cmd.Context(), args[0], approve, reason)
		if err != nil {
			return explain(err)
		}
		return g.printApproval(a)
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for who asked and for the record: `TEXT`")
	return c
}

func newApprovalRequest(g *globals) *cobra.Command {
	var q api.Asking
	var span time.Duration
	c := &cobra.Command{Use: "request CONNECTION", Short: "Ask beforehand: for one statement, or for access for a time",
		Long: "Ask beforehand: for one statement, or for access for a time.\n\n" +
			"With --sql, the very statement, byte for byte and without parameters, then runs once. psql sends a statement\n" +
			"with the semicolon at its end; drivers send what the program has.\n\n" +
			"With --for, what rules hold goes through meanwhile; with --effects, what does nothing besides these.\n\n" +
			"With --break-glass nobody is asked, and every reviewer is told. A rule must allow it.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exitError{exitUsage, errors.New("name one connection")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Connection = args[0]; q.Statement == "" {
				q.For = span.String()
			} else if cmd.Flags().Changed("for") {
				q.For = span.String() // the gateway says that it is one or the other
			}
			if strings.TrimSpace(q.Reason) == "" {
				return &exitError{exitUsage, errors.New("say what it is for, with --reason")}
			}
			client, err := g.client()
			if err != nil {
				return err
			}
			a, err := client.Request(cmd.Context(), q)
			if err != nil {
				return explain(err)
			}
			if a.State == api.StateAllowed && !g.json {
				_, err := fmt.Fprintln(g.stdout, "nobody needs to be asked: it is allowed as it is; run it")
				return err
			}
			return g.printApproval(a)
		}}
	c.Flags().StringVar(&q.Statement, "sql", "", "ask for this `STATEMENT`, to be run once")
	c.Flags().DurationVar(&span, "for", 30*time.Minute, "how long access lasts, from the approval on: `TIME`, at most 24h; 1h with --break-glass")
	c.Flags().StringSliceVar(&q.Effects, "effects", nil, "access to these `EFFECTS` only, such as write.keyed,write.values; docs/policy.md lists them")
	c.Flags().BoolVar(&q.BreakGlass, "break-glass", false, "in an emergency: go ahead now, and have every reviewer told")
	c.Flags().StringVar(&q.Reason, "reason", "", "what it is for: `TEXT`")
	return c
}

func newApprovalRevoke(g *globals) *cobra.Command {
	var reason string
	c := &cobra.Command{Use: "revoke ID", Short: "End access before its time", Args: oneApproval, RunE: func(cmd *cobra.Command, args []string) error {
		client, err := g.client()
		if err != nil {
			return err
		}
		a, err := client.Revoke(cmd.Context(), args[0], reason)
		if err != nil {
			return explain(err)
		}
		return g.printApproval(a)
	}}
	c.Flags().StringVar(&reason, "reason", "", "why, for who has it and for the record: `TEXT`")
	return c
}

// newApprovalWait waits for an answer, for scripts.
func newApprovalWait(g *globals) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{Use: "wait ID", Short: "Wait until an approval is answered; the exit status is 0 once it is approved, 3 if it is not, 4 if it still waits", Args: oneApproval,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			deadline := time.Now().Add(timeout)
			for {
				left := min(time.Until(deadline), time.Minute)
				a, err := client.Approval(cmd.Context(), args[0], max(left, time.Millisecond))
				if err != nil {
					return explain(err)
				}
				switch {
				case a.State == "approved" || a.State == "used":
					return g.printApproval(a)
				case a.State != "pending":
					if err := g.printApproval(a); err != nil {
						return err
					}
					return &exitError{exitRefused, fmt.Errorf("wait for approval: it is %s", a.State)}
				case left <= 0:
					return &exitError{exitHeld, fmt.Errorf("wait for approval: it is still pending; wait again, or ask a reviewer: custos approval show %s", a.ID)}
				}
			}
		}}
	c.Flags().DurationVar(&timeout, "timeout", 15*time.Minute, "how long to wait: `TIME`")
	return c
}

func newApprovalUndelivered(g *globals) *cobra.Command {
	var again bool
	c := &cobra.Command{Use: "undelivered", Short: "List the messages to reviewers that could not be delivered, or send them --again", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			if again {
				n, err := client.SendAgain(cmd.Context())
				if err != nil {
					return explain(err)
				}
				if g.json {
					return g.printJSON(api.Again{Messages: n})
				}
				_, err = fmt.Fprintf(g.stdout, "%d sent again\n", n)
				return err
			}
			all, err := client.Undelivered(cmd.Context())
			if err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(all)
			}
			t := newTable(g.stdout, "AT", "APPROVAL", "CHANNEL", "EVENT", "TRIED", "WHY")
			for _, u := range all {
				t.add(localTime(u.At), u.Approval, u.Channel, u.Event, fmt.Sprint(u.Attempts), u.Failed)
			}
			return t.print(g.stdout)
		}}
	c.Flags().BoolVar(&again, "again", false, "send them once more")
	return c
}
