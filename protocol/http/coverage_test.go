package http

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/custos-gateway/custos/internal/coverage"
)

var _ = flag.Bool("update", false, "rewrite the section of docs/coverage.md")

// covered is a row of what is asked over HTTP.
type covered struct{ name, class, parsed, judged, recorded string }

const (
	before = "before it is forwarded, with its body, and its outcome"
	byRule = "by policy"
	none   = "—"
)

// rows has every class of request, each once or more.
var rows = []covered{
	{"GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE", classRequest, "path, query, header; bodies of JSON, lines of JSON, forms and their parts, up to 1 MiB, also gzipped", byRule, before},
	{"the same with another body, or a longer one", classRequest, "path, query, header; the body by its SHA-256", byRule + ", as opaque", before},
	{"JSON-RPC, SOAP, gRPC, AWS actions, Elasticsearch, object stores", classRequest, "what is called, and of bulk requests each action", byRule, before},
	{"GraphQL by POST or GET, one or several", classGraphQL, "the document: operation, fields, fragments, aliases", byRule, before},
	{"a WebSocket", classUpgrade, "path, query, header", byRule + ", as a tunnel", "before each piece is forwarded, and its outcome"},
	{"an answer as JSON, lines of JSON, CSV, forms, server-sent events, text, XML", none, "where a rule hides values: all of it", none, "as the caller sees it, before the caller does"},
	{"any other answer", none, none, "withheld where a rule hides values", "as the caller sees it, before the caller does"},
	{"other methods; other changes of protocol; what two servers could read in two ways", classRequest, none, "refused by name", "the refusal"},
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
	for _, class := range []string{classRequest, classGraphQL, classUpgrade} {
		if !seen[class] {
			t.Errorf("class %s has no row", class)
		}
	}
	for _, m := range methods {
		if !strings.Contains(rows[0].name, m) {
			t.Errorf("method %s has no row", m)
		}
	}
	drop := slices.Sorted(slices.Values(dropped))
	b.WriteString("\n### Fields that do not go to the target\n\n" + strings.Join(drop, ", ") + "; X-Forwarded-…, Custos-…, Sec-Fetch-…, and those that Connection names.\n")
	b.WriteString("\n### Fields that do not go to the caller\n\n" + strings.Join(slices.Sorted(slices.Values(keptBack)), ", ") + "; Access-Control-…, and those that Connection names.\n")
	b.WriteString("\n### Fields that are refused\n\n" + strings.Join(slices.Sorted(slices.Values(slices.Concat(overrides, claims))), ", ") + "; Impersonate-…, a second Authorization; also with _ for -.\n")
	coverage.Section(t, "../../docs/coverage.md", Name, b.String())
}
