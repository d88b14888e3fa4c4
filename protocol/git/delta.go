package git

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Bounds of what is kept at hand while deltas are applied: bytes in memory, and
// objects in spools.
const (
	cachedBytes  = 64 << 20
	cachedSpools = 8
)

// cache holds objects that others are deltas of, those last used.
type cache struct {
	held  map[int32]*content
	order []int32 // the last used at the end
	bytes int64
	spool int
}

func (c *cache) get(n int32) *content {
	o := c.held[n]
	if o != nil {
		i := slices.Index(c.order, n)
		c.order = append(append(c.order[:i], c.order[i+1:]...), n)
	}
	return o
}

// put holds an object, and lets go of those not used for longest. The two used
// last stay.
func (c *cache) put(n int32, o *content) {
	if c.held[n] != nil {
		return
	}
	c.held[n] = o
	c.order = append(c.order, n)
	c.count(o, 1)
	for len(c.order) > 2 && (c.bytes > cachedBytes || c.spool > cachedSpools || len(c.order) > 4096) {
		oldest := c.order[0]
		c.order = c.order[1:]
		c.count(c.held[oldest], -1)
		c.held[oldest].close()
		delete(c.held, oldest)
	}
}

func (c *cache) count(o *content, sign int) {
	if o.spool != nil {
		c.spool += sign
		return
	}
	c.bytes += int64(sign) * int64(cap(o.mem))
}

func (c *cache) clear() {
	for _, o := range c.held {
		o.close()
	}
	*c = cache{held: map[int32]*content{}}
}

// resolve applies all deltas of the pack and has its visitor see what they
// make. find gets the objects, by id, that are not in it; it may be nil.
func (p *pack) resolve(ctx context.Context, find func(context.Context, []id) (*pack, error)) error {
	p.ctx = ctx
	for n, i := range p.ids {
		if !p.entries[n].delta {
			p.adopt(int32(n), i)
		}
	}
	for n := range p.entries {
		if e := &p.entries[n]; !e.delta && e.child != noEntry {
			if err := p.descend(int32(n)); err != nil {
				return err
			}
		}
	}
	for len(p.waiting) > 0 {
		if find == nil {
			return fmt.Errorf("read pack: %d deltas are of objects that it does not have: %w", len(p.waiting), errPack)
		}
		if err := p.borrow(ctx, find); err != nil {
			return err
		}
	}
	p.sorted = make([]int32, len(p.entries))
	for n := range p.entries {
		p.sorted[n] = int32(n)
	}
	slices.SortFunc(p.sorted, func(a, b int32) int { return bytes.Compare(p.ids[a].sum[:], p.ids[b].sum[:]) })
	return nil
}

// borrow gets the bases that are not in the pack, and descends from them.
func (p *pack) borrow(ctx context.Context, find func(context.Context, []id) (*pack, error)) error {
	var wanted []id
	for i := range p.waiting {
		// What waits for a delta that waits itself is not asked for yet;
		// nobody can tell which those are, so all are asked for.
		wanted = append(wanted, i)
	}
	other, err := find(ctx, wanted)
	if err != nil {
		return fmt.Errorf("read pack: find what its deltas are of: %w", err)
	}
	p.more = append(p.more, other)
	from := len(p.entries)
	for _, i := range wanted {
		at, ok := other.lookup(i)
		if !ok {
			continue
		}
		n := int32(len(p.entries))
		o := entry{off: int64(at), base: elsewhere, child: noEntry, next: int32(len(p.more) - 1), kind: other.entries[at].kind}
		p.entries = append(p.entries, o)
		p.ids = append(p.ids, i)
		for _, child := range p.waiting[i] {
			p.hang(&p.entries[child], n, child)
		}
		delete(p.waiting, i)
	}
	if len(p.entries) == from {
		return fmt.Errorf("read pack: %d deltas are of objects that nobody has: %w", len(p.waiting), errPack)
	}
	for n := from; n < len(p.entries); n++ {
		if err := p.descend(int32(n)); err != nil {
			return err
		}
	}
	return nil
}

// descend makes what the deltas of an object make, and the deltas of those.
func (p *pack) descend(root int32) error {
	stack := []int32{root}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n != root {
			if err := p.settle(n); err != nil {
				return err
			}
		}
		for child := p.entries[n].child; child != noEntry; child = p.entries[child].next {
			stack = append(stack, child)
		}
	}
	return nil
}

// settle makes the object of a delta, whose base is known.
func (p *pack) settle(n int32) error {
	e := &p.entries[n]
	base, err := p.content(e.base)
	if err != nil {
		return err
	}
	e.kind = base.kind
	delta, size, err := p.openDelta(e, base)
	if err != nil {
		return err
	}
	defer streams.Put(delta)
	o, err := p.begin(e.kind, size)
	if err != nil {
		return err
	}
	if e.child != noEntry || len(p.waiting) > 0 {
		o.keep = newContent(e.kind, size, p.spool.Dir())
	}
	if err := applyDelta(delta, base, size, o, p.spend); err != nil {
		return err
	}
	if err := p.found(n, o); err != nil {
		return err
	}
	if o.keep != nil {
		if e.child != noEntry {
			p.cache.put(n, o.keep)
		} else {
			o.keep.close()
		}
	}
	return nil
}

