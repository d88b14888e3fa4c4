package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/store"
)

func newSessionCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "session", Short: "See what was run, and what came back", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(newSessionList(g), newSessionShow(g), newSessionReplay(g), newSessionTail(g), newSessionStop(g), newSessionExport(g),
		newSessionErase(g), newSessionHold(g), newSessionRelease(g))
	return c
}

// sessionFilter is what sessions and operations are chosen by.
type sessionFilter struct {
	caller, connection, state, since, until string
	limit                                   int
}

func (f *sessionFilter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.caller, "caller", "", "only of this caller, by `NAME` or subject, also where it was acted for")
	c.Flags().StringVar(&f.connection, "connection", "", "only on this connection, by `NAME`")
	c.Flags().StringVar(&f.since, "since", "", "only from this `TIME` on: 2006-01-02, 2006-01-02T15:04:05Z, or as long ago as 24h or 7d")
	c.Flags().StringVar(&f.until, "until", "", "only before this `TIME`")
}

func (f *sessionFilter) query() (url.Values, error) {
	q := url.Values{}
	for name, value := range map[string]string{"caller": f.caller, "connection": f.connection, "state": f.state} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range map[string]string{"since": f.since, "until": f.until} {
		if value == "" {
			continue
		}
		t, err := parseTime(value, time.Now())
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("read --%s: %w", name, err)}
		}
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
	return q, nil
}

// parseTime reads a time as people type it: a date, a date with a time, or
// how long before now.
func parseTime(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if d, err := time.ParseDuration(days + "h"); err == nil {
			return now.Add(-24 * d), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time; write 2006-01-02, 2006-01-02T15:04:05Z, 24h or 7d", s)
}

func newSessionList(g *globals) *cobra.Command {
	var f sessionFilter
	c := &cobra.Command{Use: "list", Short: "List sessions, newest first", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		query, err := f.query()
		if err != nil {
			return err
		}
		client, err := g.client()
		if err != nil {
			return err
		}
		all := []*store.Session{}
		for s, err := range client.Sessions(cmd.Context(), query, f.limit) {
			if err != nil {
				return explain(err)
			}
			all = append(all, s)
		}
		if g.json {
			return g.printJSON(all)
		}
		t := newTable(g.stdout, "ID", "STARTED", "CALLER", "CONNECTION", "STATE", "OPERATIONS")
		for _, s := range all {
			t.add(string(s.ID), localTime(s.StartedAt), callerOf(s.Caller, s.OnBehalfOf), s.Connection, s.State, fmt.Sprint(s.Operations))
		}
		return t.print(g.stdout)
	}}
	f.flags(c)
	c.Flags().StringVar(&f.state, "state", "", "only in this `STATE`: open, closed or turned-away")
	c.Flags().IntVar(&f.limit, "limit", 50, "at most `N` sessions; 0 for all")
	return c
}

func callerOf(caller, onBehalfOf string) string {
	if onBehalfOf == "" {
		return caller
	}
	return caller + " for " + onBehalfOf
}

// oneSession takes exactly one argument, a session's id.
func oneSession(_ *cobra.Command, args []string) error {
	if len(args) != 1 || !custos.SessionID(args[0]).Valid() {
		return &exitError{exitUsage, errors.New("name one session by its id; custos session list shows them")}
	}
	return nil
}

// sessionWithOperations is what session show prints with --json.
type sessionWithOperations struct {
	*store.Session
	Items []*store.Operation `json:"operations"`
}

func newSessionShow(g *globals) *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show one session and what it ran", Args: oneSession, RunE: func(cmd *cobra.Command, args []string) error {
		client, err := g.client()
		if err != nil {
			return err
		}
		s, err := client.Session(cmd.Context(), args[0])
		if err != nil {
			return explain(err)
		}
		operations := []*store.Operation{}
		for o, err := range client.Operations(cmd.Context(), args[0]) {
			if err != nil {
				return explain(err)
			}
			operations = append(operations, o)
		}
		if g.json {
			return g.printJSON(sessionWithOperations{s, operations})
		}
		printSession(g, s)
		t := newTable(g.stdout, "ENTRY", "AT", "DECISION", "OUTCOME", "ROWS", "BYTES", "STATEMENT")
		for _, o := range operations {
			t.add(fmt.Sprint(o.Entry), localTime(o.At), decisionOf(o), outcomeOf(o), fmt.Sprint(o.Rows), bytesOf(o.Bytes), o.Text)
		}
		return t.print(g.stdout)
	}}
}

func printSession(g *globals, s *store.Session) {
	fmt.Fprintf(g.stdout, "session     %s\ncaller      %s\nconnection  %s (%s)\nstarted     %s\n", s.ID,
		export.Line(callerOf(s.Caller, s.OnBehalfOf)), export.Line(s.Connection), export.Line(s.Protocol), localTime(s.StartedAt))
	if s.EndedAt != nil {
		fmt.Fprintf(g.stdout, "ended       %s\n", localTime(*s.EndedAt))
	}
	fmt.Fprintf(g.stdout, "state       %s\n", export.Line(s.State))
	if s.Reason != "" {
		fmt.Fprintf(g.stdout, "because     %s\n", export.Line(s.Reason))
	}
	if s.Held != nil {
		fmt.Fprintf(g.stdout, "legal hold  %s\n", export.Line(markOf(s.Held)))
	}
	if s.Erased != nil {
		fmt.Fprintf(g.stdout, "erased      %s\n", export.Line(markOf(s.Erased)))
	}
	fmt.Fprintln(g.stdout)
}

