package ledger

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/custos-gateway/custos/internal/durable"
)

// BenchmarkDurable measures Append and Durable of one entry, by how many do so
// at once. ratio is the time of one, as its caller sees it, over that of one
// bare write and fdatasync of as many bytes, measured in the same run.
func BenchmarkDurable(b *testing.B) {
	leaf, attachment := bytes.Repeat([]byte("l"), 350), bytes.Repeat([]byte("a"), 120)
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "ledger")
			bare := bareSync(b, filepath.Dir(dir), frameHead+len(leaf)+len(attachment))
			o := testOptions(dir)
			counting := &countingFS{FS: durable.OS}
			o.SegmentBytes, o.Now, o.FS = 64<<20, time.Now, counting
			l := mustOpen(b, o)
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for w := range writers {
				n := b.N / writers
				if w < b.N%writers {
					n++
				}
				all.Go(func() {
					for range n {
						i, err := l.Append(leaf, attachment)
						if err == nil {
							err = l.Durable(i)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			bare = (bare + bareSync(b, filepath.Dir(dir), frameHead+len(leaf)+len(attachment))) / 2
			each := b.Elapsed() * time.Duration(min(writers, b.N)) / time.Duration(b.N)
			b.ReportMetric(float64(each)/float64(bare), "ratio")
			b.ReportMetric(float64(b.N)/float64(counting.syncs.Load()), "entries/sync")
			b.ReportMetric(float64(bare.Microseconds()), "bare-µs")
		})
	}
}

// countingFS counts the syncs of the log.
type countingFS struct {
	durable.FS
	syncs atomic.Int64
}

func (c *countingFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	return &countingFile{f, c}, err
}

type countingFile struct {
	durable.File
	fs *countingFS
}

func (f *countingFile) Datasync() error {
	f.fs.syncs.Add(1)
	return f.File.Datasync()
}

// bareSync is the median time of a write and an fdatasync in a file that has
// its blocks.
func bareSync(b *testing.B, dir string, size int) time.Duration {
	b.Helper()
	path := filepath.Join(dir, "bare")
	must(b, fillZero(durable.OS, path, 1<<20))
	f, err := durable.OS.OpenFile(path, os.O_RDWR, 0)
	must(b, err)
	defer f.Close()
	var times []time.Duration
	buf := bytes.Repeat([]byte{1}, size)
	for i := range 200 {
		start := time.Now()
		_, err := f.WriteAt(buf, int64(i*size))
		must(b, err)
		must(b, f.Datasync())
		times = append(times, time.Since(start))
	}
	return median(times)
}

func median(times []time.Duration) time.Duration {
	for i := range times { // few: by insertion
		for j := i; j > 0 && times[j] < times[j-1]; j-- {
			times[j], times[j-1] = times[j-1], times[j]
		}
	}
	return times[len(times)/2]
}

// BenchmarkAppend measures an append alone.
func BenchmarkAppend(b *testing.B) {
	leaf, attachment := bytes.Repeat([]byte("l"), 350), bytes.Repeat([]byte("a"), 120)
	o := testOptions(filepath.Join(b.TempDir(), "ledger"))
	o.SegmentBytes, o.Now = 64<<20, time.Now
	l := mustOpen(b, o)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(leaf, attachment); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify measures verification by entry.
func BenchmarkVerify(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "ledger")
	writeSample(b, dir, 1000, 64<<20)
	for b.Loop() {
		if r := mustVerify(b, VerifyOptions{Dir: dir}); !r.OK {
			b.Fatal(r.Damage)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/8003, "ns/entry")
}

func FuzzFrameReader(f *testing.F) {
	good := appendFrame(nil, &frame{index: 7, durable: 3, leaf: []byte("{}"), attachment: []byte("abc")})
	f.Add(good)
	f.Add(append(bytes.Clone(good), make([]byte, 40)...))
	f.Add(append([]byte{1, 2, 3}, good...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newFrameReader(bytes.NewReader(b), 0)
		for {
			e, err := r.next()
			if err != nil {
				if !isNoFrame(err) {
					t.Fatal(err)
				}
				break
			}
			at := r.off - int64(frameHead+len(e.leaf)+len(e.attachment))
			if again := appendFrame(nil, &e); !bytes.Equal(again, b[at:r.off]) {
				t.Fatalf("a frame was read as %+v, which is written as %x", e, again)
			}
		}
		if off := r.off; off < int64(len(b)) {
			if _, err := r.resync(0); err == nil && r.off <= off {
				t.Fatal("resync went back")
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	b, err := note.Sign(&note.Note{Text: testSigner.Name() + "\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"}, testSigner)
	must(f, err)
	f.Add(b)
	f.Add([]byte("a\n1\n\n\n\u2014 x y\n"))
	l := &Log{o: Options{Signer: testSigner}}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, openErr := testTrust.OpenCheckpoint(data)
		_, ownErr := l.ownHead(data)
		if openErr == nil && ownErr != nil {
			t.Fatalf("a stranger takes it, and the log does not: %v", ownErr)
		}
		if ownErr == nil && openErr != nil {
			// The log compares its own line, a stranger reads all lines.
			if text, sigs, ok := splitNote(data); !ok || !bytes.Contains(sigs, []byte(testSigner.Name())) || len(text) == 0 {
				t.Fatalf("the log takes it, and a stranger does not: %v", openErr)
			}
		}
	})
}
