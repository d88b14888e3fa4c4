package ledger_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/ledger/witness"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logKey makes a log's key as whoever runs one does.
func logKey(t testing.TB) (note.Signer, string) {
	t.Helper()
	s, vkey, err := ledger.LoadOrCreateKey(filepath.Join(t.TempDir(), "keys", "ledger.key"), "log.example/ledger")
	must(t, err)
	return s, vkey
}

type runningWitness struct {
	*witness.Witness
	url, state string
	key        ed25519.PrivateKey
}

func startWitness(t testing.TB, name, vkey, state string, key ed25519.PrivateKey) *runningWitness {
	t.Helper()
	v, err := note.NewVerifier(vkey)
	must(t, err)
	w, err := witness.New(witness.Options{Name: name, Key: key, Logs: []note.Verifier{v}, StateFile: state})
	must(t, err)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	return &runningWitness{w, server.URL, state, key}
}

func newWitness(t testing.TB, name, vkey string) *runningWitness {
	t.Helper()
	key, err := witness.LoadOrCreateKey(filepath.Join(t.TempDir(), "witness.key"))
	must(t, err)
	return startWitness(t, name, vkey, filepath.Join(t.TempDir(), "state.json"), key)
}

func openLog(t testing.TB, o ledger.Options) *ledger.Log {
	t.Helper()
	o.SegmentBytes = 64 << 10
	if o.Interval == 0 {
		o.Interval = 2 * time.Millisecond
	}
	l, err := ledger.Open(o)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func fill(t testing.TB, l *ledger.Log, n int, text string) {
	t.Helper()
	for range n {
		i, err := l.Append([]byte(`{"kind":"gateway.started","at":"`+time.Now().UTC().Format(time.RFC3339Nano)+`","note":{"text":"`+text+`"}}`), nil)
		must(t, err)
		must(t, l.Durable(i))
	}
}

// published waits until as many entries are under a published checkpoint.
func published(t testing.TB, l *ledger.Log, size uint64) []byte {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for l.Health().Published < size {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("no checkpoint was published")
		}
	}
	b, err := l.Checkpoint()
	must(t, err)
	return b
}

// Torchwood, written by others, takes what the log and its witnesses make:
// checkpoints, cosignatures, tiles and proofs.
func TestWitnessedLogAsTorchwoodSeesIt(t *testing.T) {
	signer, vkey := logKey(t)
	a, b := newWitness(t, "a.example", vkey), newWitness(t, "b.example", vkey)
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	c := newWitness(t, "c.example", vkey)
	dir := filepath.Join(t.TempDir(), "ledger")
	l := openLog(t, ledger.Options{Dir: dir, Signer: signer, Quorum: 2, Witnesses: []ledger.Witness{
		{URL: a.url, Key: a.VerifierKey()}, {URL: b.url + "/", Key: b.VerifierKey()}, {URL: down.URL, Key: c.VerifierKey()}}})
	for range 3 {
		fill(t, l, 300, "x")
		published(t, l, l.Size())
	}
	checkpoint := published(t, l, 900)
	trust, err := ledger.ParseTrust([]string{vkey}, []string{a.VerifierKey(), b.VerifierKey(), c.VerifierKey()}, 2)
	must(t, err)

	policy, err := torchwood.ParsePolicy([]byte(strings.Join([]string{"log " + vkey, "witness a " + a.VerifierKey(), "witness b " + b.VerifierKey(),
		"group both all a b", "quorum both", ""}, "\n")))
	must(t, err)
	head, _, err := torchwood.VerifyCheckpoint(checkpoint, policy)
	must(t, err)
	if head.N != 900 {
		t.Fatalf("the checkpoint covers %d entries", head.N)
	}
	fetcher, err := torchwood.NewTileFS(os.DirFS(dir))
	must(t, err)
	client, err := torchwood.NewClient(fetcher)
	must(t, err)
	var proof []byte
	read := 0
	for i, entry := range client.AllEntries(t.Context(), head.Tree, 0) {
		leaf, _, err := l.Read(uint64(i))
		must(t, err)
		if !bytes.Equal(leaf, entry) {
			t.Fatalf("entry %d is %s to torchwood, and %s to us", i, entry, leaf)
		}
		if read++; i == 700 {
			proof, err = ledger.Prove(dir, 700)
			must(t, err)
			must(t, torchwood.VerifyProof(policy, tlog.RecordHash(entry), proof))
		}
	}
	must(t, client.Err())
	if read != 900 {
		t.Fatalf("torchwood read %d entries", read)
	}
	index, _, err := ledger.CheckProof(proof, trust)
	if err != nil || index != 700 {
		t.Errorf("our own proof is of entry %d, %v", index, err)
	}
	signatures := bytes.Index(proof, []byte("\n\u2014 "))
	for i := range signatures {
		if proof[i+1] == '=' {
			continue // bits that base64 does not use
		}
		bad := bytes.Clone(proof)
		bad[i] ^= 2
		if _, _, err := ledger.CheckProof(bad, trust); err == nil {
			t.Errorf("a proof with byte %d changed is taken", i)
		}
	}
	h := l.Health()
	if h.Witnesses[0].Size != 900 || h.Witnesses[1].Problem != "" || h.Witnesses[2].Problem == "" {
		t.Errorf("health %+v", h)
	}
	must(t, l.Close())
	if r, err := ledger.Verify(ledger.VerifyOptions{Dir: dir, Trust: trust}); err != nil || !r.OK || r.Checkpoint.Cosigned < 900 {
		t.Errorf("verify: %+v, %v", r, err)
	}
	checkPython(t, dir, vkey, []string{a.VerifierKey(), b.VerifierKey(), c.VerifierKey()})
	trust.Quorum = 3
	if r, err := ledger.Verify(ledger.VerifyOptions{Dir: dir, Trust: trust}); err != nil || r.OK || r.Damage[0].File != "checkpoint" {
		t.Errorf("verify with a quorum that was not reached: %+v, %v", r, err)
	}
}

