package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/custos-gateway/custos/identity/login"
)

// attempt is what a sign-in's cookie holds. It needs no secret of the
// gateway's: whoever made one up would only tie his own browser to himself.
type attempt struct {
	login.Attempt
	Next string
}

func (a *attempt) cookie() *http.Cookie {
	b, err := json.Marshal(a)
	if err != nil {
		panic(err) // it is four strings
	}
	// The provider sends the browser back: that is a navigation that another
	// site begins, to which Lax cookies go and Strict ones do not.
	return &http.Cookie{Name: attemptCookie, Value: base64.RawURLEncoding.EncodeToString(b), Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, MaxAge: int(attemptLife.Seconds())}
}

func readAttempt(r *http.Request) (a attempt, ok bool) {
	c, err := r.Cookie(attemptCookie)
	if err != nil {
		return a, false
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	return a, err == nil && json.Unmarshal(b, &a) == nil
}

func without(name string, mode http.SameSite) *http.Cookie {
	return &http.Cookie{Name: name, Path: "/", Secure: true, HttpOnly: true, SameSite: mode, MaxAge: -1}
}

// Register puts the door's paths on a mux.
func (d *Door) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+StartPath, guarded(d.start))
	mux.HandleFunc("GET "+CallbackPath, guarded(d.back))
	mux.HandleFunc("GET "+TokenPath, guarded(d.giveToken))
	mux.HandleFunc("POST "+OutPath, guarded(d.out))
}

// guarded sets what holds for every answer.
func guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("X-Content-Type-Options", "nosniff")
		next(w, r)
	}
}

// ask lets so many at a time ask the provider something.
func (d *Door) ask(w http.ResponseWriter, r *http.Request, do func(context.Context, Provider) error) bool {
	select {
	case d.asking <- struct{}{}:
		defer func() { <-d.asking }()
	default:
		w.Header().Set("Retry-After", "5")
		show(w, http.StatusTooManyRequests, page{Title: "Not signed in", Text: "Too many people sign in at this moment.", Again: true})
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	p, err := d.o.Provider(ctx)
	if err == nil {
		err = do(ctx, p)
	}
	if err != nil {
		d.o.Logger.Warn("sign-in failed", "client", r.RemoteAddr, "cause", err)
		show(w, http.StatusForbidden, page{Title: "Not signed in", Text: err.Error(), Again: true})
		return false
	}
	return true
}

func (d *Door) start(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	next := local(query.Get("next"))
	// The cookies are one host's: who comes by another name goes on by this one,
	// once: something on the way may have put another name.
	if here := d.origin(r); here != "https://"+r.Host && !query.Has("here") {
		http.Redirect(w, r, here+StartPath+"?"+url.Values{"next": {next}, "here": {"1"}}.Encode(), http.StatusSeeOther)
		return
	}
	var to string
	a := attempt{Next: next}
	if d.ask(w, r, func(ctx context.Context, p Provider) (err error) {
		to, a.Attempt, err = p.client().Begin(ctx, d.redirect(r))
		return err
	}) {
		http.SetCookie(w, a.cookie())
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// client asks for no refresh token: a session ends with the token that began
// it.
func (p Provider) client() *login.Client {
	d := p.Discovery
	d.Scopes = nil
	for _, s := range p.Scopes {
		if s != "offline_access" {
			d.Scopes = append(d.Scopes, s)
		}
	}
	if len(d.Scopes) == 0 {
		d.Scopes = []string{"openid", "profile"}
	}
	return &login.Client{Discovery: d, Secret: p.Secret, HTTP: p.HTTP}
}

func (d *Door) back(w http.ResponseWriter, r *http.Request) {
	a, ok := readAttempt(r)
	http.SetCookie(w, without(attemptCookie, http.SameSiteLaxMode))
	if !ok {
		show(w, http.StatusBadRequest, page{Title: "Not signed in", Text: "This browser did not begin to sign in here, or did so too long ago.", Again: true})
		return
	}
	var name string
	if !d.ask(w, r, func(ctx context.Context, p Provider) error {
		l, err := p.client().Finish(ctx, d.redirect(r), a.Attempt, r.URL.Query())
		if err != nil {
			return err
		}
		caller, err := d.o.Verify(ctx, l.Bearer)
		if err != nil {
			return err
		}
		d.o.Logger.Info("signed in", "caller", caller.Issuer+"|"+caller.Subject, "client", r.RemoteAddr)
		name, err = d.admit(caller)
		return err
	}) {
		return
	}
	d.leave(r)
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: name, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	// The cookie does not go with this redirect, which goes on with what the
	// provider's site began: the page there holds nothing of anybody's, and what
	// it asks for goes with the cookie.
	http.Redirect(w, r, local(a.Next), http.StatusSeeOther)
}

func (d *Door) giveToken(w http.ResponseWriter, r *http.Request) {
	s := d.find(r)
	if s == nil || !d.ownPage(r) {
		http.Error(w, ErrNobody.Error(), http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(s.token)) // the browser may be gone: nothing is to be done about it
}

func (d *Door) out(w http.ResponseWriter, r *http.Request) {
	if _, err := d.Caller(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	d.leave(r)
	http.SetCookie(w, without(sessionCookie, http.SameSiteStrictMode))
	w.WriteHeader(http.StatusNoContent)
}

type page struct {
	Title, Text string
	Again       bool
}

// pages is what people see of a sign-in. The stylesheet is the console's.
var pages = template.Must(template.New("").Parse(strings.TrimSpace(`
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Title}} · custos</title>
<link rel="stylesheet" href="/console.css">
<body class="door">
<main>
<h1>{{.Title}}</h1>
{{with .Text}}<p role="alert">{{.}}</p>{{end}}
{{if .Again}}<p><a class="button" href="/signin">Sign in</a></p>{{end}}
</main>
</body>
</html>
`) + "\n"))

func show(w http.ResponseWriter, status int, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	pages.Execute(w, p) // fails only when the browser is gone
}
