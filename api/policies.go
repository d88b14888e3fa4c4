package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
	"github.com/custos-gateway/custos/store"
)

// Policies are the rules in force.
type Policies interface {
	// Rules returns them in their order, and the version that decisions cite.
	Rules() (version string, rules []policy.Rule)
	// Explain says what they decide on a statement of p on a connection, asking
	// the target nothing. The error says why the statement can't be read.
	Explain(p *custos.Principal, connection, statement string) (*custos.Operation, custos.Decision, []policy.Fired, error)
}

// Rule is one rule in force.
type Rule struct {
	Name string `json:"name"`
	Why  string `json:"why,omitempty"`
	// At is where it is written.
	At          string            `json:"at,omitempty"`
	Connections map[string]string `json:"connections,omitempty"`
	Groups      []string          `json:"groups,omitempty"` // of callers
	Kinds       []custos.Kind     `json:"kinds,omitempty"`
	When        string            `json:"when,omitempty"`
	Then        string            `json:"then"` // allow, approve, refuse or mask
	DryRun      bool              `json:"dry_run,omitempty"`
	Approvers   *RuleApprovers    `json:"approvers,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Hint        string            `json:"hint,omitempty"`
	Masks       []RuleMask        `json:"masks,omitempty"`
	// Would is how many operations of the last 30 days a rule in dry-run would
	// have decided otherwise.
	Would int64 `json:"would,omitempty"`
}

// RuleApprovers are whom a rule asks.
type RuleApprovers struct {
	Groups     []string `json:"groups,omitempty"`
	Count      int      `json:"count"`
	Within     string   `json:"within,omitempty"`
	BreakGlass bool     `json:"break_glass,omitempty"`
}

// RuleMask is what a rule hides.
type RuleMask struct {
	Columns []string `json:"columns,omitempty"`
	Results []string `json:"results,omitempty"`
	Tags    []string `json:"tags,omitempty"`
	Detect  []string `json:"detect,omitempty"`
	With    string   `json:"with"`
}

// PolicySet is all rules in force.
type PolicySet struct {
	Version string `json:"version"`
	Rules   []Rule `json:"rules"`
}

// dryRunTime is how far back what rules in dry-run would have done is counted.
const dryRunTime = 30 * 24 * time.Hour

// staff refuses who has no role: rules say what is looked for.
func (s *server) staff(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if len(s.rolesOf(caller(r.Context()))) == 0 {
			return problem(http.StatusForbidden, "only administrators, reviewers and auditors may do this; roles: in the configuration says who is one")
		}
		return h(w, r)
	}
}

func (s *server) listPolicies(w http.ResponseWriter, r *http.Request) error {
	version, rules := s.Policies.Rules()
	set := PolicySet{Version: version, Rules: []Rule{}}
	would := map[string]int64{}
	if slices.ContainsFunc(rules, func(r policy.Rule) bool { return r.DryRun }) {
		s.catchUp(r)
		ctx, cancel := context.WithTimeout(r.Context(), searchTimeout)
		defer cancel()
		counted, err := s.Index.DryRuns(ctx, s.Now().Add(-dryRunTime))
		if err != nil {
			return listError(err)
		}
		for _, c := range counted {
			would[c.Rule] = c.Operations
		}
	}
	for i := range rules {
		rule := ruleOf(&rules[i])
		if rule.DryRun {
			rule.Would = would[rule.Name]
		}
		set.Rules = append(set.Rules, rule)
	}
	return writeJSON(w, set)
}

func ruleOf(r *policy.Rule) Rule {
	out := Rule{Name: r.Name, Why: r.Why, Connections: r.Connections, Groups: r.Callers.Groups, Kinds: r.Callers.Kinds,
		When: r.When, Then: r.Then, DryRun: r.DryRun, Reason: r.Reason, Hint: r.Hint}
	if r.At != (policy.Position{}) {
		out.At = strings.TrimPrefix(r.At.String(), "at ")
	}
	if r.Then == custos.Approve.String() {
		out.Approvers = &RuleApprovers{Groups: r.Approvers.Groups, Count: max(r.Approvers.Count, 1), BreakGlass: r.Approvers.BreakGlass}
		if r.Approvers.Within > 0 {
			out.Approvers.Within = r.Approvers.Within.String()
		}
	}
	for _, m := range r.Mask {
		out.Then = "mask"
		out.Masks = append(out.Masks, RuleMask{Columns: m.Columns, Results: m.Results, Tags: m.Tags, Detect: m.Detect, With: m.With})
	}
	return out
}

// Explaining is what the rules are asked about.
type Explaining struct {
	Connection string `json:"connection"`
	Statement  string `json:"statement"`
	// Kind and Groups are of whoever would run it; no kind is a person.
	Kind   custos.Kind `json:"kind,omitempty"`
	Groups []string    `json:"groups,omitempty"`
}

// Explanation is what the rules say.
type Explanation struct {
	Effect  string   `json:"effect"`
	Rule    string   `json:"rule,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Hint    string   `json:"hint,omitempty"`
	Verbs   []string `json:"verbs"`
	Objects []string `json:"objects"`
	Writes  bool     `json:"writes"`
	// Effects are of the closed list in docs/policy.md.
	Effects []string `json:"effects"`
	// Unknown is what could not be known without asking the target.
	Unknown []string    `json:"unknown,omitempty"`
	Rules   []FiredRule `json:"rules"`
}