// checkPython has the other verifier judge the cosignatures of two of three
// witnesses.
func checkPython(t testing.TB, dir, vkey string, witnesses []string) {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 here")
	}
	file := func(key string) string {
		name := filepath.Join(t.TempDir(), "key.pub")
		must(t, os.WriteFile(name, []byte(key+"\n"), 0o600))
		return name
	}
	args := []string{"../docs/formats/verify.py", dir, file(vkey)}
	for _, w := range witnesses {
		args = append(args, "--witness", file(w))
	}
	for quorum, want := range map[string]int{"2": 0, "3": 5} {
		cmd := exec.Command(path, append(args, "--quorum", quorum)...)
		out, err := cmd.Output()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("verify.py with a quorum of %s exits with %d, want %d: %s, %v", quorum, code, want, out, err)
		}
	}
}

// A checkpoint that too few witnesses cosigned stays pending.
func TestNoQuorumNoPublishing(t *testing.T) {
	signer, vkey := logKey(t)
	w := newWitness(t, "a.example", vkey)
	refused := make(chan struct{}, 100)
	never := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		refused <- struct{}{}
		http.Error(rw, "no", http.StatusForbidden)
	}))
	defer never.Close()
	other := newWitness(t, "b.example", vkey)
	dir := filepath.Join(t.TempDir(), "ledger")
	l := openLog(t, ledger.Options{Dir: dir, Signer: signer, Quorum: 2, Interval: time.Hour, Witnesses: []ledger.Witness{
		{URL: w.url, Key: w.VerifierKey()}, {URL: never.URL, Key: other.VerifierKey()}}})
	fill(t, l, 10, "x")
	must(t, l.Publish())
	<-refused
	<-refused // the first checkpoint, of nothing, and the second: the log waited for both
	if _, err := l.Checkpoint(); err == nil {
		t.Error("a checkpoint with one cosignature of two was published")
	}
	must(t, l.Close())
	trust, err := ledger.ParseTrust([]string{vkey}, nil, 0)
	must(t, err)
	if r, err := ledger.Verify(ledger.VerifyOptions{Dir: dir, Trust: trust}); err != nil || !r.OK || r.Checkpoint.Size != 10 {
		t.Errorf("verify: %+v, %v", r, err)
	}
}

