package export

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
)

// BundleReport is what a bundle of evidence proves, and what is wrong with it.
type BundleReport struct {
	OK bool `json:"ok"`
	// Checkpoint is the signed tree head that everything hangs on.
	Checkpoint struct {
		Origin    string   `json:"origin"`
		Size      int64    `json:"size"`
		Root      string   `json:"root"`
		Witnesses []string `json:"witnesses,omitempty"` // whose cosignatures were checked
	} `json:"checkpoint"`
	MadeAt   time.Time       `json:"made_at"`
	MadeBy   string          `json:"made_by"`
	Entries  int             `json:"entries"`
	Sessions []BundleSession `json:"sessions"`
	Damage   []ledger.Damage `json:"damage"`
}

// BundleSession is what a bundle proves of one session.
type BundleSession struct {
	ID         custos.SessionID `json:"id"`
	Caller     string           `json:"caller"`
	Connection string           `json:"connection"`
	// Complete says that the bundle holds the session's opening, its end, and
	// as many operations as its end counts.
	Complete   bool     `json:"complete"`
	Operations int64    `json:"operations"`
	Unsettled  []uint64 `json:"unsettled,omitempty"` // allowed operations without an outcome, by entry
	Recordings int      `json:"recordings"`          // large answers, all there
	Readable   bool     `json:"readable"`            // its key is there
	// Erased is set where its key was destroyed, on record.
	Erased *Erasure `json:"erased,omitempty"`
}

// judge goes through a bundle once, in its order.
type judge struct {
	report     *BundleReport
	verifiers  note.Verifiers
	log        note.Verifier
	quorum     int
	head       map[string][]byte
	manifest   Manifest
	tree       tlog.Tree // what the checkpoint says
	listed     map[string]BundleFile
	seen       map[string]bool
	sessions   map[custos.SessionID]*suspect
	recordings map[string]custos.Digest // cited, by file name
	configs    map[string][]byte        // attachments, by file name
	last       int64                    // the last entry's index
}

// suspect is a session whose entries are being counted.
type suspect struct {
	BundleSession
	key           string
	opened        bool
	closed        *custos.Closed
	open          map[uint64]bool // allowed operations without an outcome
	all           map[uint64]bool
	cited, stored int
}

// VerifyBundle verifies a bundle of evidence, a folder or a gzipped tar, with
// public keys only. Its error says that it could not be read at all; damage is
// in the report.
func VerifyBundle(path string, trust ledger.Trust) (*BundleReport, error) {
	if len(trust.Log) != 1 {
		return nil, errors.New("verify evidence: it takes one public key of the ledger's")
	}
	log := trust.Log[0]
	files, done, err := openBundle(path)
	if err != nil {
		return nil, err
	}
	j := &judge{
		report: &BundleReport{Damage: []ledger.Damage{}, Sessions: []BundleSession{}},
		head:   map[string][]byte{}, listed: map[string]BundleFile{}, seen: map[string]bool{},
		sessions: map[custos.SessionID]*suspect{}, recordings: map[string]custos.Digest{}, configs: map[string][]byte{}, last: -1,
		log: log, quorum: trust.Quorum, verifiers: note.VerifierList(append([]note.Verifier{log}, trust.Witnesses...)...),
	}
	for name, r := range files {
		if !j.file(name, r) {
			break
		}
	}
	if err := done(); err != nil {
		j.damage(path, "it ends wrongly: %v", err)
	}
	j.finish()
	return j.report, nil
}

func (j *judge) damage(file, format string, args ...any) {
	j.report.Damage = append(j.report.Damage, ledger.Damage{File: file, What: fmt.Sprintf(format, args...)})
}

