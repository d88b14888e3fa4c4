package policy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/custos-gateway/custos"
)

// sketch is a decision in the making: what the rules asked so far have said.
type sketch struct {
	effect custos.Effect
	// rule is the index of the rule that decides; -1: none so far.
	rule int
	// failed is why that rule could not be asked.
	failed error
	// approvers is the rule, among those that hold, whose approvers are asked;
	// -1: none names any. solid are what not all rules that hold allow: a break
	// of the glass, a count, the text in messages.
	approvers int
	solid     struct{ glass, exact, statement bool }
	masking   maskingSet
	masked    *maskedFacts
	// dry are the rules in dry-run that fired, and open those yet to be asked.
	dry, open []int
}

var questions = sync.Pool{New: func() any { return new(question) }}

// Judge decides on one operation of a session, after usage has been taken, at
// a time. Access is judged again, for it may have been taken away since the
// session was opened; and an operation whose protocol could not name its class
// is refused. What caller, c and op's facts, verbs and objects point to must
// not change afterwards: the answer is remembered for them.
func (p *Policy) Judge(caller *custos.Principal, c *custos.Connection, op *custos.Operation, usage *custos.Usage, now time.Time) custos.Decision {
	if op == nil || op.Class == "" {
		return p.unknown("the gateway does not know this kind of operation")
	}
	if len(p.rules) == 0 || caller == nil || c == nil {
		return p.Enter(caller, c)
	}
	k := key{p.profileOf(caller), c, op.Facts, op.Class, op.Writes, wordsOf(op.Verbs), wordsOf(op.Objects)}
	a, slot := p.recall(k)
	if a != nil && !a.open {
		return a.decision
	}
	q := questions.Get().(*question)
	q.ask(caller, c, op, usage, now)
	if a == nil {
		a = p.consider(q)
		a.key = k
		slot.Store(a)
	}
	d := a.decision
	if a.open {
		s := a.sketch
		p.ask(&s, q, s.open, true)
		d = p.decide(&s, q)
	}
	*q = question{}
	questions.Put(q)
	return d
}

func (p *Policy) unknown(reason string) custos.Decision {
	return custos.Decision{
		Effect: custos.Refuse,
		Rule:   RuleUnknown,
		Reason: reason,
		Hint:   "use another way to do it, or report it to whoever runs the gateway",
		Policy: p.version,
	}
}

func (q *question) ask(caller *custos.Principal, c *custos.Connection, op *custos.Operation, usage *custos.Usage, now time.Time) {
	*q = question{caller: caller, connection: c, operation: op, facts: op.Facts, usage: usage, now: now}
	if q.facts == nil {
		q.facts = &noFacts
	}
	if q.usage == nil {
		q.usage = &noUsage
	}
}

// consider asks what may be remembered.
func (p *Policy) consider(q *question) *answer {
	if d := p.Enter(q.caller, q.connection); d.Effect != custos.Allow {
		return &answer{decision: d}
	}
	// A rule could not have named such an effect, so none would match.
	if i := slices.IndexFunc(q.facts.Effects, func(e string) bool { return !isEffect(e) }); i >= 0 {
		return &answer{decision: p.unknown("no rule knows the effect " + q.facts.Effects[i])}
	}
	var about []int
	for i := range p.rules {
		if r := &p.rules[i]; r.means(q.connection) && r.meets(q.caller) {
			about = append(about, i)
		}
	}
	s := sketch{effect: custos.Allow, rule: -1, approvers: -1}
	p.ask(&s, q, about, false)
	if len(s.open) > 0 {
		return &answer{open: true, sketch: s}
	}
	return &answer{decision: p.decide(&s, q)}
}

// ask asks the rules in about, those that mask first, for others may ask what
// is masked. Unless all is set, rules whose answer cannot be remembered are
// left open.
func (p *Policy) ask(s *sketch, q *question, about []int, all bool) {
	var open []int
	known := true // what is masked is known once and for all
	for _, i := range about {
		r := &p.rules[i]
		if r.masking < 0 {
			continue
		}
		if r.volatile && !all {
			open, known = append(open, i), known && r.DryRun
			continue
		}
		s.put(p, i, q)
	}
	if q.masked = s.masked; known && q.masked == nil {
		q.masked = hidden(p.masks(s.masking), q)
		s.masked = q.masked
	}
	for _, i := range about {
		r := &p.rules[i]
		if r.masking >= 0 {
			continue
		}
		if !all && (r.volatile || r.masked && !known) {
			open = append(open, i)
			continue
		}
		s.put(p, i, q)
	}
	s.open = open
}

