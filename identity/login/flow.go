package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// browserTimeout is how long a person has to log in.
const browserTimeout = 10 * time.Minute

// Browser logs in by the authorization code flow with PKCE: it listens on
// loopback, shows the issuer's page, and takes the code that comes back.
func (c *Client) Browser(ctx context.Context) (*Login, error) {
	ctx, cancel := context.WithTimeout(ctx, browserTimeout)
	defer cancel()
	ctx, e, err := c.discover(ctx)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("log in: listen for the browser: %w; use --device", err)
	}
	e.config.RedirectURL = "http://" + listener.Addr().String() + "/callback"
	back := &callback{endpoints: e, ctx: ctx, attempt: newAttempt(), done: make(chan outcome, 1)}
	server := &http.Server{Handler: back, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go server.Serve(listener) // returns when the server is shut down below
	defer server.Close()

	page := e.page(&back.attempt)
	fmt.Fprintf(c.Out, "Log in with your browser. If it doesn't open, go to:\n\n  %s\n\n", page)
	open := c.Open
	if open == nil {
		open = openBrowser
	}
	if err := open(page); err != nil {
		fmt.Fprintf(c.Out, "(no browser opened: %v)\n", err)
	}
	select {
	case o := <-back.done:
		// Let the page that says so reach the browser.
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		server.Shutdown(flush)
		return o.login, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("log in: nobody did in the browser: %w; on a machine without one use --device", ctx.Err())
	}
}

type outcome struct {
	login *Login
	err   error
}

// callback takes the browser's return. Anything that does not carry the state
// of this login is turned away and changes nothing.
type callback struct {
	*endpoints
	ctx     context.Context // of the login: the browser may hang up
	attempt Attempt
	done    chan outcome // of one
}

// ServeHTTP answers GET /callback.
func (b *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if r.URL.Path != "/callback" || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	if !b.attempt.is(query) {
		http.Error(w, "This is not the login that custos waits for. Close this page and run custos login again.", http.StatusBadRequest)
		return
	}
	var o outcome
	o.login, o.err = b.finish(b.ctx, &b.attempt, query)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if o.err != nil {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintln(w, "Not logged in. The command line says why.")
	} else {
		fmt.Fprintln(w, "Logged in. You can close this page.")
	}
	select {
	case b.done <- o:
	default: // an earlier request was first
	}
}

// Device logs in by the device flow: the person enters a code in a browser on
// any machine.
func (c *Client) Device(ctx context.Context) (*Login, error) {
	ctx, e, err := c.discover(ctx)
	if err != nil {
		return nil, err
	}
	if e.config.Endpoint.DeviceAuthURL == "" {
		return nil, fmt.Errorf("log in: %s has no device flow; log in with a browser instead, or pass --token-file", c.Issuer)
	}
	code, err := e.config.DeviceAuth(ctx, e.audienceOption())
	if err != nil {
		return nil, fmt.Errorf("log in: ask for a device code: %w", describe(err))
	}
	fmt.Fprintf(c.Out, "Go to %s and enter the code %s\n", printable(code.VerificationURI), printable(code.UserCode))
	if code.VerificationURIComplete != "" {
		fmt.Fprintf(c.Out, "or go to %s\n", printable(code.VerificationURIComplete))
	}
	t, err := e.config.DeviceAccessToken(ctx, code)
	if err != nil {
		return nil, fmt.Errorf("log in: wait for the device code: %w", describe(err))
	}
	return e.login(t)
}

// openBrowser shows a URL with the desktop's opener. The URL was checked to be
// http or https, so it is neither an option nor another program's scheme.
func openBrowser(url string) error {
	name := "xdg-open"
	if runtime.GOOS == "darwin" {
		name = "open"
	}
	cmd := exec.Command(name, url)
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // it may stay for as long as the browser does
	return nil
}

// unverified reads the audiences and the end of one's own token.
func unverified(token string) (audiences []string, expires time.Time, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, expires, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, expires, false
	}
	var claims struct {
		Audience any     `json:"aud"`
		Expires  float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return nil, expires, false
	}
	switch aud := claims.Audience.(type) {
	case string:
		audiences = []string{aud}
	case []any:
		for _, a := range aud {
			if s, isString := a.(string); isString {
				audiences = append(audiences, s)
			}
		}
	}
	return audiences, time.Unix(int64(claims.Expires), 0).UTC(), true
}