// A witness refuses a second history, and remembers over its own restart.
func TestWitnessRefusesForkAndRollback(t *testing.T) {
	signer, vkey := logKey(t)
	w := newWitness(t, "a.example", vkey)
	start := func(dir string) *ledger.Log {
		return openLog(t, ledger.Options{Dir: dir, Signer: signer, Quorum: 1,
			Witnesses: []ledger.Witness{{URL: w.url, Key: w.VerifierKey()}}})
	}
	dir := filepath.Join(t.TempDir(), "ledger")
	l := start(dir)
	fill(t, l, 40, "true")
	published(t, l, 40)
	must(t, l.Close())
	older := filepath.Join(t.TempDir(), "older")
	must(t, os.CopyFS(older, os.DirFS(dir)))
	l = start(dir)
	fill(t, l, 20, "true")
	published(t, l, 60)
	must(t, l.Close())

	w = startWitness(t, "a.example", vkey, w.state, w.key)
	rolledBack := start(older)
	fill(t, rolledBack, 5, "less")
	must(t, rolledBack.Publish())
	waitProblem(t, rolledBack, "rolled back")
	fill(t, rolledBack, 100, "other")
	must(t, rolledBack.Publish())
	waitProblem(t, rolledBack, "422")
	if h := rolledBack.Health(); h.Published > 40 {
		t.Errorf("a fork was published: %+v", h)
	}
}

func waitProblem(t testing.TB, l *ledger.Log, what string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		p := l.Health().Witnesses[0].Problem
		if strings.Contains(p, what) {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("the witness's problem is %q, want %q", p, what)
		}
	}
}

func TestWitnessProtocol(t *testing.T) {
	signer, vkey := logKey(t)
	w := newWitness(t, "a.example", vkey)
	dir := filepath.Join(t.TempDir(), "ledger")
	l := openLog(t, ledger.Options{Dir: dir, Signer: signer, Interval: time.Hour})
	fill(t, l, 7, "x")
	must(t, l.Publish())
	checkpoint, err := l.Checkpoint()
	must(t, err)
	otherSigner, _ := logKey(t)
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	forged, err := note.Sign(&note.Note{Text: string(text) + "\n"}, otherSigner)
	must(t, err)
	unknown := bytes.Replace(checkpoint, []byte("log.example"), []byte("nolog.example"), 1)
	for _, c := range []struct {
		name, body string
		status     int
		answer     string
	}{
		{"nothing", "", 400, ""},
		{"no size", "old x\n\n" + string(checkpoint), 400, ""},
		{"a negative size", "old -1\n\n" + string(checkpoint), 400, ""},
		{"an old size beyond", "old 8\n\n" + string(checkpoint), 400, ""},
		{"a line that is no hash", "old 0\nxx\n\n" + string(checkpoint), 400, ""},
		{"too many lines", "old 0\n" + strings.Repeat(strings.Repeat("A", 43)+"=\n", 64) + "\n" + string(checkpoint), 400, ""},
		{"too long", "old 0\n\n" + string(checkpoint) + strings.Repeat("x", 1<<20), 400, ""},
		{"an unknown log", "old 0\n\n" + string(unknown), 404, ""},
		{"another's key", "old 0\n\n" + string(forged), 403, ""},
		{"a size it does not know", "old 3\n\n" + string(checkpoint), 409, "0\n"},
		{"the first", "old 0\n\n" + string(checkpoint), 200, "\u2014 a.example "},
		{"the first again", "old 0\n\n" + string(checkpoint), 409, "7\n"},
		{"the same again", "old 7\n\n" + string(checkpoint), 200, "\u2014 a.example "},
	} {
		resp, err := http.Post(w.url+"/add-checkpoint", "text/plain", strings.NewReader(c.body))
		must(t, err)
		b, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != c.status || !strings.HasPrefix(string(b), c.answer) {
			t.Errorf("%s: %d %q, want %d %q", c.name, resp.StatusCode, b, c.status, c.answer)
		}
		if c.status == 409 && resp.Header.Get("Content-Type") != "text/x.tlog.size" {
			t.Errorf("%s: content type %q", c.name, resp.Header.Get("Content-Type"))
		}
	}
}
