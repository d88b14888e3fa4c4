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
