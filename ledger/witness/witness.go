// Package witness is a server that cosigns the checkpoints of logs (C2SP
// tlog-witness), so that a log can't show one history to some and another to
// others, nor go back on one: the witness cosigns only what adds to what it
// cosigned before. It should be run by somebody else than the log.
package witness

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/custos-gateway/custos/internal/durable"
)

// Options are what a witness is made of. Name, Key, Logs and StateFile are
// required.
type Options struct {
	// Name is the witness's name, such as witness.example.org.
	Name string
	// Key is its Ed25519 key.
	Key crypto.Signer
	// Logs are the verifier keys of the logs that it cosigns.
	Logs []note.Verifier
	// StateFile is where it remembers what it cosigned. Who loses the file
	// must not go on under the same key.
	StateFile string
	Logger    *slog.Logger
	// FS is the file system; nil is the real one.
	FS durable.FS
}

// Witness is an http.Handler for POST /add-checkpoint.
type Witness struct {
	o      Options
	signer *torchwood.CosignatureSigner
	logs   note.Verifiers

	mu     sync.Mutex
	states map[string]state // by origin
}

// state is the latest that the witness cosigned of a log.
type state struct {
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
}

// Limits of one request, in bytes and lines.
const (
	maxRequest = 64 << 10
	maxProof   = 63 // C2SP tlog-witness
	maxState   = 16 << 20
)

// New returns a witness that goes on from its state file.
func New(o Options) (*Witness, error) {
	if o.FS == nil {
		o.FS = durable.OS
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Witness{o: o, logs: note.VerifierList(o.Logs...), states: map[string]state{}}
	var err error
	if w.signer, err = torchwood.NewCosignatureSigner(o.Name, o.Key); err != nil {
		return nil, fmt.Errorf("make witness: %w", err)
	}
	if len(o.Logs) == 0 {
		return nil, errors.New("make witness: there is no log to witness; give the public key of one")
	}
	b, err := durable.ReadFile(o.FS, o.StateFile, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &w.states)
	}
	if err != nil {
		return nil, fmt.Errorf("make witness: read state %s: %w; restore it, as a witness that forgot what it signed is none", o.StateFile, err)
	}
	return w, nil
}

// VerifierKey is what those who trust the witness need.
func (w *Witness) VerifierKey() string { return w.signer.Verifier().String() }

// refusal is an answer other than a cosignature.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

// conflict says that the witness knows the log at another size.
type conflict struct{ size int64 }

func (c *conflict) Error() string { return fmt.Sprintf("the log is known at size %d", c.size) }

// ServeHTTP answers add-checkpoint requests (C2SP tlog-witness).
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/add-checkpoint":
		http.Error(rw, "there is only /add-checkpoint", http.StatusNotFound)
		return
	case r.Method != http.MethodPost:
		rw.Header().Set("Allow", http.MethodPost)
		http.Error(rw, "a checkpoint is added by POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	var line []byte
	if err == nil {
		line, err = w.add(r.Context(), body)
	} else {
		err = &refusal{http.StatusBadRequest, "the request can't be read, or is too long"}
	}
	var known *conflict
	var no *refusal
	switch {
	case err == nil:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err = rw.Write(line)
	case errors.As(err, &known):
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		_, err = fmt.Fprintf(rw, "%d\n", known.size)
	case errors.As(err, &no):
		http.Error(rw, no.why, no.status)
	default:
		w.o.Logger.Error("add checkpoint", "cause", err)
		http.Error(rw, "the witness can't remember what it would sign", http.StatusInternalServerError)
		err = nil
	}
	if err != nil {
		w.o.Logger.Info("checkpoint not cosigned", "client", r.RemoteAddr, "cause", err)
	}
}

// request is a parsed add-checkpoint request.
type request struct {
	old        int64
	proof      tlog.TreeProof
	text       string // of the checkpoint, without signatures
	checkpoint torchwood.Checkpoint
}

