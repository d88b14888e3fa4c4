package server

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
	"github.com/custos-gateway/custos/store"
)

// said runs one statement in a session of ana's, and returns the session once
// it is closed and indexed.
func (s *site) said(server *Server, text string) custos.SessionID {
	s.t.Helper()
	ana, greeting := s.call(server, "ana")
	if greeting != "welcome" || ana.say(text) != "done" {
		s.t.Fatal(greeting)
	}
	ana.Close()
	id := custos.SessionID(s.sessions(server, "ana")[0]["id"].(string))
	var next uint64
	for {
		size, err := server.house.ledger.Wait(s.t.Context(), next)
		if err != nil {
			s.t.Fatal(err)
		}
		closed := false
		if err := server.house.ledger.Scan(next, size, func(_ uint64, leaf, _ []byte) error {
			e, err := custos.ParseEntry(leaf)
			closed = closed || err == nil && e.Kind == custos.EntryClosed && e.Session == id
			return err
		}); err != nil {
			s.t.Fatal(err)
		}
		if next = size; closed {
			break
		}
	}
	s.caughtUp(server)
	return id
}

func (s *site) caughtUp(server *Server) {
	s.t.Helper()
	if err := server.house.index.Wait(s.t.Context(), server.house.ledger.Size()); err != nil {
		s.t.Fatal(err)
	}
}

// secrets are what must not be anywhere once a session is erased: its key, as
// it is and as it is kept, and what it said.
func (s *site) secrets(server *Server, id custos.SessionID, text string) map[string][]byte {
	s.t.Helper()
	key, err := server.house.recordings.ExportKey(id)
	if err != nil {
		s.t.Fatal(err)
	}
	wrapped, err := os.ReadFile(filepath.Join(s.data(), "recordings", string(id[:2]), string(id)+".key"))
	if err != nil {
		s.t.Fatal(err)
	}
	return map[string][]byte{"the key": key, "the wrapped key": wrapped[12:], "what was said": []byte(text)}
}

func (s *site) data() string { return filepath.Join(filepath.Dir(s.path), "data") }

