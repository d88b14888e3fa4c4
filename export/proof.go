package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
				h.hashes = tlog.TileHashReader(h.tree, tileFiles{b.Tiles})
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

// prove returns the inclusion proof of an entry.
func (h *head) prove(index uint64) ([][]byte, error) {
	p, err := tlog.ProveRecord(h.tree.N, int64(index), h.hashes)
	if err != nil {
		return nil, fmt.Errorf("prove entry %d: %w", index, err)
	}
	return fromHashes(p), nil
}

// extends returns the proof that h extends an older head.
func (h *head) extends(old *head) ([][]byte, error) {
	p, err := tlog.ProveTree(h.tree.N, old.tree.N, h.hashes)
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

// tileFiles reads the ledger's tiles (C2SP tlog-tiles).
type tileFiles struct{ fs fs.FS }

func (tileFiles) Height() int                     { return torchwood.TileHeight }
func (tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles reads tiles. A partial one may have been replaced by the full
// one since the tree head was signed: its beginning is the same.
func (f tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		b, err := fs.ReadFile(f.fs, torchwood.TilePath(t))
		if errors.Is(err, os.ErrNotExist) && t.W < torchwood.TileWidth {
			full := t
			full.W = torchwood.TileWidth
			b, err = fs.ReadFile(f.fs, torchwood.TilePath(full))
		}
		if err != nil {
			return nil, err
		}
		if len(b) < t.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %s is cut off", torchwood.TilePath(t))
		}
		data[i] = b[:t.W*tlog.HashSize]
	}
	return data, nil
}
