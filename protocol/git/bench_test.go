package git

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// BenchmarkPack reads, inflates, hashes and looks through packs of this
// project's own kind: files of text, in deltas.
func BenchmarkPack(b *testing.B) {
	var wire string
	if path := os.Getenv("CUSTOS_PACK"); path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		wire = string(raw)
	} else {
		wire = run(b, history(b, "sha1", 40), "", "pack-objects", "--stdout", "--all", "-q", "--delta-base-offset")
	}
	m := newMasker()
	dir := b.TempDir()
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		n := newInspection(formatSHA1, m)
		p, _, err := readPack(b.Context(), strings.NewReader(wire), formatSHA1, dir, &standardLimits, n.visit)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.resolve(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(p.work), "inflated-B/op")
		p.Close()
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(float64(mem.HeapSys)/(1<<20), "heap-MiB")
}
