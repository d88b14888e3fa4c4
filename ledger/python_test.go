package ledger

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

var update = flag.Bool("update", false, "write the vectors of docs/formats again")

const (
	vectors    = "../docs/formats/vectors"
	pythonTool = "../docs/formats/verify.py"
)

// python runs the verifier that knows nothing of this package.
func python(t testing.TB, dir, key string, more ...string) (*Report, int) {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 here")
	}
	cmd := exec.Command(path, append([]string{pythonTool, dir, key}, more...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		must(t, err)
	}
	r := new(Report)
	if err := json.Unmarshal(out, r); err != nil {
		t.Fatalf("verify.py printed %q: %v", out, err)
	}
	if r.OK != (code == 0) || !r.OK && code != 5 {
		t.Errorf("verify.py says ok %v and exits with %d", r.OK, code)
	}
	return r, code
}

func keyFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.pub")
	must(t, os.WriteFile(path, []byte(testVKey+"\n"), 0o600))
	return path
}

// The two verifiers, of which the second was written from the document, agree
// on what was done to a ledger.
func TestPythonAgrees(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	writeSample(t, dir, 125, sampleSegment)
	key := keyFile(t)
	r, _ := python(t, dir, key)
	if want := mustVerify(t, VerifyOptions{Dir: dir}); !r.OK || r.Entries != want.Entries || r.Checkpoint != want.Checkpoint {
		t.Fatalf("untouched: verify.py says %+v, want %+v", r, want)
	}
	for i, c := range tamperings(t, dir) {
		if strings.HasPrefix(c.name, "flip") && i%20 != 0 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			touched := copyDir(t, dir)
			c.do(t, touched)
			var more []string
			if c.trusted != nil {
				trusted := filepath.Join(t.TempDir(), "trusted")
				must(t, os.WriteFile(trusted, c.trusted, 0o600))
				more = []string{"--trusted", trusted}
			}
			r, _ := python(t, touched, key, more...)
			if r.OK || !c.want.named(r) {
				t.Errorf("verify.py found %+v, want %+v named", r.Damage[:min(5, len(r.Damage))], c.want)
			}
		})
	}
}

// The vectors are a small ledger that the document describes: this code makes
// the same, byte for byte, and both verifiers take it.
func TestVectors(t *testing.T) {
	fresh := filepath.Join(t.TempDir(), "ledger")
	writeVectors(t, fresh)
	kept := filepath.Join(vectors, "ledger")
	if *update {
		must(t, os.RemoveAll(vectors))
		must(t, os.MkdirAll(vectors, 0o755))
		must(t, os.CopyFS(kept, os.DirFS(fresh)))
		must(t, os.WriteFile(filepath.Join(vectors, "ledger.pub"), []byte(testVKey+"\n"), 0o644))
		proof, err := Prove(fresh, 3)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(vectors, "entry3.tlog-proof"), proof, 0o644))
	}
	want, got := filesUnder(t, kept, "."), filesUnder(t, fresh, ".")
	if len(want) != len(got) || len(want) < 5 {
		t.Fatalf("files %v, want %v; -update writes them", got, want)
	}
	for name := range want {
		a, err := os.ReadFile(filepath.Join(kept, name))
		must(t, err)
		b, err := os.ReadFile(filepath.Join(fresh, name))
		must(t, err)
		if string(a) != string(b) {
			t.Errorf("%s differs from what this code writes: the format changed", name)
		}
	}
	if r := mustVerify(t, VerifyOptions{Dir: kept}); !r.OK || r.Entries != 20 {
		t.Errorf("verify: %+v", r)
	}
	if r, _ := python(t, kept, filepath.Join(vectors, "ledger.pub")); !r.OK || r.Entries != 20 {
		t.Errorf("verify.py: %+v", r)
	}
	checkDocument(t, kept)
	proof, err := os.ReadFile(filepath.Join(vectors, "entry3.tlog-proof"))
	must(t, err)
	if i, leaf, err := CheckProof(proof, testTrust); err != nil || i != 3 || !strings.Contains(string(leaf), "operation.submitted") {
		t.Errorf("the proof is of entry %d, %s, %v", i, leaf, err)
	}
}