// openDelta reads a delta's two sizes and returns what follows.
func (p *pack) openDelta(e *entry, base *content) (delta *stream, size int64, err error) {
	if delta, err = p.inflate(e); err != nil {
		return nil, 0, err
	}
	opened := delta
	defer func() {
		if err != nil {
			streams.Put(opened)
		}
	}()
	of, err := deltaSize(delta)
	if err == nil {
		size, err = deltaSize(delta)
	}
	switch {
	case err != nil:
		return nil, 0, err
	case of != base.size:
		return nil, 0, fmt.Errorf("read pack: a delta of %d bytes on a base of %d: %w", of, base.size, errPack)
	case size > p.limits.Object:
		return nil, 0, fmt.Errorf("read pack: an object of %d bytes: %w", size, errBound)
	}
	return delta, size, nil
}

// stream reads an entry's data again, byte by byte.
type stream struct {
	p    *pack
	z    inflater
	in   byteReader
	left int64
	r, w int // z.buf[r:w] was not read yet
}

var streams = sync.Pool{New: func() any { return new(stream) }}

// inflate returns an entry's data; it is given back with streams.Put.
func (p *pack) inflate(e *entry) (*stream, error) {
	s := streams.Get().(*stream)
	s.p, s.left, s.r, s.w = p, e.size, 0, 0
	s.in.r, s.in.i, s.in.n = p.spool.Reader(e.off, p.spool.Size()-e.off), 0, 0
	if err := s.z.open(&s.in); err != nil {
		streams.Put(s)
		return nil, corrupt(err)
	}
	return s, nil
}

func (s *stream) ReadByte() (byte, error) {
	if s.r == s.w {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	s.r++
	return s.z.buf[s.r-1], nil
}

func (s *stream) fill() error {
	if s.left <= 0 {
		return io.EOF
	}
	n, err := s.z.z.Read(s.z.buf[:min(int64(len(s.z.buf)), s.left)])
	s.r, s.w = 0, n
	s.left -= int64(n)
	if n > 0 {
		return s.p.spend(int64(n))
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return corrupt(err)
}

// byteReader reads a piece of a spool byte by byte.
type byteReader struct {
	r    io.Reader
	buf  [4 << 10]byte
	i, n int
}

func (b *byteReader) fill() error {
	n, err := b.r.Read(b.buf[:])
	b.i, b.n = 0, n
	if n > 0 {
		return nil
	}
	return err
}

func (b *byteReader) ReadByte() (byte, error) {
	if b.i == b.n {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	b.i++
	return b.buf[b.i-1], nil
}

func (b *byteReader) Read(out []byte) (int, error) {
	if b.i == b.n {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(out, b.buf[b.i:b.n])
	b.i += n
	return n, nil
}

// content returns an object of the pack. It is valid until the next call but
// one.
func (p *pack) content(n int32) (*content, error) {
	var chain []int32
	var base *content
	for at := n; ; at = p.entries[at].base {
		if base = p.cache.get(at); base != nil {
			break
		}
		e := &p.entries[at]
		if e.base == elsewhere {
			o, err := p.more[e.next].content(int32(e.off))
			if err != nil {
				return nil, err
			}
			base = o
			break
		}
		if !e.delta {
			o, err := p.whole(e)
			if err != nil {
				return nil, err
			}
			p.cache.put(at, o)
			base = o
			break
		}
		chain = append(chain, at)
	}
	for _, at := range slices.Backward(chain) {
		delta, size, err := p.openDelta(&p.entries[at], base)
		if err != nil {
			return nil, err
		}
		o := newContent(base.kind, size, p.spool.Dir())
		err = applyDelta(delta, base, size, o, p.spend)
		streams.Put(delta)
		if err != nil {
			o.close()
			return nil, err
		}
		p.cache.put(at, o)
		base = o
	}
	return base, nil
}

// whole inflates an object that is no delta.
func (p *pack) whole(e *entry) (*content, error) {
	s, err := p.inflate(e)
	if err != nil {
		return nil, err
	}
	defer streams.Put(s)
	o := newContent(e.kind, e.size, p.spool.Dir())
	if err := s.z.drain(p, o, e.size); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// lookup returns the number of an object, once all are resolved.
func (p *pack) lookup(i id) (int32, bool) {
	at, found := slices.BinarySearchFunc(p.sorted, i, func(n int32, i id) int { return bytes.Compare(p.ids[n].sum[:], i.sum[:]) })
	if !found {
		return 0, false
	}
	return p.sorted[at], true
}

// object returns an object by its id; nil: the pack does not have it.
func (p *pack) object(i id) (*content, error) {
	n, ok := p.lookup(i)
	if !ok {
		return nil, nil
	}
	return p.content(n)
}
