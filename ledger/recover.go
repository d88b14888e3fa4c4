package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/custos-gateway/custos/internal/durable"
)

// ErrDamaged reports that the log is not as it was written: no crash leaves
// it so.
var ErrDamaged = errors.New("the ledger is damaged")

const damagedHint = "keep a copy of the folder as evidence, see what custos ledger verify says, and restore the ledger from a backup"

// Recovery is what Open found.
type Recovery struct {
	// Entries is how many entries there are; the last has the index before.
	Entries uint64
	// Signed is how many of them the latest checkpoint covered.
	Signed uint64
	// TornBytes is the size of what a crash left of entries that were never
	// durable; TornFile, beside the segments, has it now. Zero and empty
	// where there was none.
	TornBytes int64
	TornFile  string
	// Rebuilt reports that the tiles were not as the checkpoint says, while
	// the entries were, and that they were made again.
	Rebuilt bool
}

// Recovery tells what Open found.
func (l *Log) Recovery() Recovery { return l.recovery }

// Open opens a log, or begins one where there is none. It reads as a stranger
// would what the last run left after its last checkpoint: a torn tail, which
// a crash may leave, is set aside; anything else that is not as it should be
// is damage, and Open refuses.
func Open(o Options) (*Log, error) {
	l, err := newLog(o)
	if err == nil {
		err = l.open()
	}
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", o.Dir, err)
	}
	return l, nil
}

func newLog(o Options) (*Log, error) {
	if o.Dir == "" || o.Signer == nil {
		return nil, errors.New("it needs a folder and a signer")
	}
	if n := len(o.Signer.Name()); n == 0 || n > maxOrigin {
		return nil, fmt.Errorf("its origin has %d bytes, and may have 1 to %d", n, maxOrigin)
	}
	if o.Quorum < 0 || o.Quorum > len(o.Witnesses) {
		return nil, fmt.Errorf("a quorum of %d can't be had of %d witnesses", o.Quorum, len(o.Witnesses))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = durable.OS
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = time.Hour
	}
	if o.Interval <= 0 {
		o.Interval = 500 * time.Millisecond
	}
	l := &Log{o: o, logs: filepath.Join(o.Dir, "log"), lastAt: o.Now(), tree: new(tree), signed: make(chan struct{}, 1),
		tiles: tileWriter{fs: o.FS, dir: o.Dir, known: map[string]bool{}}}
	l.syncCond = sync.NewCond(&l.syncMu)
	l.ctx, l.stop = context.WithCancel(context.Background())
	var err error
	l.witnesses, err = newWitnessClients(&o)
	return l, err
}

func (l *Log) open() error {
	if err := l.makeDirs(); err != nil {
		return err
	}
	h, err := l.loadHeads()
	if err != nil {
		return err
	}
	firsts, err := listSegments(l.o.FS, l.logs)
	if err != nil {
		return err
	}
	switch {
	case len(firsts) == 0 && h.pending.N > 0:
		return fmt.Errorf("%w: its checkpoint covers %d entries, and there are none: entries were removed or an older state was put in their place; %s", ErrDamaged, h.pending.N, damagedHint)
	case len(firsts) == 0:
		err = l.begin(h)
	case h.pending.note == nil:
		return fmt.Errorf("%w: it has entries and no checkpoint: somebody removed it; %s", ErrDamaged, damagedHint)
	default:
		l.head.Store(h)
		err = l.recover(firsts, uint64(h.pending.N))
	}
	if err != nil {
		return err
	}
	if err := l.openTree(); err != nil {
		return errors.Join(err, l.cur.file.Close())
	}
	l.recovery.Entries, l.recovery.Signed = l.size.Load(), l.tree.n
	l.follow()
	return nil
}

