package mask

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var key = [32]byte{1, 2, 3}

func masker(tb testing.TB, way Way, detect ...string) *Masker {
	tb.Helper()
	m, err := New(key, []Rule{{Detect: detect, With: way}})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestParseWay(t *testing.T) {
	for w := Redact; w <= Null; w++ {
		if got, err := ParseWay(w.String()); got != w || err != nil {
			t.Errorf("%s: %v, %v", w, got, err)
		}
	}
	if _, err := ParseWay("blur"); err == nil || !strings.Contains(err.Error(), "redact, partial, hash, format, null") {
		t.Errorf("%v", err)
	}
}

func TestNewErrors(t *testing.T) {
	for name, want := range map[string]string{"emial": `"email"`, "creditcard": `"credit_card"`, "ssn": `"us_ssn"`, "Secrets": `"secret"`, "codice": `"it_codice_fiscale"`, "q": "use one of all, pii"} {
		if _, err := New(key, []Rule{{Detect: []string{name}}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(key, []Rule{{Detect: []string{"email"}, With: 9}}); err == nil {
		t.Error("way 9 was taken")
	}
}

func TestKinds(t *testing.T) {
	for _, name := range Kinds() {
		if _, err := New(key, []Rule{{Detect: []string{name}}}); err != nil {
			t.Error(err)
		}
	}
	if len(Kinds()) != len(groups)+int(numKinds-email) {
		t.Errorf("%q", Kinds())
	}
}

// TestPublished goes by values that issuers and standards publish as examples.
func TestPublished(t *testing.T) {
	m := masker(t, Redact, "all")
	for text, want := range map[string]string{
		"GB29NWBK60161331926819": "iban", "DE89 3704 0044 0532 0130 00": "iban", "FR1420041010050500013M02606": "iban", "NO9386011117947": "iban",
		"MT84MALT011000012345MTLCAST001S": "iban", "gb29nwbk60161331926819": "iban", "4111111111111111": "credit_card", "378282246310005": "credit_card",
		"3782 822463 10005": "credit_card", "6011-1111-1111-1117": "credit_card", "30569309025904": "credit_card", "2223003122003222": "credit_card",
		"4222 222 222 222": "credit_card", "078-05-1120": "us_ssn", "1EG4-TE5-MK73": "us_mbi", "npi: 1234567893": "us_npi", "bsn 111222333": "nl_bsn",
		"44051401359": "pl_pesel", "86095742719": "de_steuer_id", "86 095 742 719": "de_steuer_id", "811228-9874": "se_personnummer", "198112289874": "se_personnummer",
		"529.982.247-25": "br_cpf", "11.222.333/0001-81": "br_cnpj", "sin: 046-454-286": "", "130-692-544": "ca_sin", "TFN 123 456 782": "au_tfn", "tax file number 123456782": "au_tfn",
		"255081416802538": "fr_nir", "2 55 08 14 168 025 38": "fr_nir", "MRTMTT25D09F205Z": "it_codice_fiscale", "12345678Z": "es_dni", "X1234567L": "es_nie", "11010519491231002X": "cn_resident_id",
		"AB123456C": "uk_nino", "AB 12 34 56 C": "uk_nino", "QQ123456C": "", "2001:db8:85a3:8d3:1319:8a2e:370:7348": "ipv6", "::ffff:192.0.2.128": "ipv6", "192.0.2.1": "ipv4",
		"+14155552671": "phone", "+44 (0)20 7946 0958": "phone", "(212) 555-0123": "phone", "tel: 2125550123": "phone", "0171/1234567": "phone", "\uff14\uff11\uff11\uff11 1111 1111 1111": "credit_card",
		"4111\u00a01111\u00a01111\u00a01111": "credit_card", "4111\u200b1111\u200b11111111": "credit_card", "123\u201145\u20116789": "us_ssn", "john%40example.com": "email", `a\n4111111111111111\n`: "credit_card",
		"PuTTY-User-Key-File-3: ssh-rsa\r\nEncryption: none\r\nPublic-Lines: 1\r\nAAAA\r\nPrivate-Lines: 1\r\nAAAA\r\nPrivate-MAC: 00ff\r\nrest": "private_key",
		"-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ":                                                       "private_key",
	} {
		hits := m.Find(nil, []byte(text))
		switch {
		case want == "" && len(hits) == 0:
		case len(hits) != 1:
			t.Errorf("%s: %v", text, hits)
		case hits[0].Kind.String() != want:
			t.Errorf("%s: %s", text, hits[0].Kind)
		}
	}
}

// TestNamed: a kind whose check is weak takes bare digits from a rule that
// names it, and none from a rule that names its group.
func TestNamed(t *testing.T) {
	for name, text := range map[string]string{"nl_bsn": "111222333", "ca_sin": "130692544", "au_tfn": "123456782", "us_npi": "1234567893", "in_aadhaar": "234123412346", "se_personnummer": "8112289874"} {
		if hits := masker(t, Redact, name).Find(nil, []byte(text)); len(hits) != 1 || hits[0].Kind.String() != name {
			t.Errorf("%s named: %v", name, hits)
		}
		if hits := masker(t, Redact, "all").Find(nil, []byte(text)); len(hits) != 0 {
			t.Errorf("%s in all: %v", name, hits)
		}
	}
}

func TestAppend(t *testing.T) {
	text := "john@example.com paid with 4111 1111 1111 1111, ssn 123-45-6789, token ghp_0123456789abcdefghijABCDEFGHIJ012345"
	for way, want := range map[Way]string{
		Redact:  "***MASKED*** paid with ***MASKED***, ssn ***MASKED***, token ***MASKED***",
		Partial: "j***@example.com paid with ************1111, ssn ***-**-6789, token g***",
		Null:    " paid with , ssn , token ",
	} {
		if got, n := masker(t, way, "all").Append(nil, []byte(text)); string(got) != want || n != 4 {
			t.Errorf("%s: %d, %s", way, n, got)
		}
	}
	dst := []byte("kept")
	if out, n := masker(t, Redact, "all").Append(dst, []byte("nothing")); n != 0 || &out[0] != &dst[0] || len(out) != 4 {
		t.Errorf("%q, %d", out, n)
	}
	if out, n := masker(t, Redact, "phone").Append(nil, []byte(text)); n != 0 || out != nil {
		t.Errorf("%q", out)
	}
}

func TestStrictest(t *testing.T) {
	m, err := New(key, []Rule{{[]string{"email"}, Hash}, {[]string{"pii"}, Partial}, {[]string{"credit_card"}, Redact}})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := m.Append(nil, []byte("john@example.com 4111111111111111 123-45-6789"))
	if !strings.HasPrefix(string(got), "tok_email_") || !strings.HasSuffix(string(got), " ***MASKED*** ***-**-6789") {
		t.Errorf("%s", got)
	}
}

func TestValue(t *testing.T) {
	for _, c := range []struct {
		value, column string
		way           Way
		want          string
	}{
		{"john@example.com", "", Partial, "j***@example.com"},
		{"j@example.com", "", Partial, "***@example.com"},
		{"4111-1111-1111-1111", "", Partial, "************1111"},
		{"4111111111111112", "card_number", Partial, "************1112"},
		{"4111111111111112", "note", Partial, "4***"},
		{"123-45-6789", "", Partial, "***-**-6789"},
		{"123456789", "ssn", Partial, "***-**-6789"},
		{"Wilhelmina", "name", Partial, "W***"},
		{"Ünsal", "name", Partial, "Ü***"},
		{"abc", "", Partial, "***MASKED***"},
		{"", "", Partial, "***MASKED***"},
		{"  x yz", "", Partial, "***MASKED***"},
		{"anything", "", Redact, "***MASKED***"},
		{"anything", "", Null, ""},
	} {
		if got := Value([]byte("<"), []byte(c.value), c.way, c.column, &key); string(got) != "<"+c.want {
			t.Errorf("%s %s: %s", c.way, c.value, got)
		}
	}
}

func TestHash(t *testing.T) {
	v := []byte("john@example.com")
	one := Value(nil, v, Hash, "a", &key)
	if !bytes.Equal(one, Value(nil, v, Hash, "b", &key)) {
		t.Error("one value has two tokens")
	}
	if got, _ := masker(t, Hash, "email").Append(nil, v); !bytes.Equal(got, one) {
		t.Errorf("%s found, %s whole", got, one)
	}
	if other := [32]byte{9}; bytes.Equal(one, Value(nil, v, Hash, "a", &other)) {
		t.Error("two keys give one token")
	}
	long := bytes.Repeat([]byte("x"), 5000)
	if a, b := Value(nil, long, Hash, "", &key), Value(nil, long[1:], Hash, "", &key); bytes.Equal(a, b) || len(a) != len("tok_value_")+tokenDigits {
		t.Errorf("%s, %s", a, b)
	}
}

func TestFormat(t *testing.T) {
	for _, v := range []string{"4111-1111-1111-1111", "john.Doe@example.com", "日本語 é 1", "7", "a", "Ωx"} {
		got := Value(nil, []byte(v), Format, "", &key)
		if len(got) != len(v) || string(got) == v {
			t.Errorf("%s: %s", v, got)
		}
		for i := range v {
			if is[v[i]]&(isDigit|isUpper|isLower) != is[got[i]]&(isDigit|isUpper|isLower) {
				t.Errorf("%s: %s has another shape", v, got)
			}
		}
		if again := Value(nil, []byte(v), Format, "x", &key); !bytes.Equal(got, again) {
			t.Errorf("%s: %s, then %s", v, got, again)
		}
	}
	if got := Value(nil, []byte("--"), Format, "", &key); string(got) != redacted {
		t.Errorf("%s", got)
	}
	r := labelled(3, 200)
	for _, s := range r {
		if s.kind == creditCard && validLuhn(Value(nil, []byte(s.value), Format, "", &key)) {
			t.Errorf("%s became a valid card", s.value)
		}
	}
}

func TestSentinel(t *testing.T) {
	for _, s := range []string{"***MASKED***", "x ***MASKED*** y", "tok_email_4f9c2b71d0", "'tok_us_ssn_0123456789abcdef'", "***-**-1234", "j***@example.com",
		"***@example.com", "************1111", "W***", "Ü***", "is W*** here"} {
		if !Sentinel([]byte(s)) {
			t.Errorf("%s is none", s)
		}
	}
	for _, s := range []string{"", "*", "***", "tok_", "tok_email_", "tok_email_4f9c", "tok_nothing_4f9c2b71d0", "***bold***", "2 ** 3", "/*** a comment ***/", "*********", "abc***", "token_email_4f9c2b71d0", "SELECT * FROM t"} {
		if Sentinel([]byte(s)) {
			t.Errorf("%s is one", s)
		}
	}
}

// TestHidden holds what a mask promises, for every kind and every way.
func TestHidden(t *testing.T) {
	all := masker(t, Redact, "all")
	for _, way := range []Way{Redact, Partial, Hash, Format, Null} {
		m := masker(t, way, "all")
		for _, s := range labelled(2, 40) {
			out, n := m.Append(nil, []byte(s.text))
			if n == 0 || bytes.Contains(out, []byte(s.value)) {
				t.Errorf("%s: %s shows %s", way, out, s.value)
			}
			if way == Redact || way == Hash {
				if hits := all.Find(nil, out); len(hits) > 0 {
					t.Errorf("%s: %v in %s", way, hits, out)
				}
			}
			if way < Format && !Sentinel(out) {
				t.Errorf("%s: %s holds no sentinel", way, out)
			}
			whole := Value(nil, []byte(s.value), way, "", &key)
			if bytes.Contains(whole, []byte(s.value)) || way < Format && !Sentinel(whole) {
				t.Errorf("%s: %s became %s", way, s.value, whole)
			}
		}
	}
}

func TestHiddenAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 300), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "value")
		column := rapid.SampledFrom([]string{"", "email", "card", "ssn", "phone"}).Draw(t, "column")
		for _, way := range []Way{Redact, Partial, Hash, Format} {
			got := Value(nil, v, way, column, &key)
			if len(v) > 9 && bytes.Contains(got, v) && !bytes.Contains([]byte(redacted), v) {
				t.Fatalf("%s: %q became %q", way, v, got)
			}
			if way < Format && !Sentinel(got) {
				t.Fatalf("%s: %q became %q, no sentinel", way, v, got)
			}
		}
	})
}

