package ledger

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/custos-gateway/custos/internal/durable"
)

var testFS = durable.OS

func listNames(dir string) ([]string, error) { return durable.OS.List(dir) }

// faultMode is how an operation on files fails.
type faultMode string

const (
	didNot faultMode = "fails and did not"
	did    faultMode = "fails but did"
	half   faultMode = "writes half and fails"
	lose   faultMode = "fails, and what was not synced is lost"
)

// faultyFS is the real file system, on which the n-th operation that changes
// anything fails.
type faultyFS struct {
	durable.FS
	mu    sync.Mutex
	armed bool
	at    int // fails when it gets to 0
	lasts int // how many in a row fail
	mode  faultMode
	errno error
	hit   string // what failed first
	files map[string]*pending
}

// pending is what was written to a file and not synced: the bytes that were
// there before.
type pending struct{ writes []oldBytes }

type oldBytes struct {
	off int64
	b   []byte
}

func newFaultyFS() *faultyFS {
	return &faultyFS{FS: durable.OS, files: map[string]*pending{}}
}

func (f *faultyFS) arm(at, lasts int, mode faultMode, errno error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.at, f.lasts, f.mode, f.errno, f.hit = true, at, lasts, mode, errno, ""
}

// first is what failed first.
func (f *faultyFS) first() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// ofSpare reports what failed as the spare segment's, which is made in the
// background, and tried once more: it fails nothing else.
func ofSpare(hit string) bool { return strings.HasSuffix(hit, " "+spareName) }

func (f *faultyFS) disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
}

// fails says whether this operation fails, and how.
func (f *faultyFS) fails(op, name string) (faultMode, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.armed {
		return "", nil
	}
	f.at--
	if f.at >= 0 || f.at < -f.lasts {
		return "", nil
	}
	if f.hit == "" || ofSpare(f.hit) {
		f.hit = op + " " + filepath.Base(name)
	}
	return f.mode, &fs.PathError{Op: op, Path: name, Err: f.errno}
}

// do does an operation, or fails it.
func (f *faultyFS) do(op, name string, fn func() error) error {
	mode, err := f.fails(op, name)
	if err == nil {
		return fn()
	}
	if mode == did {
		if e := fn(); e != nil {
			return e
		}
	}
	return err
}

func (f *faultyFS) Rename(old, new string) error {
	return f.do("rename", old, func() error {
		f.mu.Lock()
		f.files[new] = f.files[old]
		delete(f.files, old)
		f.mu.Unlock()
		return f.FS.Rename(old, new)
	})
}

func (f *faultyFS) Remove(name string) error {
	return f.do("remove", name, func() error { return f.FS.Remove(name) })
}

func (f *faultyFS) RemoveAll(name string) error {
	return f.do("remove all", name, func() error { return f.FS.RemoveAll(name) })
}

func (f *faultyFS) MkdirAll(name string, perm fs.FileMode) error {
	return f.do("mkdir", name, func() error { return f.FS.MkdirAll(name, perm) })
}

func (f *faultyFS) SyncDir(name string) error {
	return f.do("sync folder", name, func() error { return f.FS.SyncDir(name) })
}

func (f *faultyFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if flag&os.O_CREATE != 0 {
		if _, err := f.fails("create", name); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.files[name]
	if p == nil || flag&os.O_TRUNC != 0 {
		p = new(pending)
		f.files[name] = p
	}
	return &faultyFile{file, f, name, p}, nil
}

type faultyFile struct {
	durable.File
	fs   *faultyFS
	name string
	p    *pending
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	old := make([]byte, len(b))
	f.File.ReadAt(old, off) // a short read leaves zeros, which is what is there
	f.p.writes = append(f.p.writes, oldBytes{off, old})
	f.fs.mu.Unlock()
	mode, err := f.fs.fails("write", f.name)
	switch {
	case err == nil:
		return f.File.WriteAt(b, off)
	case mode == did:
		f.File.WriteAt(b, off)
	case mode == half:
		n, _ := f.File.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return 0, err
}

func (f *faultyFile) synced(op string, sync func() error) error {
	mode, err := f.fs.fails(op, f.name)
	if err == nil || mode == did {
		if e := sync(); e != nil {
			return e
		}
		f.fs.mu.Lock()
		f.p.writes = nil
		f.fs.mu.Unlock()
	}
	if mode == lose {
		f.fs.mu.Lock()
		for i := len(f.p.writes) - 1; i >= 0; i-- {
			f.File.WriteAt(f.p.writes[i].b, f.p.writes[i].off)
		}
		f.p.writes = nil
		f.fs.mu.Unlock()
	}
	return err
}

func (f *faultyFile) Sync() error     { return f.synced("sync", f.File.Sync) }
func (f *faultyFile) Datasync() error { return f.synced("datasync", f.File.Datasync) }

func (f *faultyFile) Truncate(size int64) error {
	return f.fs.do("truncate", f.name, func() error { return f.File.Truncate(size) })
}

// powerLoss takes back, in a copy of dir, some of what was not synced.
func (f *faultyFS) powerLoss(t testing.TB, dir, copied string, random *rand.Rand) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, p := range f.files {
		rel, err := filepath.Rel(dir, name)
		if err != nil || strings.HasPrefix(rel, "..") || p == nil || !strings.HasSuffix(rel, suffix) {
			continue
		}
		file, err := os.OpenFile(filepath.Join(copied, rel), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		for i := len(p.writes) - 1; i >= 0; i-- {
			w := p.writes[i]
			// All of it, none, or its end.
			if keep := random.IntN(3) * len(w.b) / 2; keep < len(w.b) {
				_, err := file.WriteAt(w.b[keep:], w.off+int64(keep))
				must(t, err)
			}
		}
		must(t, file.Close())
	}
}
