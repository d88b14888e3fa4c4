// Package mask measures the detectors beside gitleaks, the nearest thing off
// the shelf that Go has: it looks for credentials only, so that both do. It is
// a module of its own, to keep what gitleaks needs out of custos.
package mask

import (
	"bytes"
	"testing"

	"github.com/custos-gateway/custos/mask"
	"github.com/rs/zerolog"
	"github.com/zricethezav/gitleaks/v8/detect"
)

const (
	prose = "The gateway stands between a caller and a target, and what the caller sends is judged before it goes on. " +
		"Nothing that is held back is lost: it is kept, with the reason, where an auditor can find it, and the chain of " +
		"entries says that none was taken out since. A well-known limit is that of time - see section 4.2 of the guide.\n"
	row    = "10017\tWilhelmina van Dijk\tready for collection\t417.20\t2024-05-17 10:23:45.123456+00\tt\tuser17@example.com\n"
	secret = "17\tleft a note: gl" + "pat-Zx81KqpLm2Nv7RtYw3Bc, to be turned\n"
)

var texts = []struct {
	name string
	b    []byte
	hits int
}{
	{"prose", bytes.Repeat([]byte(prose), 200), 0},
	{"rows", bytes.Repeat([]byte(row), 600), 0},
	{"token", append(bytes.Repeat([]byte(row), 600), secret...), 1},
}

func BenchmarkCustos(b *testing.B) {
	m, err := mask.New([32]byte{1}, []mask.Rule{{Detect: []string{"secret"}}})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range texts {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.b)))
			spans := make([]mask.Span, 0, 16)
			for b.Loop() {
				if got := m.Find(spans[:0], c.b); len(got) != c.hits {
					b.Fatalf("%d hits", len(got))
				}
			}
		})
	}
}

func BenchmarkGitleaks(b *testing.B) {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	d, err := detect.NewDetectorDefaultConfig()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range texts {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.b)))
			for b.Loop() {
				if got := d.DetectBytes(c.b); len(got) != c.hits {
					b.Fatalf("%d hits", len(got))
				}
			}
		})
	}
}
