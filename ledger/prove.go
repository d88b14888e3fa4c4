package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Proof is that an entry is in the log.
type Proof struct {
	Index uint64
	Leaf  []byte
	// Size is how many entries the checkpoint covers.
	Size uint64
	// Hashes are the inclusion proof (RFC 6962, section 2.1.1).
	Hashes tlog.RecordProof
	// Checkpoint is the signed tree head, with its cosignatures.
	Checkpoint []byte
}

// Text is the proof in one file (C2SP tlog-proof@v1), with the leaf as its
// extra data.
func (p *Proof) Text() []byte {
	return torchwood.FormatProofWithExtraData(int64(p.Index), p.Leaf, p.Hashes, p.Checkpoint)
}

// Prove proves an entry under the published checkpoint. For a new entry a
// checkpoint is made, unless witnesses must cosign it first.
func (l *Log) Prove(ctx context.Context, index uint64) (*Proof, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	if index < l.size.Load() && uint64(l.head.Load().published.N) <= index {
		if err := l.Publish(); err != nil {
			return nil, fmt.Errorf("prove entry %d: %w", index, err)
		}
	}
	return prove(l.o.Dir, index)
}

// Prove proves an entry from a log's folder alone. The proof is Proof.Text's.
func Prove(dir string, index uint64) ([]byte, error) {
	p, err := prove(dir, index)
	if err != nil {
		return nil, err
	}
	return p.Text(), nil
}

func prove(dir string, index uint64) (*Proof, error) {
	fail := func(err error) (*Proof, error) { return nil, fmt.Errorf("prove entry %d: %w", index, err) }
	b, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		return fail(err)
	}
	text, _, ok := splitNote(b)
	if !ok {
		return fail(errors.New("the checkpoint is not a signed note"))
	}
	c, err := torchwood.ParseCheckpoint(string(text))
	if err != nil {
		return fail(err)
	}
	if index >= uint64(c.N) {
		return fail(fmt.Errorf("the published checkpoint covers %d entries only; wait for the next", c.N))
	}
	files := tileFiles{dir}
	hashes, err := tlog.ProveRecord(c.N, int64(index), tlog.TileHashReader(c.Tree, files))
	if err != nil {
		return fail(err)
	}
	n := index / tileWidth
	leaves, err := files.leaves(n, int(min(tileWidth, uint64(c.N)-n*tileWidth)))
	if err != nil {
		return fail(fmt.Errorf("read its entry bundle: %w", err))
	}
	leaf := leaves[index%tileWidth]
	if err := tlog.CheckRecord(hashes, c.N, c.Hash, int64(index), tlog.RecordHash(leaf)); err != nil {
		return fail(fmt.Errorf("%w: its leaf is not the one under the checkpoint; custos ledger verify names the place", ErrDamaged))
	}
	return &Proof{Index: index, Leaf: leaf, Size: uint64(c.N), Hashes: hashes, Checkpoint: b}, nil
}

// Trust is what a stranger believes: the log's keys, and witnesses of whom
// Quorum must have cosigned.
type Trust struct {
	Log       []note.Verifier
	Witnesses []note.Verifier
	Quorum    int
}

// ParseTrust reads verifier keys in their text form (C2SP signed-note).
func ParseTrust(log, witnesses []string, quorum int) (Trust, error) {
	t := Trust{Quorum: quorum}
	for _, k := range log {
		v, err := note.NewVerifier(strings.TrimSpace(k))
		if err != nil {
			return t, fmt.Errorf("read ledger's public key: %w; it looks like name+hash+key", err)
		}
		t.Log = append(t.Log, v)
	}
	for _, k := range witnesses {
		v, err := torchwood.NewCosignatureVerifier(strings.TrimSpace(k))
		if err != nil {
			return t, fmt.Errorf("read witness's public key: %w; it looks like name+hash+key, and is for cosignatures", err)
		}
		t.Witnesses = append(t.Witnesses, v)
	}
	_, err := t.policy()
	return t, err
}

// policy is the trust as torchwood checks it: one of the log's keys, whose
// name is the origin, and a quorum of witnesses.
func (t Trust) policy() (torchwood.Policy, error) {
	if len(t.Log) == 0 {
		return nil, errors.New("check checkpoint: no public key of the ledger is given")
	}
	if t.Quorum < 0 || t.Quorum > len(t.Witnesses) {
		return nil, fmt.Errorf("check checkpoint: a quorum of %d can't be had of %d witnesses", t.Quorum, len(t.Witnesses))
	}
	var logs, witnesses []torchwood.Policy
	for _, v := range t.Log {
		logs = append(logs, torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(v.Name()), torchwood.SingleVerifierPolicy(v)))
	}
	for _, v := range t.Witnesses {
		witnesses = append(witnesses, torchwood.SingleVerifierPolicy(v))
	}
	return torchwood.ThresholdPolicy(2, torchwood.ThresholdPolicy(1, logs...), torchwood.ThresholdPolicy(t.Quorum, witnesses...)), nil
}

// OpenCheckpoint reads a signed checkpoint and checks its signatures.
func (t Trust) OpenCheckpoint(b []byte) (torchwood.Checkpoint, error) {
	policy, err := t.policy()
	if err != nil {
		return torchwood.Checkpoint{}, err
	}
	if len(b) > maxCheckpoint {
		return torchwood.Checkpoint{}, fmt.Errorf("check checkpoint: it has %d bytes, and may have %d", len(b), maxCheckpoint)
	}
	c, _, err := torchwood.VerifyCheckpoint(b, policy)
	if err != nil {
		return torchwood.Checkpoint{}, fmt.Errorf("check checkpoint: %w", err)
	}
	return c, nil
}

// CheckProof checks what Prove gave, and returns the entry that it proves.
func CheckProof(proof []byte, trust Trust) (index uint64, leaf []byte, err error) {
	policy, err := trust.policy()
	if err != nil {
		return 0, nil, err
	}
	if leaf, err = torchwood.ProofExtraData(proof); err != nil {
		return 0, nil, fmt.Errorf("check proof: %w", err)
	}
	if err = torchwood.VerifyProof(policy, tlog.RecordHash(leaf), proof); err != nil {
		return 0, nil, fmt.Errorf("check proof: %w", err)
	}
	// VerifyProof read the index line, the third.
	index, err = strconv.ParseUint(strings.TrimPrefix(strings.SplitN(string(proof), "\n", 4)[2], "index "), 10, 64)
	if err != nil {
		return 0, nil, fmt.Errorf("check proof: %w", err)
	}
	return index, leaf, nil
}
