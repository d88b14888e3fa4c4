package http

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestSpool writes and reads back, and finds nothing in the clear on disk.
func TestSpool(t *testing.T) {
	dir := t.TempDir()
	s := NewSpool(dir)
	defer s.Close()
	var want bytes.Buffer
	for i := 0; want.Len() < 5<<20; i++ {
		line := fmt.Sprintf("line %d of what nobody may read on disk\n", i)
		want.WriteString(line)
		if _, err := s.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("the file has a name: %v", left)
	}
	for _, off := range []int64{0, 1, spoolBlock - 1, spoolBlock, 3<<20 + 7, s.size - 10} {
		got := make([]byte, min(100_000, s.size-off))
		if _, err := s.ReadAt(got, off); err != nil || !bytes.Equal(got, want.Bytes()[off:off+int64(len(got))]) {
			t.Errorf("from %d on it is something else: %v", off, err)
		}
	}
	disk := make([]byte, 2<<20)
	if n, _ := s.file.ReadAt(disk, 0); n < 1<<20 || bytes.Contains(disk, []byte("nobody may read")) {
		t.Errorf("%d bytes on disk, or they are in the clear", n)
	}
	disk[100] ^= 1
	if _, err := s.file.WriteAt(disk[:spoolBlock], 0); err != nil {
		t.Fatal(err)
	}
	for n := range int64(spoolCached) {
		s.block(n + 5)
	}
	if _, err := s.ReadAt(make([]byte, 10), 0); err == nil {
		t.Error("what was changed on disk is read as if it were whole")
	}
	if _, err := NewSpool(filepath.Join(dir, "none")).Write(make([]byte, 2<<20)); err == nil {
		t.Error("a spool without a folder takes bytes")
	}
}