// scan looks for secrets in every byte of the data folder, and returns which
// are there.
func (s *site) scan(secrets map[string][]byte) (found []string) {
	s.t.Helper()
	if err := filepath.WalkDir(s.data(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for name, secret := range secrets {
			if bytes.Contains(b, secret) {
				found = append(found, name+" in "+filepath.Base(path))
			}
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	return found
}

// unreadable checks that no sealed attachment of a session's opens any more,
// by what the data folder has, and that there are some.
func (s *site) unreadable(server *Server, id custos.SessionID) {
	s.t.Helper()
	sealed := 0
	if err := server.house.ledger.Scan(0, server.house.ledger.Size(), func(_ uint64, leaf, attachment []byte) error {
		if e, err := custos.ParseEntry(leaf); err == nil && e.Session == id && len(attachment) > 0 {
			sealed++
		}
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := server.house.recordings.Key(id); sealed == 0 || !errors.Is(err, recording.ErrErased) {
		s.t.Errorf("%d sealed attachments; %v", sealed, err)
	}
}

// verified verifies the data folder of a gateway that was stopped.
func (s *site) verified() *export.StoreReport {
	s.t.Helper()
	r := s.verify(s.data())
	if !r.OK {
		s.t.Errorf("%+v", r.Damage)
	}
	return r
}

func (s *site) verify(dir string) *export.StoreReport {
	s.t.Helper()
	key, err := os.ReadFile(filepath.Join(s.data(), "keys", "ledger.pub"))
	if err != nil {
		s.t.Fatal(err)
	}
	trust, err := ledger.ParseTrust([]string{string(key)}, nil, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := export.VerifyStore(dir, export.VerifyOptions{Trust: trust})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// sweptAfter has the keeper look through recordings as if some time had gone
// by.
func (s *site) sweptAfter(server *Server, d time.Duration) int {
	s.t.Helper()
	s.caughtUp(server)
	k := &keeper{house: server.house, rules: server.inForce, now: func() time.Time { return time.Now().Add(d) }}
	server.keeper.mu.Lock()
	k.holds = server.keeper.holds
	server.keeper.mu.Unlock()
	n, err := k.sweep(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.caughtUp(server)
	return n
}

func TestRetention(t *testing.T) {
	s := newSite(t)
	s.configure("dba", "    retention: 30d\n")
	server, stop := s.serve()
	id := s.said(server, "select 'the canary sings'")
	held := s.said(server, "select 'the canary is held'")
	secrets := s.secrets(server, id, "canary sings")
	delete(secrets, "the key") // it is nowhere in the clear
	if found := s.scan(secrets); len(found) < 2 {
		t.Fatalf("before, there is only %v", found)
	}
	const day = 24 * time.Hour
	if n := s.sweptAfter(server, 29*day); n != 0 {
		t.Errorf("%d sessions were erased before their time", n)
	}
	if err := server.keeper.Hold("https://id|root", held, "a case"); err != nil {
		t.Fatal(err)
	}
	if n := s.sweptAfter(server, 31*day); n != 1 {
		t.Errorf("%d sessions were erased", n)
	}
	secrets = map[string][]byte{"the wrapped key": secrets["the wrapped key"], "what was said": secrets["what was said"]}
	if found := s.scan(secrets); len(found) > 0 {
		t.Errorf("after the erasure there is %v", found)
	}
	s.unreadable(server, id)
	session, err := server.house.index.Session(t.Context(), id, store.Filter{})
	if err != nil || session.Erased == nil || session.Erased.Rule != "connections.orders.retention" || session.Erased.Reason != "kept for 30d" {
		t.Errorf("the index says %+v, %v", session, err)
	}
	// What is held stays until it is released.
	if err := server.keeper.Erase("https://id|root", held, "please"); !errors.Is(err, api.ErrKept) {
		t.Errorf("erase what is held: %v", err)
	}
	stop()
	server, stop = s.serve()
	if n := s.sweptAfter(server, 31*day); n != 0 {
		t.Error("after a restart, what was held was erased")
	}
	if err := server.keeper.Release("https://id|root", held, "the case is over"); err != nil {
		t.Fatal(err)
	}
	if n := s.sweptAfter(server, 31*day); n != 1 {
		t.Errorf("of what was released, %d sessions were erased", n)
	}
	stop()
	if r := s.verified(); len(r.Erased) != 2 || r.Erased[0].Session != id || r.Erased[0].Rule == "" || r.Erased[0].Reason == "" {
		t.Errorf("verifying says %+v", r.Erased)
	}
}

// What retention does not name, and what has no end yet, stays.
func TestRetentionLeaves(t *testing.T) {
	s := newSite(t)
	server, _ := s.serve()
	s.said(server, "select 1")
	if n := s.sweptAfter(server, 1<<62); n != 0 {
		t.Errorf("without retention, %d sessions were erased", n)
	}
	s.configure("dba", "    retention: 1d\n")
	server.reload()
	ana, _ := s.call(server, "ana")
	if n := s.sweptAfter(server, 1000*time.Hour); n != 1 {
		t.Errorf("of one that ended and one that is open, %d were erased", n)
	}
	if ana.say("select 2") != "done" {
		t.Error("the open session was disturbed")
	}
}

// A crash after the entry, and before the key is gone, leaves the rest to the
// next start.
func TestErasureIsFinished(t *testing.T) {
	s := newSite(t)
	server, stop := s.serve()
	id := s.said(server, "select 'the canary sings'")
	secrets := s.secrets(server, id, "canary sings")
	if err := server.house.keep(&custos.Entry{Kind: custos.EntryErased, Session: id, Note: &custos.Note{By: "https://id|root", Text: "asked to"}}, nil); err != nil {
		t.Fatal(err)
	}
	stop()
	if !bytes.Contains([]byte(strings.Join(s.scan(secrets), ",")), []byte("the wrapped key")) {
		t.Fatal("the key is gone already")
	}
	server, stop = s.serve()
	s.unreadable(server, id)
	s.caughtUp(server)
	if found := s.scan(secrets); len(found) > 0 {
		t.Errorf("after the start there is %v", found)
	}
	if !strings.Contains(s.log.String(), "an erasure was cut short") {
		t.Error("the log does not say so")
	}
	stop()
	s.verified()
}

// What cannot be put on record is not done.
func TestNothingIsErasedOffTheRecord(t *testing.T) {
	s := newSite(t)
	server, stop := s.serve()
	id := s.said(server, "select 1")
	stop() // the ledger is closed
	var err error
	if server.house.index, err = store.Open(filepath.Join(s.data(), "index.db")); err != nil {
		t.Fatal(err)
	}
	defer server.house.index.Close()
	for name, do := range map[string]func(string, custos.SessionID, string) error{"erase": server.keeper.Erase, "hold": server.keeper.Hold} {
		if err := do("https://id|root", id, "now"); err == nil || errors.Is(err, api.ErrKept) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := server.house.recordings.Key(id); err != nil || server.keeper.held[id] {
		t.Errorf("held: %v, key: %v", server.keeper.held[id], err)
	}
}
