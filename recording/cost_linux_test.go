package recording

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Ten thousand sessions that were answered and are silent now cost little each.
func TestIdleRecordingIsSmall(t *testing.T) {
	dir := smallDisk(t, "1g") // in memory: 10,000 durable keys take minutes on a disk
	s, err := Open(filepath.Join(dir, "recordings"), filepath.Join(dir, "keys", "recording.key"))
	if err != nil {
		t.Fatal(err)
	}
	const n = 10_000
	held := make([]*Recording, 0, n)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	large := rows()
	for i := range n {
		r, _ := start(t, s)
		write(t, r, 1, []byte("answer"))
		if i%10 == 0 {
			write(t, r, 2, large, large, large)
		}
		held = append(held, r)
	}
	each := (int64(heap()) - int64(before)) / n
	t.Logf("%d bytes each", each)
	if each > 2<<10 {
		t.Errorf("an idle recording holds %d bytes", each)
	}
	runtime.KeepAlive(held)
}

func TestSealDoesNotAllocate(t *testing.T) {
	s, _ := openStore(t)
	r, _ := start(t, s)
	dst, plain := make([]byte, 0, 512), noise(300)
	if n := testing.AllocsPerRun(100, func() { r.Seal(dst, plain) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkSeal(b *testing.B) {
	s, _ := openStore(b)
	r, _ := start(b, s)
	dst, plain := make([]byte, 0, 512), noise(300)
	b.ReportAllocs()
	for b.Loop() {
		r.Seal(dst, plain)
	}
}

func BenchmarkSmallAnswer(b *testing.B) {
	s, _ := openStore(b)
	r, _ := start(b, s)
	p := noise(200)
	b.ReportAllocs()
	for b.Loop() {
		a := r.Answer(1, t0)
		a.Write(t0, p)
		a.Finish()
	}
}

func BenchmarkStart(b *testing.B) {
	s, _ := openStore(b)
	b.ReportAllocs()
	for b.Loop() {
		start(b, s)
	}
}

// rows is a stretch of an answer that looks like a table's rows.
func rows() []byte {
	var b []byte
	for i := 0; len(b) < 16<<10; i++ {
		b = fmt.Appendf(b, "%d\tAda Berg %d\tada.berg%d@example.com\t%d.%02d\n", i*7919, i*31, i*7919, i*i%9973, i%100)
	}
	return b
}

func BenchmarkLargeAnswer(b *testing.B) { largeAnswer(b, rows()) }

func BenchmarkLargeAnswerOfNoise(b *testing.B) { largeAnswer(b, noise(16<<10)) }

// BenchmarkPlainFile is what the large answers are to be compared with.
func BenchmarkPlainFile(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	p := bytes.Repeat(rows(), 4)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if _, err := f.Write(p); err != nil {
			b.Fatal(err)
		}
	}
}

func largeAnswer(b *testing.B, p []byte) {
	s, _ := openStore(b)
	r, _ := start(b, s)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	a := r.Answer(1, t0)
	for b.Loop() {
		if err := a.Write(t0, p); err != nil {
			b.Fatal(err)
		}
	}
	if _, _, err := a.Finish(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkReadAnswer(b *testing.B) {
	s, _ := openStore(b)
	r, id := start(b, s)
	a := r.Answer(1, t0)
	p := rows()
	for range 1000 {
		if err := a.Write(t0, p); err != nil {
			b.Fatal(err)
		}
	}
	if _, _, err := a.Finish(); err != nil {
		b.Fatal(err)
	}
	k := key(b, s, id)
	b.SetBytes(a.Bytes())
	b.ReportAllocs()
	for b.Loop() {
		in, err := k.OpenAnswer(1)
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range Records(in) {
			if err != nil {
				b.Fatal(err)
			}
		}
		in.Close()
	}
}
