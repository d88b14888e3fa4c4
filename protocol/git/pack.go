package git

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	web "github.com/custos-gateway/custos/protocol/http"
	"github.com/klauspost/compress/zlib"
)

// Limits bound what one push may take of the gateway.
type Limits struct {
	// Pack is how long a pack may be, in bytes.
	Pack int64
	// Objects is how many objects may be in it. Each takes about 100 bytes of
	// memory.
	Objects int
	// Object is how long one object may be once it is inflated, in bytes.
	Object int64
	// Work is how many bytes all of a pack may be once it is inflated and its
	// deltas are applied: WorkBase, and WorkRatio for each byte of the pack.
	WorkBase, WorkRatio int64
}

// standardLimits are those where nothing else is said. git's own packs stay far
// below: the history of Linux inflates to about 80 times its pack.
var standardLimits = Limits{Pack: 8 << 30, Objects: 8_000_000, Object: 4 << 30, WorkBase: 8 << 30, WorkRatio: 200}

// sink takes one object as it is read: its bytes, then its id.
type sink interface {
	io.Writer
	done(i id) error
}

// entry is one object of a pack.
type entry struct {
	head  int64 // where it begins
	off   int64 // where its compressed data begins; of an object of more: its number there
	size  int64 // of what is compressed: the object, or its delta
	base  int32 // the object that it is a delta of
	child int32 // the first that is a delta of it
	next  int32 // the next with the same base
	kind  kind  // of the object, once it is known
	delta bool
}

// The numbers that stand in place of an entry's.
const (
	noEntry   = -1
	elsewhere = -2 // base: it is an object of another pack
)

// pack is a pack of which every object was read once (gitformat-pack(5)). Its
// memory does not grow with its objects' sizes. It is not safe for concurrent
// use.
type pack struct {
	format  *format
	limits  *Limits
	spool   *web.Spool
	entries []entry
	ids     []id
	sorted  []int32 // the numbers of entries, by id
	more    []*pack // what bases were taken from
	waiting map[id][]int32
	visit   func(k kind, size int64) (sink, error)
	work    int64
	ctx     context.Context

	cache  cache
	inflow inflater
}

var (
	errPack  = errors.New("it is no pack that git would make")
	errBound = errors.New("it is beyond what a push may hold")
)

// spend counts n bytes more that were made of the pack.
func (p *pack) spend(n int64) error {
	p.work += n
	if p.work > p.limits.WorkBase+p.limits.WorkRatio*p.spool.Size() {
		return fmt.Errorf("read pack: it inflates to more than %d bytes: %w", p.work, errBound)
	}
	return p.ctx.Err()
}

// readPack reads a pack from r into a spool in dir, up to the pack's end and
// not further, and has visit see every object that is whole in it. What is
// there as a delta is seen by resolve.
func readPack(ctx context.Context, r io.Reader, f *format, dir string, limits *Limits, visit func(kind, int64) (sink, error)) (p *pack, rest io.Reader, err error) {
	p = &pack{format: f, limits: limits, spool: web.NewSpool(dir), ctx: ctx, visit: visit, waiting: map[id][]int32{}, cache: cache{held: map[int32]*content{}}}
	in := &intake{src: r, spool: p.spool, sum: f.new(), limit: limits.Pack, buf: make([]byte, 64<<10)}
	if err := p.read(in); err != nil {
		p.Close()
		return nil, nil, err
	}
	return p, io.MultiReader(bytes.NewReader(in.buf[in.r:in.w]), r), nil
}