// file takes the next file. It reports whether to go on: without a proven
// head nothing after it means anything.
func (j *judge) file(name string, r io.Reader) bool {
	if j.seen[name] {
		j.damage(name, "it is there twice")
		return false
	}
	j.seen[name] = true
	if n := len(j.head); n < len(firstFiles)-1 {
		if name != firstFiles[n] {
			j.damage(firstFiles[n], "it is missing, or not in its place")
			return false
		}
		b, err := readAll(r, maxHead)
		if err != nil {
			j.damage(name, "%v", err)
			return false
		}
		j.head[name] = b
		if len(j.head) == len(firstFiles)-1 {
			return j.openHead()
		}
		return true
	}
	listed, ok := j.listed[name]
	if !ok {
		j.damage(name, "the manifest does not list it")
		return true
	}
	sum := sha256.New()
	counted := &counter{r: io.TeeReader(r, sum)}
	j.content(name, counted)
	if _, err := io.Copy(io.Discard, counted); err != nil {
		j.damage(name, "read it: %v", err)
		return true
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != listed.SHA256 || counted.n != listed.Bytes {
		j.damage(name, "it is not the file that the manifest lists: %d bytes with SHA-256 %s", counted.n, got)
	}
	return true
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return b, err
}

// openHead proves the manifest: the log's signature is on a checkpoint, which
// covers an entry, which cites the manifest, which lists every other file.
func (j *judge) openHead() bool {
	before := len(j.report.Damage)
	check := func(name string, err error) {
		if err != nil {
			j.damage(name, "%v", err)
		}
	}
	var err error
	j.tree, err = j.openCheckpoint(fileCheckpoint, true)
	check(fileCheckpoint, err)
	sealed, err := j.openCheckpoint(fileSealed, false)
	check(fileSealed, err)
	check(fileManifest, strictJSON(j.head[fileManifest], &j.manifest))
	if j.manifest.Format != bundleFormat {
		j.damage(fileManifest, "its format %q is not %s", j.manifest.Format, bundleFormat)
	}
	if len(j.report.Damage) > before {
		return false
	}
	check(fileSeal, j.checkSeal(sealed))
	check(fileConsistency, j.checkConsistency(sealed))
	for _, f := range j.manifest.Files {
		j.listed[f.Name] = f
	}
	if j.listed[fileCheckpoint].Digest != digestOf(j.head[fileCheckpoint]) {
		j.damage(fileCheckpoint, "it is not the file that the manifest lists")
	}
	if j.tree.N != int64(j.manifest.Size) {
		j.damage(fileCheckpoint, "it covers %d entries and the manifest says %d", j.tree.N, j.manifest.Size)
	}
	return len(j.report.Damage) == before
}

// openCheckpoint verifies a checkpoint (C2SP tlog-checkpoint). Signatures
// that nobody gave a key for are not looked at.
func (j *judge) openCheckpoint(name string, main bool) (tlog.Tree, error) {
	n, err := note.Open(j.head[name], j.verifiers)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("no signature of %s holds: %w", j.log.Name(), err)
	}
	signed := false
	for _, s := range n.Sigs {
		if s.Name == j.log.Name() && s.Hash == j.log.KeyHash() {
			signed = true
		} else if main {
			j.report.Checkpoint.Witnesses = append(j.report.Checkpoint.Witnesses, s.Name)
		}
	}
	if !signed {
		return tlog.Tree{}, fmt.Errorf("%s did not sign it", j.log.Name())
	}
	if !main { // the manifest does not list this one: nothing in it may be unproven
		for _, s := range n.Sigs {
			if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil || len(n.UnverifiedSigs) > 0 {
				return tlog.Tree{}, errors.New("it has signatures that can't be checked")
			}
		}
	}
	origin, tree, err := parseCheckpoint(n.Text)
	if err == nil && main && len(j.report.Checkpoint.Witnesses) < j.quorum {
		err = fmt.Errorf("%d of the witnesses cosigned it, and %d must have", len(j.report.Checkpoint.Witnesses), j.quorum)
	}
	if err == nil && main {
		j.report.Checkpoint.Origin, j.report.Checkpoint.Size, j.report.Checkpoint.Root = origin, tree.N, tree.Hash.String()
	}
	return tree, err
}

