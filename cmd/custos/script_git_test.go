package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/custos-gateway/custos/internal/gittest"
)

// upstreams starts the git server that scripts share, when the first asks for it.
func upstreams(t *testing.T) func() *gittest.Server {
	return sync.OnceValue(func() *gittest.Server { return gittest.Start(t) })
}

// upstream makes a repository at a real git server: `upstream app` sets
// $UPSTREAM to the server's address, $BARE to the repository's folder and
// $REPOSITORY to its path, and writes the gateway's password to git.password.
// Who commits is ana.
func (w *world) upstream(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: upstream NAME")
	}
	s := w.git()
	path := filepath.Join(filepath.Base(ts.Getenv("WORK")), args[0]+".git")
	bare := filepath.Join(s.Dir, path)
	for k, v := range map[string]string{
		"UPSTREAM": strings.TrimPrefix(s.URL, "http://"), "REPOSITORY": path, "BARE": bare, "GITUSER": s.Username,
		"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": ts.MkAbs("."),
		"GIT_AUTHOR_NAME": "ana", "GIT_AUTHOR_EMAIL": "ana@example.com", "GIT_COMMITTER_NAME": "ana", "GIT_COMMITTER_EMAIL": "ana@example.com",
	} {
		ts.Setenv(k, v)
	}
	ts.Check(errors.Join(
		ts.Exec("git", "init", "-q", "--bare", "-b", "main", bare), ts.Exec("git", "-C", bare, "config", "http.receivepack", "true"),
		ts.Exec("git", "-C", bare, "config", "uploadpack.allowFilter", "true"),
		os.WriteFile(ts.MkAbs("git.password"), []byte(s.Password+"\n"), 0o600)))
}