// framed makes a PostgreSQL DataRow, and what may follow it.
func framed(fields [][]byte) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(fields)))
	for _, f := range fields {
		if f == nil {
			body = binary.BigEndian.AppendUint32(body, 1<<32-1)
			continue
		}
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(f))), f...)
	}
	row := append(binary.BigEndian.AppendUint32([]byte{'D'}, uint32(len(body)+4)), body...)
	return append(row, "C\x00\x00\x00\x0dSELECT 1\x00"...)
}

// TestAny: what is in a field is seen through the framing, whatever the
// lengths' bytes look like.
func TestAny(t *testing.T) {
	m := masker(t, Redact, "all")
	values := labelled(4, 30)
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom(values).Draw(t, "value")
		pad := rapid.StringOfN(rapid.RuneFrom([]rune(" ,.x9Z-@:\"")), 0, 80, -1)
		field := []byte(v.text)
		if rapid.Bool().Draw(t, "padded") {
			field = append(append([]byte(pad.Draw(t, "before")), field...), pad.Draw(t, "after")...)
		}
		if rapid.IntRange(0, 3).Draw(t, "long") == 0 {
			field = append(append(field, ' '), bytes.Repeat([]byte("x"), rapid.IntRange(0, 20000).Draw(t, "more"))...)
		}
		if len(m.Find(nil, field)) == 0 {
			return
		}
		other := rapid.SampledFrom([][]byte{nil, []byte("17"), []byte("version"), {}, []byte("a-"), []byte("git")})
		if b := framed([][]byte{other.Draw(t, "first"), field, other.Draw(t, "last")}); !m.Any(b) {
			t.Fatalf("not seen in %q", b)
		}
		if b := framed([][]byte{other.Draw(t, "only"), field}); !m.Any(b) {
			t.Fatalf("not seen at the end of %q", b)
		}
	})
}

