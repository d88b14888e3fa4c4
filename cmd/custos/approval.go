package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export"
)

func newApprovalCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "approval", Short: "See what is held for a person, and answer it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(newApprovalList(g), newApprovalShow(g), newApprovalAnswer(g, true), newApprovalAnswer(g, false), newApprovalRequest(g), newApprovalWait(g))
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
	c.Flags().StringVar(&state, "state", "pending", "only in this `STATE`: pending, approved, denied, expired, used, withdrawn")
	c.Flags().BoolVar(&all, "all", false, "in any state")
	return c
}

// what an approval is about, in a line.
func what(a *api.Approval) string {
	if a.For != "" {
		return "access for " + a.For + ": " + a.Reason
	}
	return a.Text
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

func newApprovalShow(g *globals) *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show one approval: who asks, for what, and who said what", Args: oneApproval,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			a, err := client.Approval(cmd.Context(), args[0], 0)
			if err != nil {
				return explain(err)
			}
			return g.printApproval(a)
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
	var span time.Duration
	var reason string
	c := &cobra.Command{Use: "request CONNECTION", Short: "Ask for access to a connection for a time: what rules hold then goes through",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &exitError{exitUsage, errors.New("name one connection")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			a, err := client.RequestAccess(cmd.Context(), args[0], span, reason)
			if err != nil {
				return explain(err)
			}
			return g.printApproval(a)
		}}
	c.Flags().DurationVar(&span, "for", 30*time.Minute, "how long, from the approval on: `TIME`, at most 24h")
	c.Flags().StringVar(&reason, "reason", "", "what the access is for: `TEXT`")
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
