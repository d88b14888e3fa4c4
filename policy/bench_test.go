package policy

import (
	"fmt"
	"testing"

	"github.com/custos-gateway/custos"
)

// tenRules are rules as a house might add them: of each sort some.
func tenRules() []Rule {
	rules := []Rule{
		{Name: "writes-need-a-person", Connections: map[string]string{"env": "prod"}, When: `operation.writes && "skills" in caller.groups && operation.objects.exists(o, o.startsWith("hr."))`, Then: "approve"},
		{Name: "no-night-writes", When: `operation.writes && now.getHours() < 6`, Then: "approve"},
		{Name: "rows", When: `usage.session.rows > 1000000`, Then: "refuse"},
		{Name: "loop", When: `usage.repeats > 32`, Then: "refuse"},
		{Name: "email", Mask: []custos.Mask{{Columns: []string{"*.customers.email"}}}},
		{Name: "detect", Mask: []custos.Mask{{Detect: []string{"payment_card"}}}},
		{Name: "oracle", When: `masked.predicates.size() > 0`, Then: "refuse"},
	}
	for i := range 3 {
		rules = append(rules, Rule{Name: fmt.Sprint("hr-", i), When: fmt.Sprintf(`operation.columns.exists(c, c.startsWith("hr%d."))`, i), Then: "refuse"})
	}
	return rules
}

func benchmarkJudge(b *testing.B, rules []Rule) {
	p, caller := made(b, rules...), skill()
	f := facts("read")
	f.Columns = []string{"public.customers.id", "public.customers.email", "public.orders.total"}
	op := ask(f, "public.customers", "public.orders")
	usage := &custos.Usage{Session: custos.Counts{Operations: 4000, Rows: 70_000}, Repeats: 3}
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Judge(caller, prod, op, usage, noon)
		}
	})
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			again := *f
			op.Facts = &again
			p.Judge(caller, prod, op, usage, noon)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.Judge(caller, prod, op, usage, noon)
			}
		})
	})
}

func BenchmarkTenRules(b *testing.B) { benchmarkJudge(b, tenRules()) }
