package export_test

import (
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/export/exporttest"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/ledger/witness"
)

// An export waits until the witnesses cosigned what it proves, and a verifier
// that asks for their cosignature finds it.
func TestEvidenceCarriesCosignatures(t *testing.T) {
	var handler atomic.Pointer[witness.Witness]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := handler.Load(); h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, "not yet", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	open := func(seed byte, logs ...note.Verifier) *witness.Witness {
		key := ed25519.NewKeyFromSeed([]byte{31: seed})
		w, err := witness.New(witness.Options{Name: "witness.test", Key: key, Logs: logs, StateFile: filepath.Join(t.TempDir(), "state.json")})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	placeholder := trust(t, exporttest.New(t)).Log[0] // to learn the witness's key, which the ledger must know first
	h := exporttest.New(t, ledger.Witness{URL: server.URL, Key: open(1, placeholder).VerifierKey()})
	w := open(1, trust(t, h).Log[0])
	handler.Store(w)

	s := h.Session(exporttest.Ana)
	s.Run("SELECT 1", "one")
	s.Close()
	file, _ := bundleOf(t, h, false, s)
	for name, c := range map[string]struct {
		key string
		ok  bool
	}{"its key": {w.VerifierKey(), true}, "another's key": {open(2, placeholder).VerifierKey(), false}} {
		strict, err := ledger.ParseTrust([]string{h.PublicKey}, []string{c.key}, 1)
		if err != nil {
			t.Fatal(err)
		}
		r, err := export.VerifyBundle(file, strict)
		if err != nil || r.OK != c.ok || c.ok && (len(r.Checkpoint.Witnesses) != 1 || r.Checkpoint.Witnesses[0] != "witness.test") {
			t.Errorf("with %s: %+v, %v", name, r, err)
		}
	}
}
