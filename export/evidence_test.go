package export_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/export/exporttest"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
)

// bundleOf exports sessions as a bundle and unpacks it.
func bundleOf(t *testing.T, h *exporttest.House, sealed bool, sessions ...*exporttest.Session) (file, dir string) {
	t.Helper()
	s := export.Selection{By: "https://id.test|u-ana", Sealed: sealed}
	for _, one := range sessions {
		s.Sessions = append(s.Sessions, one.ID)
	}
	s.From = sessions[0].Opened
	v := export.Evidence{Ledger: h.Ledger, Recordings: h.Recordings, Tiles: os.DirFS(filepath.Join(h.Dir, "ledger")),
		PublicKey: h.PublicKey, TempDir: t.TempDir(), Now: h.Now}
	var b bytes.Buffer
	if err := v.Write(t.Context(), &b, s); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(v.TempDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file = filepath.Join(t.TempDir(), "evidence.tar.gz")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, unpack(t, b.Bytes())
}

func unpack(t *testing.T, bundle []byte) string {
	t.Helper()
	dir := t.TempDir()
	z, err := gzip.NewReader(bytes.NewReader(bundle))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, head.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func verifyBundle(t *testing.T, h *exporttest.House, path string) *export.BundleReport {
	t.Helper()
	r, err := export.VerifyBundle(path, trust(t, h))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// exhibit is a house with two configurations, a session with everything in
// it, and others around it.
func exhibit(t *testing.T) (h *exporttest.House, main *exporttest.Session, answered uint64) {
	h = exporttest.New(t)
	h.Config("first: true\n")
	h.Config("in: force\n")
	other := h.Session(exporttest.Bob)
	main = h.Session(exporttest.Skill)
	main.Run("SELECT 1", "small answer")
	other.Run("SELECT secret", "not of this session")
	answered = main.Run("SELECT large", exporttest.Large())
	main.Submit("DROP TABLE "+"<script>alert(1)</script>", custos.Refuse)
	lost := main.Submit("COPY t FROM STDIN", custos.Allow)
	main.Input(lost, "1\tone\n")
	h.Config("later: true\n")
	main.Close()
	other.Close()
	return h, main, answered
}

func TestEvidenceProvesASession(t *testing.T) {
	h, s, answered := exhibit(t)
	file, dir := bundleOf(t, h, false, s)
	for _, path := range []string{file, dir} {
		r := verifyBundle(t, h, path)
		if !r.OK || len(r.Sessions) != 1 || r.MadeBy != "https://id.test|u-ana" {
			t.Fatalf("%s: %+v", path, r)
		}
		got := r.Sessions[0]
		if !got.Complete || !got.Readable || got.Operations != 4 || len(got.Unsettled) != 1 || got.Recordings != 1 || got.ID != s.ID {
			t.Errorf("%s: %+v", path, got)
		}
	}
	// Whoever has the bundle can read the answer.
	raw, err := os.ReadFile(filepath.Join(dir, "keys", string(s.ID)+".key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := recording.OpenWithKey(filepath.Join(dir, "recordings"), s.ID, raw)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := key.OpenAnswer(answered)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	size := 0
	for record, err := range recording.Records(answer) {
		if err != nil {
			t.Fatal(err)
		}
		size += len(record.Bytes)
	}
	if size != len(exporttest.Large()) {
		t.Errorf("the answer has %d bytes", size)
	}
	// It holds nothing of other sessions, the configuration in force, and
	// the page shows statements as text.
	entries, err := os.ReadFile(filepath.Join(dir, "entries.jsonl"))
	if err != nil || strings.Contains(string(entries), exporttest.Bob.Subject) {
		t.Errorf("another session is in the bundle (%v)", err)
	}
	if configs := globbed(t, dir, "config/*"); len(configs) != 2 {
		t.Errorf("configurations: %v", configs)
	}
	page, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || strings.Contains(string(page), "<script") || !strings.Contains(string(page), "DROP TABLE &lt;script&gt;") {
		t.Errorf("the page: %v", err)
	}
	// The export is on record, for the session and as a whole.
	views := 0
	for _, e := range entriesOf(t, h, 0) {
		if e.Kind == custos.EntryViewed && e.Note.By == "https://id.test|u-ana" && (e.Session == s.ID || e.Session == "") {
			views++
		}
	}
	if views != 2 {
		t.Errorf("%d entries say that it was exported", views)
	}
}

func globbed(t *testing.T, dir, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestSealedEvidenceHoldsNoKeyAndNoText(t *testing.T) {
	h, s, _ := exhibit(t)
	_, dir := bundleOf(t, h, true, s)
	if r := verifyBundle(t, h, dir); !r.OK || r.Sessions[0].Readable || !r.Sessions[0].Complete {
		t.Errorf("%+v", r)
	}
	if keys := globbed(t, dir, "keys/*"); len(keys) > 0 {
		t.Errorf("keys: %v", keys)
	}
	if page, err := os.ReadFile(filepath.Join(dir, "index.html")); err != nil || strings.Contains(string(page), "SELECT") {
		t.Errorf("the page shows what is sealed (%v)", err)
	}
}

func TestEvidenceOfAnErasedSession(t *testing.T) {
	h, s, _ := exhibit(t)
	if err := h.Recordings.Erase(s.ID); err != nil {
		t.Fatal(err)
	}
	h.Keep(&custos.Entry{Kind: custos.EntryErased, Session: s.ID, Note: &custos.Note{By: "https://id|root", Text: "asked to"}}, nil)
	_, dir := bundleOf(t, h, false, s)
	if r := verifyBundle(t, h, dir); !r.OK || r.Sessions[0].Erased == nil || r.Sessions[0].Erased.By != "https://id|root" || r.Sessions[0].Erased.Reason != "asked to" || r.Sessions[0].Readable {
		t.Errorf("%+v", r)
	}
}

// Each bit that is flipped anywhere in any file of a bundle is found; so is
// each file that is missing, added, swapped or cut.
func TestEvidenceRefusesEveryChange(t *testing.T) {
	h, s, _ := exhibit(t)
	_, dir := bundleOf(t, h, false, s)
	var files []string
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}); err != nil || len(files) < 13 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	refused := func(what, file string) {
		t.Helper()
		r, err := export.VerifyBundle(dir, trust(t, h))
		if err == nil && r.OK {
			name, _ := filepath.Rel(dir, file)
			t.Errorf("%s of %s was not found", what, name)
		}
	}
	for _, file := range files {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		put := func(b []byte) {
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		step := max(1, len(good)/60)
		if len(good) < 1500 {
			step = max(1, len(good)/300) // the small ones are those with the signatures
		}
		for at := 0; at < len(good); at += step {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			put(bad)
			refused("a flipped bit", file)
		}
		put(good[:len(good)-1])
		refused("a cut", file)
		put(append(bytes.Clone(good), '\n'))
		refused("an added byte", file)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		refused("the absence", file)
		put(good)
	}
	if err := os.WriteFile(filepath.Join(dir, "added"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("the addition", filepath.Join(dir, "added"))
	os.Remove(filepath.Join(dir, "added"))
	if r := verifyBundle(t, h, dir); !r.OK {
		t.Errorf("put back as it was: %+v", r.Damage)
	}
}

// Another ledger's key proves nothing, and an entry left out is missed.
func TestEvidenceNeedsItsOwnKeyAndAllOfItsEntries(t *testing.T) {
	h, s, _ := exhibit(t)
	file, dir := bundleOf(t, h, false, s)
	if r := verifyBundle(t, exporttest.New(t), file); r.OK {
		t.Error("another ledger's key was taken")
	}
	// The manifest of a bundle with another's seal.
	_, otherDir := bundleOf(t, h, false, s)
	for _, name := range []string{"manifest.entry.json", "manifest.checkpoint", "consistency.json"} {
		b, err := os.ReadFile(filepath.Join(otherDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := verifyBundle(t, h, dir); r.OK || !slices.ContainsFunc(r.Damage, func(d ledger.Damage) bool {
		return d.File == "manifest.entry.json"
	}) {
		t.Errorf("another export's seal: %+v", r.Damage)
	}
}

// Over the edges of tiles, with entries before, between and after.
func TestEvidenceFromALongLedger(t *testing.T) {
	h := exporttest.New(t)
	fill := func(n int) {
		for range n {
			if _, err := h.Ledger.Append((&custos.Entry{Kind: custos.EntryHeartbeat, At: h.Now()}).AppendJSON(nil), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(250)
	s := h.Session(exporttest.Ana)
	s.Run("SELECT 1", "one")
	fill(300)
	s.Run("SELECT 2", "two")
	fill(66000)
	s.Close()
	fill(77)
	file, _ := bundleOf(t, h, false, s)
	if r := verifyBundle(t, h, file); !r.OK || r.Entries != 6 || !r.Sessions[0].Complete {
		t.Errorf("%+v", r)
	}
}
