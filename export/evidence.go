package export

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
)

// Evidence writes bundles of evidence.
type Evidence struct {
	Ledger     *ledger.Log
	Recordings *recording.Store
	// Tiles is the ledger's folder.
	Tiles fs.FS
	// PublicKey is the ledger's, in note's form.
	PublicKey string
	// TempDir is where the parts lie while they are made.
	TempDir string
	Now     func() time.Time
}

// Selection says what goes into a bundle.
type Selection struct {
	Sessions []custos.SessionID
	// From is the entry that opened the first of them.
	From uint64
	// By is who exports, exactly, for the ledger.
	By string
	// Sealed leaves out the sessions' keys.
	Sealed bool
}

// part is a file of a bundle in the making.
type part struct {
	BundleFile
	open func() (io.ReadCloser, error)
}

// bundle is a bundle in the making.
type bundle struct {
	*Evidence
	Selection
	ctx    context.Context
	dir    string
	chosen map[custos.SessionID]*overviewSession
	keys   map[custos.SessionID]*recording.Key
	page   overview
	base   *head // the checkpoint that every entry is proven against
	parts  []part
}

// Write writes a bundle, a gzipped tar, to w. What it holds is put together
// first; then that it is exported, and by whom, is put on record, with the
// digest of the manifest; only then the first byte is written. A crash
// before that leaves files in TempDir, which the next start removes.
func (v *Evidence) Write(ctx context.Context, w io.Writer, s Selection) error {
	dir, err := os.MkdirTemp(v.TempDir, "evidence-")
	if err != nil {
		return fmt.Errorf("export evidence: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bundle{Evidence: v, Selection: s, ctx: ctx, dir: dir,
		chosen: map[custos.SessionID]*overviewSession{}, keys: map[custos.SessionID]*recording.Key{}}
	if err := b.gather(); err != nil {
		return fmt.Errorf("export evidence: %w", err)
	}
	if err := b.write(w); err != nil {
		return fmt.Errorf("export evidence: %w", err)
	}
	return nil
}

// gather makes every part but those that prove the manifest.
func (b *bundle) gather() error {
	for _, id := range b.Sessions {
		b.chosen[id] = &overviewSession{ID: id, byEntry: map[uint64]*overviewOperation{}}
		key, err := b.Recordings.Key(id)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			b.keys[id] = key
		}
	}
	var err error
	if b.base, err = b.covering(b.Ledger.Size()); err != nil {
		return err
	}
	config, err := b.configBefore(b.From)
	if err != nil {
		return err
	}
	if err := b.file(fileEntries, func(w io.Writer) error { return b.entries(w, config) }); err != nil {
		return err
	}
	b.memory(fileCheckpoint, b.base.signed)
	b.memory(fileReadme, []byte(readme))
	b.memory(filePublic, []byte(b.PublicKey+"\n"))
	b.page.MadeAt, b.page.MadeBy = b.Now(), b.By
	b.page.Origin, b.page.Size, b.page.Root = b.base.origin, b.base.tree.N, b.base.tree.Hash.String()
	for _, id := range b.Sessions {
		b.page.Sessions = append(b.page.Sessions, b.chosen[id])
	}
	return b.file(fileIndex, b.page.write)
}

// file makes a part in a file of its own.
func (b *bundle) file(name string, write func(io.Writer) error) error {
	path := filepath.Join(b.dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, sum), 64<<10)
	if err := errors.Join(write(buf), buf.Flush()); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b.parts = append(b.parts, part{BundleFile{name, custos.Digest{SHA256: hex.EncodeToString(sum.Sum(nil)), Bytes: st.Size()}},
		func() (io.ReadCloser, error) { return os.Open(path) }})
	return nil
}

// memory takes a small part as it is.
func (b *bundle) memory(name string, content []byte) {
	b.parts = append(b.parts, part{BundleFile{name, digestOf(content)},
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }})
}

func digestOf(b []byte) custos.Digest {
	sum := sha256.Sum256(b)
	return custos.Digest{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(b))}
}

// configBefore finds the configuration that was in force at an entry: the last
// one loaded before it.
func (b *bundle) configBefore(entry uint64) ([]uint64, error) {
	const step = 4096
	for to := entry; to > 0; to -= min(to, step) {
		found := []uint64(nil)
		if err := b.Ledger.Scan(to-min(to, step), to, func(index uint64, leaf, _ []byte) error {
			e, err := custos.ParseEntry(leaf)
			if err == nil && e.Kind == custos.EntryConfig {
				found = []uint64{index}
			}
			return errors.Join(err, b.ctx.Err())
		}); err != nil || found != nil {
			return found, err
		}
	}
	return nil, nil
}

// entries writes the entries that belong to the chosen sessions, and the
// configurations in force in their time, with their proofs.
func (b *bundle) entries(w io.Writer, config []uint64) error {
	add := func(index uint64, leaf, attachment []byte) error {
		e, err := custos.ParseEntry(leaf)
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if b.chosen[e.Session] == nil && e.Kind != custos.EntryConfig {
			return b.ctx.Err()
		}
		hashes, err := b.base.prove(index, leaf)
		if err != nil {
			return err
		}
		if e.Kind == custos.EntryConfig {
			b.memory(configName(index), bytes.Clone(attachment))
		} else if err := b.take(index, e, attachment); err != nil {
			return err
		}
		return writeLine(w, &ProvenEntry{Index: index, Leaf: string(leaf), Attachment: attachment, Proof: hashes})
	}
	for _, index := range config {
		leaf, attachment, err := b.Ledger.Read(index)
		if err != nil {
			return err
		}
		if err := add(index, leaf, attachment); err != nil {
			return err
		}
	}
	return b.Ledger.Scan(b.From, uint64(b.base.tree.N), add)
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(line, '\n'))
	}
	return err
}

