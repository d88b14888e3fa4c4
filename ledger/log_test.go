package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	custos "github.com/custos-gateway/custos"
)

// testKey is the log's key in tests and in the vectors: the seed is 32 bytes
// of 0x01, and the key is worth nothing.
var testSigner, testVKey = func() (note.Signer, string) {
	skey, vkey, err := note.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{1}, 64)), "custos.example.com/ledger")
	if err != nil {
		panic(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		panic(err)
	}
	return s, vkey
}()

var testStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock moves on by a millisecond each time it is read.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: testStart} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(time.Millisecond)
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// testOptions are of a small log that does nothing unasked.
func testOptions(dir string) Options {
	return Options{Dir: dir, Signer: testSigner, Now: newClock().now, SegmentBytes: 64 << 10, Interval: time.Hour}
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// leafOf makes the n-th of many entries that differ in size.
func leafOf(n int) (leaf, attachment []byte) {
	e := custos.Entry{Kind: custos.EntryStarted, At: testStart.Add(time.Duration(n) * time.Millisecond), Note: &custos.Note{Text: fmt.Sprint("entry ", n)}}
	if n%3 == 1 {
		attachment = bytes.Repeat([]byte{byte(n)}, 1+n%900)
		sum := sha256.Sum256(attachment)
		e.Attachment = &custos.Digest{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(attachment))}
	}
	return e.AppendJSON(nil), attachment
}

func appendMany(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		leaf, attachment := leafOf(i)
		index, err := l.Append(leaf, attachment)
		if err != nil || index != uint64(i) {
			t.Fatalf("append %d: index %d, %v", i, index, err)
		}
	}
	must(t, l.Durable(uint64(to-1)))
}

func checkMany(t testing.TB, l *Log, from, to int) {
	t.Helper()
	next := from
	must(t, l.Scan(uint64(from), uint64(to), func(i uint64, leaf, attachment []byte) error {
		wantLeaf, wantAttachment := leafOf(next)
		if i != uint64(next) || !bytes.Equal(leaf, wantLeaf) || !bytes.Equal(attachment, wantAttachment) {
			t.Fatalf("entry %d is %d: %s", next, i, leaf)
		}
		next++
		return nil
	}))
	if next != to {
		t.Fatalf("scanned up to %d, want %d", next, to)
	}
}

func TestLogKeepsEntriesOverSegmentsAndRestarts(t *testing.T) {
	o := testOptions(t.TempDir())
	total := 0
	for round := range 4 {
		l, err := Open(o)
		must(t, err)
		if r := l.Recovery(); r.Entries != uint64(total) || r.Signed != uint64(total) || r.TornBytes != 0 || r.Rebuilt {
			t.Fatalf("round %d: recovered %+v, want %d entries", round, r, total)
		}
		checkMany(t, l, 0, total)
		appendMany(t, l, total, total+300)
		total += 300
		checkMany(t, l, 0, total)
		for _, i := range []int{0, 63, 64, 65, total - 1} {
			leaf, attachment, err := l.Read(uint64(i))
			must(t, err)
			if a, b := leafOf(i); !bytes.Equal(leaf, a) || !bytes.Equal(attachment, b) {
				t.Fatalf("entry %d is %s", i, leaf)
			}
		}
		if _, _, err := l.Read(uint64(total)); err == nil {
			t.Fatal("read an entry that is not there")
		}
		must(t, l.Close())
		if _, err := l.Append([]byte("{}"), nil); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("append after close: %v", err)
		}
	}
	segments, err := filepath.Glob(filepath.Join(o.Dir, "log", "*.wal"))
	must(t, err)
	if len(segments) < 4 {
		t.Fatalf("%d segments; the test wants several", len(segments))
	}
}

