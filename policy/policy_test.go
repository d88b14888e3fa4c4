package policy

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/custos-gateway/custos"
)

var (
	orders = &custos.Connection{Name: "orders", Access: []custos.Access{{Groups: []string{"dba", "support"}}, {Groups: []string{"skills"}}}}
	closed = &custos.Connection{Name: "closed"}
	query  = &custos.Operation{Class: "Query", Text: "select 1"}
)

func who(groups ...string) *custos.Principal {
	return &custos.Principal{Issuer: "https://id.example", Subject: "1", Name: "dba", Groups: groups}
}

// plainPolicy is one without rules.
func plainPolicy(version string) *Policy {
	p, err := New(version, nil)
	if err != nil {
		panic(err)
	}
	return p
}

func TestEnter(t *testing.T) {
	p := plainPolicy("v7")
	for name, test := range map[string]struct {
		caller *custos.Principal
		c      *custos.Connection
		want   custos.Effect
	}{
		"in the first list":     {who("support"), orders, custos.Allow},
		"in the second list":    {who("others", "skills"), orders, custos.Allow},
		"in none":               {who("others"), orders, custos.Refuse},
		"without groups":        {who(), orders, custos.Refuse},
		"an empty group":        {who(""), orders, custos.Refuse},
		"case differs":          {who("DBA"), orders, custos.Refuse},
		"no access list":        {who("dba"), closed, custos.Refuse},
		"empty group, no list":  {who(""), closed, custos.Refuse},
		"no caller":             {nil, orders, custos.Refuse},
		"no connection":         {who("dba"), nil, custos.Refuse},
		"name is not authority": {&custos.Principal{Name: "dba", Subject: "dba"}, orders, custos.Refuse},
		"only the human behind": {&custos.Principal{Subject: "x", OnBehalfOf: who("dba")}, orders, custos.Refuse},
	} {
		t.Run(name, func(t *testing.T) {
			for _, d := range []custos.Decision{p.Enter(test.caller, test.c), p.Judge(test.caller, test.c, query, nil, time.Time{})} {
				if d.Effect != test.want || d.Rule != RuleAccess || d.Policy != "v7" {
					t.Errorf("got %+v, want %v", d, test.want)
				}
			}
		})
	}
}

func TestRefusalSaysWhatToDoAndNotWhoIsAdmitted(t *testing.T) {
	d := plainPolicy("v7").Enter(who("others"), orders)
	if d.Reason == "" || d.Hint == "" {
		t.Errorf("a refusal without reason or hint: %+v", d)
	}
	for _, group := range []string{"dba", "support", "skills"} {
		if strings.Contains(d.Reason+d.Hint, group) {
			t.Errorf("the refusal tells the group %q: %+v", group, d)
		}
	}
	if closed := plainPolicy("v7").Enter(who("others"), closed); !reflect.DeepEqual(closed, d) {
		t.Errorf("a connection closed to all is told apart: %+v and %+v", closed, d)
	}
}

func TestJudgeRefusesWhatHasNoClass(t *testing.T) {
	for _, op := range []*custos.Operation{nil, {}, {Text: "select 1", Verbs: []string{"SELECT"}}} {
		if d := plainPolicy("v7").Judge(who("dba"), orders, op, nil, time.Time{}); d.Effect != custos.Refuse || d.Rule != RuleUnknown || d.Hint == "" {
			t.Errorf("%+v: %+v", op, d)
		}
	}
}

// Access that was taken away is judged on the next operation of a session.
func TestJudgeFollowsAccess(t *testing.T) {
	c := *orders
	if d := plainPolicy("1").Judge(who("dba"), &c, query, nil, time.Time{}); d.Effect != custos.Allow {
		t.Fatalf("%+v", d)
	}
	c.Access = nil
	if d := plainPolicy("2").Judge(who("dba"), &c, query, nil, time.Time{}); d.Effect != custos.Refuse || d.Policy != "2" {
		t.Errorf("%+v", d)
	}
}

func TestJudgeDoesNotAllocate(t *testing.T) {
	p, caller := plainPolicy("v7"), who("a", "b", "skills")
	if n := testing.AllocsPerRun(100, func() { p.Judge(caller, orders, query, nil, time.Time{}) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	p, caller := plainPolicy("v7"), who("a", "b", "skills")
	b.ReportAllocs()
	for b.Loop() {
		p.Judge(caller, orders, query, nil, time.Time{})
	}
}
