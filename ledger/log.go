package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

// Options say where and how to keep a log. Dir and Signer are required.
type Options struct {
	// Dir is the log's own folder, by custom data_dir/ledger.
	Dir string
	// Signer signs checkpoints; its name is the log's origin. The key must
	// not lie in Dir.
	Signer note.Signer
	// Now is the clock of the log's own entries.
	Now func() time.Time
	// SegmentBytes is the size of a segment of the log; 0 is 64 MiB.
	SegmentBytes int64
	// Witnesses cosign checkpoints. A checkpoint is published when Quorum of
	// them have; until then it is pending.
	Witnesses []Witness
	Quorum    int
	// Logger takes what whoever runs the log should know; nil is silence.
	Logger *slog.Logger
	// Heartbeat is how long the log stays silent before it says that there
	// was nothing to say; 0 is an hour.
	Heartbeat time.Duration
	// Interval is how often the log is looked at for a new checkpoint; 0 is
	// half a second.
	Interval time.Duration
	// FS is the file system; nil is the real one.
	FS durable.FS
}

// ErrUnavailable is what callers get while the log can't keep entries.
var ErrUnavailable = errors.New("the ledger can't keep entries")

// ErrClosed is what callers get after Close.
var ErrClosed = fmt.Errorf("%w: it is closed", ErrUnavailable)

// Log is an open log. It is safe for concurrent use.
type Log struct {
	o    Options
	logs string // the folder of segments

	size   atomic.Uint64 // entries written
	synced atomic.Uint64 // entries known to be durable

	mu       sync.Mutex // orders appends; guards what follows
	buf      []byte     // scratch
	lastAt   time.Time  // when the last entry was written
	spare    chan error // from the goroutine that makes the next segment
	trim     *overlap   // what the last healing left to do
	retryAt  time.Time  // no healing before
	backoff  time.Duration
	watchers chan struct{} // closed when an entry is written, if anybody waits

	// Who syncs, rolls over or heals leads, one at a time.
	syncMu   sync.Mutex // guards what follows; taken after mu
	syncCond *sync.Cond
	leading  bool
	waiting  int                   // for the one who leads, in Durable
	crowd    int                   // how many waited when the last sync ended
	cur      *segment              // also guarded by mu; changes while leading only
	broken   atomic.Pointer[fault] // set while leading

	segments segmentList

	publish sync.Mutex // orders checkpoints; guards what follows
	tree    *tree      // of the latest
	tiles   tileWriter

	headMu    sync.Mutex // orders writes of the checkpoint files
	head      atomic.Pointer[heads]
	witnesses []*witnessClient
	signed    chan struct{} // a token when there is a new pending checkpoint
	problem   atomic.Pointer[string]

	recovery Recovery
	stop     context.CancelFunc
	ctx      context.Context
	done     sync.WaitGroup
	closed   atomic.Bool
}

// fault is why the log refuses.
type fault struct{ err error }

// segment is the one that is written to.
type segment struct {
	first uint64
	file  durable.File
	off   int64 // where the next frame goes
	cap   int64
}

// Append writes an entry at the end of the log and returns its index. From
// then on it survives the death of the process, not the loss of power: see
// Durable. After an error the entry has no index; if its bytes did reach the
// disk, a later Open may find them and keep them as an entry that nobody acted
// on.
func (l *Log) Append(leaf, attachment []byte) (uint64, error) {
	if len(leaf) == 0 || len(leaf) > MaxLeaf {
		return 0, fmt.Errorf("append entry: its leaf has %d bytes, and may have 1 to %d", len(leaf), MaxLeaf)
	}
	if len(attachment) > MaxAttachment {
		return 0, fmt.Errorf("append entry: its attachment has %d bytes, and may have %d", len(attachment), MaxAttachment)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return 0, fmt.Errorf("append entry: %w", ErrClosed)
	}
	if l.broken.Load() != nil {
		if err := l.tryHeal(); err != nil {
			return 0, fmt.Errorf("append entry: %w", err)
		}
	}
	index, err := l.append(leaf, attachment)
	if err != nil {
		return 0, fmt.Errorf("append entry: %w", err)
	}
	return index, nil
}

// keptBuffer bounds, in bytes, the scratch space that stays allocated.
const keptBuffer = 1 << 20