func (p *pack) read(in *intake) error {
	var head [12]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return cut(err)
	}
	count := binary.BigEndian.Uint32(head[8:])
	if version := binary.BigEndian.Uint32(head[4:]); string(head[:4]) != "PACK" || version != 2 && version != 3 {
		return fmt.Errorf("read pack: its head is %q: %w", head[:8], errPack)
	}
	if int64(count) > int64(p.limits.Objects) {
		return fmt.Errorf("read pack: it has %d objects, more than %d: %w", count, p.limits.Objects, errBound)
	}
	for range count {
		if err := p.readEntry(in); err != nil {
			return err
		}
	}
	if err := in.keep(); err != nil {
		return err
	}
	want := in.sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil {
		return cut(err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("read pack: its sum is wrong: %w", errPack)
	}
	return in.keep()
}

// cut says that the end came too early, where it did.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read pack: it is cut: %w", errPack)
	}
	return fmt.Errorf("read pack: %w", err)
}

// readEntry reads one object's head and data.
func (p *pack) readEntry(in *intake) error {
	start := in.off()
	c, err := in.ReadByte()
	if err != nil {
		return cut(err)
	}
	e := entry{head: start, kind: kind(c >> 4 & 7), size: int64(c & 15), base: noEntry, child: noEntry, next: noEntry}
	for shift := 4; c&0x80 != 0; shift += 7 {
		if c, err = in.ReadByte(); err != nil {
			return cut(err)
		}
		if shift > 53 {
			return fmt.Errorf("read pack: an object's size is too long: %w", errPack)
		}
		e.size |= int64(c&0x7f) << shift
	}
	if e.size > p.limits.Object {
		return fmt.Errorf("read pack: an object of %d bytes: %w", e.size, errBound)
	}
	n := int32(len(p.entries))
	switch e.kind {
	case kindCommit, kindTree, kindBlob, kindTag:
	case kindOfsDelta:
		e.delta = true
		if e.base, err = p.readOffset(in, start); err != nil {
			return err
		}
		p.hang(&e, e.base, n)
	case kindRefDelta:
		e.delta = true
		raw := make([]byte, p.format.size)
		if _, err := io.ReadFull(in, raw); err != nil {
			return cut(err)
		}
		base := p.format.rawID(raw)
		p.waiting[base] = append(p.waiting[base], n)
	default:
		return fmt.Errorf("read pack: an %s: %w", e.kind, errPack)
	}
	e.off = in.off()
	p.entries = append(p.entries, e)
	p.ids = append(p.ids, id{})
	return p.readData(in, n)
}

// hang makes entry n one of its base's deltas.
func (p *pack) hang(e *entry, base, n int32) {
	e.base = base
	e.next, p.entries[base].child = p.entries[base].child, n
}

// readOffset reads how far before start the base of a delta begins.
func (p *pack) readOffset(in *intake, start int64) (int32, error) {
	c, err := in.ReadByte()
	if err != nil {
		return 0, cut(err)
	}
	back := int64(c & 0x7f)
	for c&0x80 != 0 {
		if c, err = in.ReadByte(); err != nil {
			return 0, cut(err)
		}
		if back > 1<<48 {
			return 0, fmt.Errorf("read pack: a delta's base is too far: %w", errPack)
		}
		back = (back+1)<<7 | int64(c&0x7f)
	}
	n, found := slices.BinarySearchFunc(p.entries, start-back, func(e entry, at int64) int { return cmp.Compare(e.head, at) })
	if !found {
		return 0, fmt.Errorf("read pack: a delta's base is no object: %w", errPack)
	}
	return int32(n), nil
}

// readData inflates one entry's data as it comes in. An object is hashed and
// visited, a delta only measured.
func (p *pack) readData(in *intake, n int32) error {
	e := &p.entries[n]
	if err := p.inflow.open(in); err != nil {
		return corrupt(err)
	}
	if e.delta {
		return p.inflow.drain(p, io.Discard, e.size)
	}
	o, err := p.begin(e.kind, e.size)
	if err != nil {
		return err
	}
	if err := p.inflow.drain(p, o, e.size); err != nil {
		return err
	}
	return p.found(n, o)
}

// object is one that is being read: it is hashed, and seen.
type object struct {
	hash hash.Hash
	sink sink
	keep *content // nil: it is not kept
}

