package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
)

// PolicyItem is a rule, or takes in a set of rules that is shipped. A rule
// decides or masks. Refuse beats approve, approve beats allow, and masks add
// up; where no rule applies, what access admits is allowed.
type PolicyItem struct {
	// A shipped set of rules, taken in here.
	Include string `yaml:"include" jsonschema:"example=builtin/safe-defaults"`
	// Rules of the included set to leave out.
	Without []string `yaml:"without"`
	// The rule's name, which its decisions cite. No two rules have the same.
	Rule string `yaml:"rule" jsonschema:"example=writes-need-a-person"`
	// What the rule stops, and why, for people who read the file.
	Why Prose `yaml:"why"`
	// The connections that it is for: all of name, protocol and labels, each
	// with its value. Absent: all connections.
	Connections map[string]string `yaml:"connections"`
	// The callers that it is for. Absent: all callers.
	Callers Callers `yaml:"callers"`
	// The condition, in CEL; docs/policy.md lists its fields. Absent: always.
	When Expression `yaml:"when" jsonschema:"example=operation.writes"`
	// What the rule decides.
	Then string `yaml:"then" jsonschema:"enum=allow,enum=approve,enum=refuse"`
	// In dry-run, what the rule would have done is recorded, and not done.
	Mode string `yaml:"mode" jsonschema:"default=enforce,enum=enforce,enum=dry-run"`
	// Who is asked, where the rule says approve. Absent: any reviewer.
	Approvers *Approvers `yaml:"approvers"`
	// What the caller is told, without a full stop; what the operation touches
	// is put behind it.
	Reason Prose `yaml:"reason" jsonschema:"example=DELETE without WHERE"`
	// What the caller can do next.
	Hint Prose `yaml:"hint"`
	// What the rule hides in answers.
	Mask []Mask `yaml:"mask"`
}

// Callers is those in any of the groups and of any of the kinds.
type Callers struct {
	// The groups, of which a caller is in one. Absent: any.
	Groups []string `yaml:"groups"`
	// The kinds, of which a caller has one. Absent: any.
	Kinds []string `yaml:"kinds" jsonschema:"enum=person,enum=skill,enum=ci,enum=workload"`
}

// Approvers is who is asked.
type Approvers struct {
	// Groups of whom any member may answer, other than the caller. Absent:
	// any reviewer.
	Groups []string `yaml:"groups"`
	// How many must agree.
	Count int `yaml:"count" jsonschema:"default=1,minimum=1"`
	// How long the operation is held for them. Absent: as long as the gateway
	// holds any.
	Within Duration `yaml:"within" jsonschema:"example=15m"`
	// How they are told what an operation would change: by the estimate of the
	// target's planner, or, for plain UPDATE and DELETE, by counting the rows
	// first, in a read-only transaction and a bounded time. Counted only where
	// all rules that hold the operation say so.
	Rows string `yaml:"rows" jsonschema:"default=estimate,enum=estimate,enum=exact"`
	// What messages to reviewers hold of the operation: a summary, or its text
	// as well. Its parameters they never hold. The text only where all rules that
	// hold the operation say so.
	Messages string `yaml:"messages" jsonschema:"default=summary,enum=summary,enum=statement"`
	// In an emergency the caller may go ahead without being answered, and all
	// reviewers are told. Only where all rules that hold the operation say so.
	BreakGlass bool `yaml:"break_glass"`
}

// Mask hides what any of columns, results, tags and detect finds.
type Mask struct {
	// Stored columns, as schema.table.column, where * stands for any run of
	// characters but a full stop.
	Columns []string `yaml:"columns" jsonschema:"example=*.customers.email"`
	// Columns or fields of the answer, by name, with * as above.
	Results []string `yaml:"results"`
	// Stored columns that have one of these tags.
	Tags []string `yaml:"tags" jsonschema:"example=pii"`
	// Kinds of value, wherever in the answer they stand.
	Detect []string `yaml:"detect" jsonschema:"example=email"`
	// How it is hidden. clear shows what is hidden by itself, such as the values
	// of Kubernetes' Secrets (*.secrets.data).
	With Way `yaml:"with" jsonschema:"default=redact,enum=redact,enum=partial,enum=hash,enum=format,enum=null,enum=clear"`
}

// ColumnTags gives tags to stored columns.
type ColumnTags struct {
	// The columns, as schema.table.column, where * stands for any run of
	// characters but a full stop.
	Match []string `yaml:"match" jsonschema:"required,example=*.customers.email"`
	// Their tags, which masks name.
	Tags []string `yaml:"tags" jsonschema:"required,example=pii"`
}