// The tree is x/mod's tree.
func TestTreeAgreesWithTlog(t *testing.T) {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = hashes[x]
		}
		return out, nil
	})
	ours := new(tree)
	for n := int64(0); n < 66000; n++ {
		leaf := []byte(fmt.Sprint(n))
		more, err := tlog.StoredHashes(n, leaf, reader)
		must(t, err)
		hashes = append(hashes, more...)
		must(t, ours.add(tlog.RecordHash(leaf), nil))
		if n > 600 && n%777 != 0 && n < 65530 {
			continue
		}
		want, err := tlog.TreeHash(n+1, reader)
		must(t, err)
		if got := ours.root(); got != want {
			t.Fatalf("root of %d leaves is %v, want %v", n+1, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	l := mustOpen(t, testOptions(t.TempDir()))
	for _, c := range []struct{ leaf, attachment []byte }{
		{nil, nil}, {make([]byte, MaxLeaf+1), nil}, {[]byte("{}"), make([]byte, MaxAttachment+1)},
	} {
		if _, err := l.Append(c.leaf, c.attachment); err == nil {
			t.Errorf("a leaf of %d and an attachment of %d bytes were taken", len(c.leaf), len(c.attachment))
		}
	}
	// Larger than a segment: it gets one of its own.
	leaf, attachment := bytes.Repeat([]byte("x"), MaxLeaf), bytes.Repeat([]byte{0}, 3<<20)
	for range 2 {
		i, err := l.Append(leaf, attachment)
		must(t, err)
		must(t, l.Durable(i))
		a, b, err := l.Read(i)
		must(t, err)
		if !bytes.Equal(a, leaf) || !bytes.Equal(b, attachment) {
			t.Fatal("a large entry came back different")
		}
	}
	if l.Durable(2) == nil {
		t.Error("an entry that is not there is durable")
	}
}

func TestWait(t *testing.T) {
	l := mustOpen(t, testOptions(t.TempDir()))
	got := make(chan uint64)
	go func() {
		size, err := l.Wait(t.Context(), 0)
		if err != nil {
			t.Error(err)
		}
		got <- size
	}()
	appendMany(t, l, 0, 1)
	if size := <-got; size != 1 {
		t.Errorf("size %d, want 1", size)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Wait(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	ended := make(chan error)
	go func() {
		_, err := l.Wait(t.Context(), 1)
		ended <- err
	}()
	must(t, l.Close())
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("%v, want closed", err)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	o := testOptions(t.TempDir())
	o.SegmentBytes = 8 << 20
	l := mustOpen(t, o)
	leaf, attachment := leafOf(1)
	must(t, l.Durable(func() uint64 { i, err := l.Append(leaf, attachment); must(t, err); return i }()))
	n := testing.AllocsPerRun(200, func() {
		i, err := l.Append(leaf, attachment)
		if err == nil {
			err = l.Durable(i)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// Whatever the order in which writers come, indexes are given once, without
// gaps, in the order of each writer; and what is durable is there.
func TestGroupCommitOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		o := testOptions(dir)
		o.SegmentBytes = int64(rapid.IntRange(600, 8<<10).Draw(rt, "segment"))
		l := mustOpen(t, o)
		counts := rapid.SliceOfN(rapid.IntRange(1, 30), 1, 8).Draw(rt, "entries of each writer")
		every := rapid.IntRange(1, 5).Draw(rt, "entries a sync")
		owner := make([]sync.Map, len(counts))
		var all sync.WaitGroup
		for w, n := range counts {
			all.Go(func() {
				last := -1
				for k := range n {
					i, err := l.Append(fmt.Appendf(nil, "%d/%d", w, k), bytes.Repeat([]byte{1}, k*7))
					if err != nil || int(i) <= last {
						t.Errorf("writer %d: entry %d after %d: %v", w, i, last, err)
						return
					}
					last = int(i)
					owner[w].Store(i, k)
					if k%every == 0 {
						if err := l.Durable(i); err != nil || l.DurableSize() <= i {
							t.Errorf("writer %d: entry %d is not durable: %v", w, i, err)
						}
					}
				}
			})
		}
		all.Wait()
		must(t, l.Close())
		again := mustOpen(t, o)
		next := uint64(0)
		must(t, again.Scan(0, again.Size(), func(i uint64, leaf, _ []byte) error {
			var w, k int
			if _, err := fmt.Sscanf(string(leaf), "%d/%d", &w, &k); err != nil {
				t.Fatal(err)
			}
			if got, ok := owner[w].Load(i); i != next || !ok || got != k {
				rt.Fatalf("entry %d holds %s, want %d of %v", i, leaf, next, got)
			}
			next++
			return nil
		}))
		total := 0
		for _, n := range counts {
			total += n
		}
		if int(next) != total {
			rt.Fatalf("%d entries, want %d", next, total)
		}
		must(t, again.Close())
	})
}

func TestKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "ledger.key")
	s, vkey, err := LoadOrCreateKey(path, "a.example/ledger")
	must(t, err)
	again, vkey2, err := LoadOrCreateKey(path, "a.example/ledger")
	must(t, err)
	if vkey != vkey2 || s.KeyHash() != again.KeyHash() {
		t.Errorf("key changed from %s to %s", vkey, vkey2)
	}
	v, err := note.NewVerifier(vkey)
	must(t, err)
	sig, err := s.Sign([]byte("x"))
	must(t, err)
	if !v.Verify([]byte("x"), sig) {
		t.Error("the verifier key is not the signer's")
	}
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
	if _, _, err := LoadOrCreateKey(path, "b.example/ledger"); err == nil {
		t.Error("another log's key was taken")
	}
	must(t, os.Chmod(path, 0o644))
	if _, _, err := LoadOrCreateKey(path, "a.example/ledger"); err == nil {
		t.Error("a key that others may read was taken")
	}
}
