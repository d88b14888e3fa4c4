package config

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
)

func loaded(t *testing.T) *Config {
	t.Helper()
	c, err := Load("testdata/custos.yaml", spoken)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An item becomes a rule, whole, with its place in the file.
func TestRules(t *testing.T) {
	c := loaded(t)
	i := slices.IndexFunc(c.Rules, func(r policy.Rule) bool { return r.Name == "writes-need-a-person" })
	want := []policy.Rule{
		{Name: "writes-need-a-person", At: policy.Position{File: "testdata/custos.yaml", Line: 39}, Connections: map[string]string{"env": "prod"},
			Callers: policy.Callers{Kinds: []custos.Kind{custos.KindSkill}}, When: `operation.writes && "hr" in caller.groups`, Then: "approve",
			Approvers: custos.Approvers{Groups: []string{"dba"}, Count: 2, Within: 15 * time.Minute}},
		{Name: "a-million-rows-a-day", At: policy.Position{File: "testdata/custos.yaml", Line: 45}, Why: "Nobody needs more, and whoever leaves with a table takes more.",
			When: "usage.day.rows > 1000000 ||\nusage.hour.rows > 200000\n", Then: "refuse", Reason: "more rows than a day's work needs"},
		{Name: "runaway", At: policy.Position{File: "testdata/custos.yaml", Line: 52}, When: "usage.repeats > 32", Then: "refuse", DryRun: true},
		{Name: "hide-customers", At: policy.Position{File: "testdata/custos.yaml", Line: 56}, Callers: policy.Callers{Kinds: []custos.Kind{"skill", "ci"}},
			Mask: []custos.Mask{{Columns: []string{"*.customers.email"}, With: "partial"}, {Tags: []string{"pii"}, With: "null"}, {Detect: []string{"iban"}, With: "redact"}}},
	}
	if diff := cmp.Diff(want, c.Rules[i:]); diff != "" {
		t.Error(diff)
	}
}

// An include brings the set's rules, but those left out, with what stands
// beside it.
func TestInclude(t *testing.T) {
	shipped, _, err := Builtin("builtin/safe-defaults")
	if err != nil {
		t.Fatal(err)
	}
	var want []policy.Rule
	for _, r := range shipped {
		if r.Name == "hold-notify" {
			continue
		}
		r.Connections = map[string]string{"env": "prod"}
		if r.Then == "approve" {
			r.Approvers = custos.Approvers{Groups: []string{"dba"}, Count: 1, Within: 15 * time.Minute}
		}
		want = append(want, r)
	}
	if len(want) != len(shipped)-1 {
		t.Fatalf("of %d rules, %d are included", len(shipped), len(want))
	}
	if diff := cmp.Diff(want, loaded(t).Rules[:len(want)]); diff != "" {
		t.Error(diff)
	}
}

// A set may be included for one sort of caller, and tried on another.
func TestIncludeTwice(t *testing.T) {
	c, err := parse("custos.yaml", []byte(minimal+`policies:
  - {include: builtin/safe-defaults, callers: {kinds: [skill]}}
  - {include: builtin/safe-defaults, callers: {kinds: [person]}, mode: dry-run}
`), spoken)
	if err != nil {
		t.Fatal(err)
	}
	conn := &custos.Connection{Name: "orders", Access: []custos.Access{{Groups: []string{"g"}}}}
	op := &custos.Operation{Class: "Query", Writes: true, Facts: &custos.Facts{Effects: []string{"ddl.destroy"}}}
	for kind, want := range map[custos.Kind]custos.Effect{custos.KindSkill: custos.Refuse, custos.KindPerson: custos.Allow} {
		d := c.Policy.Judge(&custos.Principal{Kind: kind, Groups: []string{"g"}}, conn, op, nil, time.Time{})
		if d.Effect != want || (want == custos.Allow) != slices.Contains(d.DryRun, "no-destruction") {
			t.Errorf("%s: %+v", kind, d)
		}
	}
}

// The example in docs/policy.md is a valid one.
func TestManualOfPolicies(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	c, err := parse("custos.yaml", []byte(minimal+example), spoken)
	if err != nil || !found {
		t.Fatal(err, found)
	}
	if len(c.Rules) < 20 || len(c.Warnings) > 0 {
		t.Errorf("%d rules, warnings %v", len(c.Rules), c.Warnings)
	}
}

// What is shipped is fit to be read, and to be narrowed by an include.
func TestBuiltins(t *testing.T) {
	for _, name := range policy.Builtins() {
		rules, text, err := Builtin(name)
		if err != nil || len(rules) == 0 {
			t.Fatal(name, err)
		}
		for _, r := range rules {
			if r.Why == "" || r.Reason == "" || r.Hint == "" || r.Then == "" || strings.HasSuffix(r.Reason, ".") || strings.HasSuffix(r.Hint, ".") {
				t.Errorf("%v: rule %s lacks why, then, reason or hint, or has a full stop too many", r.At, r.Name)
			}
			if len(r.Connections)+len(r.Callers.Groups)+len(r.Callers.Kinds) > 0 || r.DryRun {
				t.Errorf("%v: rule %s has selectors that an include would replace", r.At, r.Name)
			}
			if line := strings.Split(string(text), "\n")[r.At.Line-1]; line != "  - rule: "+r.Name {
				t.Errorf("rule %s is said to be at %v, where it says %q", r.Name, r.At, line)
			}
		}
		if warnings := policy.Check(rules, nil); len(warnings) > 0 {
			t.Errorf("%s: %+v", name, warnings)
		}
		if _, err := policy.New("v1", rules); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Builtin("builtin/../builtin/safe-defaults"); err == nil {
		t.Error("a set of any name is read")
	}
}