func (l *Log) makeDirs() error {
	if err := l.o.FS.MkdirAll(l.logs, 0o700); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(filepath.Clean(l.o.Dir)), l.o.Dir} {
		if err := l.o.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// begin makes an empty log: first the checkpoint of nothing, so that a log
// with entries and no checkpoint is one from which it was removed.
func (l *Log) begin(h *heads) error {
	if h.pending.note == nil {
		if err := l.sign(); err != nil {
			return err
		}
	} else {
		l.head.Store(h)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lead()
	defer l.unlead()
	return l.enter(0)
}

// recover reads the segments from the one that has the first entry after the
// signed ones.
func (l *Log) recover(firsts []uint64, signed uint64) error {
	for _, first := range firsts {
		l.segments.add(first)
	}
	expect, ok := l.segments.holding(signed)
	if !ok {
		return fmt.Errorf("%w: its first segment begins with entry %d; %s", ErrDamaged, firsts[0], damagedHint)
	}
	for i, first := range firsts {
		if first < expect {
			continue
		}
		last := i == len(firsts)-1
		until := uint64(1<<64 - 1)
		if !last {
			until = firsts[i+1]
		}
		next, err := l.recoverSegment(first, until, signed, last)
		if err != nil {
			return err
		}
		expect = next
	}
	if expect < signed {
		return fmt.Errorf("%w: its checkpoint covers %d entries, and there are %d: entries were removed or an older state was put in their place; %s",
			ErrDamaged, signed, expect, damagedHint)
	}
	l.size.Store(expect)
	l.synced.Store(expect)
	return nil
}

// recoverSegment reads one segment up to, and without, entry until, and
// returns the index after its last entry.
func (l *Log) recoverSegment(first, until, signed uint64, last bool) (uint64, error) {
	name := segmentName(first)
	f, err := l.o.FS.OpenFile(filepath.Join(l.logs, name), osReadWrite, 0)
	if err != nil {
		return 0, err
	}
	fail := func(err error) (uint64, error) { return 0, errors.Join(err, f.Close()) }
	if err := checkHeader(f, first, l.o.Signer.Name()); err != nil {
		return fail(fmt.Errorf("%w: segment %s: %w; %s", ErrDamaged, name, err, damagedHint))
	}
	r := newFrameReader(f, headerSize)
	index, unsigned, end := first, int64(-1), error(nil)
	for index < until {
		if index == signed {
			unsigned = r.off
		}
		at := r.off
		e, err := r.next()
		if err == nil && e.index != index {
			r.off, err = at, badFrame(fmt.Sprintf("entry %d is in its place", e.index))
		}
		if err != nil {
			end = err
			break
		}
		index++
	}
	if end != nil && !isNoFrame(end) {
		return fail(fmt.Errorf("read segment %s: %w", name, end))
	}
	if !last {
		if index != until {
			return fail(fmt.Errorf("%w: segment %s at byte %d: entry %d is missing or wrong: %w; %s", ErrDamaged, name, r.off, index, end, damagedHint))
		}
		return index, errors.Join(l.cutOff(f, r.off), f.Close())
	}
	if unsigned < 0 {
		unsigned = headerSize
	}
	if err := l.recoverTail(f, name, r, index, signed, end); err != nil {
		return fail(err)
	}
	if err := rewrite(f, unsigned, r.off); err != nil {
		return fail(fmt.Errorf("write segment %s again: %w", name, err))
	}
	l.cur = &segment{first: first, file: f, off: r.off}
	if l.cur.cap, err = f.Size(); err != nil {
		return fail(err)
	}
	return index, nil
}

// cutOff removes what a healing, interrupted by a crash, left after the
// entries that the next segment did not take over.
func (l *Log) cutOff(f durable.File, off int64) error {
	end, err := lastByte(f, off)
	if err != nil || end == off {
		return err
	}
	if err := f.Truncate(off); err != nil {
		return err
	}
	return f.Sync()
}

// recoverTail looks at what follows the last whole entry of the last segment,
// at r. It is a torn tail only if the entry there was never durable: it is
// not under a checkpoint, and no later frame says that it was. (The pages of
// entries that nobody synced reach the disk in any order, so that a whole
// frame after a torn one proves nothing by itself.)
func (l *Log) recoverTail(f durable.File, name string, r *frameReader, index, signed uint64, cause error) error {
	off := r.off
	end, err := lastByte(f, off)
	if err != nil {
		return fmt.Errorf("read segment %s: %w", name, err)
	}
	if end == off {
		return nil
	}
	damaged := func(why string) error {
		return fmt.Errorf("%w: segment %s at byte %d: entry %d is wrong (%w), and %s; %s", ErrDamaged, name, off, index, cause, why, damagedHint)
	}
	if index < signed {
		return damaged("it is under a signed checkpoint")
	}
	for {
		later, err := r.resync(index + 1)
		if errors.Is(err, errNoFrame) {
			break
		}
		if err != nil {
			return fmt.Errorf("read segment %s: %w", name, err)
		}
		if later.durable > index {
			return damaged(fmt.Sprintf("entry %d, which is whole, says that it was durable", later.index))
		}
	}
	r.off = off
	return l.setAside(f, name, off, end)
}

// setAside copies a torn tail to a file of its own, and then zeroes it. A
// crash in between leaves both, and the next Open does it again.
func (l *Log) setAside(f durable.File, name string, off, end int64) error {
	tail := make([]byte, end-off)
	if _, err := f.ReadAt(tail, off); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("set torn tail aside: %w", err)
	}
	torn := "torn-" + l.o.Now().UTC().Format("20060102T150405.000000Z")
	if err := durable.WriteFile(l.o.FS, filepath.Join(l.logs, torn), tail, 0o600); err != nil {
		return fmt.Errorf("set torn tail aside: %w", err)
	}
	clear(tail)
	_, err := f.WriteAt(tail, off)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("zero torn tail of %s: %w", name, err)
	}
	l.recovery.TornBytes, l.recovery.TornFile = end-off, torn
	l.o.Logger.Warn("set aside what a crash left of entries that were never durable", "segment", name, "byte", off, "bytes", end-off, "file", torn)
	return nil
}

// rewrite writes bytes of a file again where they are, and syncs. After a
// sync that failed in the last run the page cache may hold, as clean, pages
// that the disk never got.
func rewrite(f durable.File, from, to int64) error {
	buf := make([]byte, min(to-from, 1<<20))
	for from < to {
		b := buf[:min(int64(len(buf)), to-from)]
		if _, err := f.ReadAt(b, from); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, from); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return f.Sync()
}
