// Package console is the gateway's web console: pages and scripts that are part
// of the binary. They hold nothing of anybody's: what they show, a script of
// theirs asks of the API, as whoever signed in.
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var embedded embed.FS

// Policy is what the console's pages may do (Content Security Policy Level 3;
// Trusted Types): scripts and styles are files of this origin, and no script
// can make markup of text.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// pages are the paths at which the one page stands: its script shows what the
// path says. A trailing slash stands for all below.
var pages = []string{"/{$}", "/approvals", "/approvals/{id}", "/sessions", "/sessions/{id}", "/search", "/connections", "/policies", "/ledger"}

type asset struct {
	content []byte
	kind    string // the media type
	tag     string // the entity tag (RFC 9110, section 8.8.3)
}

// New returns the console's handler.
func New() (http.Handler, error) {
	mux := http.NewServeMux()
	var index *asset
	err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		a, err := read(name)
		if err != nil {
			return err
		}
		if path.Base(name) == "index.html" {
			index = a
			return nil
		}
		mux.Handle("GET /"+strings.TrimPrefix(name, "assets/"), a)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make console: %w", err)
	}
	for _, p := range pages {
		mux.Handle("GET "+p, index)
	}
	return guarded(mux), nil
}

func read(name string) (*asset, error) {
	b, err := embedded.ReadFile(name)
	if err != nil {
		return nil, err
	}
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // whatever the machine's own table says
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	}
	sum := sha256.Sum256(b)
	return &asset{content: b, kind: kind, tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`}, nil
}

// ServeHTTP gives the asset, unless the browser has it.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache") // ask each time whether it is the same
	h.Set("Content-Type", a.kind)
	h.Set("ETag", a.tag)
	if r.Header.Get("If-None-Match") == a.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Write(a.content) // the browser may be gone: nothing is to be done about it
}

// guarded sets what holds for every answer.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", Policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Strict-Transport-Security", "max-age=31536000")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
