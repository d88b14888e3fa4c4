package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// brokenRename is a file system on which nothing gets its name.
type brokenRename struct{ FS }

var errBroken = errors.New("broken")

func (brokenRename) Rename(string, string) error { return errBroken }

func TestWriteFileIsOneStep(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	read := func(want string) {
		t.Helper()
		b, err := ReadFile(OS, name, 100)
		if err != nil || string(b) != want {
			t.Fatalf("read %q, %v; want %q", b, err, want)
		}
	}
	for _, s := range []string{"first and longer", "second"} {
		if err := WriteFile(OS, name, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		read(s)
	}
	if err := WriteFile(brokenRename{OS}, name, []byte("third"), 0o600); !errors.Is(err, errBroken) {
		t.Fatalf("%v, want %v", err, errBroken)
	}
	read("second")
	if err := WriteFile(OS, name, []byte("fourth"), 0o600); err != nil {
		t.Fatalf("over what a crash left: %v", err)
	}
	read("fourth")
	names, err := OS.List(filepath.Dir(name))
	if err != nil || len(names) != 1 {
		t.Errorf("there are %v, %v; want the file alone", names, err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestReadFileIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(OS, name, 10); err == nil {
		t.Error("a file beyond the limit was read")
	}
	if b, err := ReadFile(OS, name, 11); err != nil || len(b) != 11 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := ReadFile(OS, name+"x", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that it does not exist", err)
	}
}
