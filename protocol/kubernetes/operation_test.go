package kubernetes

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/policy"
)

// shipped is a set of rules that the gateway brings along.
func shipped(t testing.TB, name string) *policy.Policy {
	t.Helper()
	rules, _, err := config.Builtin(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New("test", rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCorpus judges requests of known verdicts as a skill's: what comes of them
// in front of a real API server, e2e's TestKubernetesCorpus tries.
func TestCorpus(t *testing.T) {
	rules := shipped(t, "builtin/safe-defaults")
	b, err := os.ReadFile("../../e2e/testdata/corpus_kubernetes.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(b)) {
		row := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		if strings.HasPrefix(line, "#") || len(row) != 4 {
			continue
		}
		rows++
		op, err := Operation(row[3])
		got := "refuse"
		if err == nil {
			got = rules.Judge(&custos.Principal{Kind: custos.KindSkill, Groups: []string{"skills"}}, &custos.Connection{Name: "prod", Protocol: "kubernetes", Access: []custos.Access{{Groups: []string{"skills"}}}}, op, &custos.Usage{}, time.Now()).Effect.String()
		}
		if got != row[2] {
			t.Errorf("%s: want %s, got %s: %s\n\t%v %v", row[1], row[2], got, row[3], err, op.Facts.Effects)
		}
	}
	if rows < 90 {
		t.Errorf("the corpus has %d rows", rows)
	}
}

// Every effect that this protocol names is one of the closed list.
func TestEffectsAreListed(t *testing.T) {
	listed := map[string]bool{}
	for _, e := range policy.Effects() {
		listed[e.Name] = true
	}
	b, err := os.ReadFile("../../e2e/testdata/corpus_kubernetes.tsv")
	if err != nil {
		t.Fatal(err)
	}
	attributes := policy.Attributes()
	for line := range strings.Lines(string(b)) {
		row := strings.SplitN(line, "\t", 4)
		if strings.HasPrefix(line, "#") || len(row) != 4 {
			continue
		}
		op, _ := Operation(row[3])
		if op == nil {
			continue
		}
		for _, e := range op.Facts.Effects {
			if !listed[e] {
				t.Errorf("%s: no such effect: %s", row[3], e)
			}
		}
		for a := range op.Facts.Attributes {
			if !slices.ContainsFunc(attributes, func(x policy.Attribute) bool { return x.Name == a }) {
				t.Errorf("%s: no such attribute: %s", row[3], a)
			}
		}
	}
	for e := range classes {
		if !listed[e] {
			t.Errorf("no such effect: %s", e)
		}
	}
}
