package libpgquery

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/wasilibs/go-pgquery/parser" // whose parser.wasm ours is compared with
)

var shared = New(2)

// The sandboxed code is byte for byte what the module proxy's checksum
// database vouches for.
func TestCodeIsTheModules(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/wasilibs/go-pgquery").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "internal", "wasm", "libpg_query.so"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(code, want) {
		t.Error("libpg_query.wasm differs from the module's: copy it again")
	}
}

func TestParse(t *testing.T) {
	tree, err := shared.Parse("select 1")
	if err != nil || len(tree) == 0 {
		t.Fatalf("%d bytes, %v", len(tree), err)
	}
	var syntax *SyntaxError
	if _, err := shared.Parse("select from where"); !errors.As(err, &syntax) || syntax.Position != 13 || !strings.Contains(err.Error(), `syntax error at or near "where"`) {
		t.Errorf("got %v", err)
	}
	if _, err := shared.Parse("select 1\x00; drop table t"); !errors.As(err, &syntax) {
		t.Errorf("a NUL byte: got %v", err)
	}
	again, err := shared.Parse("select 1")
	if err != nil || !bytes.Equal(tree, again) {
		t.Errorf("another tree after an error: %v", err)
	}
}

// Hostile nesting ends in an error, or in a tree, and the next caller is
// served as before.
func TestNesting(t *testing.T) {
	const n = 100_000
	repeat := strings.Repeat
	want, err := shared.Parse("select 1")
	if err != nil {
		t.Fatal(err)
	}
	trapped := 0
	for name, text := range map[string]string{
		"parentheses": "select " + repeat("(", n) + "1" + repeat(")", n),
		"plus":        "select 1" + repeat("+1", n),
		"not":         "select " + repeat("not ", n) + "true",
		"case":        "select " + repeat("case when ", n) + "1" + repeat(" then 1 end", n),
		"subquery":    "select " + repeat("(select ", n) + "1" + repeat(")", n),
		"union":       "select 1" + repeat(" union select 1", n),
		"call":        "select " + repeat("f(", n) + "1" + repeat(")", n),
		"statements":  repeat("select 1;", n),
	} {
		_, err := shared.Parse(text)
		var syntax *SyntaxError
		if err != nil && !errors.Is(err, ErrTrap) && !errors.As(err, &syntax) {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(err, ErrTrap) {
			trapped++
		}
		for range cap(shared.slots) {
			if got, err := shared.Parse("select 1"); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("after %s: %v", name, err)
			}
		}
	}
	if trapped == 0 {
		t.Error("nothing trapped: this test no longer tests what it is for")
	}
}

// What takes too long is ended, and the next caller is served.
func TestTimeout(t *testing.T) {
	p := New(1)
	p.timeout = 1 // nanosecond: any call takes longer
	if _, err := p.Parse("select 1"); !errors.Is(err, ErrTrap) {
		t.Errorf("got %v", err)
	}
	p.timeout = standardTimeout
	if _, err := p.Parse("select 1"); err != nil {
		t.Error(err)
	}
}

func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := shared.Parse("select a from b where c = 1"); err != nil {
					t.Error(err)
				}
				if _, err := shared.Parse("selec"); err == nil {
					t.Error("parsed what is no SQL")
				}
			}
		})
	}
	wg.Wait()
}

func TestWarm(t *testing.T) {
	if err := shared.Warm(); err != nil {
		t.Fatal(err)
	}
	for range cap(shared.slots) {
		in := <-shared.slots
		if in == nil {
			t.Error("an instance is missing")
		}
		shared.slots <- in
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := shared.Parse("SELECT abalance FROM pgbench_accounts WHERE aid = 12345"); err != nil {
			b.Fatal(err)
		}
	}
}
