// Package coverage keeps docs/coverage.md, to which each protocol's test
// writes the section of its own.
package coverage

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

const head = "# Coverage\n\nEvery message of every protocol: whether it is parsed, judged and recorded.\n" +
	"Written by `go test ./protocol/... -run Coverage -update` from the tables that the code goes by.\n"

// Section holds the section of a protocol in a file against text, which ends
// with a line's end. With the test's flag -update it is put there.
func Section(t testing.TB, file, protocol, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(b), "\n## ")
	want := protocol + "\n\n" + text
	at := len(parts)
	for i := 1; i < len(parts); i++ {
		name, _, _ := strings.Cut(parts[i], "\n")
		if name >= protocol {
			at = i
			if name == protocol {
				parts = append(parts[:i], parts[i+1:]...)
			}
			break
		}
	}
	parts = append(parts[:at], append([]string{want}, parts[at:]...)...)
	parts[0] = head
	for i := range parts {
		parts[i] = strings.TrimRight(parts[i], "\n") + "\n"
	}
	whole := strings.Join(parts, "\n## ")
	if string(b) == whole {
		return
	}
	if f := flag.Lookup("update"); f == nil || f.Value.String() != "true" {
		t.Errorf("%s is not what the table of %s says: go test ./protocol/%s -run Coverage -update", file, protocol, protocol)
		return
	}
	if err := os.WriteFile(file, []byte(whole), 0o644); err != nil {
		t.Fatal(fmt.Errorf("write coverage: %w", err))
	}
}
