package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/store"
)

const hostile = "</pre><script>alert(1)</script>\x1b]0;owned\x07\u202e'\"`{{.}}"

func hostileSession(t *testing.T, w Writer) {
	t.Helper()
	h, at := hostile, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, err := range []error{
		w.Session(&store.Session{ID: "s", Caller: h, OnBehalfOf: h, Connection: h, Protocol: h, StartedAt: at}),
		w.Operation(&store.Operation{Entry: 7, At: at, Text: h, Params: []string{h}, Objects: []string{h}, Verbs: []string{h}, Rule: h}),
		w.Event(&custos.Event{Columns: []string{h}}),
		w.Event(&custos.Event{Row: []*string{&h, nil}}),
		w.Event(&custos.Event{Row: []*string{&h, nil}}),
		w.Event(&custos.Event{Row: []*string{&h, nil}}),
		w.Event(&custos.Event{Text: h}),
		w.Event(&custos.Event{Notice: h}),
		w.Event(&custos.Event{Error: h}),
		w.Event(&custos.Event{Tag: h}),
		w.End(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestHTMLKeepsHostileDataInert(t *testing.T) {
	var b bytes.Buffer
	hostileSession(t, NewHTML(&b, 2))
	page := b.String()
	tags := map[string]bool{}
	for _, m := range regexp.MustCompile(`<[!/]?([a-zA-Z]+)`).FindAllStringSubmatch(page, -1) {
		tags[strings.ToLower(m[1])] = true
	}
	for _, tag := range []string{"doctype", "html", "head", "meta", "title", "style", "body", "h", "dl", "dt", "dd", "article", "header", "time",
		"span", "pre", "p", "code", "div", "table", "thead", "tbody", "tr", "th", "td"} {
		delete(tags, tag)
	}
	if len(tags) > 0 {
		t.Errorf("the page has tags of the data's: %v", tags)
	}
	for _, bad := range []string{"\x1b", "\x07", "\u202e"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if n := strings.Count(page, "<td>"); n != 2 {
		t.Errorf("%d cells with a value are shown, of rows at most 2", n)
	}
	for _, want := range []string{`<td class="null">null</td>`, "1 more rows are left out"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Count(page, "<pre>") != strings.Count(page, "</pre>") {
		t.Error("a <pre> is not closed")
	}
}

func TestHTMLPolicyAdmitsItsOwnStyleOnly(t *testing.T) {
	var b bytes.Buffer
	hostileSession(t, NewHTML(&b, 0))
	styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(b.String(), -1)
	if len(styles) != 1 {
		t.Fatalf("%d style sheets", len(styles))
	}
	sum := sha256.Sum256([]byte(styles[0][1]))
	policy := strings.NewReplacer("&#39;", "'", "&#43;", "+").Replace(b.String())
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	if !strings.Contains(policy, want) {
		t.Errorf("the policy is not %s", want)
	}
}

func TestCSVIsNoFormula(t *testing.T) {
	var b bytes.Buffer
	w := NewCSV(&b)
	for _, err := range []error{
		w.Session(&store.Session{ID: "s", Caller: "=1+1", Connection: "@x"}),
		w.Operation(&store.Operation{Entry: 7, Text: "+cmd|' /C calc'!A0", Params: []string{"-2"}}),
		w.Operation(&store.Operation{Entry: 8, Text: "select 1,\n\"two\""}),
		w.End(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows[2][7] != "select 1,\n\"two\"" {
		t.Errorf("rows are %q", rows)
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@") {
				t.Errorf("%q is a formula", cell)
			}
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"select 1\n\tfrom t": "select 1\n\tfrom t",
		"naïve 日本 😀":         "naïve 日本 😀",
		"\x1b[31mred":        `\x1b[31mred`,
		"a\rb\x00":           `a\x0db\x00`,
		"\u009b31m":          `\x9b31m`,
		"\xff\xfe":           `\xff\xfe`,
		"abc\u202edef":       `abc\u202edef`,
		"z\u200bero":         `z\u200bero`,
		"\U000e0041":         `\U000e0041`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) is %q, want %q", in, got, want)
		}
	}
	if got := Line("a\nb\tc"); got != `a\nb\tc` {
		t.Errorf("Line leaves %q", got)
	}
}

func TestJSONStaysTheSameJSON(t *testing.T) {
	in := "x\u009b\u202e\U000e0041\u2028é" + "\x7f"
	b, err := json.Marshal(map[string]string{"k": in})
	if err != nil {
		t.Fatal(err)
	}
	out := JSON(string(b))
	if strings.ContainsAny(out, "\u009b\u202e\U000e0041\x7f") {
		t.Errorf("%q still has what a terminal acts upon", out)
	}
	var back map[string]string
	if err := json.Unmarshal([]byte(out), &back); err != nil || back["k"] != in {
		t.Errorf("it reads back as %q, %v", back["k"], err)
	}
}
