// Package gittest runs a real git server for tests and the demonstration: git-http-backend behind
// Go's CGI, on loopback.
package gittest

import (
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Server is a git server with a folder of bare repositories, for one user.
type Server struct {
	// URL is where it serves, Dir where its repositories lie.
	URL, Dir           string
	Username, Password string
	// Before, if not nil, sees each request that was let in; false: it was
	// answered.
	Before func(http.ResponseWriter, *http.Request) bool

	http *http.Server
}

// Start starts a server, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Open starts a server with its repositories in a folder.
func Open(dir string) (*Server, error) {
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("start git server: %w; install Debian's git", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start git server: %w", err)
	}
	s := &Server{URL: "http://" + l.Addr().String(), Dir: dir, Username: "gateway", Password: "hunter2-of-the-gateway"}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Dir: s.Dir,
		Stderr: io.Discard,
		Env:    []string{"GIT_PROJECT_ROOT=" + s.Dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + s.Username, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=" + s.Dir},
	}
	s.http = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != s.Username || subtle.ConstantTimeCompare([]byte(password), []byte(s.Password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if s.Before == nil || s.Before(w, r) {
			backend.ServeHTTP(w, r)
		}
	})}
	go s.http.Serve(l)
	return s, nil
}

// Close ends the server.
func (s *Server) Close() { s.http.Close() }

// Repository makes an empty bare repository, with settings as key=value, and
// returns its folder.
func (s *Server) Repository(t testing.TB, name string, settings ...string) string {
	t.Helper()
	dir := filepath.Join(s.Dir, name)
	Git(t, s.Dir, "init", "-q", "--bare", "-b", "main", dir)
	Git(t, dir, "config", "http.receivepack", "true")
	for _, v := range settings {
		key, value, _ := strings.Cut(v, "=")
		Git(t, dir, "config", key, value)
	}
	return dir
}

// Env is an environment in which git has no settings of the machine's, and
// commits as a user of example.com.
func Env(home, user string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_") })
	return append(env, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME="+home, "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME="+user, "GIT_AUTHOR_EMAIL="+user+"@example.com", "GIT_COMMITTER_NAME="+user, "GIT_COMMITTER_EMAIL="+user+"@example.com")
}

// Git runs git in a folder as ana, and returns what it says.
func Git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := Try(t, dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSuffix(out, "\n")
}

// Try is Git for what may fail.
func Try(t testing.TB, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = Env(t.TempDir(), "ana")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