// decisionOf says what was decided, by which rule where one did, and which rules
// in dry-run would have decided otherwise.
func decisionOf(o *store.Operation) string {
	text := o.Effect
	if o.Effect != custos.Allow.String() {
		text += " by " + o.Rule
	}
	if len(o.DryRun) > 0 {
		text += ", not by " + strings.Join(o.DryRun, ", ") + " (dry-run)"
	}
	return text
}

func outcomeOf(o *store.Operation) string {
	return strings.TrimSpace(o.Outcome + " " + o.Code)
}

func newSessionReplay(g *globals) *cobra.Command {
	p := player{g: g}
	var noWait bool
	c := &cobra.Command{Use: "replay ID", Short: "Show a session as its caller saw it, in its own time", Args: oneSession,
		Long: "Show a session as its caller saw it, in its own time.\n\nThat you looked is itself put on record.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if p.speed <= 0 {
				return &exitError{exitUsage, errors.New("read --speed: it must be more than 0")}
			}
			client, err := g.client()
			if err != nil {
				return err
			}
			p.wait = !noWait && !g.json
			return p.play(cmd.Context(), client.Replay(cmd.Context(), args[0]))
		}}
	c.Flags().Float64Var(&p.speed, "speed", 1, "play `N` times as fast")
	c.Flags().DurationVar(&p.pause, "pause", 2*time.Second, "cut silences to at most this `DURATION`")
	c.Flags().BoolVar(&noWait, "no-wait", false, "show everything at once")
	return c
}

func newSessionTail(g *globals) *cobra.Command {
	return &cobra.Command{Use: "tail ID", Short: "Follow an open session live", Args: oneSession,
		Long: "Follow an open session live, until it ends.\n\nThat you look is itself put on record.",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			p := player{g: g, live: true}
			return p.play(cmd.Context(), client.Tail(cmd.Context(), args[0]))
		}}
}

func newSessionStop(g *globals) *cobra.Command {
	var caller string
	c := &cobra.Command{Use: "stop [ID]", Short: "End an open session, or with --caller all of somebody's",
		Long: "End an open session, or with --caller all of somebody's, also of who acts for them. What they run is stopped at\n" +
			"the target. With --caller their tickets are revoked. Who holds a token that is good can open another\n" +
			"session: take the token or the access away as well.",
		Args: func(cmd *cobra.Command, args []string) error {
			if caller != "" && len(args) == 0 {
				return nil
			}
			if caller != "" {
				return &exitError{exitUsage, errors.New("name one session, or a caller: not both")}
			}
			return oneSession(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			ctx, cancel := asked(cmd.Context())
			defer cancel()
			if caller != "" {
				return g.stopAll(ctx, client, caller)
			}
			if err := client.Stop(ctx, args[0]); err != nil {
				return explain(err)
			}
			if g.json {
				return g.printJSON(map[string]string{"stopped": args[0]})
			}
			_, err = fmt.Fprintln(g.stdout, "stopped", args[0])
			return err
		}}
	c.Flags().StringVar(&caller, "caller", "", "all open sessions of this caller, by `NAME`, subject or issuer|subject")
	return c
}

func (g *globals) stopAll(ctx context.Context, client *api.Client, caller string) error {
	stopped, err := client.StopAll(ctx, caller)
	if err != nil {
		return explain(err)
	}
	if g.json {
		return g.printJSON(stopped)
	}
	if len(stopped.Sessions) == 0 {
		_, err := fmt.Fprintln(g.stdout, "no session of theirs is open")
		return err
	}
	for _, id := range stopped.Sessions {
		if _, err := fmt.Fprintln(g.stdout, "stopped", id); err != nil {
			return err
		}
	}
	return nil
}

func newSessionExport(g *globals) *cobra.Command {
	var format, out string
	var rows int
	c := &cobra.Command{Use: "export ID", Short: "Write a session to a file: JSONL, CSV or HTML", Args: oneSession,
		Long: "Write a session to a file: JSON lines (everything), CSV (one line a statement; a cell that a spreadsheet would\n" +
			"take for a formula gets an apostrophe), or an HTML page that stands alone.\n\nThat you exported it is itself put on record.",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := g.client()
			if err != nil {
				return err
			}
			if out == "" {
				return exportSession(g.stdout, format, rows, client.Replay(cmd.Context(), args[0]))
			}
			return writeFile(out, func(f *os.File) error {
				return exportSession(f, format, rows, client.Replay(cmd.Context(), args[0]))
			})
		}}
	c.Flags().StringVar(&format, "format", "jsonl", "jsonl, csv or html")
	c.Flags().StringVarP(&out, "out", "o", "", "the `FILE` to write; absent: standard output")
	c.Flags().IntVar(&rows, "rows", 1000, "in HTML, at most `N` rows of one answer; 0 for all")
	return c
}
