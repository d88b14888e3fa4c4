package export

import (
	"html/template"
	"io"
	"time"

	custos "github.com/custos-gateway/custos"
)

// overview is what a bundle's index.html shows.
type overview struct {
	MadeAt   time.Time
	MadeBy   string
	Origin   string
	Size     int64
	Root     string
	Sessions []*overviewSession
}

type overviewSession struct {
	ID                           custos.SessionID
	Caller, OnBehalfOf           string
	Issuer, Subject              string
	Connection, Protocol, Client string
	Opened, Closed               time.Time
	Reason                       string
	Operations                   []*overviewOperation
	byEntry                      map[uint64]*overviewOperation
}

type overviewOperation struct {
	Entry    uint64
	At       time.Time
	Text     string
	Effect   string
	Rule     string
	State    string
	Rows     int64
	Bytes    int64
	Readable bool
}

var overviewPage = template.Must(template.Must(pages.Clone()).Parse(`
{{define "overview"}}{{template "head" "Evidence from custos"}}<h1>Evidence from custos</h1>
<p>{{len .Sessions}} sessions, exported by {{text .MadeBy}} at {{time .MadeAt}}. Believe this page only after
<code>custos evidence verify</code> said that the bundle holds; README.txt says how.</p>
<dl><dt>ledger</dt><dd>{{text .Origin}}</dd><dt>entries</dt><dd>{{.Size}}</dd><dt>root</dt><dd>{{.Root}}</dd></dl>
{{range .Sessions}}<h1 id="{{.ID}}">Session {{.ID}}</h1>
<dl><dt>caller</dt><dd>{{text .Caller}} ({{text .Subject}} of {{text .Issuer}})</dd>
{{with .OnBehalfOf}}<dt>on behalf of</dt><dd>{{text .}}</dd>
{{end}}<dt>connection</dt><dd>{{text .Connection}} ({{text .Protocol}})</dd>
<dt>client</dt><dd>{{text .Client}}</dd>
<dt>opened</dt><dd>{{time .Opened}}</dd>
<dt>closed</dt><dd>{{if .Closed.IsZero}}not yet{{else}}{{time .Closed}}: {{text .Reason}}{{end}}</dd></dl>
{{range .Operations}}<article><header><h2>entry {{.Entry}}</h2><time>{{time .At}}</time><span>{{text .Effect}}{{with .Rule}} by {{text .}}{{end}}</span>
<span class="{{if eq .State "ok"}}good{{else}}bad{{end}}">{{text .State}}</span><span>{{.Rows}} rows, {{.Bytes}} bytes</span></header>
{{if .Readable}}<pre>{{text .Text}}</pre>{{else}}<p class="dim">sealed: the key was left out, or destroyed</p>{{end}}</article>
{{end}}{{end}}{{template "foot"}}{{end}}`))

func (o *overview) write(w io.Writer) error { return overviewPage.ExecuteTemplate(w, "overview", o) }
