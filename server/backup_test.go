package server

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/ledger/witness"
)

// A backup that is made while sessions come and go, and are erased, is one
// state: it verifies, and a gateway starts from it.
func TestBackupUnderLoad(t *testing.T) {
	s := newSite(t)
	server, stop := s.serve()
	s.said(server, "select 1") // an erasure needs one that ended
	work, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			for work.Err() == nil {
				ana, _ := s.call(server, "ana")
				for range 20 {
					ana.say("select " + strings.Repeat("x", 1000))
				}
				ana.Close()
			}
		})
	}
	callers.Go(func() {
		for work.Err() == nil {
			server.keeper.expire(work, "orders", time.Now(), custos.Note{By: "https://id|root", Text: "asked to"})
		}
	})
	to := filepath.Join(t.TempDir(), "backup")
	for i := range 4 {
		if _, err := export.Backup(s.data(), to); err != nil {
			t.Fatal(err)
		}
		r := s.verify(to)
		if !r.OK {
			t.Errorf("backup %d: %+v", i, r.Damage)
		}
		t.Logf("backup %d: %d entries, %d erased", i, r.Entries, len(r.Erased))
	}
	cancel()
	callers.Wait()
	stop()
	s.restore(to)
	again, stop := s.serve()
	if again.house.ledger.Size() < 100 {
		t.Errorf("the restored ledger has %d entries", again.house.ledger.Size())
	}
	s.said(again, "select 2")
	stop()
	s.verified()
}

// restore puts a backup in the place of the data folder.
func (s *site) restore(backup string) {
	s.t.Helper()
	old := s.data() + "-lost"
	if err := os.Rename(s.data(), old); err != nil {
		s.t.Fatal(err)
	}
	for from, to := range map[string]string{backup: s.data(), filepath.Join(old, "keys"): filepath.Join(s.data(), "keys")} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.Chmod(s.data(), 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, name := range []string{"ledger.key", "recording.key"} {
		if err := os.Chmod(filepath.Join(s.data(), "keys", name), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// An older state that is restored is found out by the witness, which nobody
// restored.
func TestWitnessFindsAnOlderState(t *testing.T) {
	var handler atomic.Pointer[witness.Witness]
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := handler.Load(); h != nil {
			h.ServeHTTP(w, r)
		} else {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	}))
	defer host.Close()
	s := newSite(t)
	s.configure("dba", "ledger: {origin: custos.test/ledger}\n")
	server, stop := s.serve()
	public, err := note.NewVerifier(strings.TrimSpace(server.house.publicKey))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	w, err := witness.New(witness.Options{Name: "witness.test", Key: ed25519.NewKeyFromSeed([]byte{31: 7}), Logs: []note.Verifier{public},
		StateFile: filepath.Join(t.TempDir(), "state.json")})
	if err != nil {
		t.Fatal(err)
	}
	handler.Store(w)
	s.configure("dba", "ledger: {origin: custos.test/ledger, witnesses: [{url: \""+host.URL+"\", key: \""+w.VerifierKey()+"\"}]}\n")
	server, stop = s.serve()
	s.said(server, "select 1")
	to := filepath.Join(t.TempDir(), "backup")
	if _, err := export.Backup(s.data(), to); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s.said(server, "select 2")
	}
	size := server.house.ledger.Size()
	witnessed(t, server, func(w ledger.WitnessState) bool { return w.Size >= size && w.Problem == "" })
	stop()
	s.restore(to)
	server, _ = s.serve()
	witnessed(t, server, func(w ledger.WitnessState) bool { return strings.Contains(w.Problem, "rolled back") })
}

// witnessed waits until the only witness is in a state.
func witnessed(t *testing.T, server *Server, want func(ledger.WitnessState) bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	late := time.After(20 * time.Second)
	for {
		if w := server.house.ledger.Health().Witnesses[0]; want(w) {
			return
		}
		select {
		case <-look.C:
		case <-late:
			t.Fatalf("the witness is in state %+v", server.house.ledger.Health().Witnesses[0])
		}
	}
}
