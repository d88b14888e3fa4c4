package policy

import (
	"testing"
	"time"

	"github.com/custos-gateway/custos"
)

// A column that the target's own catalogue tags is hidden as one that the
// connection tags.
func TestTagsOfTheTarget(t *testing.T) {
	p, err := New("1", []Rule{
		{Name: "hide", Mask: []custos.Mask{{Tags: []string{"pii"}, With: "redact"}}},
		{Name: "no-oracle", When: "masked.predicates != []", Then: "refuse"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		tags map[string][]string
		c    *custos.Connection
		want custos.Effect
	}{
		{nil, orders, custos.Allow},
		{map[string][]string{"public.people.hobby": {"other"}}, orders, custos.Allow},
		{map[string][]string{"public.people.hobby": {"pii"}}, orders, custos.Refuse},
		{nil, &custos.Connection{Name: "orders", Access: orders.Access, Tags: []custos.ColumnTag{{Columns: []string{"*.people.hobby"}, Tag: "pii"}}}, custos.Refuse},
	} {
		op := &custos.Operation{Class: "Query", Facts: &custos.Facts{Effects: []string{"read"}, Predicates: []string{"public.people.hobby"}, Tags: test.tags}}
		if d := p.Judge(who("dba"), test.c, op, nil, time.Now()); d.Effect != test.want {
			t.Errorf("%v: %+v", test.tags, d)
		}
	}
}

// Attributes are asked for by name; one that an operation does not have is
// empty, and one that there is none of is an error of the rule.
func TestAttributes(t *testing.T) {
	op := func(a map[string][]string) *custos.Operation {
		return &custos.Operation{Class: "request", Facts: &custos.Facts{Effects: []string{"read"}, Attributes: a}}
	}
	pod := op(map[string][]string{"namespace": {"prod"}, "image": {"a:1", "b:2"}})
	for when, fires := range map[string]bool{
		`"prod" in operation.attributes.namespace`:                                       true,
		`"kube-system" in operation.attributes.namespace`:                                false,
		`operation.attributes.image.exists(i, i.startsWith("b:"))`:                       true,
		`operation.attributes["image"].size() == 2`:                                      true,
		`operation.attributes.method == []`:                                              true,
		`"image" in operation.attributes && !("method" in operation.attributes)`:         true,
		`operation.attributes.all(name, name in ["namespace", "image"])`:                 true,
		`operation.attributes.size() == 2 && operation.attributes.path.all(p, p == "x")`: true,
	} {
		p, err := New("v1", []Rule{{Name: "r", When: when, Then: "refuse"}})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got := p.Judge(who("dba"), prod, pod, nil, time.Time{}).Effect == custos.Refuse; got != fires {
			t.Errorf("%s: fires %v, want %v", when, got, fires)
		}
	}
	for _, when := range []string{`"x" in operation.attributes.namespaces`, `operation.attributes["nam"] == []`, `"nam" in operation.attributes`, `has(operation.attributes.name)`} {
		if _, err := New("v1", []Rule{{Name: "r", When: when, Then: "refuse"}}); err == nil {
			t.Errorf("%s: no error", when)
		}
	}
}