// append writes one frame. The caller holds mu.
func (l *Log) append(leaf, attachment []byte) (uint64, error) {
	size := int64(frameHead + len(leaf) + len(attachment))
	if l.cur.off+size > l.cur.cap {
		if err := l.rollover(size); err != nil {
			return 0, err
		}
	}
	f := frame{index: l.size.Load(), durable: l.synced.Load(), leaf: leaf, attachment: attachment}
	l.buf = appendFrame(l.buf[:0], &f)
	if _, err := l.cur.file.WriteAt(l.buf, l.cur.off); err != nil {
		return 0, l.fail("write entry", err)
	}
	if cap(l.buf) > keptBuffer {
		l.buf = nil
	}
	l.cur.off += size
	l.size.Store(f.index + 1)
	l.lastAt = l.o.Now()
	if l.watchers != nil {
		close(l.watchers)
		l.watchers = nil
	}
	if l.spare == nil && l.cur.off > l.cur.cap/2 {
		l.prepareSpare(l.o.SegmentBytes)
	}
	return f.index, nil
}

// fail makes the log refuse from now on, until it is healed.
func (l *Log) fail(what string, err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrUnavailable, what, err)
	if l.broken.CompareAndSwap(nil, &fault{err}) {
		l.o.Logger.Error("the ledger refuses entries until it is healed", "cause", err)
	}
	return err
}

// lead waits until nobody leads, and leads.
func (l *Log) lead() {
	l.syncMu.Lock()
	for l.leading {
		l.syncCond.Wait()
	}
	l.leading = true
	l.syncMu.Unlock()
}

func (l *Log) unlead() {
	l.syncMu.Lock()
	l.leading, l.crowd = false, l.waiting
	l.syncCond.Broadcast()
	l.syncMu.Unlock()
}

// Durable returns nil when the entries up to index are on stable storage. Of
// those who wait at the same time one syncs for all. After an error the entry
// may be on disk or not, and nothing may be done that rests on it.
func (l *Log) Durable(index uint64) error {
	if index < l.synced.Load() {
		return nil
	}
	if index >= l.size.Load() {
		return fmt.Errorf("sync ledger: there is no entry %d", index)
	}
	l.syncMu.Lock()
	for {
		if index < l.synced.Load() {
			l.syncMu.Unlock()
			return nil
		}
		if f := l.broken.Load(); f != nil {
			l.syncMu.Unlock()
			return fmt.Errorf("sync ledger: %w", f.err)
		}
		if !l.leading {
			break
		}
		l.waiting++
		l.syncCond.Wait()
		l.waiting--
	}
	l.leading = true
	crowd := l.crowd
	l.syncMu.Unlock()
	defer l.unlead()
	if crowd > 1 {
		// Those whom the last sync served are about to append again: let
		// them, so that this sync serves them too.
		runtime.Gosched()
	}
	if l.closed.Load() {
		return fmt.Errorf("sync ledger: %w", ErrClosed)
	}
	return l.sync()
}

// sync syncs the segment that is written to. The caller leads, so that the
// segment stays the same. Frames that are appended meanwhile are the next
// sync's.
func (l *Log) sync() error {
	target := l.size.Load()
	if err := l.cur.file.Datasync(); err != nil {
		return l.fail("sync segment "+segmentName(l.cur.first), err)
	}
	l.synced.Store(target)
	return nil
}

// rollover goes on to a new segment with room for a frame of size bytes. The
// caller holds mu. See the package comment for what a crash leaves.
func (l *Log) rollover(size int64) error {
	l.lead()
	defer l.unlead()
	if err := l.sync(); err != nil {
		return err
	}
	if err := l.enter(size); err != nil {
		return l.fail("begin segment", err)
	}
	return nil
}

// enter makes the spare segment the one that is written to. The caller holds
// mu, leads, and has nothing that is not durable.
func (l *Log) enter(size int64) error {
	want := max(l.o.SegmentBytes, headerSize+size)
	if l.spare == nil || want > l.o.SegmentBytes {
		l.dropSpare()
		l.prepareSpare(want)
	}
	if err := l.awaitSpare(want); err != nil {
		return err
	}
	next, err := l.install(l.size.Load(), spareName, headerSize)
	if err != nil {
		return err
	}
	old := l.cur
	l.syncMu.Lock()
	l.cur = next
	l.syncMu.Unlock()
	if old == nil {
		return nil
	}
	return old.file.Close()
}

