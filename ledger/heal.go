package ledger

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

// overlap is what healing has still to cut off a segment.
type overlap struct {
	file durable.File
	off  int64
}

const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
)

// tryHeal heals the log if it is time to, and otherwise returns why it
// refuses. The caller holds mu.
func (l *Log) tryHeal() error {
	f := l.broken.Load()
	if f == nil {
		return nil
	}
	now := l.o.Now()
	if now.Before(l.retryAt) {
		return f.err
	}
	l.lead()
	lost, err := l.heal()
	if err == nil {
		l.broken.Store(nil)
	}
	l.unlead()
	if err != nil {
		l.backoff = min(max(2*l.backoff, firstBackoff), lastBackoff)
		l.retryAt = now.Add(l.backoff)
		return fmt.Errorf("%w; and it can't be healed yet: %w", f.err, err)
	}
	l.backoff, l.retryAt = 0, time.Time{}
	l.o.Logger.Info("the ledger is healed", "cause", f.err, "lost", lost)
	_, err = l.note(custos.EntryRecovered, fmt.Sprintf("the ledger refused entries: %v", f.err))
	return err
}

// heal brings a log back after a write or a sync failed. Of what was not
// durable then nothing is believed: it is read back, checked, and written to
// a fresh segment, which replaces the old one from there on. An entry that
// can't be read back, and those after it, were never durable; their places are
// taken by entries that say so, as an index once given must not come to mean
// something else. The caller holds mu and leads.
//
// A crash before the fresh segment has its name leaves the old one, and Open
// reads that. A crash after it leaves entries in both; the later segment
// counts, and Open cuts the other off.
func (l *Log) heal() (lost uint64, err error) {
	if l.trim == nil {
		if lost, err = l.moveOn(); err != nil {
			return 0, err
		}
	}
	if l.trim != nil {
		err := l.trim.file.Truncate(l.trim.off)
		if err == nil {
			err = l.trim.file.Sync()
		}
		if err != nil {
			return 0, err
		}
		err = l.trim.file.Close()
		l.trim = nil
		if err != nil {
			l.o.Logger.Warn("close healed segment", "cause", err)
		}
	}
	return lost, nil
}

func (l *Log) moveOn() (lost uint64, err error) {
	from, to, old := l.synced.Load(), l.size.Load(), l.cur
	r := newFrameReader(old.file, headerSize)
	for i := old.first; i < from; i++ {
		if e, err := r.next(); err != nil || e.index != i {
			return 0, fmt.Errorf("%w: entry %d, which was durable, can't be read back at byte %d of %s: %w; %s",
				ErrDamaged, i, r.off, segmentName(old.first), err, damagedHint)
		}
	}
	start := r.off
	l.dropSpare()
	room := headerSize + max(old.off-start, 0) + int64(to-from)*lostRoom
	room = max(l.o.SegmentBytes, room)
	l.prepareSpare(room)
	if err := l.awaitSpare(room); err != nil {
		return 0, err
	}
	off, lost, err := l.copyFrames(r, from, to)
	if err != nil {
		return 0, err
	}
	fresh, err := l.install(from, spareName, off)
	if err != nil {
		return 0, err
	}
	l.syncMu.Lock()
	l.cur = fresh
	l.syncMu.Unlock()
	l.synced.Store(to)
	if old.first != from {
		l.trim = &overlap{old.file, start}
		return lost, nil
	}
	if err := old.file.Close(); err != nil { // its name is the fresh one's now
		l.o.Logger.Warn("close replaced segment", "cause", err)
	}
	return lost, nil
}

// lostRoom bounds the size of a frame that takes a lost entry's place.
const lostRoom = 512

// copyFrames writes the entries that r reads to the spare segment, and returns
// the place after the last and how many were lost.
func (l *Log) copyFrames(r *frameReader, from, to uint64) (off int64, lost uint64, err error) {
	f, err := l.o.FS.OpenFile(filepath.Join(l.logs, spareName), osReadWrite, 0)
	if err != nil {
		return 0, 0, err
	}
	off = headerSize
	for i := from; i < to; i++ {
		var e frame
		if lost == 0 {
			if e, err = r.next(); err != nil || e.index != i {
				lost = to - i
			}
		}
		if lost > 0 {
			note := custos.Entry{Kind: custos.EntryRecovered, At: l.o.Now(),
				Note: &custos.Note{Text: "an entry was lost here: it could not be written, and was never durable"}}
			e = frame{index: i, leaf: note.AppendJSON(nil)}
		}
		e.durable = from
		l.buf = appendFrame(l.buf[:0], &e)
		if _, err := f.WriteAt(l.buf, off); err != nil {
			return 0, 0, errors.Join(err, f.Close())
		}
		off += int64(len(l.buf))
	}
	return off, lost, f.Close()
}
