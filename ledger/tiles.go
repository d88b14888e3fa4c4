package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/custos-gateway/custos/internal/durable"
)

// tileWriter puts tiles on disk, many at a time.
type tileWriter struct {
	fs      durable.FS
	dir     string
	known   map[string]bool // folders that are there, durably
	waiting []waitingTile
}

type waitingTile struct {
	file durable.File
	path string
	full bool
}

const maxWaiting = 64 // open files

// put writes a tile under another name; flush gives it its own.
func (w *tileWriter) put(tile tlog.Tile, data []byte) error {
	path := filepath.Join(w.dir, filepath.FromSlash(torchwood.TilePath(tile)))
	if err := w.makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := w.fs.OpenFile(path+".tmp", osCreate, 0o600)
	if err != nil {
		return err
	}
	w.waiting = append(w.waiting, waitingTile{f, path, tile.W == tileWidth})
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	if len(w.waiting) < maxWaiting {
		return nil
	}
	return w.flush()
}

// makeDir makes a folder and those above it, and makes that durable.
func (w *tileWriter) makeDir(dir string) error {
	if w.known[dir] {
		return nil
	}
	if err := w.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for d := dir; len(d) > len(w.dir) && !w.known[d]; d = filepath.Dir(d) {
		if err := w.fs.SyncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	for d := dir; len(d) > len(w.dir); d = filepath.Dir(d) {
		w.known[d] = true
	}
	return nil
}

// flush makes durable what was put. The partial tiles that a full one
// replaces are removed.
func (w *tileWriter) flush() error {
	dirs := map[string]bool{}
	for _, t := range w.waiting {
		if err := t.file.Sync(); err != nil {
			return err
		}
		if err := w.fs.Rename(t.path+".tmp", t.path); err != nil {
			return err
		}
		dirs[filepath.Dir(t.path)] = true
	}
	for d := range dirs {
		if err := w.fs.SyncDir(d); err != nil {
			return err
		}
	}
	for _, t := range w.waiting {
		if !t.full {
			continue
		}
		if err := w.fs.RemoveAll(t.path + ".p"); err != nil {
			return err
		}
		delete(w.known, t.path+".p")
	}
	return w.close()
}

func (w *tileWriter) close() error {
	var errs []error
	for _, t := range w.waiting {
		errs = append(errs, t.file.Close())
	}
	w.waiting = w.waiting[:0]
	return errors.Join(errs...)
}

// grow adds the log's leaves to t, up to a size, and writes the tiles.
func (l *Log) grow(t *tree, to uint64) error {
	w := &l.tiles
	err := l.writeTiles(w, t, to)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		err = errors.Join(err, w.close())
		return fmt.Errorf("write tiles up to entry %d: %w", to, err)
	}
	return nil
}

func (l *Log) writeTiles(w *tileWriter, t *tree, to uint64) error {
	full := func(tile tlog.Tile, hashes []tlog.Hash) error { return w.put(tile, encodeHashes(hashes)) }
	var bundle []byte
	bundleTile := func(n uint64, width int) tlog.Tile {
		return tlog.Tile{H: torchwood.TileHeight, L: -1, N: int64(n / tileWidth), W: width}
	}
	start := t.n / tileWidth * tileWidth
	err := l.Scan(start, to, func(i uint64, leaf, _ []byte) error {
		var err error
		if bundle, err = torchwood.AppendTileEntry(bundle, leaf); err != nil {
			return err
		}
		if i < t.n {
			return nil
		}
		if i%tileWidth == tileWidth-1 {
			if err := w.put(bundleTile(i, tileWidth), bundle); err != nil {
				return err
			}
			bundle = bundle[:0]
		}
		return t.add(tlog.RecordHash(leaf), full)
	})
	if err != nil {
		return err
	}
	if t.n != to {
		return fmt.Errorf("the log ends at entry %d", t.n)
	}
	if width := int(to % tileWidth); width > 0 {
		if err := w.put(bundleTile(to, width), bundle); err != nil {
			return err
		}
	}
	return t.partial(full)
}

// tileFiles reads tiles from a log's folder. It is a tlog.TileReader.
type tileFiles struct{ dir string }

