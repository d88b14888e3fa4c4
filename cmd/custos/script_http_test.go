package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/custos-gateway/custos/internal/apitest"
)

// apis starts the HTTP server that scripts share, when the first asks for it.
func apis(t *testing.T) func() *apitest.Server {
	return sync.OnceValue(func() *apitest.Server {
		s, err := apitest.Open(t.TempDir())
		if err != nil {
			t.Error(err)
			return &apitest.Server{}
		}
		t.Cleanup(s.Close)
		return s
	})
}

// api puts a resource on a real HTTP server: `api v1/a.json '{}'`. It sets $API
// to the script's own address there and $RESOURCES to the folder behind it, and
// writes the server's key to api.key.
func (w *world) api(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: api PATH TEXT")
	}
	s := w.http()
	own := filepath.Base(ts.Getenv("WORK"))
	ts.Setenv("API", s.URL+"/"+own)
	ts.Setenv("RESOURCES", filepath.Join(s.Dir, own))
	of(ts).secrets = append(of(ts).secrets, s.Key)
	ts.Check(s.Put(own+"/"+args[0], strings.ReplaceAll(args[1], `\n`, "\n")))
	ts.Check(os.WriteFile(ts.MkAbs("api.key"), []byte(s.Key+"\n"), 0o600))
}
