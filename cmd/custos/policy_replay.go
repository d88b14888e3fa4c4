package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/store"
)

// changed is an operation on which a proposed policy decides otherwise.
type changed struct {
	Session string `json:"session"`
	Entry   uint64 `json:"entry"`
	Caller  string `json:"caller"`
	Text    string `json:"text"`
	Was     string `json:"was"`
	WasRule string `json:"was_rule"`
	Now     string `json:"now"`
	NowRule string `json:"now_rule"`
}

// replayed is what a replay of history comes to.
type replayed struct {
	Judged  int       `json:"judged"`
	Same    int       `json:"same"`
	Unknown int       `json:"not_judged"` // erased, or on a connection that the proposal lacks
	Changed []changed `json:"changed"`
}

func newPolicyReplay(g *globals) *cobra.Command {
	var path string
	var f sessionFilter
	c := &cobra.Command{Use: "replay", Short: "Judge what was run by a proposed policy, and say what would have come out otherwise",
		Long: "Judge the operations that are on record by the policies of a configuration that is not in force, in the order in which\n" +
			"they were run, and say which would have been decided otherwise. The target's catalogue is not asked: what depends on its\n" +
			"columns, keys and functions may come out otherwise here. Budgets are counted within each session.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := g.loadPolicies(path)
			if err != nil {
				return err
			}
			query, err := f.query()
			if err != nil {
				return err
			}
			client, err := g.client()
			if err != nil {
				return err
			}
			r := &replayed{Changed: []changed{}}
			for s, err := range client.Sessions(cmd.Context(), query, f.limit) {
				if err == nil && s.State != store.SessionTurnedAway {
					err = r.session(cmd, client, loaded, s)
				}
				if err != nil {
					return explain(err)
				}
			}
			return g.printReplayed(r)
		}}
	configFlag(c, &path)
	f.flags(c)
	c.Flags().IntVar(&f.limit, "limit", 1000, "at most the newest `N` sessions; 0 for all")
	return c
}

// session judges what one session ran.
func (r *replayed) session(cmd *cobra.Command, client *api.Client, proposed *config.Config, s *store.Session) error {
	target, err := findConnection(proposed, s.Connection)
	known := err == nil
	caller := &custos.Principal{Issuer: s.Issuer, Subject: s.Subject, Name: s.Caller, Kind: s.Kind, Groups: s.Groups}
	if s.OnBehalfOf != "" {
		caller.OnBehalfOf = &custos.Principal{Name: s.OnBehalfOf}
	}
	var usage custos.Usage
	for o, err := range client.Operations(cmd.Context(), string(s.ID)) {
		if err != nil {
			return err
		}
		var op *custos.Operation
		if known && o.Text != "" {
			op, err = operationOf(target, o.Text)
		}
		if op == nil || err != nil {
			// What cannot be read is refused by the protocol, by every policy.
			r.Unknown++
			continue
		}
		op.Class = o.Class
		for _, p := range o.Params {
			op.Params = append(op.Params, custos.Param{Value: []byte(p)})
		}
		d := proposed.Policy.Judge(caller, target, op, &usage, o.At)
		r.Judged++
		if d.Effect.String() == o.Effect {
			r.Same++
		} else {
			r.Changed = append(r.Changed, changed{string(s.ID), o.Entry, callerOf(s.Caller, s.OnBehalfOf), o.Text, o.Effect, o.Rule, d.Effect.String(), d.Rule})
		}
		usage.Session.Operations++
		usage.Session.Rows += o.Rows
		usage.Session.Bytes += o.Bytes
		if op.Writes {
			usage.Session.Writes++
		}
		if d.Effect == custos.Refuse {
			usage.Session.Refused++
		}
	}
	return nil
}

// examples is how many operations of a kind of change are shown.
const examples = 3

func (g *globals) printReplayed(r *replayed) error {
	if g.json {
		return g.printJSON(r)
	}
	fmt.Fprintf(g.stdout, "%d operations judged: %d come out the same, %d otherwise; %d could not be judged\n", r.Judged, r.Same, len(r.Changed), r.Unknown)
	type way struct{ was, wasRule, now, nowRule string }
	ways := map[way][]changed{}
	for _, c := range r.Changed {
		w := way{c.Was, c.WasRule, c.Now, c.NowRule}
		ways[w] = append(ways[w], c)
	}
	var order []way
	for w := range ways {
		order = append(order, w)
	}
	slices.SortFunc(order, func(a, b way) int {
		return cmp.Or(cmp.Compare(len(ways[b]), len(ways[a])), cmp.Compare(a.now, b.now), cmp.Compare(a.nowRule, b.nowRule), cmp.Compare(a.was, b.was), cmp.Compare(a.wasRule, b.wasRule))
	})
	for _, w := range order {
		fmt.Fprintf(g.stdout, "\n%s by %s -> %s by %s: %d\n", w.was, w.wasRule, w.now, w.nowRule, len(ways[w]))
		t := newTable(g.stdout, "ENTRY", "CALLER", "SESSION", "STATEMENT")
		for _, c := range ways[w][:min(examples, len(ways[w]))] {
			t.add(fmt.Sprint(c.Entry), c.Caller, c.Session, c.Text)
		}
		if err := t.print(g.stdout); err != nil {
			return err
		}
	}
	return nil
}