// parse reads a request and checks the log's signature.
func (w *Witness) parse(body []byte) (*request, error) {
	bad := func(why string) (*request, error) { return nil, &refusal{http.StatusBadRequest, why} }
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return bad("the request has no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	r := new(request)
	var err error
	if r.old, err = strconv.ParseInt(size, 10, 64); !ok || err != nil || r.old < 0 || size != strconv.FormatInt(r.old, 10) {
		return bad("the first line is not: old SIZE")
	}
	if len(lines)-1 > maxProof {
		return bad("the proof has too many lines")
	}
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return bad("a line of the proof is not a hash")
		}
		r.proof = append(r.proof, h)
	}
	origin, _, _ := strings.Cut(string(signed), "\n")
	if !w.knows(origin) {
		return nil, &refusal{http.StatusNotFound, "this witness does not know the log"}
	}
	n, err := note.Open(signed, w.logs)
	if err != nil {
		return nil, &refusal{http.StatusForbidden, "the log's key did not sign the checkpoint"}
	}
	if r.checkpoint, err = torchwood.ParseCheckpoint(n.Text); err != nil {
		return bad("the note is not a checkpoint")
	}
	r.text = n.Text
	for _, sig := range n.Sigs {
		if sig.Name == r.checkpoint.Origin {
			return r, nil
		}
	}
	return nil, &refusal{http.StatusForbidden, "the key that signed the checkpoint is another log's"}
}

func (w *Witness) knows(origin string) bool {
	for _, v := range w.o.Logs {
		if v.Name() == origin {
			return true
		}
	}
	return false
}

// add cosigns a checkpoint that adds to the one cosigned before. What it
// signs it remembers, durably, before it signs: a crash in between leaves a
// witness that remembers more than it signed, and signs that again when asked.
func (w *Witness) add(ctx context.Context, body []byte) ([]byte, error) {
	r, err := w.parse(body)
	if err != nil {
		return nil, err
	}
	c := &r.checkpoint
	if r.old > c.N {
		return nil, &refusal{http.StatusBadRequest, "the old size is greater than the checkpoint's"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	known := w.states[c.Origin]
	switch {
	case known.Size != r.old:
		return nil, &conflict{known.Size}
	case r.old == 0 && len(r.proof) > 0:
		return nil, &refusal{http.StatusUnprocessableEntity, "nothing can be proven of an empty log"}
	case r.old == c.N && r.old > 0 && known.Root != c.Hash:
		w.o.Logger.Error("a log signed two histories", "log", c.Origin, "size", c.N)
		return nil, &conflict{known.Size}
	case r.old == c.N && len(r.proof) > 0:
		return nil, &refusal{http.StatusUnprocessableEntity, "a proof from a size to itself is empty"}
	case r.old > 0 && r.old < c.N:
		if err := tlog.CheckTree(r.proof, c.N, c.Hash, known.Size, known.Root); err != nil {
			w.o.Logger.Error("a log does not add to its history", "log", c.Origin, "known", known.Size, "size", c.N)
			return nil, &refusal{http.StatusUnprocessableEntity, "the proof does not show that the log was only added to"}
		}
	}
	if err := w.remember(c.Origin, state{c.N, c.Hash}); err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: r.text}, w.signer)
	if err != nil {
		return nil, err
	}
	return signed[len(r.text)+1:], nil
}

// remember writes the state. The caller holds mu.
func (w *Witness) remember(origin string, s state) error {
	if old, ok := w.states[origin]; ok && old == s {
		return nil
	}
	next := map[string]state{origin: s}
	for o, s := range w.states {
		if o != origin {
			next[o] = s
		}
	}
	b, err := json.MarshalIndent(next, "", "  ")
	if err == nil {
		err = durable.WriteFile(w.o.FS, w.o.StateFile, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember checkpoint: %w", err)
	}
	w.states = next
	return nil
}

// LoadOrCreateKey returns the witness's key at path, and makes one where
// there is none. The file holds the 32-byte seed (RFC 8032), as it is.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) {
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		seed = make([]byte, ed25519.SeedSize)
		rand.Read(seed) // never fails: crypto/rand ends the process instead
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = durable.WriteFile(durable.OS, path, seed, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load witness key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load witness key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("load witness key %s: others may read it; run chmod 600 on it, and think whether they did", path)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("load witness key %s: it has %d bytes, not %d; restore it from a backup", path, len(seed), ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