// take takes what an entry says into the page for people, and the files that
// it cites into the bundle.
func (b *bundle) take(index uint64, e *custos.Entry, attachment []byte) error {
	s := b.chosen[e.Session]
	key := b.keys[e.Session]
	switch e.Kind {
	case custos.EntryOpened:
		c := &e.Opened.Caller
		s.Caller, s.Issuer, s.Subject, s.Opened = c.Name, c.Issuer, c.Subject, e.At
		s.Connection, s.Protocol, s.Client = e.Opened.Connection, e.Opened.Protocol, e.Opened.Client
		if c.OnBehalfOf != nil {
			s.OnBehalfOf = c.OnBehalfOf.Name
		}
		if key != nil && !b.Sealed {
			raw, err := b.Recordings.ExportKey(e.Session)
			if err != nil {
				return err
			}
			b.memory(dirKeys+string(e.Session)+".key", raw)
		}
	case custos.EntrySubmitted:
		o := &overviewOperation{Entry: index, At: e.At, Effect: e.Submit.Effect, Rule: e.Submit.Rule, State: "unsettled"}
		if e.Submit.Effect != custos.Allow.String() {
			o.State = "not forwarded"
		}
		if key != nil && !b.Sealed {
			operation, err := key.Operation(e, attachment)
			if err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
			o.Text, o.Readable = operation.Text, true
		}
		s.Operations = append(s.Operations, o)
		s.byEntry[index] = o
	case custos.EntrySettled:
		if o := s.byEntry[e.Settled.Operation]; o != nil {
			o.State, o.Rows, o.Bytes = strings.TrimSpace(string(e.Settled.State)+" "+e.Settled.Code), e.Settled.Rows, e.Settled.Bytes
		}
		if e.Settled.Recording != nil {
			return b.recording(e)
		}
	case custos.EntryClosed:
		s.Closed, s.Reason = e.At, e.Closed.Reason
	}
	return nil
}

// recording takes a large answer's file, as it is, into the bundle.
func (b *bundle) recording(e *custos.Entry) error {
	open := func() (io.ReadCloser, error) { return os.Open(b.Recordings.Path(e.Session, e.Settled.Operation)) }
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) && b.keys[e.Session] == nil {
		return nil // erased: the ledger says so
	}
	if err != nil {
		return err
	}
	f.Close()
	b.parts = append(b.parts, part{BundleFile{recordingName(e.Session, e.Settled.Operation), *e.Settled.Recording}, open})
	return nil
}

// write puts the export on record and writes the bundle.
func (b *bundle) write(w io.Writer) error {
	m := Manifest{Format: bundleFormat, MadeAt: b.page.MadeAt, MadeBy: b.By, Size: uint64(b.base.tree.N), Sessions: b.Sessions, Sealed: b.Sealed}
	rank := func(p part) int { return slices.Index(order, strings.SplitAfter(p.Name, "/")[0]) }
	slices.SortStableFunc(b.parts, func(x, y part) int { return rank(x) - rank(y) })
	for _, p := range b.parts {
		m.Files = append(m.Files, p.BundleFile)
	}
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	head, err := b.seal(append(manifest, '\n'))
	if err != nil {
		return err
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, p := range append(head, b.parts...) {
		if err := b.put(t, p); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func (b *bundle) put(t *tar.Writer, p part) error {
	f, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.WriteHeader(&tar.Header{Name: p.Name, Mode: 0o600, Size: p.Bytes, ModTime: b.page.MadeAt}); err != nil {
		return err
	}
	n, err := io.Copy(t, f)
	if err == nil && n != p.Bytes {
		err = fmt.Errorf("it has %d bytes where its entry says %d: custos ledger verify says more", n, p.Bytes)
	}
	return errors.Join(err, b.ctx.Err())
}

// seal puts on record that each session was exported, and what the manifest
// is, and returns the manifest with the proof of that.
func (b *bundle) seal(manifest []byte) ([]part, error) {
	digest := digestOf(manifest)
	var index uint64
	var leaf []byte
	for _, id := range append(slices.Clone(b.Sessions), "") {
		e := custos.Entry{Kind: custos.EntryViewed, At: b.Now(), Session: id, Note: &custos.Note{By: b.By, Text: "evidence", Digest: digest.SHA256}}
		leaf = e.AppendJSON(nil)
		var err error
		if index, err = b.Ledger.Append(leaf, nil); err != nil {
			return nil, err
		}
	}
	if err := b.Ledger.Durable(index); err != nil {
		return nil, err
	}
	sealed, err := b.covering(index + 1)
	if err != nil {
		return nil, err
	}
	proof, err := sealed.prove(index, leaf)
	if err != nil {
		return nil, err
	}
	consistency, err := sealed.extends(b.base)
	if err != nil {
		return nil, err
	}
	own, err := sealed.own(b.PublicKey)
	if err != nil {
		return nil, err
	}
	h := bundle{}
	h.memory(fileManifest, manifest)
	for name, v := range map[string]any{fileSeal: &ProvenEntry{Index: index, Leaf: string(leaf), Proof: proof}, fileConsistency: consistency} {
		line, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		h.memory(name, append(line, '\n'))
	}
	h.memory(fileSealed, own)
	slices.SortFunc(h.parts, func(x, y part) int { return slices.Index(firstFiles, x.Name) - slices.Index(firstFiles, y.Name) })
	return h.parts, nil
}
