package ledger

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/custos-gateway/custos/internal/durable"
)

// treeWalk compares the leaves with the tiles and both with the checkpoint.
// It grows two trees, one of the segments' leaves and one of the tiles' leaf
// hashes: where they differ, the root tells which of them was altered.
type treeWalk struct {
	v      *verifier
	signed uint64 // how many entries the checkpoint covers
	leaves tree
	tiled  tree

	// The tile of leaf hashes, and the bundle, that the walk is in.
	hashes  []tlog.Hash // nil: it can't be read
	bundle  [][]byte    // nil: it can't be read
	altered []alteredEntry
	more    int

	root tlog.Hash // of the leaves, when as many were read as are signed
}

// alteredEntry is one whose leaf is not that of its tile.
type alteredEntry struct {
	index      uint64
	file, tile string
}

// add takes the next entry.
func (w *treeWalk) add(index uint64, leaf []byte, file string) {
	h := tlog.RecordHash(leaf)
	if index < w.signed {
		w.enter(index)
		at := index % tileWidth
		tiled := h
		if w.hashes != nil {
			tiled = w.hashes[at]
		}
		if tiled != h {
			w.differs(index, file)
		}
		if w.bundle != nil && !bytes.Equal(w.bundle[at], leaf) && tlog.RecordHash(w.bundle[at]) != tiled {
			w.v.damage(index, tilePath(w.tile(-1, index)), "entry %d of the bundle is not the one of its tile", index)
		}
		w.grow(&w.tiled, tiled)
	}
	w.leaves.add(h, nil) // fails only if its callback does
	if w.leaves.n == w.signed {
		w.root = w.leaves.root()
	}
}

// skip takes the place of entries, up to an index, that are not whole.
func (w *treeWalk) skip(to uint64) {
	for index := w.leaves.n; index < to; index++ {
		if index >= w.signed {
			w.leaves.add(tlog.Hash{}, nil)
			continue
		}
		w.enter(index)
		var h tlog.Hash
		if w.hashes != nil {
			h = w.hashes[index%tileWidth]
		}
		w.grow(&w.tiled, h)
		w.leaves.add(h, nil)
	}
}

func (w *treeWalk) differs(index uint64, file string) {
	if len(w.altered) >= maxDamage {
		w.more++
		return
	}
	w.altered = append(w.altered, alteredEntry{index, file, tilePath(w.tile(0, index))})
}

// tile is the one of a level, or with level -1 the bundle, that an entry is in.
func (w *treeWalk) tile(level int, index uint64) tlog.Tile {
	n := index / tileWidth
	return tlog.Tile{H: torchwood.TileHeight, L: level, N: int64(n), W: int(min(tileWidth, w.signed-n*tileWidth))}
}

// enter reads the tile and the bundle of an entry, if it is their first or the
// first that is asked for.
func (w *treeWalk) enter(index uint64) {
	if index%tileWidth != 0 {
		return
	}
	w.hashes, w.bundle = nil, nil
	tile := w.tile(0, index)
	if b, err := w.v.tiles.ReadTiles([]tlog.Tile{tile}); err != nil {
		w.unreadable(index, tile, err)
	} else {
		w.hashes = decodeHashes(b[0])
	}
	tile.L = -1
	leaves, err := w.v.tiles.leaves(uint64(tile.N), tile.W)
	if err != nil {
		w.unreadable(index, tile, err)
		return
	}
	w.bundle = leaves
}

func (w *treeWalk) unreadable(entry uint64, tile tlog.Tile, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		w.v.damage(entry, tilePath(tile), "the tile is missing")
		return
	}
	w.v.damage(entry, tilePath(tile), "%v", err)
}

// grow adds a leaf hash of the tiles, and checks the tiles above it.
func (w *treeWalk) grow(t *tree, h tlog.Hash) {
	t.add(h, w.compare) // compare never fails
	if t.n == w.signed {
		t.partial(w.compare)
	}
}

// compare compares a tile above the first level with what it should be.
func (w *treeWalk) compare(tile tlog.Tile, want []tlog.Hash) error {
	if tile.L == 0 {
		return nil
	}
	first := uint64(tile.N) << (torchwood.TileHeight * (tile.L + 1))
	b, err := w.v.tiles.ReadTiles([]tlog.Tile{tile})
	if err != nil {
		w.unreadable(first, tile, err)
		return nil
	}
	got := decodeHashes(b[0])
	for i := range want {
		if got[i] != want[i] {
			at := first + uint64(i)<<(torchwood.TileHeight*tile.L)
			w.v.damage(at, tilePath(tile), "its hash %d is not that of the tile below, whose first entry is %d", i, at)
			break
		}
	}
	return nil
}

// finish says which of the leaves and the tiles were altered, where they
// differ.
func (w *treeWalk) finish() error {
	if w.signed == 0 {
		return nil
	}
	for index := w.leaves.n; index < w.signed; index++ { // cut off at the end
		w.enter(index)
		if w.hashes == nil {
			break
		}
		w.grow(&w.tiled, w.hashes[index%tileWidth])
	}
	want := w.v.head.Hash
	leavesHold := !w.v.bad && w.root == want
	tilesHold := w.tiled.n == w.signed && w.tiled.root() == want
	for _, a := range w.altered {
		switch {
		case leavesHold:
			w.v.damage(a.index, a.tile, "the hash of entry %d is not that of its leaf, which is as the checkpoint says", a.index)
		case tilesHold:
			w.v.damage(a.index, a.file, "entry %d was altered: it is not the one under the checkpoint", a.index)
		default:
			w.v.damage(a.index, a.file, "entry %d was altered, here or in %s", a.index, a.tile)
		}
	}
	w.v.report.More += w.more
	if !leavesHold && !w.v.bad && len(w.altered) == 0 {
		w.v.damage(0, checkpointFile, "the checkpoint is not about these entries: their root is %v, and it says %v (the entries and their tiles were altered, or the log has two histories)", w.root, want)
	}
	slices.SortStableFunc(w.v.report.Damage, func(a, b Damage) int {
		switch {
		case a.Entry < b.Entry:
			return -1
		case a.Entry > b.Entry:
			return 1
		}
		return 0
	})
	return nil
}

// lastFile names the last segment.
func (v *verifier) lastFile() string {
	firsts, err := listSegments(durable.OS, v.logDir)
	if err != nil || len(firsts) == 0 {
		return "log"
	}
	return filepath.Join("log", segmentName(firsts[len(firsts)-1]))
}

// tilePath names a tile in the report.
func tilePath(t tlog.Tile) string { return torchwood.TilePath(t) }
