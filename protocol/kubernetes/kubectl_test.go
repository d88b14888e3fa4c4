package kubernetes

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// differs is what differs from one run to the next: times, identifiers that are
// made for a dry run, ports and files of this test's.
var differs = regexp.MustCompile(`\b\d+(m|s|h|d)(\d+s)?\b|\d{4}-\d\d-\d\dT[0-9:.]+Z?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|resourceVersion: "\d+"|"resourceVersion": ?"\d+"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000|127\.0\.0\.1:\d+|/tmp/\S+|[EW]\d{4} \S+ +\d+ \S+\]|custos[-a-z0-9.]*`)

// TestKubectlSeesNoDifference runs commands of the real kubectl through the
// gateway and without it: what they print, and how they end, is the same.
func TestKubectlSeesNoDifference(t *testing.T) {
	g := start(t)
	b, err := os.ReadFile("testdata/kubectl.txt")
	if err != nil {
		t.Fatal(err)
	}
	// What kubectl keeps of discovery, it keeps for all that follows.
	directly, behind := "--cache-dir="+t.TempDir(), "--cache-dir="+t.TempDir()
	n := 0
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		n++
		var args []string
		for _, a := range strings.Fields(line) {
			args = append(args, strings.ReplaceAll(a, `\x20`, " "))
		}
		t.Run(line, func(t *testing.T) {
			direct, directErr, err1 := g.kubectl(t, true, "", append([]string{directly}, args...)...)
			through, throughErr, err2 := g.kubectl(t, false, "", append([]string{behind}, args...)...)
			if (err1 == nil) != (err2 == nil) || err1 != nil && err1.Error() != err2.Error() {
				t.Errorf("it ends with %v, and direct with %v\n%s%s", err2, err1, through, throughErr)
			}
			for _, out := range [][2]string{{direct, through}, {directErr, throughErr}} {
				if a, b := differs.ReplaceAllString(out[0], "_"), differs.ReplaceAllString(out[1], "_"); !same(a, b) {
					t.Errorf("direct:\n%s\nthrough the gateway:\n%s", a, b)
				}
			}
		})
	}
	if n < 60 {
		t.Errorf("%d commands, want 60", n)
	}
}

// same compares outputs without what aligns their columns.
func same(a, b string) bool {
	return strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(b), " ")
}
