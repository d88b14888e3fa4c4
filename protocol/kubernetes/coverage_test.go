package kubernetes

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/custos-gateway/custos/internal/coverage"
)

var _ = flag.Bool("update", false, "rewrite the section of docs/coverage.md")

// covered is a row of what is asked of an API server.
type covered struct{ name, class, parsed, judged, recorded string }

const (
	before = "before it is forwarded, with its body, and its outcome"
	byRule = "by policy"
	none   = "—"
)

// rows has every class of request, each once or more.
var rows = []covered{
	{"get, list, watch of a resource; logs", classResource, "path, query", byRule, before},
	{"create, update, patch, apply, delete, deletecollection", classResource, "path, query, body as JSON, YAML or Protocol Buffers, patches of all forms", byRule, before},
	{"exec, attach", classConnect, "path, query; both ways of WebSocket (channel.k8s.io to v5) and SPDY/3.1", byRule, "before each piece is forwarded, and its outcome"},
	{"a line typed into a terminal, or sent to a shell", classLine, "the line", byRule, "before the shell gets its end"},
	{"port-forward; proxy of a pod, service or node", classConnect, "path, query", byRule + ", as a tunnel", "before each piece is forwarded, and its outcome"},
	{"discovery, OpenAPI, version, health, metrics", classPath, "path, query", byRule, before},
	{"an answer as JSON, YAML, Protocol Buffers, tables, text", none, "Secrets, and what rules hide", none, "as the caller sees it, before the caller does"},
	{"CBOR; other paths; other changes of protocol; headers that say who somebody is", classPath, none, "refused by name", "the refusal"},
}

// TestCoverage keeps this protocol's section of docs/coverage.md, and has a row
// for whatever the code tells apart.
func TestCoverage(t *testing.T) {
	var b strings.Builder
	b.WriteString("| message | class | parsed | judged | recorded |\n|---|---|---|---|---|\n")
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.class] = true
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.name, r.class, r.parsed, r.judged, r.recorded)
	}
	for _, class := range []string{classResource, classConnect, classPath, classLine} {
		if !seen[class] {
			t.Errorf("class %s has no row", class)
		}
	}
	b.WriteString("\n### Fields that go to the API server\n\n" + strings.Join(passed, ", ") + "; Accept, and Impersonate-… of the gateway's own. No other does.\n")
	coverage.Section(t, "../../docs/coverage.md", Name, b.String())
}