const spareName = "spare"

// install writes the header of a segment made under another name, makes all
// of it durable, and gives it its name.
func (l *Log) install(first uint64, name string, off int64) (*segment, error) {
	path := filepath.Join(l.logs, name)
	f, err := l.o.FS.OpenFile(path, osReadWrite, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{first: first, file: f, off: off}
	if s.cap, err = f.Size(); err == nil {
		_, err = f.WriteAt(appendHeader(nil, first, l.o.Signer.Name()), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.o.FS.Rename(path, filepath.Join(l.logs, segmentName(first)))
	}
	if err == nil {
		err = l.o.FS.SyncDir(l.logs)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.segments.add(first)
	return s, nil
}

// prepareSpare makes the next segment in the background: filled with zeros
// and synced, so that a sync of an entry never has to write metadata.
func (l *Log) prepareSpare(size int64) {
	c := make(chan error, 1)
	l.spare = c
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		c <- fillZero(l.o.FS, filepath.Join(l.logs, spareName), size)
	}()
}

// awaitSpare waits for the spare segment. What kept it from being made some
// time ago may be over: it is tried once more.
func (l *Log) awaitSpare(size int64) error {
	err := <-l.spare
	if err != nil {
		l.prepareSpare(size)
		err = <-l.spare
	}
	l.spare = nil
	return err
}

func (l *Log) dropSpare() {
	if l.spare != nil {
		<-l.spare
		l.spare = nil
	}
}

func fillZero(fsys durable.FS, path string, size int64) error {
	f, err := fsys.OpenFile(path, osCreate, 0o600)
	if err != nil {
		return err
	}
	zeros := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size && err == nil; off += int64(len(zeros)) {
		_, err = f.WriteAt(zeros[:min(size-off, int64(len(zeros)))], off)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		// A full disk must get its space back.
		err = errors.Join(fmt.Errorf("prepare segment: %w", err), fsys.Remove(path))
	}
	return err
}

// Size is the count of entries.
func (l *Log) Size() uint64 { return l.size.Load() }

// DurableSize is the count of entries that are known to survive the loss of
// power. Whoever keeps a position in the log durably should not keep one
// beyond it.
func (l *Log) DurableSize() uint64 { return l.synced.Load() }

// Wait returns the log's size as soon as it is greater than size.
func (l *Log) Wait(ctx context.Context, size uint64) (uint64, error) {
	for {
		l.mu.Lock()
		if now := l.size.Load(); now > size {
			l.mu.Unlock()
			return now, nil
		}
		if l.watchers == nil {
			l.watchers = make(chan struct{})
		}
		c := l.watchers
		l.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for entry %d: %w", size, context.Cause(ctx))
		case <-l.ctx.Done():
			return 0, fmt.Errorf("wait for entry %d: %w", size, ErrClosed)
		}
	}
}

// Healthy returns nil, or why the log refuses entries.
func (l *Log) Healthy() error {
	if f := l.broken.Load(); f != nil {
		return f.err
	}
	if l.closed.Load() {
		return ErrClosed
	}
	return nil
}

// note appends an entry of the log's own. The caller holds mu.
func (l *Log) note(kind custos.EntryKind, text string) (uint64, error) {
	e := custos.Entry{Kind: kind, At: l.o.Now()}
	if text != "" {
		e.Note = &custos.Note{Text: text}
	}
	return l.append(e.AppendJSON(nil), nil)
}

// Close makes all entries durable, signs a last checkpoint, and closes.
func (l *Log) Close() error {
	if l.closed.Load() {
		return nil
	}
	err := l.Publish()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Swap(true) {
		return nil
	}
	l.stop()
	l.dropSpare()
	l.mu.Unlock()
	l.done.Wait()
	l.mu.Lock()
	l.lead()
	defer l.unlead()
	if rm := l.o.FS.Remove(filepath.Join(l.logs, spareName)); rm != nil && !errors.Is(rm, errNotExist) {
		err = errors.Join(err, rm)
	}
	if e := errors.Join(err, l.cur.file.Close()); e != nil {
		return fmt.Errorf("close ledger: %w", e)
	}
	return nil
}