// checkDocument makes sure that the bytes that ledger.md shows are those of
// the vectors.
func checkDocument(t testing.TB, dir string) {
	t.Helper()
	document, err := os.ReadFile("../docs/formats/ledger.md")
	must(t, err)
	checkpoint, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	must(t, err)
	spans := readSpans(t, dir)
	o := custos.Operation{Class: "Query", Text: "select $1", Params: []custos.Param{{Type: 23, Value: []byte("1")}}}
	sealed := strings.Join(strings.Fields(fmt.Sprintf("%x", o.AppendSealed(nil))), "")
	plain := strings.ReplaceAll(string(document), " ", "")
	for _, want := range []string{string(checkpoint), testVKey, string(spans[3].frame.leaf), string(spans[4].frame.leaf)} {
		if !strings.Contains(string(document), want) {
			t.Errorf("ledger.md does not show %q", want)
		}
	}
	if !strings.Contains(plain, sealed) {
		t.Errorf("ledger.md does not show the sealed operation %s", sealed)
	}
}

func writeVectors(t testing.TB, dir string) {
	t.Helper()
	c := newClock()
	o := testOptions(dir)
	o.Now, o.SegmentBytes = func() time.Time { return testStart }, 4<<10
	l := mustOpen(t, o)
	w := &sampleWriter{t, l, c.now}
	w.add(custos.Entry{Kind: custos.EntryStarted, Note: &custos.Note{Text: "custos sample"}}, nil)
	w.add(custos.Entry{Kind: custos.EntryConfig, Note: &custos.Note{By: "ana"}}, []byte("connections: []\n"))
	w.session(0)
	w.session(1)
	must(t, l.Durable(l.Size()-1))
	w.add(custos.Entry{Kind: custos.EntryHeartbeat}, nil)
	w.add(custos.Entry{Kind: custos.EntryStopped}, nil)
	must(t, l.Close())
}

// A cited recording must be there, unless an entry says that it was erased.
func TestPythonChecksRecordings(t *testing.T) {
	dir := t.TempDir()
	c := newClock()
	o := testOptions(filepath.Join(dir, "ledger"))
	l := mustOpen(t, o)
	w := &sampleWriter{t, l, c.now}
	for n := range 2 {
		id := sampleSession(n)
		w.add(custos.Entry{Kind: custos.EntryOpened, Session: id, Opened: &custos.Opened{}}, nil)
		i := w.add(custos.Entry{Kind: custos.EntrySubmitted, Session: id, Submit: &custos.Submitted{}}, nil)
		w.add(custos.Entry{Kind: custos.EntrySettled, Session: id, Settled: &custos.Settled{Operation: i, State: custos.StateOK,
			Recording: &custos.Digest{SHA256: zerosSum(50), Bytes: 50}}}, nil)
	}
	id := string(sampleSession(0))
	path := filepath.Join(dir, "recordings", id[:2], id+".1.rec")
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, make([]byte, 50), 0o600))
	must(t, l.Publish())
	check := func(what string, want ...uint64) {
		t.Helper()
		r, _ := python(t, o.Dir, keyFile(t), "--recordings", filepath.Join(dir, "recordings"))
		var got []uint64
		for _, d := range r.Damage {
			got = append(got, d.Entry)
		}
		if len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
			t.Errorf("%s: %+v, want entries %v", what, r.Damage, want)
		}
	}
	check("one is missing", 5)
	w.add(custos.Entry{Kind: custos.EntryErased, Session: sampleSession(1)}, nil)
	must(t, l.Publish())
	check("it was erased")
	must(t, os.WriteFile(path, make([]byte, 51), 0o600))
	check("the other was altered", 2)
}
