package http

import (
	"io"
	"net/http"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
)

// BenchmarkExchange is a small request and its answer, recorded durably, of
// several clients at once.
func BenchmarkExchange(b *testing.B) {
	body := `{"id":7,"state":"open","lines":[` + strings.Repeat(`{"sku":"a-17","count":3,"cents":1999,"note":"as ordered"},`, 17) + `{"sku":"z"}]}`
	h := build(b, custos.Auth{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body)
	})
	h.Tap.Discard()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, err := http.NewRequestWithContext(b.Context(), "GET", h.url+"/v1/invoices/7", nil)
			if err != nil {
				b.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer "+gatetest.Token)
			resp, err := client.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(got) != body {
				b.Error(resp.Status, len(got), err)
				return
			}
		}
	})
}

// BenchmarkVeil hides in JSON as it streams.
func BenchmarkVeil(b *testing.B) {
	q, err := take("GET", "", "/v1/customers", "", http.Header{}, nil, 0, false)
	if err != nil {
		b.Fatal(err)
	}
	answer := []byte("[" + strings.Repeat(`{"id":17,"name":"Goran Evans","email":"goran.evans1@example.com","note":"as it was agreed upon","at":"2026-11-24T10:00:00Z"},`, 500) + "{}]")
	var key [32]byte
	for name, masks := range map[string][]custos.Mask{
		"fields": {{Columns: []string{"*.customers.email"}, With: "partial"}},
		"kinds":  {{Detect: []string{"all"}, With: "redact"}},
	} {
		p, err := newPlan(q, masks, &key)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(answer)))
			var out []byte
			for b.Loop() {
				v, err := p.veilFor("application/json")
				if err != nil {
					b.Fatal(err)
				}
				if out, err = v.Append(out[:0], answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
