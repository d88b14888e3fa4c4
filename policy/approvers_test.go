package policy

import (
	"testing"
	"time"

	"github.com/custos-gateway/custos"
)

// TestWhatAllHoldingRulesMustAllow has two rules hold an operation: what relaxes
// a hold counts only where both say so.
func TestWhatAllHoldingRulesMustAllow(t *testing.T) {
	loose := custos.Approvers{Groups: []string{"dba"}, BreakGlass: true, Exact: true, Statement: true}
	for name, test := range map[string]struct {
		second custos.Approvers
		want   bool
	}{
		"both":      {custos.Approvers{BreakGlass: true, Exact: true, Statement: true}, true},
		"one alone": {custos.Approvers{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New("1", []Rule{
				{Name: "a", When: "operation.writes", Then: "approve", Approvers: loose},
				{Name: "b", When: "usage.repeats >= 0", Then: "approve", Approvers: test.second},
			})
			if err != nil {
				t.Fatal(err)
			}
			caller := &custos.Principal{Issuer: "i", Subject: "s", Groups: []string{"g"}}
			c := &custos.Connection{Name: "orders", Access: []custos.Access{{Groups: []string{"g"}}}}
			for range 2 { // the second time from memory
				d := p.Judge(caller, c, &custos.Operation{Class: "Query", Writes: true}, &custos.Usage{}, time.Unix(0, 0))
				if a := d.Approvers; a == nil || a.BreakGlass != test.want || a.Exact != test.want || a.Statement != test.want || a.Groups[0] != "dba" {
					t.Errorf("%+v", a)
				}
			}
		})
	}
}

// TestBreakGlassIsAllowedByARule has it be asked for only where a rule that is
// about the caller and the connection says so.
func TestBreakGlassIsAllowedByARule(t *testing.T) {
	p, err := New("1", []Rule{
		{Name: "a", Then: "approve", Connections: map[string]string{"env": "prod"}, Callers: Callers{Kinds: []custos.Kind{custos.KindPerson}}, Approvers: custos.Approvers{BreakGlass: true}},
		{Name: "b", Then: "approve", DryRun: true, Approvers: custos.Approvers{BreakGlass: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	access := []custos.Access{{Groups: []string{"g"}}}
	prod := &custos.Connection{Name: "orders", Access: access, Labels: map[string]string{"env": "prod"}}
	person := &custos.Principal{Kind: custos.KindPerson, Groups: []string{"g"}}
	for name, test := range map[string]struct {
		caller *custos.Principal
		c      *custos.Connection
		want   bool
	}{
		"a person":         {person, prod, true},
		"a skill":          {&custos.Principal{Kind: custos.KindSkill, Groups: []string{"g"}}, prod, false},
		"without access":   {&custos.Principal{Kind: custos.KindPerson}, prod, false},
		"another database": {person, &custos.Connection{Name: "orders", Access: access}, false},
	} {
		if got := p.BreakGlass(test.caller, test.c); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestGranted has a rule refuse what nobody gave access for.
func TestGranted(t *testing.T) {
	p, err := New("1", []Rule{{Name: "a", When: "operation.writes && !usage.granted", Then: "refuse"}})
	if err != nil {
		t.Fatal(err)
	}
	caller := &custos.Principal{Groups: []string{"g"}}
	c := &custos.Connection{Name: "orders", Access: []custos.Access{{Groups: []string{"g"}}}}
	for granted, want := range map[bool]custos.Effect{true: custos.Allow, false: custos.Refuse} {
		d := p.Judge(caller, c, &custos.Operation{Class: "Query", Writes: true}, &custos.Usage{Granted: granted}, time.Unix(0, 0))
		if d.Effect != want {
			t.Errorf("granted %v: %v", granted, d.Effect)
		}
	}
}
