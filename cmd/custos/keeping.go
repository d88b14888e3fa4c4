package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/store"
)

// markOf says who did something to a recording, and why.
func markOf(m *store.Mark) string {
	return fmt.Sprintf("%s by %s: %s (entry %d)", localTime(m.At), cmp.Or(m.By, m.Rule), m.Reason, m.Entry)
}

func newSessionHold(g *globals) *cobra.Command {
	return newKeepingCommand(g, &cobra.Command{Use: "hold ID --reason TEXT", Short: "Put a legal hold on a session: nothing of it is erased until it is released"},
		"held", (*api.Client).Hold)
}

func newSessionRelease(g *globals) *cobra.Command {
	return newKeepingCommand(g, &cobra.Command{Use: "release ID --reason TEXT", Short: "End a session's legal hold"}, "released", (*api.Client).Release)
}

// keeps does something to a session's recording.
type keeps func(c *api.Client, ctx context.Context, id, reason string) error

func newKeepingCommand(g *globals, c *cobra.Command, done string, do keeps) *cobra.Command {
	var reason string
	c.Args = oneSession
	c.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := reasoned(g, reason)
		if err != nil {
			return err
		}
		ctx, cancel := asked(cmd.Context())
		defer cancel()
		if err := do(client, ctx, args[0], reason); err != nil {
			return explain(err)
		}
		if g.json {
			return g.printJSON(map[string]string{done: args[0]})
		}
		_, err = fmt.Fprintln(g.stdout, done, args[0])
		return err
	}
	reasonFlag(c, &reason)
	return c
}

func reasonFlag(c *cobra.Command, reason *string) {
	c.Flags().StringVar(reason, "reason", "", "why, in `WORDS` that go on record")
}

// reasoned is a client for what is done for a reason.
func reasoned(g *globals, reason string) (*api.Client, error) {
	if strings.TrimSpace(reason) == "" {
		return nil, &exitError{exitUsage, errors.New("say why with --reason: it goes on record")}
	}
	return g.client()
}

func newSessionErase(g *globals) *cobra.Command {
	var caller, reason string
	c := &cobra.Command{Use: "erase (ID | --caller WHO) --reason TEXT", Short: "Destroy what a session, or every session of a caller, said and was answered",
		Long: "Destroy what a session, or every session of a caller, said and was answered, for good.\n\n" +
			"The key that opens it is destroyed: statements, parameters, answers. What stays is what the ledger has to prove: who was\n" +
			"connected to what and when, what sort of statement it was, and that you erased it and why. The proofs still verify.\n" +
			"Sessions that are open, or under a legal hold, are not erased, and are named. Backups are yours to erase.",
		Args: func(cmd *cobra.Command, args []string) error {
			if caller == "" {
				return oneSession(cmd, args)
			}
			if len(args) > 0 {
				return &exitError{exitUsage, errors.New("name a session or a caller, not both")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := reasoned(g, reason)
			if err != nil {
				return err
			}
			if caller == "" {
				if err := client.Erase(cmd.Context(), args[0], reason); err != nil {
					return explain(err)
				}
				return g.printErased(&erased{Erased: []custos.SessionID{custos.SessionID(args[0])}})
			}
			done, err := eraseCaller(cmd.Context(), client, caller, reason)
			return errors.Join(g.printErased(done), err)
		}}
	c.Flags().StringVar(&caller, "caller", "", "every session of `WHO`, also where it was acted for: a name, a subject, or \"ISSUER|SUBJECT\"")
	reasonFlag(c, &reason)
	return c
}

// erased says which sessions were erased, and which were not, and why.
type erased struct {
	Erased []custos.SessionID          `json:"erased"`
	Kept   map[custos.SessionID]string `json:"kept,omitempty"`
}

// eraseCaller erases all sessions of one caller. A name that several callers
// have is refused.
func eraseCaller(ctx context.Context, client *api.Client, who, reason string) (*erased, error) {
	done := &erased{Erased: []custos.SessionID{}, Kept: map[custos.SessionID]string{}}
	exact, err := exactCaller(ctx, client, who)
	if err != nil {
		return done, explain(err)
	}
	for s, err := range client.Sessions(ctx, url.Values{"caller": {exact}}, 0) {
		if err != nil {
			return done, explain(err)
		}
		if s.Erased != nil || s.State == store.SessionTurnedAway {
			continue
		}
		err := client.Erase(ctx, string(s.ID), reason)
		if p, ok := errors.AsType[*api.Problem](err); ok && (p.Status == http.StatusConflict || p.Status == http.StatusForbidden) {
			done.Kept[s.ID] = p.Detail
			continue
		}
		if err != nil {
			return done, explain(err)
		}
		done.Erased = append(done.Erased, s.ID)
	}
	if len(done.Kept) > 0 {
		return done, errors.New("erase sessions: some were kept")
	}
	return done, nil
}

// exactCaller finds the one caller that a name or subject is of.
func exactCaller(ctx context.Context, client *api.Client, who string) (string, error) {
	if issuer, _, exact := strings.Cut(who, "|"); exact && strings.Contains(issuer, "://") {
		return who, nil
	}
	found := ""
	for s, err := range client.Sessions(ctx, url.Values{"caller": {who}}, 0) {
		if err != nil {
			return "", err
		}
		if s.Caller != who && s.Subject != who {
			continue // another's, acting for somebody of that name
		}
		switch this := s.Issuer + "|" + s.Subject; found {
		case "", this:
			found = this
		default:
			return "", &exitError{exitUsage, fmt.Errorf("several callers are called %q: name one, as --caller %q or --caller %q", who, found, this)}
		}
	}
	if found == "" {
		return "", fmt.Errorf("no session is of a caller called %q; name who others acted for as --caller \"ISSUER|SUBJECT\"", who)
	}
	return found, nil
}

func (g *globals) printErased(e *erased) error {
	if g.json {
		return g.printJSON(e)
	}
	var b strings.Builder
	for _, id := range e.Erased {
		fmt.Fprintln(&b, "erased", id)
	}
	for id, why := range e.Kept {
		fmt.Fprintf(&b, "kept   %s: %s\n", id, why)
	}
	_, err := g.stdout.Write([]byte(b.String()))
	return err
}
