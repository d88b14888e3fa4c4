package recording

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	custos "github.com/custos-gateway/custos"
)

// smallDisk gives a folder on a file system of its own with few bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("only root may mount a small disk")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all bytes that are left on a disk.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 64 << 10; n > 0; {
		if _, err := f.Write(make([]byte, n)); errors.Is(err, syscall.ENOSPC) {
			n /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		names = append(names, filepath.Base(f))
	}
	return names
}

// On a full disk an answer ends with the disk's error, and what got into its
// file before is cited and reads, up to there.
func TestFullDiskDuringAnAnswer(t *testing.T) {
	dir := smallDisk(t, "1m")
	s, err := Open(filepath.Join(dir, "recordings"), filepath.Join(dir, "keys", "recording.key"))
	if err != nil {
		t.Fatal(err)
	}
	r, id := start(t, s)
	a := r.Answer(1, t0)
	var said []byte
	for p := noise(40 << 10); err == nil; said = append(said, p...) {
		if len(said) > 2<<20 {
			t.Fatal("the disk takes more than it has")
		}
		err = a.Write(t0, p)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := a.Write(t0, []byte("more")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the answer goes on: %v", err)
	}
	sealed, file, err := a.Finish()
	if !errors.Is(err, syscall.ENOSPC) || sealed != nil || file == nil {
		t.Fatalf("%v, %v", file, err)
	}
	if err := s.Check(id, 1, *file); err != nil {
		t.Error(err)
	}
	got, err := read(key(t, s, id), 1, nil, file)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) < 512<<10 || !bytes.HasPrefix(said, got) {
		t.Errorf("%d bytes of %d, %v", len(got), len(said), err)
	}
	if _, _, err := a.Finish(); err == nil {
		t.Error("an answer was finished twice")
	}
}

// On a full disk no session begins, none leaves anything behind, and once
// there is room all goes on.
func TestFullDiskAtTheStart(t *testing.T) {
	dir := smallDisk(t, "256k")
	recordings := filepath.Join(dir, "recordings")
	s, err := Open(recordings, filepath.Join(dir, "keys", "recording.key"))
	if err != nil {
		t.Fatal(err)
	}
	r, _ := start(t, s)
	before := files(t, recordings)
	full := filepath.Join(dir, "full")
	fill(t, full)
	for range 20 {
		if _, err := s.Start(custos.NewSessionID()); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("a session began on a full disk: %v", err)
		}
	}
	a := r.Answer(1, t0)
	if err := a.Write(t0, noise(100<<10)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("an answer was written to a full disk: %v", err)
	}
	if _, file, err := a.Finish(); !errors.Is(err, syscall.ENOSPC) || file != nil {
		t.Errorf("%v, %v", file, err)
	}
	if after := files(t, recordings); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("left behind: %q, before: %q", after, before)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	if _, file := write(t, r, 1, noise(100<<10)); file == nil {
		t.Error("no file")
	}
}

const writerEnv = "CUSTOS_TEST_WRITER"

// line is what the writer that is killed says, over and over.
func line(i int) []byte { return fmt.Appendf(nil, "%08d %s\n", i, strings.Repeat("row,", i%500)) }

// TestMain is the writer where TestKilledWhileWriting asks for one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(writerEnv); dir != "" {
		fmt.Println("the writer ended:", writeForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeForEver(dir string) error {
	s, err := Open(filepath.Join(dir, "recordings"), filepath.Join(dir, "recording.key"))
	if err != nil {
		return err
	}
	id := custos.NewSessionID()
	r, err := s.Start(id)
	if err != nil {
		return err
	}
	fmt.Println("session", id)
	a := r.Answer(1, t0)
	for i := 0; ; i++ {
		if err := a.Write(t0, line(i)); err != nil {
			return err
		}
		if i%50 == 0 {
			fmt.Println("wrote", i)
		}
	}
}

// Wherever a process is killed, what is left of its answer is cited, and reads
// from the beginning on.
func TestKilledWhileWriting(t *testing.T) {
	for _, lines := range []int{0, 100, 400, 1000, 3000} {
		t.Run(fmt.Sprint(lines), func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), writerEnv+"="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var id custos.SessionID
			wrote := -1
			for in := bufio.NewScanner(out); wrote < lines && in.Scan(); {
				fmt.Sscanf(in.Text(), "session %s", &id)
				fmt.Sscanf(in.Text(), "wrote %d", &wrote)
			}
			cmd.Process.Kill()
			cmd.Wait()
			if wrote < lines {
				t.Fatalf("the writer ended at line %d", wrote)
			}
			s, err := Open(filepath.Join(dir, "recordings"), filepath.Join(dir, "recording.key"))
			if err != nil {
				t.Fatal(err)
			}
			file, err := s.Salvage(id, 1)
			if err != nil {
				t.Fatal(err)
			}
			if file == nil {
				if lines > 100 {
					t.Error("nothing is left")
				}
				return
			}
			if err := s.Check(id, 1, *file); err != nil {
				t.Error(err)
			}
			got, err := read(key(t, s, id), 1, nil, file)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("it has an end: %v", err)
			}
			var want []byte
			for i := 0; len(want) < len(got); i++ {
				want = append(want, line(i)...)
			}
			// All but what was in memory: less than two chunks.
			if !bytes.HasPrefix(want, got) || lines > 400 && len(got) < lines*1000-2*chunkSize {
				t.Errorf("%d bytes after %d lines", len(got), wrote)
			}
		})
	}
}