// Way is how something is hidden. Null is a way, and no absent value.
type Way string

// Expression is a condition in CEL. It may have many lines.
type Expression string

func (e *Expression) parse(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("it is empty: write it out, or remove the key")
	}
	*e = Expression(text)
	return nil
}

// Prose is text for people. Its line breaks are those of the file and nothing
// more.
type Prose string

func (p *Prose) parse(text string) error {
	*p = Prose(strings.Join(strings.Fields(text), " "))
	if *p == "" {
		return errors.New("it is empty: give it a text, or remove the key")
	}
	if strings.ContainsFunc(string(*p), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("it holds a control character: remove it")
	}
	return nil
}

// Builtin returns the rules of a set that is shipped, and the YAML that it is
// written in.
func Builtin(name string) ([]policy.Rule, []byte, error) {
	raw, err := policy.Builtin(name)
	if err != nil {
		return nil, nil, err
	}
	var file struct {
		Policies []PolicyItem `yaml:"policies"`
	}
	d := newDecoder(name, raw)
	if d.decode(raw, &file) {
		d.rules(reflect.ValueOf(&file).Elem(), "")
	}
	var rules []policy.Rule
	for i := range file.Policies {
		rules = append(rules, d.ruleOf(&file.Policies[i], fmt.Sprintf("policies[%d]", i)))
	}
	if len(d.problems) > 0 {
		return nil, nil, d.problems
	}
	return rules, raw, nil
}

// policies makes the rules of c, and reports what is wrong with them. What it
// returns beside them names, for each rule, the key that it comes from.
func (d *decoder) policies(c *Config) (rules []policy.Rule, keys []string) {
	for i := range c.Policies {
		item, key := &c.Policies[i], fmt.Sprintf("policies[%d]", i)
		made := d.item(item, key)
		for range made {
			keys = append(keys, key)
		}
		rules = append(rules, made...)
	}
	return rules, keys
}

// item makes the rules of one item.
func (d *decoder) item(item *PolicyItem, key string) []policy.Rule {
	switch {
	case (item.Include == "") == (item.Rule == ""):
		d.fail(key, "want exactly one of rule, with a name for it, and include, with a set that is shipped")
		return nil
	case item.Rule != "":
		if len(item.Without) > 0 {
			d.fail(key+".without", "it goes with include only: remove it")
		}
		return []policy.Rule{d.ruleOf(item, key)}
	}
	for _, name := range []string{"why", "when", "then", "reason", "hint", "mask"} {
		if _, present := d.at[key+"."+name]; present {
			d.fail(key+"."+name, "it goes with rule only: remove it")
		}
	}
	all, _, err := Builtin(item.Include)
	if err != nil {
		d.fail(key+".include", "%v", err)
		return nil
	}
	over := d.ruleOf(item, key)
	var rules []policy.Rule
	for _, r := range all {
		if slices.Contains(item.Without, r.Name) {
			continue
		}
		r.Connections, r.Callers, r.DryRun = over.Connections, over.Callers, over.DryRun
		if r.Then == "approve" {
			r.Approvers = over.Approvers
		}
		rules = append(rules, r)
	}
	for j, name := range item.Without {
		if !slices.ContainsFunc(all, func(r policy.Rule) bool { return r.Name == name }) {
			d.fail(fmt.Sprintf("%s.without[%d]", key, j), "%s has no such rule", item.Include)
		}
	}
	return rules
}

// ruleOf makes the rule that an item is.
func (d *decoder) ruleOf(item *PolicyItem, key string) policy.Rule {
	r := policy.Rule{
		Name: item.Rule, Why: string(item.Why), At: policy.Position{File: d.file, Line: d.at[key].line},
		Connections: item.Connections, Callers: policy.Callers{Groups: item.Callers.Groups},
		When: string(item.When), Then: item.Then, DryRun: item.Mode == "dry-run",
		Reason: string(item.Reason), Hint: string(item.Hint),
	}
	for _, kind := range item.Callers.Kinds {
		r.Callers.Kinds = append(r.Callers.Kinds, custos.Kind(kind))
	}
	if a := item.Approvers; a != nil {
		r.Approvers = custos.Approvers{Groups: a.Groups, Count: a.Count, Within: time.Duration(a.Within),
			Exact: a.Rows == "exact", Statement: a.Messages == "statement", BreakGlass: a.BreakGlass}
	}
	for _, m := range item.Mask {
		r.Mask = append(r.Mask, custos.Mask{Columns: m.Columns, Results: m.Results, Tags: m.Tags, Detect: m.Detect, With: string(m.With)})
	}
	return r
}

