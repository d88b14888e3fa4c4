package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// head is a signed tree head that entries are proven against.
type head struct {
	tree   tlog.Tree
	origin string
	signed []byte
	hashes tlog.HashReader
}

// witnessTimeout bounds how long an export waits for a checkpoint that enough
// witnesses have cosigned.
const witnessTimeout = time.Minute

// covering returns the published checkpoint once it covers size entries.
func (b *bundle) covering(size uint64) (*head, error) {
	if err := b.Ledger.Publish(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(b.ctx, witnessTimeout)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		signed, err := b.Ledger.Checkpoint()
		if err == nil {
			text, _, _ := strings.Cut(string(signed), "\n\n")
			h := &head{signed: signed}
			if h.origin, h.tree, err = parseCheckpoint(text + "\n"); err != nil {
				return nil, err
			}
			if uint64(h.tree.N) >= size {
				h.hashes = &tileHashes{b.Tiles, h.tree.N, map[tlog.Tile][]byte{}}
				return h, nil
			}
			err = fmt.Errorf("it covers %d entries of %d", h.tree.N, size)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a checkpoint that enough witnesses cosigned: %w", errors.Join(ctx.Err(), err))
		case <-poll.C:
		}
	}
}

// prove returns the inclusion proof of an entry, which it checked.
func (h *head) prove(index uint64, leaf []byte) ([][]byte, error) {
	p, err := tlog.ProveRecord(h.tree.N, int64(index), h.hashes)
	if err == nil {
		err = tlog.CheckRecord(p, h.tree.N, h.tree.Hash, int64(index), tlog.RecordHash(leaf))
	}
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	return fromHashes(p), nil
}

// extends returns the proof that h extends an older head, which it checked.
func (h *head) extends(old *head) ([][]byte, error) {
	p, err := tlog.ProveTree(h.tree.N, old.tree.N, h.hashes)
	if err == nil {
		err = tlog.CheckTree(p, h.tree.N, h.tree.Hash, old.tree.N, old.tree.Hash)
	}
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	return fromHashes(p), nil
}

func fromHashes(hashes []tlog.Hash) [][]byte {
	raw := make([][]byte, len(hashes))
	for i, h := range hashes {
		raw[i] = h[:]
	}
	return raw
}

// own is the checkpoint with the signature of one key only.
func (h *head) own(publicKey string) ([]byte, error) {
	v, err := note.NewVerifier(publicKey)
	if err != nil {
		return nil, err
	}
	n, err := note.Open(h.signed, note.VerifierList(v))
	if err != nil {
		return nil, err
	}
	n.UnverifiedSigs = nil
	return note.Sign(n)
}

// tileHashes reads the hashes of one tree from the ledger's tiles (C2SP
// tlog-tiles). It does not check them: whoever uses a proof made of them does.
// It is a tlog.HashReader, for one goroutine.
type tileHashes struct {
	fs   fs.FS
	size int64
	kept map[tlog.Tile][]byte
}

// maxKept bounds how many tiles, of at most 8 KiB, are kept in memory.
const maxKept = 1024

func (r *tileHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		t := tlog.TileForIndex(torchwood.TileHeight, index)
		t.W = int(min(torchwood.TileWidth, r.size>>(torchwood.TileHeight*t.L)-t.N*torchwood.TileWidth))
		data, err := r.read(t)
		if err == nil {
			hashes[i], err = tlog.HashFromTile(t, data, index)
		}
		if err != nil {
			return nil, fmt.Errorf("read tile %s: %w", torchwood.TilePath(t), err)
		}
	}
	return hashes, nil
}

// read reads a tile. A partial one may have been replaced by the full one
// since the tree head was signed: its beginning is the same.
func (r *tileHashes) read(t tlog.Tile) ([]byte, error) {
	if b, ok := r.kept[t]; ok {
		return b, nil
	}
	b, err := fs.ReadFile(r.fs, torchwood.TilePath(t))
	if errors.Is(err, fs.ErrNotExist) && t.W < torchwood.TileWidth {
		full := t
		full.W = torchwood.TileWidth
		b, err = fs.ReadFile(r.fs, torchwood.TilePath(full))
	}
	if err != nil {
		return nil, err
	}
	if len(b) < t.W*tlog.HashSize {
		return nil, fmt.Errorf("it has %d bytes, and should have %d", len(b), t.W*tlog.HashSize)
	}
	if len(r.kept) >= maxKept {
		clear(r.kept)
	}
	r.kept[t] = b[:t.W*tlog.HashSize]
	return r.kept[t], nil
}