func (p *pack) begin(k kind, size int64) (*object, error) {
	o := &object{hash: p.format.objectHash(k, size)}
	var err error
	if p.visit != nil {
		o.sink, err = p.visit(k, size)
	}
	return o, err
}

func (o *object) Write(b []byte) (int, error) {
	o.hash.Write(b)
	if o.keep != nil {
		if _, err := o.keep.Write(b); err != nil {
			return 0, err
		}
	}
	if o.sink == nil {
		return len(b), nil
	}
	return o.sink.Write(b)
}

// found gives entry n its id, and hangs on it the deltas that waited for it.
func (p *pack) found(n int32, o *object) error {
	i := p.format.idOf(o.hash)
	p.ids[n] = i
	p.adopt(n, i)
	if o.sink == nil {
		return nil
	}
	return o.sink.done(i)
}

// adopt hangs on entry n, which is object i, the deltas that wait for it.
func (p *pack) adopt(n int32, i id) {
	children, ok := p.waiting[i]
	if !ok {
		return
	}
	delete(p.waiting, i)
	for _, child := range children {
		p.hang(&p.entries[child], n, child)
	}
}

// inflater reads what zlib compressed, one after another.
type inflater struct {
	z   io.ReadCloser
	buf [32 << 10]byte
}

func (f *inflater) open(r io.Reader) error {
	if f.z == nil {
		z, err := zlib.NewReader(r)
		f.z = z
		return err
	}
	return f.z.(zlib.Resetter).Reset(r, nil)
}

// drain writes what it inflates to w: size bytes, no more and no fewer.
func (f *inflater) drain(p *pack, w io.Writer, size int64) error {
	for left := size; ; {
		m, err := f.z.Read(f.buf[:])
		if left -= int64(m); left < 0 {
			return fmt.Errorf("read pack: an object is longer than its head says: %w", errPack)
		}
		if m > 0 {
			if err := p.spend(int64(m)); err != nil {
				return err
			}
			if _, err := w.Write(f.buf[:m]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if left > 0 {
				return fmt.Errorf("read pack: an object is shorter than its head says: %w", errPack)
			}
			return nil
		}
		if err != nil {
			return corrupt(err)
		}
	}
}

// corrupt says of an error of zlib's whose fault it is.
func corrupt(err error) error {
	if errors.Is(err, errBound) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return cut(err)
	}
	return fmt.Errorf("read pack: %w: %w", err, errPack)
}

// Close frees what the pack holds, and the packs of its bases.
func (p *pack) Close() {
	p.cache.clear()
	p.spool.Close()
	for _, m := range p.more {
		m.Close()
	}
	p.more = nil
}

// intake reads from the client and keeps what was read.
type intake struct {
	src   io.Reader
	spool *web.Spool
	sum   hash.Hash
	limit int64
	buf   []byte
	r, w  int // buf[r:w] was not read yet
	kept  int // buf[:kept] is kept
	base  int64
}

// off is how much was read.
func (in *intake) off() int64 { return in.base + int64(in.r) }

// keep keeps what was read.
func (in *intake) keep() error {
	b := in.buf[in.kept:in.r]
	in.kept = in.r
	in.sum.Write(b)
	if in.off() > in.limit {
		return fmt.Errorf("it is longer than %d bytes: %w", in.limit, errBound)
	}
	_, err := in.spool.Write(b)
	return err
}

func (in *intake) fill() error {
	if err := in.keep(); err != nil {
		return err
	}
	in.base += int64(in.r)
	in.r, in.w, in.kept = 0, 0, 0
	for range 100 {
		n, err := in.src.Read(in.buf)
		if in.w = n; n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (in *intake) ReadByte() (byte, error) {
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	in.r++
	return in.buf[in.r-1], nil
}

func (in *intake) Read(b []byte) (int, error) {
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, in.buf[in.r:in.w])
	in.r += n
	return n, nil
}
