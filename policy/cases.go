package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/custos-gateway/custos"
)

// Case is a unit test of a policy: a question, and what is wanted of it.
type Case struct {
	// Name says what the case is about, and At is where it is written.
	Name string
	At   Position
	// Caller asks, on the connection of that name.
	Caller     custos.Principal
	Connection string
	// Statement is what is asked for, in the protocol's own words.
	Statement string
	// Usage is what was taken before, and Now when it is.
	Usage custos.Usage
	Now   time.Time
	Want  Want
}

// Want is what a case wants of a decision. What is absent is not looked at.
type Want struct {
	// Effect is allow, approve or refuse.
	Effect string
	// Rule is the rule that decides.
	Rule string
	// Masks are the rules that mask, and DryRun those in dry-run that would
	// have decided otherwise, each in any order; nil: not looked at.
	Masks, DryRun []string
}

// Failure is a case that came out otherwise.
type Failure struct {
	Case *Case
	// Got is the decision, if it came to one.
	Got custos.Decision
	// Message says what was wanted and what came.
	Message string
}

// Test judges each case, with the connections of a configuration. parse makes
// the operation of a statement, as the connection's protocol understands it.
func (p *Policy) Test(cases []Case, connections []*custos.Connection, parse func(c *custos.Connection, statement string) (*custos.Operation, error)) []Failure {
	var failures []Failure
	for i := range cases {
		one := &cases[i]
		if got, message := p.test(one, connections, parse); message != "" {
			failures = append(failures, Failure{one, got, message})
		}
	}
	return failures
}

func (p *Policy) test(one *Case, connections []*custos.Connection, parse func(*custos.Connection, string) (*custos.Operation, error)) (d custos.Decision, message string) {
	at := slices.IndexFunc(connections, func(c *custos.Connection) bool { return c.Name == one.Connection })
	if at < 0 {
		return d, fmt.Sprintf("there is no connection %q: name one of the configuration", one.Connection)
	}
	op, err := parse(connections[at], one.Statement)
	if err != nil {
		return d, err.Error()
	}
	d = p.Judge(&one.Caller, connections[at], op, &one.Usage, one.Now)
	var wrong []string
	if want := one.Want.Effect; want != "" && want != d.Effect.String() {
		wrong = append(wrong, fmt.Sprintf("want %s, got %s", want, d.Effect))
	}
	if want := one.Want.Rule; want != "" && want != d.Rule {
		wrong = append(wrong, fmt.Sprintf("want rule %s, got %s", want, d.Rule))
	}
	var masks []string
	for _, m := range d.Masks {
		masks = append(masks, m.Rule)
	}
	if !sameNames(one.Want.Masks, masks) {
		wrong = append(wrong, fmt.Sprintf("want masks of %s, got %s", names(one.Want.Masks), names(masks)))
	}
	if !sameNames(one.Want.DryRun, d.DryRun) {
		wrong = append(wrong, fmt.Sprintf("want in dry-run %s, got %s", names(one.Want.DryRun), names(d.DryRun)))
	}
	if len(wrong) > 0 && d.Reason != "" {
		wrong = append(wrong, fmt.Sprintf("rule %s says: %s", d.Rule, d.Reason))
	}
	return d, strings.Join(wrong, "; ")
}

// sameNames reports whether got are the names wanted, each once or more.
func sameNames(want, got []string) bool {
	return want == nil || subset(want, got) && subset(got, want)
}

func names(words []string) string {
	if len(words) == 0 {
		return "no rule"
	}
	words = slices.Clone(words)
	slices.Sort(words)
	return strings.Join(slices.Compact(words), ", ")
}
