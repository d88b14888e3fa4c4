package git

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/custos-gateway/custos/internal/coverage"
)

var _ = flag.Bool("update", false, "rewrite the section of docs/coverage.md")

// covered is a row of what git asks over HTTP.
type covered struct{ name, class, parsed, judged, recorded string }

const (
	before = "before it is forwarded, with its body, and its outcome"
	byRule = "by policy"
)

// rows has every class of request, each once or more.
var rows = []covered{
	{"GET info/refs?service=git-upload-pack", classDiscover, "path, service, version", byRule, before},
	{"GET info/refs?service=git-receive-pack", classDiscover, "path, service; capabilities that the gateway does not take are left out of the answer", byRule, before},
	{"POST git-upload-pack, version 0 and 1", classFetch, "every line", byRule, before},
	{"POST git-upload-pack, command=ls-refs", classRefs, "every line", byRule, before},
	{"POST git-upload-pack, command=fetch", classFetch, "every line", byRule, before},
	{"POST git-upload-pack, command=object-info", classInfo, "every line", byRule, before},
	{"POST git-receive-pack, nothing but a flush", classProbe, "all of it", byRule, before},
	{"POST git-receive-pack: what the gateway reads of the upstream first", classConsider, "—", byRule, "before it is read"},
	{"POST git-receive-pack", classPush, "commands, options, every object of the pack", byRule, before},
	{"POST info/lfs/objects/batch", classBatch, "all of it; what is not of a batch is left out", byRule, before},
	{"GET and POST info/lfs/locks, locks/verify, locks/ID/unlock", classLocks, "path, query", byRule, before},
	{"GET and PUT info/lfs/objects/OID, POST .../verify", classObject, "what is brought is looked through, and is what its id says", byRule, before},
	{"anything else: the dumb protocol, git-upload-archive, other paths", classUnknown, "—", "refused by name", "the refusal"},
}

// TestCoverage keeps this protocol's section of docs/coverage.md, and has a row
// for whatever the code tells apart.
func TestCoverage(t *testing.T) {
	var b strings.Builder
	b.WriteString("### Requests\n\n| request | class | parsed | judged | recorded |\n|---|---|---|---|---|\n")
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.class] = true
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.name, r.class, r.parsed, r.judged, r.recorded)
	}
	for _, class := range []string{classDiscover, classRefs, classFetch, classInfo, classProbe, classConsider, classPush, classBatch, classLocks, classObject, classUnknown} {
		if !seen[class] {
			t.Errorf("class %s has no row", class)
		}
	}
	for command := range commandLines {
		if !seen[command] {
			t.Errorf("command %s has no row", command)
		}
	}
	b.WriteString("\n### Lines of requests to read\n\nVersions 0 and 1: " + strings.Join(slices.Sorted(maps.Keys(fetchLines)), ", ") + ".\n\n")
	for _, command := range slices.Sorted(maps.Keys(commandLines)) {
		fmt.Fprintf(&b, "%s: %s.\n\n", command, strings.Join(slices.Sorted(maps.Keys(commandLines[command])), ", "))
	}
	b.WriteString("Any other line is refused. Packs and bundles by address (packfile-uris, bundle-uri) would come past the gateway.\n")
	b.WriteString("\n### Capabilities of a push\n\n" + strings.Join(slices.Sorted(slices.Values(pushCaps)), ", ") + ". Any other is refused, such as push-cert.\n")
	coverage.Section(t, "../../docs/coverage.md", Name, b.String())
}
