package e2e

import (
	"bytes"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/lib/pq" // its tests are run from the module's source
)

// suite runs lib/pq's own tests and returns what became of each. The suite
// panics where an event takes more than 100 ms, which on a busy machine it
// does directly as well: then it is run again.
func suite(t *testing.T, dir string, env []string) map[string]string {
	t.Helper()
	for range 5 {
		if results, panicked := suiteOnce(t, dir, env, "."); !panicked {
			if len(results) < 100 {
				t.Fatalf("the suite ran %d tests", len(results))
			}
			return results
		}
	}
	t.Fatal("lib/pq's suite ran out of its time limits each time: run it on a quieter machine")
	return nil
}

// passesAlone runs one test of the suite by itself, up to three times: some
// have limits of a few milliseconds, which a busy machine exceeds.
func passesAlone(t *testing.T, dir string, env []string, name string) bool {
	t.Helper()
	top, _, _ := strings.Cut(name, "/")
	for range 3 {
		if results, _ := suiteOnce(t, dir, env, "^"+top+"$"); results[name] == "pass" {
			t.Logf("%s passes when it is run alone", name)
			return true
		}
	}
	return false
}

func suiteOnce(t *testing.T, dir string, env []string, tests string) (results map[string]string, panicked bool) {
	t.Helper()
	cmd := exec.Command("go", "test", "-json", "-count=1", "-timeout=5m", "-run", tests, ".")
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PQTEST_BINARY_PARAMETERS=no", "GOFLAGS=-mod=mod"), env...)
	out, _ := cmd.Output() // a failing test makes an error: the lines say which
	results = map[string]string{}
	for line := range bytes.Lines(out) {
		var e struct{ Action, Test string }
		if json.Unmarshal(line, &e) == nil && e.Test != "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			results[e.Test] = e.Action
		}
	}
	if bytes.Contains(out, []byte("panic: wantEvent: timeout")) {
		return nil, true
	}
	return results, false
}

// explained are the tests of lib/pq that end otherwise through custos, each
// with the heading in docs/rough-edges.md that says why.
func explained(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("../docs/rough-edges.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "- lib/pq `"); ok {
			name, _, _ := strings.Cut(rest, "`")
			names[name] = true
		}
	}
	return names
}

// TestLibPQ runs the tests of the driver lib/pq directly and through custos:
// each must end the same, or its difference be explained.
func TestLibPQ(t *testing.T) {
	if testing.Short() {
		t.Skip("lib/pq's own suite takes minutes")
	}
	source, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/lib/pq").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "pq")
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(source)))); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o700) // the module cache is read-only
	}); err != nil {
		t.Fatal(err)
	}
	// The suite wants a database, and a user, of this name.
	s := newSiteWith(t, `
  - {name: pqgo, protocol: postgres, address: "TARGET", database: pqgo, tls: disable, credential: {username: pqgo, password: {file: pqgo.password}}, access: [{groups: [dba]}]}
`)
	s.write("pqgo.password", "made-up")
	s.direct("postgres", "CREATE ROLE pqgo SUPERUSER LOGIN PASSWORD 'made-up'; CREATE DATABASE pqgo OWNER pqgo")
	env := []string{"PGHOST=localhost", "PGUSER=pqgo", "PGDATABASE=pqgo", "PGSSLMODE=disable"}
	_, port, _ := net.SplitHostPort(s.target.Address)
	through := append(slices.Clone(env), "PGPORT="+s.port, "PGPASSWORD="+s.provider.Mint("ana"))
	direct := suite(t, dir, append(slices.Clone(env), "PGPORT="+port, "PGPASSWORD=made-up"))
	custos := suite(t, dir, through)
	known := explained(t)
	same := 0
	for _, name := range slices.Sorted(maps.Keys(direct)) {
		switch {
		case direct[name] == custos[name]:
			same++
		case known[name]:
		case direct[name] == "pass" && passesAlone(t, dir, through, name):
			same++
		default:
			t.Errorf("%s: %s direct, %q through custos; explain it in docs/rough-edges.md or mend it", name, direct[name], custos[name])
		}
	}
	t.Logf("%d tests, %d end the same", len(direct), same)
	for name := range known {
		if direct[name] == custos[name] {
			t.Errorf("%s ends the same: take it out of docs/rough-edges.md", name)
		}
	}
}
