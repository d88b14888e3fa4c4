package http

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
)

// Whatever is asked: nothing panics, what reads is not taken for more than it is
// by the words it is put in, and what is judged twice is judged the same.
func FuzzRequest(f *testing.F) {
	for _, s := range [][5]string{
		{"GET", "/v1/orders/5", "a=b", "", ""}, {"POST", "/graphql", "", "application/json", `{"query":"{ a }"}`}, {"DELETE", "/x/%2e%2e", "", "", ""},
		{"POST", "/_bulk", "", "application/x-ndjson", "{\"delete\":{}}\n"}, {"POST", "/x", "", "application/x-www-form-urlencoded", "Action=DeleteUser"},
		{"POST", "/rpc", "", "application/json", `[{"jsonrpc":"2.0","method":"a.b"}]`}, {"POST", "/x", "", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--"},
	} {
		f.Add(s[0], s[1], s[2], s[3], s[4])
	}
	f.Fuzz(func(t *testing.T, method, path, query, media, body string) {
		h := http.Header{}
		if media != "" {
			h.Set("Content-Type", media)
		}
		q, err := take(method, "api.internal", path, query, h, []byte(body), int64(len(body)), false)
		if err != nil {
			if asRefused(err) == nil {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		op := q.operation()
		if len(op.Facts.Effects) == 0 {
			t.Errorf("%s %s does nothing", method, path)
		}
		for _, s := range q.address.segments {
			if s == ".." || s == "." {
				t.Errorf("%s leads out", path)
			}
		}
		if !op.Writes && method == "DELETE" {
			t.Errorf("DELETE %s changes nothing", path)
		}
		again, err := take(method, "api.internal", path, query, h, []byte(body), int64(len(body)), false)
		if err != nil || !reflect.DeepEqual(again.operation(), op) {
			t.Errorf("%s %s is judged otherwise the second time: %v", method, path, err)
		}
	})
}

// However an answer is cut: what comes out is the same, is JSON where JSON went
// in, and has nothing of what is hidden.
func FuzzVeil(f *testing.F) {
	f.Add([]byte(`{"a":["bob@example.com",1,null],"phone":{"x":"four"}}`), 3)
	f.Add([]byte("{\"phone\":1}\n{}"), 1)
	f.Add([]byte("data: {\"phone\":\"x\"}\n\n"), 5)
	f.Add([]byte("id,phone\n1,\"a\nb\"\n"), 2)
	masks := []custos.Mask{{Detect: []string{"email"}, With: "redact"}, {Columns: []string{"phone"}, With: "redact"}}
	q, err := take("GET", "", "/v1/x", "", http.Header{}, nil, 0, false)
	if err != nil {
		f.Fatal(err)
	}
	var key [32]byte
	p, err := newPlan(q, masks, &key)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		for _, media := range []string{"application/json", "text/csv", "text/event-stream", "application/x-www-form-urlencoded"} {
			whole, err := veiled(t, p, media, b, len(b))
			parts, err2 := veiled(t, p, media, b, max(1, cut))
			if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(whole, parts) {
				t.Errorf("%s: whole %q %v, in parts %q %v", media, whole, err, parts, err2)
			}
			if media != "application/json" || err != nil || !json.Valid(b) {
				continue
			}
			if !json.Valid(whole) {
				t.Errorf("%q became %q", b, whole)
			}
			var v any
			if json.Unmarshal(whole, &v) == nil && shows(v, false) {
				t.Errorf("%q shows what is hidden", whole)
			}
		}
	})
}

func veiled(t *testing.T, p *plan, media string, b []byte, cut int) ([]byte, error) {
	v, err := p.veilFor(media)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for len(b) > 0 {
		n := min(cut, len(b))
		if out, err = v.Append(out, b[:n]); err != nil {
			return nil, err
		}
		b = b[n:]
	}
	return v.End(out)
}

// shows reports whether a value stands under a name that is hidden.
func shows(v any, hidden bool) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if shows(inner, hidden || strings.ToLower(name) == "phone") {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if shows(inner, hidden) {
				return true
			}
		}
	case nil:
	default:
		return hidden && v != "***MASKED***"
	}
	return false
}
