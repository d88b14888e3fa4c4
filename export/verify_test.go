package export_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/export/exporttest"
	"github.com/custos-gateway/custos/ledger"
)

func trust(t *testing.T, h *exporttest.House) ledger.Trust {
	t.Helper()
	trusted, err := ledger.ParseTrust([]string{h.PublicKey}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return trusted
}

func verifyStore(t *testing.T, h *exporttest.House) *export.StoreReport {
	t.Helper()
	r, err := export.VerifyStore(h.Dir, export.VerifyOptions{Trust: trust(t, h)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Each thing that can be done to a recording is found, and the file and the
// entry that cites it are named.
func TestVerifyStoreNamesDamagedRecordings(t *testing.T) {
	h := exporttest.New(t)
	s := h.Session(exporttest.Ana)
	first := s.Run("SELECT 1", exporttest.Large())
	second := s.Run("SELECT 2", exporttest.Large())
	s.Close()
	gone := h.Session(exporttest.Bob)
	gone.Run("SELECT 3", exporttest.Large())
	gone.Close()
	if err := h.Recordings.Erase(gone.ID); err != nil {
		t.Fatal(err)
	}
	h.Keep(&custos.Entry{Kind: custos.EntryErased, Session: gone.ID, Note: &custos.Note{Text: "retention"}}, nil)
	h.Close()

	if r := verifyStore(t, h); !r.OK || r.Recordings != 2 || len(r.Unknown) > 0 {
		t.Fatalf("the untouched store: %+v, damage %+v, unknown %v", r, r.Damage, r.Unknown)
	}
	file := func(entry uint64) string { return h.Recordings.Path(s.ID, entry) }
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	a, b := read(file(first)), read(file(second))
	key := strings.TrimSuffix(file(first), "."+strconv.FormatUint(first, 10)+".rec") + ".key"
	keyBytes := read(key)
	write := func(path string, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(at int) []byte {
		c := bytes.Clone(a)
		c[at] ^= 1
		return c
	}
	for name, change := range map[string]func() []string{
		"flip first":  func() []string { write(file(first), flip(0)); return []string{file(first)} },
		"flip middle": func() []string { write(file(first), flip(len(a)/2)); return []string{file(first)} },
		"flip last":   func() []string { write(file(first), flip(len(a)-1)); return []string{file(first)} },
		"truncate":    func() []string { write(file(first), a[:len(a)-1]); return []string{file(first)} },
		"empty":       func() []string { write(file(first), nil); return []string{file(first)} },
		"append":      func() []string { write(file(first), append(bytes.Clone(a), 0)); return []string{file(first)} },
		"delete":      func() []string { os.Remove(file(first)); return []string{file(first)} },
		"swap": func() []string {
			write(file(first), b)
			write(file(second), a)
			return []string{file(first), file(second)}
		},
		"delete key": func() []string { os.Remove(key); return []string{key} },
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, path := range change() {
				rel, err := filepath.Rel(h.Dir, path)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, rel)
			}
			r := verifyStore(t, h)
			var got []string
			for _, d := range r.Damage {
				got = append(got, d.File)
			}
			slices.Sort(want)
			slices.Sort(got)
			if r.OK || !slices.Equal(got, want) {
				t.Errorf("damage is %+v, want it in %v", r.Damage, want)
			}
			write(file(first), a)
			write(file(second), b)
			write(key, keyBytes)
		})
	}
	segments, err := filepath.Glob(filepath.Join(h.Dir, "ledger", "log", "*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments: %v, %v", segments, err)
	}
	whole := read(segments[0])
	bad := bytes.Clone(whole)
	bad[2000] ^= 1
	write(segments[0], bad)
	if r := verifyStore(t, h); r.OK || r.Damage[0].File != "ledger/log/"+filepath.Base(segments[0]) {
		t.Errorf("a flipped bit of the ledger: %+v", r.Damage)
	}
	write(segments[0], whole)
	write(filepath.Join(filepath.Dir(key), "stray"), []byte("x"))
	if r := verifyStore(t, h); !r.OK || len(r.Unknown) != 1 || filepath.Base(r.Unknown[0]) != "stray" {
		t.Errorf("with a stray file: ok %v, unknown %v, damage %v", r.OK, r.Unknown, r.Damage)
	}
}
