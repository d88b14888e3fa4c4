package export

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/store"
)

// style is the page's only style sheet. Its digest stands in the page's
// Content-Security-Policy, which allows nothing else: no script, no request.
const style = `:root{color-scheme:light dark;--line:#8884;--dim:#777;--bad:#b3261e;--good:#2e7d32;--back:#8881}
@media(prefers-color-scheme:dark){:root{--bad:#ff897d;--good:#81c784;--dim:#999}}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1rem;margin:0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
article{border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;margin:1rem 0}
header{display:flex;flex-wrap:wrap;gap:.3rem 1rem;color:var(--dim);font-size:.85rem}
pre{background:var(--back);padding:.6rem;border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere;margin:.5rem 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font:13px/1.4 ui-monospace,monospace}
th,td{border:1px solid var(--line);padding:.15rem .5rem;text-align:left;vertical-align:top;white-space:pre-wrap}
th{background:var(--back)}.null,.dim{color:var(--dim);font-style:italic}.bad{color:var(--bad)}.good{color:var(--good)}
`

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"text": shownText,
	"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000 UTC") },
	"join": func(s []string) string { return strings.Join(s, ", ") },
	"csp": func() string {
		sum := sha256.Sum256([]byte(style))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	},
}).Parse(`
{{define "head"}}<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{csp}}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{{.}}</title>
<style>` + style + `</style></head><body>
{{end}}
{{define "session"}}<h1>Session {{.ID}}</h1>
<dl><dt>caller</dt><dd>{{text .Caller}}</dd>
{{with .OnBehalfOf}}<dt>on behalf of</dt><dd>{{text .}}</dd>
{{end}}<dt>connection</dt><dd>{{text .Connection}} ({{text .Protocol}})</dd>
<dt>started</dt><dd>{{time .StartedAt}}</dd>
{{with .EndedAt}}<dt>ended</dt><dd>{{time .}}</dd>
{{end}}<dt>state</dt><dd>{{text .State}}</dd>
<dt>operations</dt><dd>{{.Operations}}</dd></dl>
{{end}}
{{define "operation"}}<article id="e{{.Entry}}"><header><h2>entry {{.Entry}}</h2><time>{{time .At}}</time>
<span>{{text .Effect}}{{with .Rule}} by {{text .}}{{end}}</span>
<span class="{{if eq .Outcome "ok"}}good{{else}}bad{{end}}">{{text .Outcome}}{{with .Code}} {{text .}}{{end}}</span>
<span>{{.Rows}} rows, {{.Bytes}} bytes{{with .Masked}}, {{.}} masked{{end}}</span>
{{with .Objects}}<span>{{text (join .)}}</span>{{end}}</header>
<pre>{{text .Text}}</pre>
{{with .Params}}<p class="dim">parameters:{{range $i, $p := .}} <code>{{text $p}}</code>{{end}}</p>
{{end}}{{end}}
{{define "columns"}}<div class="wide"><table><thead><tr>{{range .}}<th>{{text .}}</th>{{end}}</tr></thead><tbody>
{{end}}
{{define "row"}}<tr>{{range .}}{{if .}}<td>{{text .}}</td>{{else}}<td class="null">null</td>{{end}}{{end}}</tr>
{{end}}
{{define "text"}}{{text .}}{{end}}
{{define "notice"}}<p class="dim">{{text .}}</p>
{{end}}
{{define "error"}}<p class="bad">{{text .}}</p>
{{end}}
{{define "more"}}<p class="dim">{{.}} more rows are left out here; the session's JSONL export has them.</p>
{{end}}
{{define "foot"}}</body></html>
{{end}}`))

// shownText is Printable for what the pages show: strings of several types.
func shownText(v any) string {
	if s, ok := v.(*string); ok {
		return Printable(*s)
	}
	return Printable(fmt.Sprint(v))
}

// HTML renders a session as one page that stands alone: no script, no
// request, everything of the caller's and the target's escaped.
type HTML struct {
	w       io.Writer
	rows    int    // of one answer, at most
	article bool   // an operation is open
	open    string // what of it is open: "table", "text" or ""
	count   int    // its rows
	err     error
}

// NewHTML returns a Writer of HTML that shows at most rows rows of an answer;
// 0: all.
func NewHTML(w io.Writer, rows int) *HTML { return &HTML{w: w, rows: rows} }

func (h *HTML) page(name string, data any) error {
	if h.err == nil {
		h.err = pages.ExecuteTemplate(h.w, name, data)
	}
	return h.err
}

func (h *HTML) raw(s string) {
	if h.err == nil {
		_, h.err = io.WriteString(h.w, s)
	}
}

// Session writes the head.
func (h *HTML) Session(s *store.Session) error {
	h.page("head", "custos session "+string(s.ID))
	return h.page("session", s)
}

// within opens a table or a run of text, unless it is open.
func (h *HTML) within(what string, columns []string) {
	if h.open == what && columns == nil {
		return
	}
	h.endRows()
	h.open, h.count = what, 0
	if what == "text" {
		h.raw("<pre>")
	} else {
		h.page("columns", columns)
	}
}

func (h *HTML) endRows() {
	switch h.open {
	case "":
		return
	case "text":
		h.raw("</pre>\n")
	case "table":
		h.raw("</tbody></table></div>\n")
	}
	h.open = ""
	if left := h.count - h.rows; h.rows > 0 && left > 0 {
		h.page("more", left)
	}
}

func (h *HTML) endArticle() {
	h.endRows()
	if h.article {
		h.raw("</article>\n")
	}
	h.article = false
}

// Operation writes one operation's statement.
func (h *HTML) Operation(o *store.Operation) error {
	h.endArticle()
	h.article = true
	return h.page("operation", o)
}

// Event writes a piece of the answer.
func (h *HTML) Event(e *custos.Event) error {
	what := ""
	switch {
	case e.Columns != nil:
		h.within("table", e.Columns)
		return h.err
	case e.Row != nil:
		what = "table"
	case e.Text != "":
		what = "text"
	default:
		h.endRows()
		if e.Error != "" {
			return h.page("error", e.Error)
		}
		return h.page("notice", e.Notice+e.Tag)
	}
	h.within(what, nil)
	if h.count++; h.rows > 0 && h.count > h.rows {
		return h.err
	}
	if what == "text" {
		return h.page("text", e.Text)
	}
	return h.page("row", e.Row)
}

// End writes the foot.
func (h *HTML) End() error {
	h.endArticle()
	return h.page("foot", nil)
}
