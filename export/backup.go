package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/custos-gateway/custos/internal/durable"
)

// BackupReport is what Backup did.
type BackupReport struct {
	Files   int   `json:"files"` // that were copied
	Bytes   int64 `json:"bytes"`
	Same    int   `json:"same"` // that were there already
	Removed int   `json:"removed"`
}

// backup is a copy being made.
type backup struct {
	from, to string
	BackupReport
}

// Backup copies a gateway's data folder to another folder, also while the
// gateway runs, and also onto an earlier backup, which it brings up to date:
// what was erased since is removed there. It leaves out keys/, which belong
// elsewhere, and what is made again from the rest.
//
// The order is what makes it one state. Recordings come first and last, the
// signed heads before the entries: so the copy has every entry that a copied
// head covers, and every recording that a copied entry cites. What an earlier
// state has and a later one has not are the keys of erased sessions only; they
// are removed from the copy where the copied entries say so.
func Backup(dataDir, to string) (*BackupReport, error) {
	b := &backup{from: dataDir, to: to}
	if err := b.all(); err != nil {
		return nil, fmt.Errorf("back up %s: %w", dataDir, err)
	}
	return &b.BackupReport, nil
}

func (b *backup) all() error {
	if _, err := os.Stat(filepath.Join(b.from, "ledger", "log")); err != nil {
		return fmt.Errorf("it is no gateway's data folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(b.to, "ledger"), 0o700); err != nil {
		return err
	}
	if err := b.tree("recordings"); err != nil {
		return err
	}
	erased, err := b.erased()
	if err != nil {
		return err
	}
	for _, name := range []string{"checkpoint", "checkpoint.pending"} {
		if err := b.file(filepath.Join("ledger", name), false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{filepath.Join("ledger", "tile"), filepath.Join("ledger", "log"), "recordings", "credentials"} {
		if err := b.tree(dir); err != nil {
			return err
		}
	}
	if err := b.file("connections.yaml", false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return b.forget(erased)
}

// tree copies a folder. What is removed while it is copied is not missed.
func (b *backup) tree(dir string) error {
	return filepath.WalkDir(filepath.Join(b.from, dir), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(b.from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if err := os.MkdirAll(filepath.Join(b.to, name), 0o700); err != nil {
				return err
			}
			return durable.OS.SyncDir(filepath.Dir(filepath.Join(b.to, name)))
		}
		if !d.Type().IsRegular() || strings.HasSuffix(name, ".tmp") {
			return nil
		}
		if err := b.file(name, true); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// file copies one file, in one step: a backup that is cut short leaves the old
// one. With lasting, a file that is there with its size and time is the same.
func (b *backup) file(name string, lasting bool) error {
	source, target := filepath.Join(b.from, name), filepath.Join(b.to, name)
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(target); lasting && err == nil && there.Size() == info.Size() && there.ModTime().Equal(info.ModTime()) {
		b.Same++
		return nil
	}
	out, err := os.OpenFile(target+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := copySparse(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		// The time from before it was read: what is appended meanwhile makes
		// the next backup copy it again.
		if err = os.Chtimes(target+".tmp", info.ModTime(), info.ModTime()); err == nil {
			err = os.Rename(target+".tmp", target)
		}
	}
	if err != nil {
		return err
	}
	b.Files++
	b.Bytes += n
	return durable.OS.SyncDir(filepath.Dir(target))
}

// copySparse copies, and leaves out zeros: the end of the last segment of the
// ledger is made of them.
func copySparse(out *os.File, in io.Reader) (n int64, err error) {
	block := make([]byte, 64<<10)
	zeros := make([]byte, len(block))
	for {
		k, err := io.ReadFull(in, block)
		if k > 0 && !bytes.Equal(block[:k], zeros[:k]) {
			if _, err := out.WriteAt(block[:k], n); err != nil {
				return n, err
			}
		}
		n += int64(k)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, out.Truncate(n)
		}
		if err != nil {
			return n, err
		}
	}
}

// erased lists the marks of erased sessions, as paths under the data folder.
// The entries that say so are durable before a mark is there.
func (b *backup) erased() ([]string, error) {
	return filepath.Glob(filepath.Join(b.from, "recordings", "*", "*.erased"))
}

// forget removes from the copy what was erased.
func (b *backup) forget(marks []string) error {
	for _, mark := range marks {
		id := strings.TrimSuffix(filepath.Base(mark), ".erased")
		folder := filepath.Join(b.to, "recordings", id[:2])
		names, err := filepath.Glob(filepath.Join(folder, id+".*"))
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".erased") {
				continue
			}
			if err := os.Remove(name); err != nil {
				return err
			}
			b.Removed++
		}
		if err := durable.OS.SyncDir(folder); err != nil {
			return err
		}
	}
	return nil
}