func (tileFiles) Height() int                     { return torchwood.TileHeight }
func (tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (d tileFiles) path(t tlog.Tile) string {
	return filepath.Join(d.dir, filepath.FromSlash(torchwood.TilePath(t)))
}

// read returns a tile's bytes and how many entries or hashes they are of: a
// full tile takes the place of its partial ones.
func (d tileFiles) read(t tlog.Tile) (b []byte, width int, err error) {
	b, err = durable.ReadFile(durable.OS, d.path(t), maxTile)
	if t.W < tileWidth && errors.Is(err, fs.ErrNotExist) {
		whole := t
		whole.W = tileWidth
		if full, e := durable.ReadFile(durable.OS, d.path(whole), maxTile); e == nil {
			return full, tileWidth, nil
		}
	}
	return b, t.W, err
}

// maxTile bounds, in bytes, what a bundle may have: 256 leaves with their
// lengths.
const maxTile = tileWidth * (2 + 1<<16)

// ReadTiles reads tiles of hashes.
func (d tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		b, width, err := d.read(t)
		if err != nil {
			return nil, err
		}
		if len(b) != width*tlog.HashSize {
			return nil, fmt.Errorf("the tile has %d bytes, and should have %d", len(b), width*tlog.HashSize)
		}
		data[i] = b[:t.W*tlog.HashSize]
	}
	return data, nil
}

// leaves reads the leaves of an entry bundle.
func (d tileFiles) leaves(n uint64, width int) ([][]byte, error) {
	b, all, err := d.read(tlog.Tile{H: torchwood.TileHeight, L: -1, N: int64(n), W: width})
	if err != nil {
		return nil, err
	}
	leaves := make([][]byte, 0, all)
	for len(leaves) < all {
		leaf, rest, err := torchwood.ReadTileEntry(b)
		if err != nil {
			return nil, fmt.Errorf("the bundle ends after %d of %d entries", len(leaves), all)
		}
		leaves, b = append(leaves, leaf), rest
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("the bundle has %d bytes after its %d entries", len(b), all)
	}
	return leaves[:width], nil
}

// loadTree reads the right edge of a tree from its tiles.
func loadTree(d tileFiles, n uint64) (*tree, error) {
	t := &tree{n: n}
	for _, tile := range edgeTiles(n) {
		hashes := make([]tlog.Hash, 0, tileWidth)
		if tile.W > 0 {
			b, err := d.ReadTiles([]tlog.Tile{tile})
			if err != nil {
				return nil, err
			}
			hashes = append(hashes, decodeHashes(b[0])...)
		}
		t.edge = append(t.edge, hashes)
	}
	return t, nil
}

// openTree goes on from the tiles, if they are those of the checkpoint, and
// the last of them those of the log's leaves; else it makes them again from
// the leaves, if the leaves are those of the checkpoint.
func (l *Log) openTree() error {
	head := l.head.Load().pending
	n := uint64(head.N)
	t, err := loadTree(tileFiles{l.o.Dir}, n)
	if err == nil && t.root() != head.Hash {
		err = errors.New("their root is not the checkpoint's")
	}
	if err == nil {
		err = l.checkEdge(t)
	}
	if err == nil {
		l.tree = t
		return nil
	}
	l.o.Logger.Warn("the tiles are not those of the checkpoint: reading all entries to make them again", "cause", err, "entries", n)
	fresh := new(tree)
	if err := l.Scan(0, n, func(_ uint64, leaf, _ []byte) error { return fresh.add(tlog.RecordHash(leaf), nil) }); err != nil {
		return err
	}
	if fresh.n != n || fresh.root() != head.Hash {
		return fmt.Errorf("%w: the entries are not those of its checkpoint of %d entries, nor are the tiles (%w); %s", ErrDamaged, n, err, damagedHint)
	}
	fresh = new(tree)
	if err := l.grow(fresh, n); err != nil {
		return err
	}
	l.tree, l.recovery.Rebuilt = fresh, true
	return nil
}

// checkEdge compares the last tile of leaf hashes with the log's leaves.
func (l *Log) checkEdge(t *tree) error {
	if t.n == 0 {
		return nil
	}
	start := (t.n - 1) / tileWidth * tileWidth
	tile := tlog.Tile{H: torchwood.TileHeight, L: 0, N: int64(start / tileWidth), W: int(t.n - start)}
	b, err := tileFiles{l.o.Dir}.ReadTiles([]tlog.Tile{tile})
	if err != nil {
		return err
	}
	hashes := decodeHashes(b[0])
	return l.Scan(start, t.n, func(i uint64, leaf, _ []byte) error {
		if tlog.RecordHash(leaf) != hashes[i-start] {
			return fmt.Errorf("entry %d differs from %s", i, torchwood.TilePath(tile))
		}
		return nil
	})
}
