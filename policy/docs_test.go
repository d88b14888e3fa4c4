package policy

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	yaml "go.yaml.in/yaml/v4"

	"github.com/custos-gateway/custos"
)

var update = flag.Bool("update", false, "write docs/policy.md anew")

const manual = `# Policies

The rules under ` + "`policies:`" + ` in custos.yaml decide on every operation before it reaches the target, and on what is
hidden of its answer. Their keys are in [config.md](config.md#policies). This page lists what conditions can ask, and what
an operation can be said to do; it is made from package policy by go test ./policy -update.

` + "```yaml\n%s```" + `

- Refuse beats approve, and approve beats allow, wherever the rules stand. Of rules that are as strict, the first is cited;
  of rules that hold, the first that names approvers says who is asked. The masks of all rules that apply add up.
- Where no rule applies, the operation is allowed: the connection's access list admitted the caller. No rule can allow what
  another refuses; narrow the other with connections, callers, when or, of an included set, without.
- A rule in mode dry-run decides nothing and hides nothing. Where it would have, the record of the operation names it.
- What cannot be evaluated refuses: a label that is not there, a division by zero, a loop over too much. The refusal names
  the rule and the cause.
- A name that does not exist, and an effect or kind that is not on the lists here, are errors when the file is read, with
  line and column. A rule that can never decide is a warning.

## Conditions

A condition is written in [CEL](https://cel.dev) and is true or false. These are its variables. Beside CEL's own functions
and macros there are sets.contains, sets.intersects and sets.equivalent. ` + "`matches`" + ` takes RE2 expressions, which cannot run
away. A time zone is written as it is: ` + "`now.getHours(\"Europe/Berlin\")`" + `; without one, clocks are in UTC. As in all of CEL,
getMonth and getDayOfYear count from 0, and getDayOfWeek is 0 on Sunday.

An answer is remembered for operations that differ in constants only, so rules cost next to nothing. Those that ask of
usage, now, operation.text or operation.params are asked each time, in well under a microsecond.
`

const example = `policies:
  - include: builtin/safe-defaults
    connections: {env: prod}
    callers: {kinds: [skill, ci, workload]}
  - include: builtin/safe-people
    connections: {env: prod}
    callers: {kinds: [person]}
  - rule: hr-needs-a-person
    why: Salaries are nobody's business by accident.
    when: operation.objects.exists(o, o.startsWith("hr."))
    then: approve
    approvers: {groups: [hr-leads], count: 1, within: 15m}
  - rule: a-day-is-enough
    why: Nobody needs a million rows a day, and whoever leaves with a table takes more.
    when: usage.day.rows > 1000000
    then: refuse
    reason: the rows of a day are used up
    hint: ask for sums rather than rows, or come back tomorrow
  - rule: runaway
    why: An agent that asks the same again and again has lost its way.
    callers: {kinds: [skill]}
    when: usage.repeats > 20
    then: refuse
    reason: the same operation was asked for too often
  - rule: office-hours
    when: operation.writes && (now.getHours("Europe/Berlin") < 7 || now.getHours("Europe/Berlin") >= 20)
    then: approve
    mode: dry-run
  - rule: hide-customers
    callers: {kinds: [skill, ci]}
    mask:
      - {columns: ["*.customers.email"], with: partial}
      - {tags: [pii], with: redact}
`

// document returns docs/policy.md.
func document() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, manual, example)
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	table := func(head string) { fmt.Fprintf(&b, "\n%s\n|---|---|---|\n", head) }
	for _, v := range variables {
		o := findObject(v.typ.TypeName())
		if o == nil {
			fmt.Fprintf(&b, "\n### %s\n\nWhen the operation is judged, a timestamp.\n", v.name)
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", v.name, o.means)
		table("| field | type | meaning |")
		for _, f := range o.fields {
			counted := f.typ.TypeName() == countsT.TypeName()
			if !counted {
				fmt.Fprintf(&b, "| `%s.%s` | %s | %s |\n", v.name, f.name, typeName(f.typ), cell.Replace(f.means))
				continue
			}
			for _, c := range findObject(countsT.TypeName()).fields {
				fmt.Fprintf(&b, "| `%s.%s.%s` | %s | %s %s |\n", v.name, f.name, c.name, typeName(c.typ), cell.Replace(c.means), cell.Replace(f.means))
			}
		}
	}
	b.WriteString("\n## Effects\n\nWhat an operation can do, in operation.effects. It may have several: those of everything in it, however deep. " +
		"The list is\nclosed: an operation with an effect that is not here is refused. The last two columns are what the shipped sets decide.\n\n" +
		"| effect | meaning | safe-defaults | safe-people |\n|---|---|---|---|\n")
	for _, e := range effects {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.Name, cell.Replace(e.Means), shippedVerdict("builtin/safe-defaults", e.Name), shippedVerdict("builtin/safe-people", e.Name))
	}
	b.WriteString("\n## Attributes\n\nWhat protocols say of an operation in operation.attributes, such as `\"kube-system\" in operation.attributes.namespace`. Each is a list\n" +
		"of texts, and empty where the protocol has no such.\n\n| attribute | values |\n|---|---|\n")
	for _, a := range attributes {
		fmt.Fprintf(&b, "| `%s` | %s |\n", a.Name, cell.Replace(a.Means))
	}
	return b.Bytes()
}

// shippedVerdict is what a shipped set decides on an effect alone.
func shippedVerdict(set, effect string) string {
	raw, err := Builtin(set)
	if err != nil {
		panic(err)
	}
	var file struct {
		Policies []struct{ Rule, When, Then string }
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		panic(err)
	}
	var rules []Rule
	for _, r := range file.Policies {
		rules = append(rules, Rule{Name: r.Rule, When: r.When, Then: r.Then})
	}
	p, err := New("v1", rules)
	if err != nil {
		panic(err)
	}
	op := &custos.Operation{Class: "Query", Writes: effect != "read", Facts: &custos.Facts{Effects: []string{effect}}}
	d := p.Judge(who("dba"), prod, op, nil, time.Time{})
	if d.Effect == custos.Allow {
		return "allow"
	}
	return fmt.Sprintf("%s: %s", d.Effect, d.Rule)
}

func typeName(t *cel.Type) string {
	return strings.ReplaceAll(strings.ToLower(cel.FormatCELType(t)), "custos.", "")
}

// What is published says what the code does.
func TestPublished(t *testing.T) {
	want := document()
	const path = "../docs/policy.md"
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the code says: run go test ./policy -update", path)
	}
}