// TestAnyLengths takes every value to every length that a digit or a letter
// stands for.
func TestAnyLengths(t *testing.T) {
	m := masker(t, Redact, "all")
	for _, s := range labelled(5, 3) {
		for n := len(s.text) + 1; n < 130; n++ {
			field := []byte(s.text + " " + strings.Repeat("x", n-len(s.text)-1))
			if len(m.Find(nil, field)) > 0 && !m.Any(framed([][]byte{nil, field})) {
				t.Errorf("%d bytes: not seen: %s", n, field)
			}
		}
		if !m.Any([]byte(s.text)) {
			t.Errorf("not seen: %s", s.text)
		}
	}
}

func check(t *testing.T, m *Masker, b []byte) {
	hits := m.Find(nil, b)
	end := 0
	for _, h := range hits {
		if h.Start < end || h.End <= h.Start || h.End > len(b) || h.Kind == other || h.Kind >= numKinds {
			t.Fatalf("%v in %q", hits, b)
		}
		end = h.End
	}
	out, n := m.Append(nil, b)
	if n != len(hits) || n == 0 && out != nil {
		t.Fatalf("%d hidden of %d in %q", n, len(hits), b)
	}
	if n > 0 && !m.Any(b) {
		t.Fatalf("not seen in %q", b)
	}
	if n > 0 && len(b) < 1<<16 && !m.Any(framed([][]byte{b})) {
		t.Fatalf("not seen in a row of %q", b)
	}
}