// FiredRule is what one rule says.
type FiredRule struct {
	Rule    string `json:"rule"`
	Then    string `json:"then"`
	Matched bool   `json:"matched"`
	Decides bool   `json:"decides"`
	DryRun  bool   `json:"dry_run,omitempty"`
	Why     string `json:"why"`
}

func (s *server) explain(w http.ResponseWriter, r *http.Request) error {
	var q Explaining
	if err := readBody(r, &q); err != nil {
		return err
	}
	if q.Kind == "" {
		q.Kind = custos.KindPerson
	}
	if !slices.Contains([]custos.Kind{custos.KindPerson, custos.KindSkill, custos.KindCI, custos.KindWorkload}, q.Kind) {
		return problem(http.StatusBadRequest, fmt.Sprintf("there is no kind %q; a caller is a person, skill, ci or workload", q.Kind))
	}
	p := &custos.Principal{Issuer: "explain", Subject: "somebody", Name: "somebody", Kind: q.Kind, Groups: q.Groups}
	op, d, fired, err := s.Policies.Explain(p, q.Connection, q.Statement)
	if err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	e := Explanation{Effect: d.Effect.String(), Rule: d.Rule, Reason: d.Reason, Hint: d.Hint, Verbs: op.Verbs, Objects: op.Objects, Writes: op.Writes, Rules: []FiredRule{}}
	if op.Facts != nil {
		e.Effects, e.Unknown = op.Facts.Effects, op.Facts.Unknown
	}
	for _, f := range fired {
		e.Rules = append(e.Rules, FiredRule{f.Rule, f.Then, f.Matched, f.Decides, f.DryRun, f.Why})
	}
	for _, list := range []*[]string{&e.Verbs, &e.Objects, &e.Effects} {
		if *list == nil {
			*list = []string{}
		}
	}
	return writeJSON(w, e)
}

// Policies asks for the rules in force.
func (c *Client) Policies(ctx context.Context) (*PolicySet, error) {
	set := new(PolicySet)
	return set, c.get(ctx, "/api/v1/policies", nil, set)
}

// Explain asks what the rules in force say of a statement.
func (c *Client) Explain(ctx context.Context, q Explaining) (*Explanation, error) {
	e := new(Explanation)
	return e, c.post(ctx, "/api/v1/policies/explain", q, e)
}

// Activity asks what was done in the last hours.
func (c *Client) Activity(ctx context.Context, hours int) (*store.Activity, error) {
	a := new(store.Activity)
	return a, c.get(ctx, "/api/v1/activity", map[string][]string{"hours": {fmt.Sprint(hours)}}, a)
}

// LedgerState asks how it stands with the ledger.
func (c *Client) LedgerState(ctx context.Context) (*LedgerState, error) {
	l := new(LedgerState)
	return l, c.get(ctx, "/api/v1/ledger", nil, l)
}
