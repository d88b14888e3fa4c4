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

// TestIdentityPages checks that the settings on each page of docs/identity are
// taken as they stand there.
func TestIdentityPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/identity/*.md")
	if err != nil || len(pages) < 9 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	t.Setenv("ORDERS_PASSWORD", "unread")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		index := name == "README"
		blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
		if index != (len(blocks) == 0) || len(blocks) > 1 {
			t.Errorf("%s has %d configurations", name, len(blocks))
		}
		for _, b := range blocks {
			path := filepath.Join(t.TempDir(), "custos.yaml")
			if err := os.WriteFile(path, []byte("listen: {https: '127.0.0.1:8443', postgres: '127.0.0.1:15432'}\n"+b[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(path, server.Checks(protocols)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	readme, err := os.ReadFile("../../docs/identity/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(string(readme), "("+name+")") {
			t.Errorf("docs/identity/README.md does not name %s", name)
		}
	}
}