// put asks rule i and adds what it says.
func (s *sketch) put(p *Policy, i int, q *question) {
	r := &p.rules[i]
	fires, err := r.holds(q)
	switch {
	case err == nil && !fires:
	case r.DryRun:
		s.dry = append(s.dry[:len(s.dry):len(s.dry)], i)
	case err != nil:
		s.decides(i, custos.Refuse, err)
	case r.masking >= 0:
		s.masking.add(r.masking)
	default:
		s.decides(i, r.effect, nil)
		if r.effect == custos.Approve {
			s.solid.glass = s.solid.glass || !r.Approvers.BreakGlass
			s.solid.exact = s.solid.exact || !r.Approvers.Exact
			s.solid.statement = s.solid.statement || !r.Approvers.Statement
		}
		if r.effect == custos.Approve && len(r.Approvers.Groups) > 0 && (s.approvers < 0 || i < s.approvers) {
			s.approvers = i
		}
	}
}

// decides takes the strictest effect, and of rules with the same the first.
func (s *sketch) decides(i int, effect custos.Effect, err error) {
	if s.rule < 0 || effect < s.effect || effect == s.effect && i < s.rule {
		s.effect, s.rule, s.failed = effect, i, err
	}
}

// decide puts the decision into words.
func (p *Policy) decide(s *sketch, q *question) custos.Decision {
	d := custos.Decision{Effect: s.effect, Rule: RuleAccess, Policy: p.version, Masks: p.masks(s.masking)}
	for _, i := range s.dry {
		if r := &p.rules[i]; r.masking >= 0 || r.effect < s.effect {
			d.DryRun = append(d.DryRun, r.Name)
		}
	}
	if s.rule < 0 {
		return d
	}
	r := &p.rules[s.rule]
	d.Rule = r.Name
	switch {
	case s.failed != nil:
		d.Reason = fmt.Sprintf("the rule could not be asked: %v", s.failed)
		d.Hint = "tell whoever runs the gateway: until the rule is mended, it refuses"
		return d
	case s.effect == custos.Allow:
		return d
	}
	d.Reason, d.Hint = r.Reason, r.Hint
	if d.Reason == "" {
		d.Reason = map[custos.Effect]string{custos.Refuse: "it is not allowed", custos.Approve: "a person must agree to it first"}[s.effect]
	}
	d.Reason += about(q)
	if s.effect == custos.Approve {
		if s.approvers >= 0 {
			r = &p.rules[s.approvers]
		}
		a := r.Approvers
		a.BreakGlass, a.Exact, a.Statement = !s.solid.glass, !s.solid.exact, !s.solid.statement
		if len(a.Groups) > 0 || a.Count > 0 || a.Within > 0 || a.BreakGlass || a.Exact || a.Statement {
			d.Approvers = &a
		}
	}
	return d
}

// about says what an operation touches and what could not be known of it, to
// stand behind a reason.
func about(q *question) string {
	const most = 3
	var b strings.Builder
	// Functions, name(), say little to who reads it.
	objects := slices.DeleteFunc(slices.Clone(q.operation.Objects), func(o string) bool { return strings.HasSuffix(o, "()") })
	for i, object := range objects {
		switch {
		case i == most:
			fmt.Fprintf(&b, " and %d more", len(objects)-most)
		case i > most:
		case i == 0:
			b.WriteString(" on " + q.connection.Name + "." + object)
		default:
			b.WriteString(", " + q.connection.Name + "." + object)
		}
	}
	for i, what := range q.facts.Unknown[:min(len(q.facts.Unknown), most)] {
		if i == 0 {
			b.WriteString("; not known: ")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(what)
	}
	return b.String()
}
