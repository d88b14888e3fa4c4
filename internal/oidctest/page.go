package oidctest

import (
	"context"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
)

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Title}}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:26rem;margin:10vh auto;padding:0 1rem}button,input{font:inherit;padding:.4rem 1rem;margin:.2rem .2rem .2rem 0}</style>
<h1>{{.Title}}</h1>
{{with .Message}}<p role="status">{{.}}</p>{{end}}
{{if .People}}
<p>This identity provider is for demonstration and tests: it runs on this machine only and asks for no password.</p>
<form method="post">
{{if .ID}}<input type="hidden" name="id" value="{{.ID}}">
{{else}}<label>Code shown by the command line <input name="user_code" value="{{.Code}}" required autocomplete="off"></label><p>{{end}}
{{range .People}}<button name="user" value="{{.}}">{{.}}</button>
{{end}}{{if not .ID}}<button name="user" value="">deny</button>{{end}}
</form>
{{end}}
</html>
`))

type pageData struct {
	Title, Message, ID, Code string
	People                   []string
}

func show(w http.ResponseWriter, status int, d pageData) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	page.Execute(w, d) // fails only when the browser is gone
}

func (p *Provider) loginPage(w http.ResponseWriter, r *http.Request) {
	show(w, http.StatusOK, pageData{Title: "Who are you?", ID: r.FormValue("id"), People: people})
}

// login lets the chosen person in and goes on with the request.
func (p *Provider) login(callback func(context.Context, string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, user := r.PostFormValue("id"), r.PostFormValue("user")
		p.mu.Lock()
		a, ok := p.requests[id]
		if ok = ok && slices.Contains(people, user); ok {
			a.subject, a.at, a.done = user, time.Now(), true
		}
		p.mu.Unlock()
		if !ok {
			show(w, http.StatusBadRequest, pageData{Title: "Not logged in", Message: "This login is unknown or over. Start it again where you came from."})
			return
		}
		http.Redirect(w, r, callback(r.Context(), id), http.StatusFound)
	}
}

func (p *Provider) devicePage(w http.ResponseWriter, r *http.Request) {
	show(w, http.StatusOK, pageData{Title: "Let a device in", Code: r.FormValue("user_code"), People: people})
}

// approveDevice lets a device in as the chosen person, or, with none, not.
func (p *Provider) approveDevice(w http.ResponseWriter, r *http.Request) {
	code, user := strings.ToUpper(strings.TrimSpace(r.PostFormValue("user_code"))), r.PostFormValue("user")
	if user != "" && !slices.Contains(people, user) {
		show(w, http.StatusBadRequest, pageData{Title: "Let a device in", Message: "Nobody has that name.", Code: code, People: people})
		return
	}
	if !p.answerDevice(code, user) {
		show(w, http.StatusBadRequest, pageData{Title: "Let a device in", Message: "No device waits with that code.", People: people})
		return
	}
	show(w, http.StatusOK, pageData{Title: "Done", Message: "Go back to the command line."})
}

func (p *Provider) answerDevice(code, user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		if d.userCode == code && !d.state.Done && !d.state.Denied && time.Now().Before(d.state.Expires) {
			d.state.Done, d.state.Denied = user != "", user == ""
			d.state.Subject, d.state.AuthTime = user, time.Now()
			return true
		}
	}
	return false
}