func parseCheckpoint(text string) (origin string, tree tlog.Tree, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 {
		return "", tree, errors.New("it is not a checkpoint")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil || tree.N < 0 || strconv.FormatInt(tree.N, 10) != lines[1] {
		return "", tree, errors.New("its size is no number")
	}
	if tree.Hash, err = tlog.ParseHash(lines[2]); err != nil {
		return "", tree, errors.New("its root is no hash")
	}
	return lines[0], tree, nil
}

func (j *judge) checkSeal(sealed tlog.Tree) error {
	var p ProvenEntry
	if err := strictJSON(j.head[fileSeal], &p); err != nil {
		return err
	}
	if err := canonical(j.head[fileSeal], &p); err != nil {
		return err
	}
	e, err := checkEntry(&p, sealed)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(j.head[fileManifest])
	if e.Kind != custos.EntryViewed || e.Note == nil || e.Note.Digest != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("entry %d is not about this export: the manifest was changed, or belongs to another", p.Index)
	}
	j.report.MadeAt, j.report.MadeBy = e.At, e.Note.By
	if e.Note.By != j.manifest.MadeBy {
		return fmt.Errorf("entry %d says that %q made the export, the manifest says %q", p.Index, e.Note.By, j.manifest.MadeBy)
	}
	return nil
}

func (j *judge) checkConsistency(sealed tlog.Tree) error {
	var hashes [][]byte
	if err := strictJSON(j.head[fileConsistency], &hashes); err != nil {
		return err
	}
	if err := canonical(j.head[fileConsistency], hashes); err != nil {
		return err
	}
	proof, err := toHashes(hashes)
	if err != nil {
		return err
	}
	if j.tree.N == 0 || sealed.N < j.tree.N {
		return errors.New("the checkpoint is not older than the manifest's")
	}
	if err := tlog.CheckTree(tlog.TreeProof(proof), sealed.N, sealed.Hash, j.tree.N, j.tree.Hash); err != nil {
		return errors.New("the manifest's checkpoint does not extend the other: the two tell different histories")
	}
	return nil
}

func toHashes(raw [][]byte) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(raw))
	for i, h := range raw {
		if len(h) != tlog.HashSize {
			return nil, errors.New("a hash of the proof has not 32 bytes")
		}
		copy(hashes[i][:], h)
	}
	return hashes, nil
}

// canonical checks that b is exactly how v is written, so that no byte of it
// can be another and mean the same.
func canonical(b []byte, v any) error {
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(append(again, '\n'), b) {
		return errors.New("it is not written as custos writes it")
	}
	return nil
}

// strictJSON reads one JSON value and nothing else.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("it can't be read: %w", err)
	}
	if rest, _ := io.ReadAll(d.Buffered()); len(bytes.TrimSpace(rest)) > 0 || d.More() {
		return errors.New("there is more in it than one JSON value")
	}
	return nil
}

// checkEntry proves that an entry is in the tree, with its attachment.
func checkEntry(p *ProvenEntry, tree tlog.Tree) (*custos.Entry, error) {
	proof, err := toHashes(p.Proof)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", p.Index, err)
	}
	if p.Index >= uint64(tree.N) {
		return nil, fmt.Errorf("entry %d: the checkpoint covers %d entries only", p.Index, tree.N)
	}
	if err := tlog.CheckRecord(tlog.RecordProof(proof), tree.N, tree.Hash, int64(p.Index), tlog.RecordHash([]byte(p.Leaf))); err != nil {
		return nil, fmt.Errorf("entry %d is not in the ledger as it stands here", p.Index)
	}
	e, err := custos.ParseEntry([]byte(p.Leaf))
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", p.Index, err)
	}
	cited := custos.Digest{}
	if e.Attachment != nil {
		cited = *e.Attachment
	} else if len(p.Attachment) > 0 {
		return nil, fmt.Errorf("entry %d has an attachment that it does not cite", p.Index)
	} else {
		return e, nil
	}
	if sum := sha256.Sum256(p.Attachment); hex.EncodeToString(sum[:]) != cited.SHA256 || int64(len(p.Attachment)) != cited.Bytes {
		return nil, fmt.Errorf("entry %d: its attachment is not the one that it cites", p.Index)
	}
	return e, nil
}
