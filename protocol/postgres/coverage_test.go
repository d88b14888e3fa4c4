package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/custos-gateway/custos/internal/coverage"
)

// judged and recorded say of each handling what the gate does with it.
var judged = map[handling][2]string{
	login:      {"by the gateway itself", "no: the login is the gateway's"},
	submitted:  {"by policy", "before it is forwarded, and its outcome"},
	input:      {"with its operation", "before it is forwarded"},
	upkeep:     {"no: it carries nothing", "no"},
	refused:    {"refused by name", "the refusal, where a session stands"},
	ended:      {"no: it ends the session", "the session's end"},
	answer:     {"—", "before the caller sees it"},
	unasked:    {"—", "before the caller sees it"},
	impossible: {"—", "no: it ends the session"},
}

// TestCoverage keeps this protocol's section of docs/coverage.md as the closed
// table has it.
func TestCoverage(t *testing.T) {
	var b strings.Builder
	table := func(title string, rows []class, types []int) {
		fmt.Fprintf(&b, "### %s\n\n| message | type | parsed | judged | recorded |\n|---|---|---|---|---|\n", title)
		for i, c := range rows {
			mark := "—"
			if types != nil {
				mark = fmt.Sprintf("`%c`", types[i])
			}
			j, ok := judged[c.handling]
			if !ok || c.parsed == "" {
				t.Errorf("%s is not described", c.name)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.name, mark, c.parsed, j[0], j[1])
		}
		b.WriteString("\n")
	}
	named := func(all *[256]class) (rows []class, types []int) {
		for i := range all {
			if all[i].name != "" {
				rows, types = append(rows, all[i]), append(types, i)
			} else if all[i].handling != unknown {
				t.Errorf("message %q has no name", rune(i))
			}
		}
		return rows, types
	}
	table("From the client, before a session", untyped, nil)
	rows, types := named(&frontend)
	table("From the client", rows, types)
	rows, types = named(&backend)
	table("From the target", rows, types)
	b.WriteString("Any other message ends the session: the rest of the line is not to be trusted.\n")
	coverage.Section(t, "../../docs/coverage.md", "postgres", b.String())
}
