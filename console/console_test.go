package console

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func ask(t *testing.T, h http.Handler, method, path string, head ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPages(t *testing.T) {
	h, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/", "/approvals", "/approvals/abc", "/sessions", "/sessions/abc", "/search?q=x", "/connections", "/policies", "/ledger"} {
		w := ask(t, h, "GET", p)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") || !strings.Contains(w.Body.String(), `src="/app.js"`) {
			t.Errorf("%s: %d %v", p, w.Code, w.Header())
		}
	}
	for _, p := range []string{"/nowhere", "/assets/app.js", "/index.html", "/../console.go", "/approvals/a/b", "/app.js/"} {
		if w := ask(t, h, "GET", p); w.Code == http.StatusOK {
			t.Errorf("%s: %d", p, w.Code)
		}
	}
	if w := ask(t, h, "POST", "/"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	w := ask(t, h, "GET", "/app.js")
	tag := w.Header().Get("ETag")
	if w.Header().Get("Content-Type") != "text/javascript; charset=utf-8" || w.Header().Get("Cache-Control") != "no-cache" || tag == "" {
		t.Errorf("%v", w.Header())
	}
	if w := ask(t, h, "GET", "/app.js", "If-None-Match", tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("one that the browser has: %d", w.Code)
	}
}

// TestHeaders: whatever is asked for, no page may be framed, run foreign
// scripts or be taken for something else.
func TestHeaders(t *testing.T) {
	h, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/", "/app.js", "/console.css", "/icon.svg", "/nowhere"} {
		head := ask(t, h, "GET", p).Header()
		for name, want := range map[string]string{"Content-Security-Policy": Policy, "X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer", "Strict-Transport-Security": "max-age=31536000"} {
			if head.Get(name) != want {
				t.Errorf("%s: %s is %q", p, name, head.Get(name))
			}
		}
	}
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(Policy, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
	if strings.Contains(Policy, "unsafe") || strings.Contains(Policy, "http") || strings.Contains(Policy, "*") {
		t.Errorf("the policy is open: %s", Policy)
	}
}

// TestAssets: what is embedded asks nobody else for anything, imports what is
// there, and makes no markup of text.
func TestAssets(t *testing.T) {
	names := map[string]bool{}
	if err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names[path.Base(name)] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	imports := regexp.MustCompile(`(?m)^import .*from "\./([^"]+)";$`)
	foreign := regexp.MustCompile(`https?://[\w.]+`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|createContextualFragment|srcdoc| on\w+="|style="|javascript:`)
	used := map[string]bool{"index.html": true}
	for name := range names {
		b, err := embedded.ReadFile("assets/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range imports.FindAllStringSubmatch(text, -1) {
			used[m[1]] = true
			if !names[m[1]] {
				t.Errorf("%s imports %s, which is not there", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`(?:href|src): "/([\w.]+\.\w+)"|(?:href|src)="/([\w.]+)"`).FindAllStringSubmatch(text, -1) {
			used[m[1]+m[2]] = true
		}
		for _, u := range foreign.FindAllString(text, -1) {
			if u != "http://www.w3.org" { // a name, which nothing is fetched from
				t.Errorf("%s names %s", name, u)
			}
		}
		if found := markup.FindString(text); found != "" {
			t.Errorf("%s has %s", name, found)
		}
	}
	for name := range names {
		if !used[name] {
			t.Errorf("%s is used by nothing", name)
		}
	}
	if len(names) < 15 {
		t.Errorf("only %d files are embedded", len(names))
	}
}
