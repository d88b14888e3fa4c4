package ledger

import (
	"crypto/sha256"
	"slices"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

const tileWidth = torchwood.TileWidth

// tree is the right edge of a Merkle tree (RFC 6962, section 2.1): all that
// it takes to add leaves and to say the root.
type tree struct {
	n uint64
	// edge holds, by level of tiles, the hashes of the tile that is not full.
	edge [][]tlog.Hash
}

// add adds a leaf's hash. Each tile that it fills goes to full, if that is
// not nil; the hashes are full's until it returns.
func (t *tree) add(h tlog.Hash, full func(tile tlog.Tile, hashes []tlog.Hash) error) error {
	t.n++
	for level := 0; ; level++ {
		if level == len(t.edge) {
			t.edge = append(t.edge, make([]tlog.Hash, 0, tileWidth))
		}
		t.edge[level] = append(t.edge[level], h)
		if len(t.edge[level]) < tileWidth {
			return nil
		}
		if full != nil {
			n := int64(t.n>>(torchwood.TileHeight*(level+1))) - 1
			if err := full(tlog.Tile{H: torchwood.TileHeight, L: level, N: n, W: tileWidth}, t.edge[level]); err != nil {
				return err
			}
		}
		h = subtree(t.edge[level])
		t.edge[level] = t.edge[level][:0]
	}
}

// partial calls fn with each tile that is not full.
func (t *tree) partial(fn func(tile tlog.Tile, hashes []tlog.Hash) error) error {
	for level, hashes := range t.edge {
		if len(hashes) == 0 {
			continue
		}
		n := int64(t.n >> (torchwood.TileHeight * (level + 1)))
		if err := fn(tlog.Tile{H: torchwood.TileHeight, L: level, N: n, W: len(hashes)}, hashes); err != nil {
			return err
		}
	}
	return nil
}

// root is the tree's hash.
func (t *tree) root() tlog.Hash {
	if t.n == 0 {
		return sha256.Sum256(nil)
	}
	var h tlog.Hash
	started := false
	// From the smallest perfect subtree, at the right, to the largest.
	for _, hashes := range t.edge {
		for end := len(hashes); end > 0; {
			size := end & -end // the lowest bit of what is left
			s := subtree(hashes[end-size : end])
			if end -= size; started {
				h = tlog.NodeHash(s, h)
			} else {
				h, started = s, true
			}
		}
	}
	return h
}

func (t *tree) clone() *tree {
	c := &tree{n: t.n, edge: make([][]tlog.Hash, len(t.edge))}
	for i, hashes := range t.edge {
		c.edge[i] = append(make([]tlog.Hash, 0, tileWidth), hashes...)
	}
	return c
}

// subtree is the hash over 2^k hashes, at most a tile's.
func subtree(hashes []tlog.Hash) tlog.Hash {
	var scratch [tileWidth]tlog.Hash
	s := scratch[:copy(scratch[:], hashes)]
	for len(s) > 1 {
		for i := range len(s) / 2 {
			s[i] = tlog.NodeHash(s[2*i], s[2*i+1])
		}
		s = s[:len(s)/2]
	}
	return s[0]
}

// edgeTiles lists the tiles that make up the right edge of a tree.
func edgeTiles(n uint64) []tlog.Tile {
	var tiles []tlog.Tile
	for level := 0; n > 0; level++ {
		tiles = append(tiles, tlog.Tile{H: torchwood.TileHeight, L: level, N: int64(n / tileWidth), W: int(n % tileWidth)})
		n /= tileWidth
	}
	return tiles
}

func encodeHashes(hashes []tlog.Hash) []byte {
	b := make([]byte, 0, len(hashes)*tlog.HashSize)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

func decodeHashes(b []byte) []tlog.Hash {
	hashes := make([]tlog.Hash, 0, tileWidth)
	for c := range slices.Chunk(b, tlog.HashSize) {
		hashes = append(hashes, tlog.Hash(c))
	}
	return hashes
}
