package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
)

func shipped(t testing.TB, name string, more ...policy.Rule) *policy.Policy {
	t.Helper()
	rules, _, err := Builtin(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New("v1", append(rules, more...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// verdicts says, of every effect alone, what the shipped sets decide: strict
// for a skill under safe-defaults, mild for a person under safe-people.
var verdicts = map[string]struct{ strict, mild string }{
	"read":                 {"allow", "allow"},
	"write.values":         {"allow", "allow"},
	"write.keyed":          {"allow", "allow"},
	"write.wide":           {"approve hold-wide-write", "allow"},
	"write.unfiltered":     {"refuse no-unfiltered-update", "approve people-hold-unfiltered-write"},
	"ddl":                  {"approve hold-ddl", "allow"},
	"ddl.destroy":          {"refuse no-destruction", "approve people-hold-destruction"},
	"role":                 {"refuse no-role-change", "approve people-hold-rights"},
	"config":               {"refuse no-configuration", "approve people-hold-rights"},
	"session":              {"allow", "allow"},
	"session.limit":        {"approve hold-session-limit", "allow"},
	"audit":                {"refuse no-audit-tampering", "refuse people-no-audit-tampering"},
	"file":                 {"refuse no-server-files", "approve people-hold-outside"},
	"os":                   {"refuse no-server-programs", "refuse people-no-server-programs"},
	"network":              {"refuse no-server-network", "approve people-hold-outside"},
	"replication":          {"refuse no-replication", "approve people-hold-outside"},
	"extension":            {"refuse no-extension", "approve people-hold-rights"},
	"secret":               {"refuse no-secrets", "approve people-hold-secrets"},
	"introspection":        {"refuse no-introspection", "allow"},
	"statistics":           {"refuse no-statistics", "approve people-hold-secrets"},
	"code":                 {"approve hold-code", "allow"},
	"code.dynamic":         {"refuse no-dynamic-code", "approve people-hold-unknown"},
	"code.define":          {"approve hold-code", "allow"},
	"code.shadow":          {"refuse no-shadowing", "refuse people-no-shadowing"},
	"lock":                 {"approve hold-lock", "allow"},
	"sleep":                {"approve hold-lock", "allow"},
	"kill":                 {"approve hold-kill", "approve people-hold-kill"},
	"maintenance":          {"approve hold-maintenance", "allow"},
	"copy.in":              {"approve hold-bulk", "allow"},
	"copy.out":             {"approve hold-bulk", "allow"},
	"notify":               {"approve hold-notify", "allow"},
	"transaction":          {"allow", "allow"},
	"transaction.prepared": {"approve hold-prepared-transaction", "allow"},
	"explain":              {"allow", "allow"},
	"change":               {"approve hold-change", "allow"},
	"delete":               {"approve hold-delete", "allow"},
	"destroy":              {"refuse no-destruction", "approve people-hold-destruction"},
	"dry-run":              {"allow", "allow"},
	"settings":             {"approve hold-settings", "allow"},
	"system":               {"refuse no-system", "approve people-hold-rights"},
	"escape":               {"refuse no-escape", "approve people-hold-outside"},
	"exec":                 {"approve hold-exec", "allow"},
	"tunnel":               {"approve hold-tunnel", "allow"},
	"opaque":               {"approve hold-opaque", "allow"},
	"ref.create":           {"allow", "allow"},
	"ref.forward":          {"allow", "allow"},
	"ref.force":            {"refuse no-rewriting", "approve people-hold-destruction"},
	"ref.delete":           {"approve hold-delete", "allow"},
	"ref.protected":        {"approve hold-protected-ref", "allow"},
	"ref.reserved":         {"refuse no-reserved-ref", "refuse people-no-reserved-ref"},
	"secret.added":         {"refuse no-secret-added", "approve people-hold-secrets"},
	"workflow":             {"approve hold-review", "allow"},
	"author":               {"approve hold-review", "allow"},
	"unsigned":             {"allow", "allow"},
	"large":                {"approve hold-review", "allow"},
	"masked.sentinel":      {"refuse no-mask-written-back", "refuse people-no-mask-written-back"},
	"unknown":              {"refuse no-unknown", "approve people-hold-unknown"},
}

var (
	shop = &custos.Connection{Name: "shop", Labels: map[string]string{"env": "prod"}, Access: []custos.Access{{Groups: []string{"g"}}}}
	sets = []string{"builtin/safe-defaults", "builtin/safe-people"}
)

func verdict(d custos.Decision) string {
	if d.Effect == custos.Allow {
		return "allow"
	}
	return d.Effect.String() + " " + d.Rule
}

func TestVerdicts(t *testing.T) {
	for i, set := range sets {
		p := shipped(t, set)
		for _, e := range policy.Effects() {
			pair, ok := verdicts[e.Name]
			if !ok {
				t.Fatalf("no verdict on %s", e.Name)
			}
			want := []string{pair.strict, pair.mild}[i]
			for _, kind := range []custos.Kind{custos.KindSkill, custos.KindCI, custos.KindWorkload, custos.KindPerson} {
				op := &custos.Operation{Class: "Query", Verbs: []string{"X"}, Writes: e.Name != "read", Facts: &custos.Facts{Effects: []string{e.Name}}}
				d := p.Judge(&custos.Principal{Kind: kind, Groups: []string{"g"}}, shop, op, nil, time.Time{})
				if got := verdict(d); got != want {
					t.Errorf("%s on %s for a %s: %s, want %s", set, e.Name, kind, got, want)
				}
				if d.Effect != custos.Allow && (d.Reason == "" || d.Hint == "") {
					t.Errorf("%s on %s: no reason or no hint: %+v", set, e.Name, d)
				}
			}
		}
	}
}

// Of several effects the strictest decides, whichever come together.
func TestVerdictsOnPairs(t *testing.T) {
	p := shipped(t, "builtin/safe-defaults")
	rank := func(effects ...string) custos.Effect {
		op := &custos.Operation{Class: "Query", Writes: true, Facts: &custos.Facts{Effects: effects}}
		return p.Judge(&custos.Principal{Kind: custos.KindSkill, Groups: []string{"g"}}, shop, op, nil, time.Time{}).Effect
	}
	for _, a := range policy.Effects() {
		for _, b := range policy.Effects() {
			if got, want := rank(a.Name, b.Name), min(rank(a.Name), rank(b.Name)); got != want {
				t.Errorf("%s with %s: %v, want %v", a.Name, b.Name, got, want)
			}
		}
	}
}

func TestVerdictsOnMasked(t *testing.T) {
	const email = "public.users.email"
	mask := policy.Rule{Name: "mask", Mask: []custos.Mask{{Columns: []string{"*.users.email"}}}}
	for _, test := range []struct {
		what         string
		op           custos.Operation
		strict, mild string
	}{
		{"shown", custos.Operation{Facts: &custos.Facts{Effects: []string{"read"}, Columns: []string{email}}}, "allow", "allow"},
		{"filtered by", custos.Operation{Facts: &custos.Facts{Effects: []string{"read"}, Columns: []string{email}, Predicates: []string{"public.users.id", email}}},
			"refuse no-masked-predicate", "approve people-hold-masked"},
		{"another filtered by", custos.Operation{Facts: &custos.Facts{Effects: []string{"read"}, Predicates: []string{"public.users.id", "public.mails.email"}}}, "allow", "allow"},
		{"copied", custos.Operation{Writes: true, Facts: &custos.Facts{Effects: []string{"write.keyed"}, Copied: []string{email}}}, "refuse no-masked-copy", "approve people-hold-masked"},
		{"copied to a new table", custos.Operation{Writes: true, Facts: &custos.Facts{Effects: []string{"ddl"}, Copied: []string{email}}}, "approve hold-ddl", "approve people-hold-masked"},
		{"a mask compared", custos.Operation{Facts: &custos.Facts{Effects: []string{"read", "masked.sentinel"}}}, "allow", "allow"},
		{"a mask written", custos.Operation{Writes: true, Facts: &custos.Facts{Effects: []string{"write.keyed", "masked.sentinel"}}}, "refuse no-mask-written-back", "refuse people-no-mask-written-back"},
	} {
		for i, set := range sets {
			test.op.Class = "Query"
			d := shipped(t, set, mask).Judge(&custos.Principal{Groups: []string{"g"}}, shop, &test.op, nil, time.Time{})
			if got, want := verdict(d), []string{test.strict, test.mild}[i]; got != want {
				t.Errorf("%s, %s: %s, want %s", set, test.what, got, want)
			}
		}
	}
}

// What nothing is known of is refused where it may write, and what a protocol
// needs for its own upkeep is not.
func TestVerdictsOnNothing(t *testing.T) {
	p := shipped(t, "builtin/safe-defaults")
	for _, test := range []struct {
		op   custos.Operation
		want string
	}{
		{custos.Operation{Class: "Sync"}, "allow"},
		{custos.Operation{Class: "Query", Writes: true}, "refuse no-unknown"},
		{custos.Operation{Class: "Query", Writes: true, Facts: &custos.Facts{}}, "refuse no-unknown"},
		{custos.Operation{Class: "Query", Facts: &custos.Facts{Effects: []string{"ddl.destory"}}}, "refuse " + policy.RuleUnknown},
		{custos.Operation{}, "refuse " + policy.RuleUnknown},
	} {
		if got := verdict(p.Judge(&custos.Principal{Groups: []string{"g"}}, shop, &test.op, nil, time.Time{})); got != test.want {
			t.Errorf("%+v: %s, want %s", test.op, got, test.want)
		}
	}
}

func TestUnfilteredDeleteReadsAsPromised(t *testing.T) {
	op := &custos.Operation{Class: "Query", Verbs: []string{"DELETE"}, Objects: []string{"public.customers"}, Writes: true, Facts: &custos.Facts{Effects: []string{"write.unfiltered"}}}
	d := shipped(t, "builtin/safe-defaults").Judge(&custos.Principal{Groups: []string{"g"}}, shop, op, nil, time.Time{})
	if err := (&custos.Refusal{Decision: d}).Error(); err != "refused by rule no-unfiltered-delete: DELETE without WHERE on shop.public.customers" {
		t.Error(err)
	}
}

// A warm question was asked before; a cold one is of a statement never seen.
func BenchmarkJudgeShipped(b *testing.B) {
	more := []policy.Rule{
		{Name: "rows", When: `usage.session.rows > 1000000`, Then: "refuse"},
		{Name: "loop", When: `usage.repeats > 32`, Then: "refuse"},
		{Name: "night", When: `operation.writes && now.getHours() < 6`, Then: "approve"},
		{Name: "email", Mask: []custos.Mask{{Columns: []string{"*.customers.email"}}}},
	}
	for i := range 6 {
		more = append(more, policy.Rule{Name: fmt.Sprint("hr", i), When: fmt.Sprintf(`operation.columns.exists(c, c.startsWith("hr%d."))`, i), Then: "refuse"})
	}
	caller := &custos.Principal{Kind: custos.KindSkill, Groups: []string{"g"}}
	facts := custos.Facts{Effects: []string{"read"}, Columns: []string{"public.customers.id", "public.customers.email"}, Predicates: []string{"public.customers.id"}}
	now := time.Date(2026, 7, 30, 10, 0, 0, 0, time.UTC)
	usage := &custos.Usage{Session: custos.Counts{Rows: 70_000}, Repeats: 2}
	for _, run := range []struct {
		name string
		more []policy.Rule
		cold bool
	}{{"alone/warm", nil, false}, {"alone/cold", nil, true}, {"with10/warm", more, false}, {"with10/cold", more, true}} {
		b.Run(run.name, func(b *testing.B) {
			p := shipped(b, "builtin/safe-defaults", run.more...)
			op := &custos.Operation{Class: "Query", Verbs: []string{"SELECT"}, Objects: []string{"public.customers"}, Facts: &facts}
			b.ReportAllocs()
			for b.Loop() {
				if run.cold {
					again := facts
					op.Facts = &again
				}
				if d := p.Judge(caller, shop, op, usage, now); d.Effect != custos.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}

// The names of shipped rules do not depend on each other's file.
func TestNamesOfSetsDiffer(t *testing.T) {
	strict, _, err := Builtin(sets[0])
	if err != nil {
		t.Fatal(err)
	}
	mild, _, err := Builtin(sets[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range mild {
		if slices.ContainsFunc(strict, func(s policy.Rule) bool { return s.Name == r.Name }) || !strings.HasPrefix(r.Name, "people-") {
			t.Errorf("rule %s of %s", r.Name, sets[1])
		}
	}
}
