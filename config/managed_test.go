package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const billing = `protocol: postgres
address: 127.0.0.1:5433
tls: disable
credential: {username: app}
access: [{groups: [support]}]
`

// A connection is added, replaced and removed beside the file, which stays as
// it is; what does not pass the file's own checks is not taken.
func TestManagedConnections(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "custos.yaml")
	if err := os.WriteFile(path, []byte(minimal+`connections:
  - {name: orders, protocol: postgres, address: "127.0.0.1:5432", tls: disable, credential: {username: app}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "custos-data"), 0o700); err != nil {
		t.Fatal(err)
	}
	names := func(c *Config) (all []string) {
		for _, n := range c.Connections {
			word := n.Name
			if n.Managed {
				word += "*"
			}
			all = append(all, word)
		}
		return all
	}
	put := func(name string, definition []byte, want string) *Config {
		t.Helper()
		c, file, err := WithConnection(path, name, definition, spoken)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.ManagedFile(), file, 0o600); err != nil {
			t.Fatal(err)
		}
		opts := spoken
		opts.Managed = true
		again, err := Load(path, opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(names(again), " "); got != want || c.Digest() != again.Digest() {
			t.Errorf("%s, want %s; digests %s and %s", got, want, c.Digest(), again.Digest())
		}
		return again
	}
	plain, err := Load(path, spoken)
	if err != nil {
		t.Fatal(err)
	}
	c := put("billing", []byte(billing), "orders billing*")
	if c.Digest() == plain.Digest() || c.Connections[1].Address != "127.0.0.1:5433" {
		t.Errorf("not the connection that was added: %+v", c.Connections[1])
	}
	c = put("billing", []byte(strings.Replace(billing, "5433", "5434", 1)), "orders billing*")
	if c.Connections[1].Address != "127.0.0.1:5434" {
		t.Errorf("not replaced: %+v", c.Connections[1])
	}
	definition, err := c.Definition("billing")
	if err != nil || !strings.Contains(string(definition), "5434") || !strings.HasPrefix(string(definition), "name: billing\n") {
		t.Errorf("definition %s, %v", definition, err)
	}
	for what, bad := range map[string]struct{ name, definition, want string }{
		"a name of the file's":  {"orders", billing, "stands already in line"},
		"another name":          {"billing", "name: other\n" + billing, "keeps its name"},
		"an unknown key":        {"billing", billing + "colour: red\n", "colour"},
		"a clear line, outside": {"billing", strings.Replace(billing, "127.0.0.1", "db.example.com", 1), "tls"},
		"no mapping":            {"billing", "- a\n", "want a mapping"},
		"no YAML":               {"billing", "a: [", "read definition"},
		"an alias":              {"billing", "labels: {a: &x b, c: *x}\n" + billing, "anchors"},
		"a bad name":            {"Billing!", billing, "name"},
	} {
		_, _, err := WithConnection(path, bad.name, []byte(bad.definition), spoken)
		if err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v, want %q", what, err, bad.want)
		}
	}
	if c = put("billing", nil, "orders"); c.Digest() == plain.Digest() {
		t.Error("that it was removed does not change the version")
	}
	if _, _, err := WithConnection(path, "billing", nil, spoken); err == nil {
		t.Error("removed twice")
	}
	if _, _, err := WithConnection(path, "orders", nil, spoken); err == nil {
		t.Error("removed one of the file's")
	}
}

// Skills lie in the same file as connections, and neither disturbs the other.
func TestManagedSkills(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "custos.yaml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "custos-data"), 0o700); err != nil {
		t.Fatal(err)
	}
	const reporter = `match: {issuer: "https://id.example.com", subject: "skill:*"}
connections: [billing]
`
	put := func(with func(string, string, []byte, Options) (*Config, []byte, error), name, definition string) *Config {
		t.Helper()
		raw := []byte(definition)
		if definition == "" {
			raw = nil
		}
		c, file, err := with(path, name, raw, spoken)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.ManagedFile(), file, 0o600); err != nil {
			t.Fatal(err)
		}
		return c
	}
	put(WithConnection, "billing", billing)
	put(WithSkill, "reporter", reporter)
	c := put(WithSkill, "reporter", reporter+"expires: 2027-01-31\n")
	if len(c.Connections) != 1 || len(c.Skills) != 1 || !c.Skills[0].Managed || c.Skills[0].Expires.Time().Format("02.01.2006") != "31.01.2027" {
		t.Errorf("%+v", c.Skills)
	}
	_, _, err := WithSkill(path, "other", []byte(reporter+"digest: x\n"), spoken)
	if err == nil || !strings.Contains(err.Error(), "connections.yaml:") || !strings.Contains(err.Error(), "skills[1].digest") {
		t.Errorf("%v", err)
	}
	if _, _, err := WithSkill(path, "billing", nil, spoken); err == nil {
		t.Error("a connection was removed as a skill")
	}
	c = put(WithConnection, "billing", "")
	if len(c.Connections) != 0 || len(c.Skills) != 1 || len(c.Warnings) == 0 {
		t.Errorf("%+v, %v", c.Skills, c.Warnings)
	}
	if c = put(WithSkill, "reporter", ""); len(c.Skills) != 0 {
		t.Errorf("%+v", c.Skills)
	}
}
