package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
)

func TestParseTests(t *testing.T) {
	cases, err := parseTests("t.yaml", []byte(`tests:
  - name: a budget
    caller: {kind: skill, groups: [skills], on_behalf_of: {name: ana}}
    connection: orders
    statement: |
      SELECT 1
      FROM t
    usage: {day: {rows: 2000000000, bytes: 40000000000}, repeats: 3}
    now: 2026-07-30T10:00:00Z
    want: {effect: refuse, rule: budget, masks: []}
  - {caller: {}, connection: orders, statement: select 1, want: {dry_run: [x]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Case{
		{Name: "a budget", At: policy.Position{File: "t.yaml", Line: 2}, Connection: "orders", Statement: "SELECT 1\nFROM t\n",
			Caller: custos.Principal{Issuer: "https://id.example.com", Subject: "test", Kind: "skill", Groups: []string{"skills"},
				OnBehalfOf: &custos.Principal{Issuer: "https://id.example.com", Subject: "test", Name: "ana", Kind: "person"}},
			Usage: custos.Usage{Day: custos.Counts{Rows: 2e9, Bytes: 4e10}, Repeats: 3}, Now: time.Date(2026, 7, 30, 10, 0, 0, 0, time.UTC),
			Want: policy.Want{Effect: "refuse", Rule: "budget", Masks: []string{}}},
		{At: policy.Position{File: "t.yaml", Line: 11}, Connection: "orders", Statement: "select 1",
			Caller: custos.Principal{Issuer: "https://id.example.com", Subject: "test", Kind: "person"},
			Usage:  custos.Usage{Repeats: 1}, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Want: policy.Want{DryRun: []string{"x"}}},
	}
	if diff := cmp.Diff(want, cases); diff != "" {
		t.Error(diff)
	}
}

func TestParseTestsErrors(t *testing.T) {
	_, err := parseTests("t.yaml", []byte(`tests:
  - {caller: {kind: robot}, connection: orders, statement: "", want: {}, now: noon}
  - {caler: {}, connection: orders, want: {effect: maybe}}
`))
	want := []string{
		"t.yaml:2:21: tests[0].caller.kind: unknown value", "t.yaml:2:60: tests[0].statement: it is empty", "t.yaml:2:70: tests[0].want: nothing is wanted",
		"t.yaml:2:79: tests[0].now: want a time", "t.yaml:3:5: tests[1].caller: it is missing", "t.yaml:3:5: tests[1].statement: it is missing",
		"t.yaml:3:6: tests[1].caler: unknown key: did you mean caller?", "t.yaml:3:52: tests[1].want.effect: unknown value",
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("got\n%s\nwant\n%s", err, strings.Join(want, "\n"))
		}
	}
}