func FuzzFind(f *testing.F) {
	for _, s := range append(labelled(6, 2), unlabelled(6, 2)...) {
		f.Add([]byte(s.text))
	}
	m := masker(f, Redact, "all")
	named := masker(f, Partial, Kinds()...)
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, m, b)
		check(t, named, b)
		Sentinel(b)
		for _, way := range []Way{Partial, Hash, Format} {
			if got := Value(nil, b, way, "card", &key); way < Format && !Sentinel(got) {
				t.Fatalf("%s: %q became %q", way, b, got)
			}
		}
	})
}

func TestAnything(t *testing.T) {
	m := masker(t, Redact, "all")
	parts := []string{"\x00", "\x00\x00\x00\x30", "\xff\xff\xff\xff", "eyJ", "-----BEGIN PRIVATE KEY-----", "-----END", "://", ":", "@", "1", "23", "4111", " ", "-", ".", "AKIA", "sk-ant-", "+", "(", ")", "é", "\u200b", "\uff11", "Z", "x", "\n", "2001:db8::", "%40", "ya29.", "Q~"}
	for _, s := range labelled(7, 2) {
		parts = append(parts, s.text)
	}
	// A length's digit may be next to one of another width.
	check(t, m, []byte("\x00\x00\x000\uff11+17;+1 302-964-9032"))
	rapid.Check(t, func(rt *rapid.T) {
		check(t, m, []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 0, 40).Draw(rt, "parts"), "")))
	})
}

