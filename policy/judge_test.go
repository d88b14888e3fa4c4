package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custos-gateway/custos"
)

var (
	prod = &custos.Connection{Name: "orders", Protocol: "postgres", Database: "orders_db", Labels: map[string]string{"env": "prod"},
		Access: []custos.Access{{Groups: []string{"dba", "skills"}}},
		Tags:   []custos.ColumnTag{{Columns: []string{"*.customers.phone", "*.staff.*"}, Tag: "pii"}}}
	noon = time.Date(2026, 7, 30, 10, 0, 0, 0, time.UTC)
)

func made(t testing.TB, rules ...Rule) *Policy {
	t.Helper()
	p, err := New("v1", rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func skill(groups ...string) *custos.Principal {
	return &custos.Principal{Issuer: "https://id.example", Subject: "s1", Name: "bot", Kind: custos.KindSkill, Groups: append(groups, "skills"),
		OnBehalfOf: &custos.Principal{Issuer: "https://id.example", Subject: "p1", Name: "ana", Kind: custos.KindPerson}}
}

func facts(effects ...string) *custos.Facts {
	return &custos.Facts{Effects: effects, Fingerprint: "f1"}
}

func ask(f *custos.Facts, objects ...string) *custos.Operation {
	return &custos.Operation{Class: "Query", Text: "select 'x' from t", Verbs: []string{"SELECT"}, Objects: objects, Facts: f,
		Params: []custos.Param{{Value: []byte("7")}, {Binary: true, Value: []byte{0, 255}}, {Null: true}}}
}

// Every field is there to be asked, with what its documentation says.
func TestConditions(t *testing.T) {
	f := &custos.Facts{Effects: []string{"read", "lock"}, Columns: []string{"public.customers.email"}, Predicates: []string{"public.customers.phone"},
		Changed: []string{"a.b.c"}, Copied: []string{"a.b.d"}, Fingerprint: "f1", Unknown: []string{"f()"}}
	op := ask(f, "public.customers")
	op.Writes = true
	usage := &custos.Usage{Session: custos.Counts{Operations: 1, Writes: 2, Refused: 3, Rows: 4, Bytes: 5},
		Hour: custos.Counts{Rows: 1 << 40}, Day: custos.Counts{Bytes: 7}, Repeats: 9}
	for when, want := range map[string]bool{
		``:                                      true,
		`caller.issuer == "https://id.example"`: true,
		`caller.subject == "s1" && caller.name == "bot" && caller.kind == "skill"`:                                  true,
		`"skills" in caller.groups && !("dba" in caller.groups)`:                                                    true,
		`has(caller.on_behalf_of) && caller.on_behalf_of.name == "ana"`:                                             true,
		`has(caller.on_behalf_of.on_behalf_of)`:                                                                     false,
		`caller.on_behalf_of.on_behalf_of.name == ""`:                                                               true,
		`connection.name == "orders" && connection.protocol == "postgres" && connection.database == "orders_db"`:    true,
		`connection.labels.env == "prod" && !has(connection.labels.team)`:                                           true,
		`operation.class == "Query" && operation.verbs == ["SELECT"] && operation.objects[0] == "public.customers"`: true,
		`operation.writes`:                                                                                         true,
		`"lock" in operation.effects`:                                                                              true,
		`sets.intersects(operation.effects, ["os", "lock"])`:                                                       true,
		`operation.effects.exists(e, e.startsWith("write."))`:                                                      false,
		`operation.columns == ["public.customers.email"] && operation.predicates.size() == 1`:                      true,
		`operation.changed[0] == "a.b.c" && operation.copied[0] == "a.b.d"`:                                        true,
		`operation.fingerprint == "f1" && operation.unknown == ["f()"]`:                                            true,
		`operation.text.matches("(?i)SELECT .x.")`:                                                                 true,
		`operation.params == ["7", "\\x00ff", ""]`:                                                                 true,
		`usage.session.operations == 1 && usage.session.writes == 2 && usage.session.refused == 3`:                 true,
		`usage.session.rows == 4 && usage.session.bytes == 5 && usage.hour.rows > 1000000 && usage.day.bytes == 7`: true,
		`usage.repeats > 9`:                                              false,
		`now > timestamp("2026-01-01T00:00:00Z")`:                        true,
		`now.getHours("Europe/Berlin") == 12 && now.getDayOfWeek() == 4`: true,
		`masked.columns == ["public.customers.email"] && masked.predicates.size() == 1 && masked.copied == []`: true,
	} {
		p := made(t, Rule{Name: "r", When: when, Then: "refuse"},
			Rule{Name: "m", Mask: []custos.Mask{{Columns: []string{"*.customers.email"}, Tags: []string{"pii"}}}})
		for _, run := range []string{"first", "again"} {
			d := p.Judge(skill(), prod, op, usage, noon)
			if got := d.Effect == custos.Refuse; got != want || strings.Contains(d.Reason, "could not be asked") {
				t.Errorf("%s, %s: %+v", when, run, d)
			}
		}
	}
}

// Operations without facts have empty lists and nobody's usage.
func TestConditionsWithoutFacts(t *testing.T) {
	p := made(t, Rule{Name: "r", Then: "refuse", When: `operation.effects.size() == 0 && operation.verbs == [] && operation.params == [] && usage.day.rows == 0 &&
		!has(connection.labels.env) && masked.columns == [] && caller.groups == ["skills"]`})
	c := &custos.Connection{Name: "bare", Access: prod.Access}
	if d := p.Judge(&custos.Principal{Groups: []string{"skills"}}, c, &custos.Operation{Class: "Sync"}, nil, noon); d.Effect != custos.Refuse || d.Reason != "it is not allowed" {
		t.Errorf("%+v", d)
	}
}

func TestStrictestWins(t *testing.T) {
	rules := []Rule{{Name: "a", Then: "allow"}, {Name: "h1", Then: "approve"},
		{Name: "h2", Then: "approve", When: "now > timestamp(0)", Approvers: custos.Approvers{Groups: []string{"dba"}, Count: 2, Within: time.Minute}, Hint: "wait"},
		{Name: "r1", Then: "refuse", Reason: "no", When: "now > timestamp(0)"}, {Name: "r2", Then: "refuse"}}
	for n, want := range []struct {
		effect custos.Effect
		rule   string
	}{{custos.Allow, RuleAccess}, {custos.Allow, "a"}, {custos.Approve, "h1"}, {custos.Approve, "h1"}, {custos.Refuse, "r1"}, {custos.Refuse, "r1"}} {
		forward := rules[:n]
		backward := slices.Clone(forward)
		slices.Reverse(backward)
		d := made(t, forward...).Judge(skill(), prod, ask(facts("read"), "public.a", "public.b"), nil, noon)
		if d.Effect != want.effect || d.Rule != want.rule {
			t.Errorf("%d rules: %+v", n, d)
		}
		if back := made(t, backward...).Judge(skill(), prod, ask(facts("read")), nil, noon); back.Effect != d.Effect {
			t.Errorf("%d rules backward: %+v, forward %+v", n, back, d)
		}
		if n == 3 && (d.Approvers == nil || d.Approvers.Count != 2 || d.Reason != "a person must agree to it first on orders.public.a, orders.public.b") {
			t.Errorf("approvers of the first rule that names them: %+v, %q", d.Approvers, d.Reason)
		}
	}
}

func TestReason(t *testing.T) {
	p := made(t, Rule{Name: "no", Then: "refuse", Reason: "DELETE without WHERE", Hint: "add a WHERE"})
	f := facts()
	d := p.Judge(skill(), prod, ask(f, "public.customers"), nil, noon)
	want := custos.Decision{Rule: "no", Reason: "DELETE without WHERE on orders.public.customers", Hint: "add a WHERE", Policy: "v1"}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	f.Unknown = []string{"f()", "g()"}
	d = p.Judge(skill(), prod, ask(f, "a", "b", "c", "d", "e"), nil, noon)
	if d.Reason != "DELETE without WHERE on orders.a, orders.b, orders.c and 2 more; not known: f(), g()" {
		t.Error(d.Reason)
	}
}

func TestSelectors(t *testing.T) {
	for name, test := range map[string]struct {
		rule Rule
		want bool
	}{
		"none":               {Rule{}, true},
		"name":               {Rule{Connections: map[string]string{"name": "orders"}}, true},
		"label and protocol": {Rule{Connections: map[string]string{"env": "prod", "protocol": "postgres"}}, true},
		"one of two":         {Rule{Connections: map[string]string{"env": "prod", "protocol": "mysql"}}, false},
		"absent label":       {Rule{Connections: map[string]string{"team": "a"}}, false},
		"group":              {Rule{Callers: Callers{Groups: []string{"x", "skills"}}}, true},
		"group and kind":     {Rule{Callers: Callers{Groups: []string{"skills"}, Kinds: []custos.Kind{custos.KindPerson}}}, false},
		"kind":               {Rule{Callers: Callers{Kinds: []custos.Kind{custos.KindCI, custos.KindSkill}}}, true},
		"other group":        {Rule{Callers: Callers{Groups: []string{"dba"}}}, false},
	} {
		test.rule.Name, test.rule.Then = "r", "refuse"
		d := made(t, test.rule).Judge(skill(), prod, ask(facts()), nil, noon)
		if got := d.Effect == custos.Refuse; got != test.want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestMasksAddUp(t *testing.T) {
	p := made(t,
		Rule{Name: "m1", Mask: []custos.Mask{{Columns: []string{"*.customers.email"}, With: "partial"}}},
		Rule{Name: "m2", When: `usage.session.rows >= 10`, Mask: []custos.Mask{{Detect: []string{"iban"}}, {Tags: []string{"pii"}, With: "null"}}},
		Rule{Name: "m3", Connections: map[string]string{"env": "dev"}, Mask: []custos.Mask{{Detect: []string{"x"}}}},
		Rule{Name: "m4", DryRun: true, Mask: []custos.Mask{{Detect: []string{"y"}}}},
		Rule{Name: "oracle", Then: "refuse", When: `masked.predicates.size() > 0`, Reason: "it tells of what is masked"},
	)
	f := facts("read")
	f.Predicates = []string{"public.customers.phone"}
	op := ask(f)
	few := p.Judge(skill(), prod, op, &custos.Usage{}, noon)
	first := []custos.Mask{{Rule: "m1", Columns: []string{"*.customers.email"}, With: "partial"}}
	if diff := cmp.Diff(custos.Decision{Effect: custos.Allow, Rule: RuleAccess, Policy: "v1", Masks: first, DryRun: []string{"m4"}}, few); diff != "" {
		t.Error(diff)
	}
	many := p.Judge(skill(), prod, op, &custos.Usage{Session: custos.Counts{Rows: 10}}, noon)
	both := append(first, custos.Mask{Rule: "m2", Detect: []string{"iban"}, With: "redact"}, custos.Mask{Rule: "m2", Tags: []string{"pii"}, With: "null"})
	if diff := cmp.Diff(both, many.Masks); diff != "" || many.Rule != "oracle" {
		t.Error(diff, many)
	}
	// The same set is the same slice, whatever was asked.
	again := p.Judge(skill("other"), prod, ask(facts("lock")), &custos.Usage{}, noon)
	if &again.Masks[0] != &few.Masks[0] {
		t.Error("the same set of masks is made anew")
	}
}

func TestDryRun(t *testing.T) {
	p := made(t,
		Rule{Name: "would-refuse", DryRun: true, Then: "refuse"},
		Rule{Name: "would-hold", DryRun: true, Then: "approve"},
		Rule{Name: "would-fail", DryRun: true, Then: "refuse", When: `connection.labels.none == "x"`},
		Rule{Name: "would-not", DryRun: true, Then: "refuse", When: `operation.writes`},
		Rule{Name: "holds", Then: "approve", When: `"lock" in operation.effects`},
	)
	d := p.Judge(skill(), prod, ask(facts("read")), nil, noon)
	if d.Effect != custos.Allow || !slices.Equal(d.DryRun, []string{"would-refuse", "would-hold", "would-fail"}) {
		t.Errorf("%+v", d)
	}
	d = p.Judge(skill(), prod, ask(facts("lock")), nil, noon)
	if d.Effect != custos.Approve || d.Rule != "holds" || !slices.Equal(d.DryRun, []string{"would-refuse", "would-fail"}) {
		t.Errorf("%+v", d)
	}
}

// What cannot be evaluated refuses, and says which rule and why.
func TestFailsClosed(t *testing.T) {
	long := ask(facts())
	long.Text = strings.Repeat("x", maxText+1)
	long.Objects = slices.Repeat([]string{"t"}, 1000)
	for when, cause := range map[string]string{
		`connection.labels.none == "x"`:       "no such key",
		`1 / (usage.repeats) > 0`:             "division by zero",
		`operation.text.contains("y")`:        "longer than",
		`now.getHours("Nowhere/At_All") == 1`: "no time zone",
		`operation.objects.all(a, operation.objects.all(b, operation.objects.all(c, a + b == b + c)))`: "cost limit",
		`operation.verbs[7] == "x"`: "index out of bounds",
	} {
		for _, then := range []Rule{{Name: "broken", Then: "allow"}, {Name: "broken", Mask: []custos.Mask{{Detect: []string{"x"}}}}} {
			then.When = when
			p, err := New("v1", []Rule{then})
			var problems Problems
			if errors.As(err, &problems) && strings.Contains(err.Error(), cause) {
				continue // it is said before it can happen
			} else if err != nil {
				t.Fatal(err)
			}
			if d := p.Judge(skill(), prod, long, nil, noon); d.Effect != custos.Refuse || d.Rule != "broken" || !strings.Contains(d.Reason, cause) || d.Hint == "" {
				t.Errorf("%s: %+v", when, d)
			}
		}
	}
}

// Two operations that a rule may tell apart are never answered from one
// memory: whatever differs, the answer differs.
func TestRememberedNotTooMuch(t *testing.T) {
	f := facts("read")
	base := func() (*custos.Principal, *custos.Connection, *custos.Operation) { return skill(), prod, ask(f, "a") }
	for when, change := range map[string]func(*custos.Principal, *custos.Connection, *custos.Operation){
		`caller.name == "other"`:            func(p *custos.Principal, _ *custos.Connection, _ *custos.Operation) { p.Name = "other" },
		`caller.kind == "ci"`:               func(p *custos.Principal, _ *custos.Connection, _ *custos.Operation) { p.Kind = custos.KindCI },
		`"x" in caller.groups`:              func(p *custos.Principal, _ *custos.Connection, _ *custos.Operation) { p.Groups = append(p.Groups, "x") },
		`has(caller.on_behalf_of) == false`: func(p *custos.Principal, _ *custos.Connection, _ *custos.Operation) { p.OnBehalfOf = nil },
		`"g" in caller.on_behalf_of.groups`: func(p *custos.Principal, _ *custos.Connection, _ *custos.Operation) {
			p.OnBehalfOf.Groups = []string{"g"}
		},
		`operation.class == "Parse"`:  func(_ *custos.Principal, _ *custos.Connection, o *custos.Operation) { o.Class = "Parse" },
		`operation.writes`:            func(_ *custos.Principal, _ *custos.Connection, o *custos.Operation) { o.Writes = true },
		`"b" in operation.objects`:    func(_ *custos.Principal, _ *custos.Connection, o *custos.Operation) { o.Objects = []string{"b"} },
		`"b" in operation.verbs`:      func(_ *custos.Principal, _ *custos.Connection, o *custos.Operation) { o.Verbs = []string{"b"} },
		`"lock" in operation.effects`: func(_ *custos.Principal, _ *custos.Connection, o *custos.Operation) { o.Facts = facts("lock") },
		`operation.text == "other"`:   func(_ *custos.Principal, _ *custos.Connection, o *custos.Operation) { o.Text = "other" },
		`operation.params[0] == "8"`:  func(_ *custos.Principal, _ *custos.Connection, o *custos.Operation) { o.Params[0].Value = []byte("8") },
	} {
		p := made(t, Rule{Name: "r", When: when, Then: "refuse"})
		for range 2 {
			caller, c, op := base()
			if d := p.Judge(caller, c, op, nil, noon); d.Effect != custos.Allow {
				t.Errorf("%s: before: %+v", when, d)
			}
			change(caller, c, op)
			// A caller, once judged, does not change: a changed one is another.
			other := *caller
			if d := p.Judge(&other, c, op, nil, noon); d.Effect != custos.Refuse {
				t.Errorf("%s: after: %+v", when, d)
			}
		}
	}
}

// Without remembering anything, every answer is the same.
func TestRememberedRight(t *testing.T) {
	rules := []Rule{
		{Name: "budget", When: `usage.hour.writes > 2`, Then: "refuse"},
		{Name: "night", When: `now.getHours() < 6`, Then: "approve"},
		{Name: "lock", When: `"lock" in operation.effects`, Then: "approve", Callers: Callers{Kinds: []custos.Kind{custos.KindSkill}}},
		{Name: "mask", When: `usage.session.rows > 1`, Mask: []custos.Mask{{Columns: []string{"*.*.email"}}}},
		{Name: "mask2", Callers: Callers{Groups: []string{"x"}}, Mask: []custos.Mask{{Tags: []string{"pii"}}}},
		{Name: "oracle", When: `masked.predicates.size() > 0`, Then: "refuse", DryRun: true},
	}
	warm := made(t, rules...)
	all := []*custos.Facts{facts("read"), facts("lock"), {Effects: []string{"read"}, Predicates: []string{"public.customers.email"}}, nil}
	callers := []*custos.Principal{skill(), skill("x"), who("dba"), who("nobody")}
	for n := range 240 {
		op := ask(all[n%4], "t")
		u := &custos.Usage{Hour: custos.Counts{Writes: int64(n % 5)}, Session: custos.Counts{Rows: int64(n % 3)}}
		now := noon.Add(time.Duration(n%24) * time.Hour)
		got := warm.Judge(callers[n/4%4], prod, op, u, now)
		want := made(t, rules...).Judge(callers[n/4%4], prod, op, u, now)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("question %d: %s", n, diff)
		}
	}
}

func TestProblems(t *testing.T) {
	_, err := New("v1", []Rule{
		{Name: "a", Then: "refuse", When: "operation.txt == \"\" ||\n  callr.kind == 'x'"},
		{Name: "b", Then: "alow"},
		{Name: "a", Then: "approve", Approvers: custos.Approvers{Count: -1}},
		{Name: ""},
		{Name: "c", Then: "refuse", Mask: []custos.Mask{{}}},
		{Name: "d", Mask: []custos.Mask{{Columns: []string{"email"}, With: "blur"}, {}}},
		{Name: "e", Then: "refuse", When: `"write.unfilterd" in operation.effects || operation.effects.exists(e, e == "fil") || sets.intersects(operation.effects, ["os", "sleeep"])`},
		{Name: "f", Then: "refuse", When: `caller.kind == "robot" || caller.kind in ["ci", "human"]`},
		{Name: "g", Then: "refuse", When: `usage.session == usage.hour || dyn(caller) == 1`},
		{Name: "h", Then: "refuse", When: `operation.text`},
		{Name: "i", Then: "refuse", When: `operation.text.matches("(")`},
		{Name: "j", Mask: []custos.Mask{{Tags: []string{"pii"}}}, When: `masked.columns.size() > 0`},
		{Name: "k", Then: "refuse", When: `"a" ==`},
		{Name: "l", Then: "refuse", Callers: Callers{Kinds: []custos.Kind{"robot"}}, Connections: map[string]string{"env": ""}, Approvers: custos.Approvers{Count: 1}},
		{Name: "m", Then: "refuse", When: `custos.Caller{name: "x"}.name == "x"`},
	})
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	got := strings.Split(problems.Error(), "\n")
	want := []string{
		`rule 0 (a): when:1:10: no such field 'txt'`,
		`rule 0 (a): when:2:3: there is no callr: the names here are caller, connection, operation, masked, usage, now`,
		`rule 1 (b): then: unknown word "alow": want allow, approve or refuse`,
		`rule 2 (a): approvers: count and within cannot be negative`,
		`rule 2 (a): rule: another rule has this name`,
		`rule 3 (): then: the rule does nothing`,
		`rule 3 (): rule: it has no name`,
		`rule 4 (c): then: a rule decides or masks, not both`,
		`rule 4 (c): mask[0]: it hides nothing`,
		`rule 5 (d): mask[0].columns[0]: want schema.table.column`,
		`rule 5 (d): mask[0].with: unknown way "blur"`,
		`rule 5 (d): mask[1]: it hides nothing`,
		`rule 6 (e): when:1:1: there is no effect "write.unfilterd": docs/policy.md lists them`,
		`rule 6 (e): when:1:76: there is no effect "fil"`,
		`rule 6 (e): when:1:128: there is no effect "sleeep"`,
		`rule 7 (f): when:1:16: there is no kind "robot": want person, skill, ci or workload`,
		`rule 7 (f): when:1:49: there is no kind "human"`,
		`rule 8 (g): when:1:6: name a field of it: operations, writes, refused, rows, bytes`,
		`rule 8 (g): when:1:23: name a field of it`,
		`rule 8 (g): when:1:`,
		`rule 9 (h): when:1:10: it is string, and a condition is true or false`,
		`rule 10 (i): when:1:`,
		`rule 11 (j): when: what is masked follows from rules such as this one`,
		`rule 12 (k): when:1:7: Syntax error`,
		`rule 13 (l): approvers: they are asked by a rule that says then: approve only`,
		`rule 13 (l): callers.kinds: unknown kind "robot"`,
		`rule 13 (l): connections: an empty name or value`,
		`rule 14 (m): when:1:`,
	}
	for i := range max(len(got), len(want)) {
		g, w := "", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if !strings.HasPrefix(g, w) {
			t.Errorf("problem %d:\n got %s\nwant %s", i, g, w)
		}
	}
}

// A clock in a time zone shows what Go's does, and the same wherever the
// gateway runs.
func TestClock(t *testing.T) {
	tokyo := time.FixedZone("", 9*3600)
	berlin, err := zone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{noon, noon.In(tokyo), time.Date(2026, 12, 31, 23, 30, 7, 5e6, time.UTC), time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 0, 59, 59, 0, time.UTC)} {
		b, u, fixed := at.In(berlin), at.UTC(), at.In(time.FixedZone("", -(3*3600+30*60)))
		when := fmt.Sprintf(`now.getHours("Europe/Berlin") == %d && now.getMinutes("Europe/Berlin") == %d && now.getSeconds("UTC") == %d &&
			now.getFullYear("Europe/Berlin") == %d && now.getMonth("Europe/Berlin") == %d && now.getDate("Europe/Berlin") == %d &&
			now.getDayOfMonth("Europe/Berlin") == %d && now.getDayOfWeek("Europe/Berlin") == %d && now.getDayOfYear("Europe/Berlin") == %d &&
			now.getMilliseconds("Europe/Berlin") == %d && now.getHours() == %d && now.getHours("-03:30") == %d && now.getMinutes("-03:30") == %d`,
			b.Hour(), b.Minute(), u.Second(), b.Year(), b.Month()-1, b.Day(), b.Day()-1, b.Weekday(), b.YearDay()-1, b.Nanosecond()/1e6,
			u.Hour(), fixed.Hour(), fixed.Minute())
		if d := made(t, Rule{Name: "r", When: when, Then: "refuse"}).Judge(skill(), prod, ask(facts()), nil, at); d.Effect != custos.Refuse || d.Reason != "it is not allowed" {
			t.Errorf("%v: %+v", at, d)
		}
	}
	for when, want := range map[string]string{
		`now.getHours("Europe/Berlni") == 1`: `when:1:14: there is no time zone "Europe/Berlni"`,
		`now.getHours("Local") == 1`:         `there is no time zone`,
		`now.getHours("+25:00") == 1`:        `there is no time zone`,
		`now.getHours(connection.name) == 1`: `name the time zone itself`,
		`now.getHours("" + "UTC") == 1`:      `name the time zone itself`,
	} {
		if _, err := New("v1", []Rule{{Name: "r", When: when, Then: "refuse"}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", when, err)
		}
	}
}

func TestTooManyMaskingRules(t *testing.T) {
	rules := make([]Rule, maxMasking+1)
	for i := range rules {
		rules[i] = Rule{Name: fmt.Sprint("m", i), Mask: []custos.Mask{{Tags: []string{"pii"}}}}
	}
	if d := made(t, rules[:maxMasking]...).Judge(skill(), prod, ask(nil), nil, noon); len(d.Masks) != maxMasking {
		t.Errorf("%d masks", len(d.Masks))
	}
	if _, err := New("v1", rules); err == nil || !strings.Contains(err.Error(), "more than 256") {
		t.Error(err)
	}
}

// Many sessions judge at once by one policy.
func TestConcurrent(t *testing.T) {
	p := made(t,
		Rule{Name: "budget", When: `usage.session.rows > 5 || now < timestamp(0)`, Then: "refuse"},
		Rule{Name: "mask", When: `usage.session.writes > 1`, Mask: []custos.Mask{{Columns: []string{"*.*.email"}}}},
		Rule{Name: "lock", When: `"lock" in operation.effects`, Then: "approve"})
	shared := []*custos.Facts{facts("read"), facts("lock")}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			caller := skill(fmt.Sprint("g", g%3))
			for n := range 300 {
				u := &custos.Usage{Session: custos.Counts{Rows: int64(n % 10), Writes: int64(n % 3)}}
				d := p.Judge(caller, prod, ask(shared[n%2]), u, noon)
				want := custos.Allow
				if n%2 == 1 {
					want = custos.Approve
				}
				if n%10 > 5 {
					want = custos.Refuse
				}
				if d.Effect != want || (len(d.Masks) == 1) != (n%3 > 1) {
					t.Errorf("%d: %+v", n, d)
				}
			}
		})
	}
	group.Wait()
}
