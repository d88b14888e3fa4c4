// Command testreport reads `go test -json` on its standard input and prints
// what a person wants of it: each package as it ends, the output of what
// failed, and at last what was skipped and why. It exits with 1 when anything
// failed, or when the input held no test.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of test2json's output (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
	// ImportPath is set instead of Package while building.
	ImportPath string
}

type name struct{ pkg, test string }

func main() {
	if !report(os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

func report(in io.Reader, out io.Writer) bool {
	output := map[name]*strings.Builder{}
	var skipped []string
	passed, failed := 0, 0
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		if e.Package == "" {
			e.Package = e.ImportPath
		}
		key := name{e.Package, e.Test}
		switch e.Action {
		case "output", "build-output":
			if output[key] == nil {
				output[key] = new(strings.Builder)
			}
			output[key].WriteString(e.Output)
			continue
		case "build-fail":
			failed++
			fmt.Fprintf(out, "FAIL  %s does not build\n%s", e.Package, text(output[key]))
		case "fail":
			failed++
			fmt.Fprintf(out, "FAIL  %s %s\n%s", e.Package, e.Test, text(output[key]))
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(text(output[key]))))
			}
		case "pass":
			if e.Test == "" {
				fmt.Fprintf(out, "ok    %s  %.1fs\n", e.Package, e.Elapsed)
			} else {
				passed++
			}
		default:
			continue
		}
		delete(output, key)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, "read test output:", err)
		return false
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	for _, s := range skipped {
		fmt.Fprintln(out, "skipped", s)
	}
	return failed == 0 && passed > 0
}

func text(b *strings.Builder) string {
	if b == nil {
		return ""
	}
	return b.String()
}

// reason is what a test said when it skipped itself.
func reason(output string) string {
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			if _, after, ok := strings.Cut(line, ".go:"); ok {
				_, after, _ = strings.Cut(after, ": ")
				return after
			}
			return line
		}
	}
	return "no reason given"
}