// TestLinear: sixteen times the bytes take about sixteen times as long, where
// a search that began anew at every mark would take 256 times.
func TestLinear(t *testing.T) {
	m := masker(t, Redact, "all")
	took := func(b []byte) time.Duration {
		var runs []time.Duration
		for range 5 {
			start := time.Now()
			m.Find(make([]Span, 0, len(b)/4), b)
			m.Any(b)
			Sentinel(b)
			runs = append(runs, time.Since(start))
		}
		return slices.Min(runs)
	}
	units := []string{"1", "1 ", "12-", "a@", "@", ":", "::", "a:", "://a:", "://:@ ", "eyJ", "eyJ.", "-eyJ", ".eyJa", "AKIA", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY----- a",
		"-----", "sk-ant-", "sk-", "xapp-", "xoxb-", "gldt-", "SG.", "-SG.", "1Q~", "Q~1", "ecret_key", "ecretAccessKey", "sig=", "&sig=", "AccountKey=", "PuTTY-User-Key-File-", "PuTTY-User-Key-File-Private-Lines:",
		"%40", "a.", "a@b.", "tok_", "*", "***", "\u200b", "1\u200b", "1\uff11", "A1", "GB82", "+1 ", "(1)", "glpat-a.", "AIza", "-AIza", "github_pat_", "hooks.slack.com/services/", "4444 ", "4111 1111 1111 111", "ya29.", "pypi-Ag", "-pypi-Ag", "1.", "1.1.1.1."}
	for _, u := range units {
		small := []byte(strings.Repeat(u, 4000/len(u)))
		large := bytes.Repeat(small, 16)
		if ratio := float64(took(large)) / float64(took(small)); ratio > 96 {
			t.Errorf("%q: 16 times the bytes took %.0f times as long", u, ratio)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	m := masker(t, Redact, "all")
	b := []byte("john@example.com 4111 1111 1111 1111 -----BEGIN eyJ 2001:db8::1 +1 415 555 2671")
	spans, out := make([]Span, 0, 16), make([]byte, 0, 500)
	if n := testing.AllocsPerRun(100, func() {
		m.Find(spans, b)
		m.Append(out, b)
		m.Any(b)
		Value(out, b[:16], Partial, "email", &key)
		Value(out, b[:16], Hash, "email", &key)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
