package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/custos-gateway/custos/internal/durable"
)

const (
	osRead      = os.O_RDONLY
	osReadWrite = os.O_RDWR
	osCreate    = os.O_RDWR | os.O_CREATE | os.O_TRUNC
)

var errNotExist = os.ErrNotExist

// segmentList knows which segments there are, and where in them entries lie.
type segmentList struct {
	mu      sync.Mutex
	firsts  []uint64 // ascending
	offsets []*offsets
}

// offsets is a coarse index of one segment, made as it is needed.
type offsets struct {
	first uint64
	every []int64 // the place of each 64th entry
	next  uint64  // the walk got so far
	off   int64
}

const (
	coarse      = 64
	keptOffsets = 32 // segments
)

func (s *segmentList) add(first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearch(s.firsts, first)
	if !found {
		s.firsts = slices.Insert(s.firsts, i, first)
	}
	s.offsets = nil // a healed log has entries in other places
}

// holding returns the first entry of the segment that holds an entry.
func (s *segmentList) holding(index uint64) (first uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearch(s.firsts, index)
	if found {
		return index, true
	}
	if i == 0 {
		return 0, false
	}
	return s.firsts[i-1], true
}

// seek places r, a reader of the segment that begins with first, at an entry.
func (s *segmentList) seek(r *frameReader, first, index uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.offsets, func(o *offsets) bool { return o.first == first })
	if i < 0 {
		s.offsets = append(s.offsets, &offsets{first: first, next: first, off: headerSize})
		if len(s.offsets) > keptOffsets {
			s.offsets = s.offsets[1:]
		}
		i = len(s.offsets) - 1
	}
	o := s.offsets[i]
	at := o.next
	r.off = o.off
	if index < o.next {
		k := (index - first) / coarse
		at, r.off = first+k*coarse, o.every[k]
	}
	for ; at < index; at++ {
		size, found, err := r.head()
		if err != nil || found != at {
			return fmt.Errorf("find entry %d in %s: at byte %d is not entry %d: %w", index, segmentName(first), r.off, at, errors.Join(err, ErrDamaged))
		}
		if at == o.next {
			if (at-first)%coarse == 0 {
				o.every = append(o.every, r.off)
			}
			o.next, o.off = at+1, r.off+int64(size)
		}
		r.off += int64(size)
	}
	return nil
}

// Read returns an entry.
func (l *Log) Read(index uint64) (leaf, attachment []byte, err error) {
	if index >= l.size.Load() {
		return nil, nil, fmt.Errorf("read entry %d: the ledger has %d entries", index, l.size.Load())
	}
	err = l.Scan(index, index+1, func(_ uint64, a, b []byte) error {
		leaf, attachment = slices.Clone(a), slices.Clone(b)
		return nil
	})
	return leaf, attachment, err
}

// Scan calls fn with the entries from one index up to, and without, another,
// or the log's size at the time of the call if that is less. The bytes are
// valid until fn returns. Scan stops at fn's first error and returns it.
func (l *Log) Scan(from, to uint64, fn func(index uint64, leaf, attachment []byte) error) error {
	for to = min(to, l.size.Load()); from < to; {
		next, err := l.scanSegment(from, to, fn)
		if err != nil {
			return err
		}
		if next == from {
			// Healing moves entries: the place may have been an old one.
			if next, err = l.scanSegment(from, to, fn); err != nil {
				return err
			}
			if next == from {
				return fmt.Errorf("read entry %d: %w; custos ledger verify names the place", from, ErrDamaged)
			}
		}
		from = next
	}
	return nil
}

// scanSegment calls fn with the entries of one segment, and returns the index
// of the first that it did not find there.
func (l *Log) scanSegment(from, to uint64, fn func(index uint64, leaf, attachment []byte) error) (uint64, error) {
	first, ok := l.segments.holding(from)
	if !ok {
		return from, nil
	}
	f, err := l.o.FS.OpenFile(filepath.Join(l.logs, segmentName(first)), osRead, 0)
	if err != nil {
		return from, fmt.Errorf("read entry %d: %w", from, err)
	}
	defer f.Close()
	r := newFrameReader(f, 0)
	if err := l.segments.seek(r, first, from); err != nil {
		return from, l.unlessMoved(first, from, err)
	}
	for from < to {
		e, err := r.next()
		if err != nil && !isNoFrame(err) {
			return from, fmt.Errorf("read entry %d: %w", from, err)
		}
		if err != nil || e.index != from {
			return from, nil
		}
		if err := fn(from, e.leaf, e.attachment); err != nil {
			return from, err
		}
		from++
	}
	return from, nil
}

// unlessMoved forgives an error of looking in a segment from which healing
// has meanwhile moved the entry.
func (l *Log) unlessMoved(first, index uint64, err error) error {
	if now, _ := l.segments.holding(index); now != first {
		return nil
	}
	return err
}

func listSegments(fsys durable.FS, dir string) ([]uint64, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, name := range names {
		if first, ok := parseSegmentName(name); ok {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}
