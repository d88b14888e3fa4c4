package git

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestDiffApplies has a diff made, and git's own apply make the new file of it.
func TestDiffApplies(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		if n++; n > 60 { // each runs git
			return
		}
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "d\n", "\n"}), 0, 60)
		a, b := strings.Join(words.Draw(r, "old"), ""), strings.Join(words.Draw(r, "new"), "")
		if rapid.Bool().Draw(r, "open end") {
			b = strings.TrimSuffix(b, "\n")
		}
		if a == b || a == "" || b == "" {
			return
		}
		x, y := splitLines([]byte(a)), splitLines([]byte(b))
		edits := compareLines(x, y)
		if got := patched(x, y, edits); got != b {
			t.Fatalf("%q to %q: the edits make %q", a, b, got)
		}
		var diff strings.Builder
		diff.WriteString("--- a/f\n+++ b/f\n")
		appendDiff(&diff, x, y, edits)
		write(t, dir, "f", a)
		cmd := exec.Command("git", "apply", "--recount", "-")
		cmd.Args = []string{"git", "apply", "-"}
		cmd.Dir = dir
		cmd.Stdin = strings.NewReader(diff.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q to %q: %v %s\n%s", a, b, err, out, diff.String())
		}
		got, _ := exec.Command("cat", filepath.Join(dir, "f")).Output()
		if string(got) != b {
			t.Errorf("%q to %q: git makes %q of\n%s", a, b, got, diff.String())
		}
	})
}

func patched(a, b [][]byte, edits []edit) string {
	var out bytes.Buffer
	for _, e := range edits {
		switch e.op {
		case ' ':
			out.Write(bytes.Join(a[e.from:e.to], nil))
		case '+':
			out.Write(bytes.Join(b[e.from:e.to], nil))
		}
	}
	return out.String()
}

func TestDiffIsBounded(t *testing.T) {
	var a, b bytes.Buffer
	for i := range 60_000 {
		fmt.Fprintf(&a, "old %d\n", i)
		fmt.Fprintf(&b, "new %d\n", i)
	}
	edits := compareLines(splitLines(a.Bytes()), splitLines(b.Bytes()))
	if got := patched(splitLines(a.Bytes()), splitLines(b.Bytes()), edits); got != b.String() {
		t.Error("the edits make something else")
	}
}