// checkPolicies makes the policy of c.
func (d *decoder) checkPolicies(c *Config, opts Options) {
	for i, n := range c.Connections {
		for j, t := range n.Columns {
			key := fmt.Sprintf("connections[%d].columns[%d]", i, j)
			for k, pattern := range t.Match {
				if strings.Count(pattern, ".") < 2 {
					d.fail(fmt.Sprintf("%s.match[%d]", key, k), "want schema.table.column, where * stands for any, such as *.customers.email")
				}
			}
			d.distinct(t.Tags, key+".tags")
		}
	}
	rules, keys := d.policies(c)
	d.checkDetectors(c, opts)
	p, err := policy.New(c.Digest()[:12], rules)
	var wrong policy.Problems
	if errors.As(err, &wrong) {
		for _, w := range wrong {
			d.ruleFailed(c, keys[w.Rule], w)
		}
		return
	}
	c.Rules, c.Policy = rules, p
	for _, w := range policy.Check(rules, c.Targets()) {
		if at := rules[w.Rule].At; at.File == d.file {
			d.warn(keys[w.Rule], "rule %s: %s", rules[w.Rule].Name, w.Message)
		}
	}
	if len(rules) > 0 {
		return
	}
	for i, n := range c.Connections {
		if n.Labels["env"] == "prod" {
			d.warn(fmt.Sprintf("connections[%d]", i), "whoever has access to %s may do anything there: add policies: [{include: builtin/safe-defaults}]", n.Name)
		}
	}
}

func (d *decoder) checkDetectors(c *Config, opts Options) {
	if len(opts.Detectors) == 0 {
		return
	}
	for i := range c.Policies {
		for j, m := range c.Policies[i].Mask {
			for k, name := range m.Detect {
				if !slices.Contains(opts.Detectors, name) {
					d.fail(fmt.Sprintf("policies[%d].mask[%d].detect[%d]", i, j, k), "unknown kind of value %q: want one of %s", name, strings.Join(opts.Detectors, ", "))
				}
			}
		}
	}
}

var indexed = regexp.MustCompile(`\[\d+\]$`)

// ruleFailed reports what policy found wrong with the rule of key, at the place
// in the file where it stands.
func (d *decoder) ruleFailed(c *Config, key string, w policy.Problem) {
	where := key + "." + w.Field
	if _, written := d.at[indexed.ReplaceAllString(where, "")]; !written {
		where = key
	}
	if w.Line == 0 {
		d.fail(where, "%s", w.Message)
		return
	}
	// Each place of a condition is told: they are separate slips.
	i := slices.IndexFunc(c.Policies, func(p PolicyItem) bool { return p.Rule == w.Name })
	m := d.at[where]
	if i >= 0 {
		m = d.within(m, string(c.Policies[i].When), w.Line, w.Column)
	}
	d.problems = append(d.problems, Problem{File: d.file, Line: m.line, Column: m.column, Key: where, Message: w.Message})
}

// within finds the place in the file of a line and column of a text that
// starts at m, however it is quoted or folded there: the characters that are
// no blanks stand in the same order.
func (d *decoder) within(m mark, text string, line, column int) mark {
	before := 0
	for n, l := range strings.Split(text, "\n") {
		for at, r := range []rune(l) {
			if n+1 < line || n+1 == line && at+1 < column {
				if !blank(r) {
					before++
				}
			}
		}
	}
	lines := strings.Split(string(d.raw), "\n")
	if m.line < 1 || m.line > len(lines) {
		return m
	}
	at, rest := m, []rune(lines[m.line-1])[min(m.column-1, len([]rune(lines[m.line-1]))):]
	var quote rune
	switch {
	case len(rest) > 0 && (rest[0] == '"' || rest[0] == '\''):
		quote, rest, at.column = rest[0], rest[1:], at.column+1
	case len(rest) > 0 && (rest[0] == '|' || rest[0] == '>'):
		rest = nil
	}
	for {
		for i := 0; i < len(rest); i++ {
			if blank(rest[i]) {
				continue
			}
			escape := i+1 < len(rest) && (quote == '"' && rest[i] == '\\' || quote == '\'' && rest[i] == '\'' && rest[i+1] == '\'')
			if before == 0 {
				return mark{line: at.line, column: at.column + i}
			}
			before--
			if escape {
				i++
			}
		}
		if at.line >= len(lines) {
			return m
		}
		at = mark{line: at.line + 1, column: 1}
		rest = []rune(lines[at.line-1])
	}
}

func blank(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }
