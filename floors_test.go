package custos

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/custos-gateway/custos"

// floors says on which floor each room stands. A package imports lower floors
// only; a folder in no room fails the test.
var floors = map[string]int{
	"cmd/custos":          7,
	"server":              6,
	"protocol/kubernetes": 5, "protocol/git": 5, "protocol/mcp": 5,
	"protocol": 4, "tunnel": 4, "api": 4, "console": 4, "export": 4,
	"gate":   3,
	"ledger": 2, "recording": 2, "vault": 2, "approval": 2, "identity": 2, "config": 2,
	"policy": 1, "sql": 1, "mask": 1, "store": 1, "internal": 1,
	"": 0,
}

// standardOnly are the rooms that import nothing from outside the house.
var standardOnly = map[string]bool{"": true, "gate": true}

// apart are folders of the house that are not part of the binary: they use it
// from outside and stand on no floor.
var apart = []string{"bench", "e2e", "testdata"}

// room returns the room of a package's path within the module.
func room(path string) (name string, ok bool) {
	for p := path; p != "."; p = filepath.Dir(p) {
		if _, ok := floors[p]; ok {
			return p, true
		}
	}
	return "", path == ""
}

func TestFloors(t *testing.T) {
	type pkg struct {
		ImportPath string
		Imports    []string
		Standard   bool
	}
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		checkFloor(t, strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"), p.Imports)
	}
	if seen < 2 {
		t.Fatalf("go list named %d packages", seen)
	}
}

func checkFloor(t *testing.T, path string, imports []string) {
	for _, a := range apart {
		if path == a || strings.HasPrefix(path, a+"/") {
			return
		}
	}
	here, ok := room(path)
	if !ok {
		t.Errorf("%s is on no floor: give it one in floors_test.go and in ARCHITECTURE.md", path)
		return
	}
	for _, i := range imports {
		rest, ours := strings.CutPrefix(i, module)
		if !ours {
			if first, _, _ := strings.Cut(i, "/"); strings.Contains(first, ".") && standardOnly[path] {
				t.Errorf("%s imports %s, and may use the standard library only", path, i)
			}
			continue
		}
		rest = strings.TrimPrefix(rest, "/")
		there, ok := room(rest)
		// Folders of one room may know each other, except that one protocol
		// never knows another, and internal/ is many small rooms.
		same := here == there && here != "protocol"
		if here == "protocol" && there == "protocol" {
			same = protocolOf(path) == protocolOf(rest)
		}
		if !ok || (floors[there] >= floors[here] && !same) {
			t.Errorf("%s (floor %d) imports %s (floor %d)", path, floors[here], rest, floors[there])
		}
	}
}

func protocolOf(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "protocol/"), "/")
	return name
}

// A protocol is a folder and one line: no other file of the program names it.
func TestProtocolsAreNamedOnce(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") ||
			strings.HasPrefix(path, "protocol/") || strings.HasPrefix(path, "bench/") || path == "cmd/custos/protocols.go" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(b), module+"/protocol/") {
			t.Errorf("%s imports a protocol; only cmd/custos/protocols.go may", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
