package git

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	custos "github.com/custos-gateway/custos"
)

// store keeps objects as an LFS server does, at the git server's own address,
// with a credential of its own for each object.
type store struct {
	url     string
	mu      sync.Mutex
	objects map[string][]byte
}

const ticket = "Bearer ticket-of-the-store"

func (s *store) before(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	oid := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case strings.HasSuffix(r.URL.Path, "/info/lfs/objects/batch"):
		var b batch
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return false
		}
		w.Header().Set("Content-Type", lfsType)
		var objects []string
		for _, o := range b.Objects {
			objects = append(objects, fmt.Sprintf(`{"oid":%q,"size":%d,"authenticated":true,"actions":{%q:{"href":%q,"header":{"X-Ticket":%q}}}}`,
				o.OID, o.Size, b.Operation, s.url+"/store/"+o.OID, ticket))
		}
		fmt.Fprintf(w, `{"transfer":"basic","objects":[%s]}`, strings.Join(objects, ","))
	case !strings.HasPrefix(r.URL.Path, "/store/"):
		return true
	case r.Header.Get("X-Ticket") != ticket:
		http.Error(w, "no ticket", http.StatusForbidden)
	case r.Method == http.MethodPut:
		s.objects[oid], _ = io.ReadAll(r.Body)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(s.objects[oid])
	}
	return false
}

func TestLFS(t *testing.T) {
	h := newHouse(t)
	s := &store{url: h.server.URL, objects: map[string][]byte{}}
	h.server.Before = s.before
	call := func(method, path string, body []byte) (int, string) {
		t.Helper()
		r := httptest.NewRequest(method, h.url+"/org/app.git/info/lfs"+path, bytes.NewReader(body))
		r.RequestURI = ""
		r.Header.Set("Content-Type", lfsType)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	object := []byte("what is too large for git\n")
	sum := sha256.Sum256(object)
	oid := hex.EncodeToString(sum[:])
	ask := func(operation string, object []byte) (int, string) {
		sum := sha256.Sum256(object)
		return call("POST", "/objects/batch", fmt.Appendf(nil, `{"operation":%q,"transfers":["basic","tus"],"objects":[{"oid":%q,"size":%d}],"more":"x"}`, operation, hex.EncodeToString(sum[:]), len(object)))
	}
	if status, said := call("PUT", "/objects/"+oid, object); status != http.StatusForbidden || !strings.Contains(said, "no batch") {
		t.Errorf("an object that no batch named: %d %s", status, said)
	}
	status, said := ask("upload", object)
	if status != http.StatusOK || strings.Contains(said, "ticket") || strings.Contains(said, "/store/") || !strings.Contains(said, "/git/platform/org/app.git/info/lfs/objects/"+oid) {
		t.Errorf("a batch: %d %s", status, said)
	}
	if status, said := call("PUT", "/objects/"+oid, []byte("something else that long.\n")); status != http.StatusForbidden {
		t.Errorf("another object by its name: %d %s", status, said)
	}
	if status, said := call("PUT", "/objects/"+oid, object); status != http.StatusOK {
		t.Errorf("upload: %d %s", status, said)
	}
	if !bytes.Equal(s.objects[oid], object) {
		t.Errorf("the store has %q", s.objects)
	}
	ask("download", object)
	if status, said := call("GET", "/objects/"+oid, nil); status != http.StatusOK || said != string(object) {
		t.Errorf("download: %d %s", status, said)
	}
	if status, said := call("POST", "/locks", []byte(`{"path":"x"}`)); status == http.StatusOK {
		t.Errorf("locks that the server does not know: %d %s", status, said)
	}

	// A batch that is refused brings nothing, and an object is looked through
	// although its batch was let through.
	h.rules(map[string]custos.Effect{"opaque": custos.Refuse})
	if status, said := ask("upload", []byte("more")); status != http.StatusForbidden || !strings.Contains(said, "refused by rule no-opaque") {
		t.Errorf("a batch that is refused: %d %s", status, said)
	}
	h.rules(map[string]custos.Effect{"secret.added": custos.Refuse})
	key := []byte(privateKey)
	ask("upload", key)
	sum = sha256.Sum256(key)
	if status, said := call("PUT", "/objects/"+hex.EncodeToString(sum[:]), key); status != http.StatusForbidden || !strings.Contains(said, "no-secret.added") {
		t.Errorf("a key: %d %s", status, said)
	}
	if len(s.objects) != 1 {
		t.Errorf("the store has %d objects", len(s.objects))
	}
}
