package mask

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"
)

// The benchmarks' bytes: prose without a hit, rows without one, and rows with
// an e-mail address each. A row is a PostgreSQL DataRow.

const prose = "The gateway stands between a caller and a target, and what the caller sends is judged before it goes on. " +
	"Nothing that is held back is lost: it is kept, with the reason, where an auditor can find it, and the chain of " +
	"entries says that none was taken out since. A well-known limit is that of time - see section 4.2 of the guide.\n"

func rowsOf(n int, fields func(r *rand.Rand, i int) []string) (all []byte, values [][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		f := fields(r, i)
		body := binary.BigEndian.AppendUint16(nil, uint16(len(f)))
		for _, v := range f {
			body = append(binary.BigEndian.AppendUint32(body, uint32(len(v))), v...)
			values = append(values, []byte(v))
		}
		all = append(all, 'D')
		all = append(binary.BigEndian.AppendUint32(all, uint32(len(body)+4)), body...)
	}
	return all, values
}

func cleanRow(r *rand.Rand, i int) []string {
	return []string{fmt.Sprint(i + 10000), "Wilhelmina van Dijk", "ready for collection", fmt.Sprintf("%d.%02d", r.IntN(900), r.IntN(100)),
		fmt.Sprintf("2024-%02d-%02d %02d:%02d:%02d.%06d+00", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6)), "t",
		"left at the neighbour's, signed for by hand"}
}

func emailRow(r *rand.Rand, i int) []string {
	return append(cleanRow(r, i), fmt.Sprintf("user%d@example.com", i))
}

func ofAll(tb testing.TB, way Way) *Masker {
	m, err := New([32]byte{1}, []Rule{{Detect: []string{"all"}, With: way}})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func BenchmarkAny(b *testing.B) {
	text := make([]byte, 0, 64<<10)
	for len(text) < 64<<10 {
		text = append(text, prose...)
	}
	rows, _ := rowsOf(400, cleanRow)
	m := ofAll(b, Redact)
	for _, c := range []struct {
		name string
		b    []byte
	}{{"prose", text}, {"rows", rows}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.b)))
			for b.Loop() {
				if m.Any(c.b) {
					b.Fatal("a hit in what has none")
				}
			}
		})
	}
}

func BenchmarkFind(b *testing.B) {
	text := make([]byte, 0, 64<<10)
	for len(text) < 64<<10 {
		text = append(text, prose...)
	}
	clean, _ := rowsOf(400, cleanRow)
	mail, _ := rowsOf(400, emailRow)
	m := ofAll(b, Redact)
	for _, c := range []struct {
		name string
		b    []byte
		hits int
	}{{"prose", text, 0}, {"rows", clean, 0}, {"email", mail, 400}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.b)))
			dst := make([]Span, 0, 1000)
			for b.Loop() {
				if dst = m.Find(dst[:0], c.b); len(dst) != c.hits {
					b.Fatalf("%d hits", len(dst))
				}
			}
		})
	}
}

// BenchmarkAppend masks field by field, as a protocol does.
func BenchmarkAppend(b *testing.B) {
	_, values := rowsOf(400, emailRow)
	size := 0
	for _, v := range values {
		size += len(v)
	}
	for _, way := range []Way{Redact, Partial, Hash, Format} {
		b.Run(way.String(), func(b *testing.B) {
			m := ofAll(b, way)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			dst := make([]byte, 0, 2*size)
			for b.Loop() {
				dst = dst[:0]
				hits := 0
				for _, v := range values {
					var n int
					dst, n = m.Append(dst, v)
					hits += n
				}
				if hits != 400 {
					b.Fatalf("%d hits", hits)
				}
			}
		})
	}
}

func BenchmarkValue(b *testing.B) {
	key := [32]byte{1}
	v := []byte("user17@example.com")
	for _, way := range []Way{Redact, Partial, Hash, Format} {
		b.Run(way.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(v)))
			dst := make([]byte, 0, 100)
			for b.Loop() {
				dst = Value(dst[:0], v, way, "email", &key)
			}
		})
	}
}

// naive is what one would write first: a regular expression for each of the
// commonest kinds.
var naive = []*regexp.Regexp{
	regexp.MustCompile(`[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}`),
	regexp.MustCompile(`\b(?:\d[ -]?){13,19}\b`),
	regexp.MustCompile(`\b\d{3}-\d{2}-\d{4}\b`),
	regexp.MustCompile(`\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b`),
	regexp.MustCompile(`\+?\d{1,3}[ .-]?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}`),
	regexp.MustCompile(`\b(?:\d{1,3}\.){3}\d{1,3}\b`),
	regexp.MustCompile(`\beyJ[\w-]+\.[\w-]+\.[\w-]*`),
	regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY`),
	regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`),
	regexp.MustCompile(`\b(?:gh[pousr]_|glpat-|sk_live_|xox[bp]-|npm_|hf_)[\w-]{16,}`),
	regexp.MustCompile(`://[^:/\s]+:([^@/\s]+)@`),
}

func BenchmarkRegexps(b *testing.B) {
	text := make([]byte, 0, 64<<10)
	for len(text) < 64<<10 {
		text = append(text, prose...)
	}
	mail, _ := rowsOf(400, emailRow)
	for _, c := range []struct {
		name string
		b    []byte
	}{{"prose", text}, {"email", mail}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.b)))
			for b.Loop() {
				for _, re := range naive {
					re.FindAllIndex(c.b, -1)
				}
			}
		})
	}
}
