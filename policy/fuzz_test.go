package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/custos-gateway/custos"
)

// A condition of any text is refused with a place in it, or judges: the same
// when asked again, and refusing what it cannot evaluate.
func FuzzCondition(f *testing.F) {
	for _, when := range []string{
		`operation.writes && "skills" in caller.groups`, `sets.intersects(operation.effects, ["os"])`, `now.getHours("Europe/Berlin") < 6`,
		`usage.session.rows / usage.repeats > 3`, `operation.objects.exists(o, o.startsWith("hr."))`, `operation.text.matches("(?i)drop")`,
		`has(caller.on_behalf_of) && caller.on_behalf_of.kind != "person"`, `connection.labels.env == "prod"`, `masked.columns != []`, "(\n\n\"é\" == \n 'x')",
		`dyn(operation).text`, `[1, 2].map(x, x * 2) == [2, 4]`, `{"a": 1}.a == 1`, `custos.Caller{}`, `.now > timestamp("2026-01-01T00:00:00Z")`, `type(caller) == type(usage)`,
	} {
		f.Add(when)
	}
	facts := &custos.Facts{Effects: []string{"read"}, Columns: []string{"public.users.email"}}
	f.Fuzz(func(t *testing.T, when string) {
		p, err := New("v1", []Rule{{Name: "r", When: when, Then: "approve"}, {Name: "m", Mask: []custos.Mask{{Columns: []string{"*.users.email"}}}}})
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("%q: an error that is no list of problems: %v", when, err)
			}
			for _, one := range problems {
				if one.Field != "when" || one.Line < 1 || one.Line > strings.Count(when, "\n")+1 || one.Column < 1 || one.Message == "" {
					t.Fatalf("%q: a problem without a place: %+v", when, one)
				}
			}
			return
		}
		first := p.Judge(skill(), prod, ask(facts, "public.users"), nil, noon)
		again := p.Judge(skill(), prod, ask(facts, "public.users"), nil, noon)
		if first.Effect != again.Effect || first.Rule != again.Rule || first.Reason != again.Reason {
			t.Fatalf("%q: %+v, and again %+v", when, first, again)
		}
		Check([]Rule{{Name: "r", When: when, Then: "approve"}}, []*custos.Connection{prod})
	})
}
