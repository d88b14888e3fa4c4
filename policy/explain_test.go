package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custos-gateway/custos"
)

func TestExplain(t *testing.T) {
	rules := []Rule{
		{Name: "env", Connections: map[string]string{"env": "dev"}, Then: "refuse"},
		{Name: "kind", Callers: Callers{Groups: []string{"a", "b"}, Kinds: []custos.Kind{"ci"}}, Then: "refuse"},
		{Name: "false", When: `operation.writes`, Then: "refuse"},
		{Name: "true", When: `usage.session.rows > 5`, Then: "approve", At: Position{"p.yaml", 9}},
		{Name: "always", Then: "allow"},
		{Name: "dry", Then: "refuse", DryRun: true},
		{Name: "mask", Mask: []custos.Mask{{Columns: []string{"*.*.email"}}}},
		{Name: "oracle", When: `masked.columns != []`, Then: "approve"},
		{Name: "broken", When: `connection.labels.none == ""`, Then: "allow"},
	}
	f := facts("read")
	f.Columns = []string{"public.users.email"}
	p := made(t, rules...)
	usage := &custos.Usage{Session: custos.Counts{Rows: 6}}
	got := p.Explain(skill(), prod, ask(f), usage, noon)
	want := []Fired{
		{Rule: "env", Then: "refuse", Why: `it is for connections with env: dev, and this one's env is "prod"`},
		{Rule: "kind", Then: "refuse", Why: "it is for callers of kind ci and in group a or b"},
		{Rule: "false", Then: "refuse", Why: "its condition is false"},
		{Rule: "true", At: Position{"p.yaml", 9}, Matched: true, Then: "approve", Why: "its condition is true"},
		{Rule: "always", Matched: true, Then: "allow", Why: "it has no condition"},
		{Rule: "dry", Matched: true, DryRun: true, Then: "refuse", Why: "it has no condition"},
		{Rule: "mask", Matched: true, Then: "mask", Why: "it has no condition", Masks: []custos.Mask{{Rule: "mask", Columns: []string{"*.*.email"}, With: "redact"}}},
		{Rule: "oracle", Matched: true, Then: "approve", Why: "its condition is true"},
		{Rule: "broken", Matched: true, Decides: true, Then: "allow", Why: "its condition could not be evaluated, which refuses: no such key: none"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What is said to decide is what Judge cites.
	for n := range rules {
		p := made(t, rules[:n]...)
		d := p.Judge(skill(), prod, ask(f), usage, noon)
		cited := RuleAccess
		for _, fired := range p.Explain(skill(), prod, ask(f), usage, noon) {
			if fired.Decides {
				cited = fired.Rule
			}
		}
		if cited != d.Rule {
			t.Errorf("%d rules: explained by %s, judged by %s", n, cited, d.Rule)
		}
	}
	if got := p.Explain(nil, prod, ask(f), nil, noon); got != nil {
		t.Errorf("nobody's question is explained: %+v", got)
	}
}

func TestCheck(t *testing.T) {
	conns := []*custos.Connection{{Name: "a", Protocol: "postgres", Labels: map[string]string{"env": "prod"}}, {Name: "b", Protocol: "mysql"}}
	const w, r = `operation.writes`, `usage.repeats > 3`
	for name, test := range map[string]struct {
		rules []Rule
		want  map[int]string
	}{
		"none":                       {nil, nil},
		"written false":              {[]Rule{{When: "false", Then: "refuse"}, {When: w + " && false || false", Then: "refuse"}}, map[int]string{0: "never true", 1: "never true"}},
		"one false alternative":      {[]Rule{{When: w + " && false || " + r, Then: "refuse"}}, nil},
		"no such connection":         {[]Rule{{Connections: map[string]string{"name": "c"}, Then: "refuse"}, {Connections: map[string]string{"name": "b", "env": "prod"}, Then: "refuse"}}, map[int]string{0: "no connection has name: c", 1: "env: prod, name: b"}},
		"the same twice":             {[]Rule{{When: w, Then: "refuse"}, {When: "(operation.writes)", Then: "refuse"}}, map[int]string{1: "rule r0"}},
		"a stricter one after":       {[]Rule{{When: w, Then: "approve"}, {When: w, Then: "refuse"}}, map[int]string{0: "rule r1"}},
		"a milder one before":        {[]Rule{{When: w, Then: "allow"}, {When: w, Then: "refuse"}}, map[int]string{0: "rule r1"}},
		"one alternative of it":      {[]Rule{{When: w + " || " + r, Then: "refuse"}, {When: w + ` && operation.class == "X"`, Then: "approve"}}, map[int]string{1: "rule r0"}},
		"more alternatives":          {[]Rule{{When: w, Then: "refuse"}, {When: w + " || " + r, Then: "refuse"}}, nil},
		"unconditional":              {[]Rule{{Then: "refuse"}, {When: w, Then: "refuse"}}, map[int]string{1: "rule r0"}},
		"under an unconditional":     {[]Rule{{When: w, Then: "refuse"}, {Then: "refuse"}}, nil},
		"true is no condition":       {[]Rule{{When: "true", Then: "refuse"}, {When: w, Then: "refuse"}}, map[int]string{1: "rule r0"}},
		"narrower connections":       {[]Rule{{When: w, Then: "refuse"}, {When: w, Then: "refuse", Connections: map[string]string{"env": "prod"}}}, map[int]string{1: "rule r0"}},
		"wider connections":          {[]Rule{{When: w, Then: "refuse", Connections: map[string]string{"env": "prod"}}, {When: w, Then: "refuse"}}, nil},
		"narrower callers":           {[]Rule{{When: w, Then: "refuse", Callers: Callers{Groups: []string{"a", "b"}}}, {When: w, Then: "refuse", Callers: Callers{Groups: []string{"a"}}}}, map[int]string{1: "rule r0"}},
		"other callers":              {[]Rule{{When: w, Then: "refuse", Callers: Callers{Kinds: []custos.Kind{"ci"}}}, {When: w, Then: "refuse"}, {When: w, Then: "refuse", Callers: Callers{Groups: []string{"a"}}}}, map[int]string{2: "rule r1"}},
		"a dry run decides nothing":  {[]Rule{{When: w, Then: "refuse", DryRun: true}, {When: w, Then: "refuse"}}, nil},
		"other approvers":            {[]Rule{{When: w, Then: "approve"}, {When: w, Then: "approve", Approvers: custos.Approvers{Groups: []string{"dba"}}}}, nil},
		"masks do not overrule":      {[]Rule{{When: w, Mask: []custos.Mask{{Tags: []string{"pii"}}}}, {When: w, Then: "allow"}, {When: w, Mask: []custos.Mask{{Tags: []string{"pii"}}}}}, nil},
		"two dry runs":               {[]Rule{{When: w, Then: "refuse", DryRun: true}, {When: w, Then: "refuse", DryRun: true}}, nil},
		"a dry run under a decision": {[]Rule{{When: w, Then: "refuse"}, {When: w, Then: "refuse", DryRun: true}}, map[int]string{1: "rule r0"}},
	} {
		for i := range test.rules {
			test.rules[i].Name = "r" + string(rune('0'+i))
			test.rules[i].At = Position{"p.yaml", i + 1}
		}
		got := map[int]string{}
		for _, w := range Check(test.rules, conns) {
			if w.At.Line != w.Rule+1 {
				t.Errorf("%s: rule %d is at %v", name, w.Rule, w.At)
			}
			got[w.Rule] = w.Message
		}
		for i := range test.rules {
			if (test.want[i] == "") != (got[i] == "") || !strings.Contains(got[i], test.want[i]) {
				t.Errorf("%s: rule %d: got %q, want %q", name, i, got[i], test.want[i])
			}
		}
	}
}

func TestTest(t *testing.T) {
	p := made(t,
		Rule{Name: "no-lock", When: `"lock" in operation.effects`, Then: "refuse", Reason: "it locks"},
		Rule{Name: "budget", When: `usage.day.rows > 10 && now > timestamp("2026-07-01T00:00:00Z")`, Then: "refuse", DryRun: true},
		Rule{Name: "mask", Mask: []custos.Mask{{Tags: []string{"pii"}}, {Detect: []string{"x"}}}})
	parse := func(c *custos.Connection, statement string) (*custos.Operation, error) {
		if statement == "" || c != prod {
			return nil, errors.New("parse statement: it is empty")
		}
		return ask(facts(statement)), nil
	}
	caller, heavy := *skill(), custos.Usage{Day: custos.Counts{Rows: 11}}
	cases := []Case{
		{Name: "good", Caller: caller, Connection: "orders", Statement: "lock", Want: Want{Effect: "refuse", Rule: "no-lock", Masks: []string{"mask"}, DryRun: []string{}}},
		{Name: "budget", Caller: caller, Connection: "orders", Statement: "read", Usage: heavy, Now: noon, Want: Want{Effect: "allow", DryRun: []string{"budget"}}},
		{Name: "before", Caller: caller, Connection: "orders", Statement: "read", Usage: heavy, Now: noon.Add(-1000 * time.Hour), Want: Want{DryRun: []string{}}},
		{Name: "wrong", Caller: caller, Connection: "orders", Statement: "lock", Want: Want{Effect: "allow", Rule: "access", Masks: []string{}, DryRun: []string{"budget"}}},
		{Name: "stranger", Connection: "orders", Statement: "read", Want: Want{Effect: "allow"}},
		{Name: "elsewhere", Caller: caller, Connection: "none", Statement: "read"},
		{Name: "empty", Caller: caller, Connection: "orders"},
	}
	var got []string
	for _, f := range p.Test(cases, []*custos.Connection{prod}, parse) {
		got = append(got, f.Case.Name+": "+f.Message)
	}
	want := []string{
		"wrong: want allow, got refuse; want rule access, got no-lock; want masks of no rule, got mask; want in dry-run budget, got no rule; rule no-lock says: it locks",
		"stranger: want allow, got refuse; rule access says: no group of yours may use this connection",
		`elsewhere: there is no connection "none": name one of the configuration`,
		"empty: parse statement: it is empty",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
