package recording

import (
	"bytes"
	"io"
	"os"
	"testing"
)

func FuzzRecords(f *testing.F) {
	f.Add([]byte{1, 3, 'a', 'b', 'c'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, err := range Records(bytes.NewReader(b)) {
			if err != nil {
				return
			}
		}
	})
}

// No file that was not sealed with the key gives a byte, or costs more memory
// than a chunk.
func FuzzOpenAnswer(f *testing.F) {
	s, _ := openStore(f)
	r, id := start(f, s)
	write(f, r, 1, bytes.Repeat([]byte("row,"), 10<<10))
	good, err := os.ReadFile(s.Path(id, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(make([]byte, headSize))
	f.Add(append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 100)...))
	f.Add(append([]byte{0, 0, 0, headSize - 4}, make([]byte, 100)...))
	k := key(f, s, id)
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.HasPrefix(b, good) {
			t.Skip("it was sealed with the key")
		}
		if err := os.WriteFile(s.Path(id, 2), b, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := k.OpenAnswer(2)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if got, err := io.ReadAll(in); err == nil || len(got) > 0 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}
