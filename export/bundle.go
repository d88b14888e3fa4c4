package export

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
)

// The files of a bundle of evidence, in their order: what is proven comes
// before what is proven by it, so that a bundle of any size is verified in
// one pass. docs/formats/evidence.md specifies them.
const (
	fileManifest    = "manifest.json"       // what the bundle holds
	fileSeal        = "manifest.entry.json" // the ledger's entry about this export: it cites the manifest
	fileSealed      = "manifest.checkpoint" // a checkpoint that covers that entry
	fileConsistency = "consistency.json"    // that checkpoint extends the next
	fileCheckpoint  = "checkpoint"          // the checkpoint that covers every other entry
	fileEntries     = "entries.jsonl"       // the entries with their proofs
	dirKeys         = "keys/"               // the sessions' keys
	dirRecordings   = "recordings/"         // large answers, sealed
	dirConfig       = "config/"             // the configurations in force
	fileIndex       = "index.html"          // for people
	fileReadme      = "README.txt"          // how to verify
	filePublic      = "public.key"          // the ledger's, for comparing
)

var firstFiles = []string{fileManifest, fileSeal, fileSealed, fileConsistency, fileCheckpoint, fileEntries}

// order is that of the files that the manifest lists.
var order = []string{fileCheckpoint, fileEntries, dirKeys, dirRecordings, dirConfig, fileIndex, fileReadme, filePublic}

const bundleFormat = "custos-evidence/1"

// Manifest says what a bundle of evidence holds. Its SHA-256 stands in the
// ledger's entry about the export, and so under the ledger's signature.
type Manifest struct {
	Format string    `json:"format"`
	MadeAt time.Time `json:"made_at"`
	MadeBy string    `json:"made_by"`
	// Size is the count of entries that the checkpoint covers.
	Size     uint64             `json:"size"`
	Sessions []custos.SessionID `json:"sessions"`
	// Sealed says that the sessions' keys were left out.
	Sealed bool `json:"sealed,omitempty"`
	// Files are all files but those that prove the manifest itself.
	Files []BundleFile `json:"files"`
}

// BundleFile is a file of a bundle.
type BundleFile struct {
	Name string `json:"name"`
	custos.Digest
}

// ProvenEntry is an entry of the ledger with the proof that it is in it.
type ProvenEntry struct {
	Index uint64 `json:"index"`
	// Leaf is the entry's bytes as the ledger holds them.
	Leaf string `json:"leaf"`
	// Attachment is the bytes stored beside it, which the leaf cites.
	Attachment []byte `json:"attachment,omitempty"`
	// Proof is the inclusion proof (RFC 6962, section 2.1.1), leaf to root.
	Proof [][]byte `json:"proof"`
}

// maxHead bounds, in bytes, a file of a bundle that is read whole; maxLine a
// line of its entries. An entry is at most 60 KiB, its attachment 16 MiB.
const (
	maxHead = 64 << 20
	maxLine = 64 << 20
)

// openBundle goes through the files of a bundle, a folder or a gzipped tar,
// in their order.
func openBundle(path string) (iter.Seq2[string, io.Reader], func() error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open evidence: %w", err)
	}
	if st, err := f.Stat(); err != nil || st.IsDir() {
		f.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("open evidence: %w", err)
		}
		return openFolder(path)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("open evidence %s: it is neither a folder nor a gzipped tar: %w", path, err)
	}
	var failed error
	files := func(yield func(string, io.Reader) bool) {
		t := tar.NewReader(z)
		for {
			h, err := t.Next()
			if err == io.EOF {
				// The tar's end is not the file's: what follows must be zeros
				// (the gzip's checksum is checked on the way).
				failed = onlyPadding(z)
				return
			}
			if err != nil {
				failed = err
				return
			}
			if h.Typeflag != tar.TypeReg {
				failed = fmt.Errorf("%q is no file", h.Name)
				return
			}
			if !yield(h.Name, t) {
				return
			}
		}
	}
	return files, func() error {
		f.Close()
		return failed
	}, nil
}

func onlyPadding(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return errors.New("there are bytes after its end")
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func openFolder(dir string) (iter.Seq2[string, io.Reader], func() error, error) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if !d.Type().IsRegular() && err == nil {
			err = fmt.Errorf("%q is no file", name)
		}
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open evidence: %w", err)
	}
	rank := func(name string) int {
		if i := slices.Index(firstFiles, name); i >= 0 {
			return i
		}
		return len(firstFiles)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	var failed error
	return func(yield func(string, io.Reader) bool) {
		for _, name := range names {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				failed = err
				return
			}
			more := yield(name, f)
			f.Close()
			if !more {
				return
			}
		}
	}, func() error { return failed }, nil
}
