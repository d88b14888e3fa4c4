package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/server"
)

// TestReadme checks that what the README and the demonstration configure is
// taken as it stands there, without a warning.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 2 {
		t.Fatalf("the README has %d blocks of YAML, want the configuration and its policies", len(blocks))
	}
	whole := blocks[0][1]
	rest, _, found := strings.Cut(whole, "policies:\n")
	if !found {
		t.Fatal("the README's configuration has no policies")
	}
	t.Setenv("ORDERS_PASSWORD", "unread")
	demo := strings.NewReplacer("ISSUER", "http://127.0.0.1:1", "TARGET", "127.0.0.1:1", "FORGE", "127.0.0.1:2", "BILLING", "http://127.0.0.1:3").Replace(sampleConfig)
	for name, text := range map[string]string{"whole": whole, "policies": rest + blocks[1][1], "demo": demo} {
		dir := t.TempDir()
		path := filepath.Join(dir, "custos.yaml")
		for file, content := range map[string]string{path: text, filepath.Join(dir, "orders.password"): "unread", filepath.Join(dir, "git.password"): "unread"} {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := config.Load(path, server.Checks(protocols))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if len(c.Warnings) > 0 || len(c.Rules) < 10 {
			t.Errorf("%s: %d rules, warnings %v", name, len(c.Rules), c.Warnings)
		}
	}
}
