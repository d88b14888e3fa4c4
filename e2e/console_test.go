package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestConsole drives the console with a real browser: testdata/console.mjs says
// what it does there, while real clients wait for it. With CUSTOS_SCREENSHOTS
// set to a folder, it leaves pictures there.
func TestConsole(t *testing.T) {
	modules, err := filepath.Abs("../.cache/browser/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	need(t, "chromium", "--version")
	need(t, "node", "--version")
	for _, name := range []string{"playwright-core", "axe-core"} {
		if _, err := os.Stat(filepath.Join(modules, name)); err != nil {
			t.Skip(name + " is not there: .ci/install test installs it")
		}
	}
	s := newSiteOf(t, `policies:
  - include: builtin/safe-people
    callers: {kinds: [person]}
  - rule: deletes-need-a-person
    why: A row that is gone is gone.
    when: operation.verbs.exists(v, v == "DELETE")
    then: approve
    approvers: {groups: [dba], count: 1, within: 5m}
    reason: deletes are looked at by the database's people
  - rule: hide-mail
    callers: {groups: [support]}
    mask: [{columns: ["*.customers.email"], with: partial}]
  - rule: nobody-counts
    mode: dry-run
    when: operation.text.contains("count")
    then: refuse
`, func(s *site) {
		s.sampleData(t)
		path := filepath.Join(s.dir, "custos.yaml")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.write("custos.yaml", strings.NewReplacer(
			"kind_claim: kind}", "kind_claim: kind, client_id: custos}",
			"roles: {admin: [dba], ", "roles: {admin: [dba], reviewer: [dba], ",
			"access: [{groups: [dba]}]", "labels: {env: prod}\n    access: [{groups: [dba, support]}]").Replace(string(b)))
	})
	given, err := json.Marshal(map[string]any{
		"url": "https://" + s.https, "modules": modules, "screenshots": os.Getenv("CUSTOS_SCREENSHOTS"),
		"pg":     map[string]string{"PGHOST": "127.0.0.1", "PGPORT": s.port, "PGUSER": "any", "PGDATABASE": "orders", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": filepath.Join(s.data(), "tls", "ca.pem")},
		"tokens": map[string]string{"ana": s.provider.Mint("ana"), "bob": s.provider.Mint("bob"), "carol": s.provider.Mint("carol")},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "testdata/console.mjs")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stdin = bytes.NewReader(given)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%v\nthe gateway's log:\n%s", err, s.log)
	}
	if steps := bytes.Count(out, []byte("\nok ")); steps < 12 {
		t.Errorf("only %d steps were made", steps)
	}
	s.stop(15)
	s.verify()
}
