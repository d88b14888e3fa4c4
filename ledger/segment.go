package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"
	"strings"
)

// The layout of segments; docs/formats/ledger.md specifies it.
const (
	segmentMagic = "custos ledger 1\n"
	headerSize   = 512
	frameHead    = 28
	indexDigits  = 20
	suffix       = ".wal"
)

// Limits, in bytes.
const (
	// MaxLeaf keeps a leaf within the 16-bit length of an entry bundle (C2SP
	// tlog-tiles), with room to spare.
	MaxLeaf = 60 << 10
	// MaxAttachment bounds what a reader must hold at once.
	MaxAttachment = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segmentName is the file name of the segment that begins with an entry.
func segmentName(first uint64) string { return fmt.Sprintf("%0*d%s", indexDigits, first, suffix) }

// parseSegmentName is the reverse of segmentName.
func parseSegmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != indexDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil
}

// appendHeader appends a segment's header: magic, first index, length of the
// origin, origin, zeros, and the CRC-32C of all that.
func appendHeader(dst []byte, first uint64, origin string) []byte {
	h := make([]byte, headerSize)
	copy(h, segmentMagic)
	binary.LittleEndian.PutUint64(h[16:], first)
	binary.LittleEndian.PutUint32(h[24:], uint32(len(origin)))
	copy(h[28:headerSize-4], origin)
	binary.LittleEndian.PutUint32(h[headerSize-4:], crc32.Checksum(h[:headerSize-4], castagnoli))
	return append(dst, h...)
}

const maxOrigin = headerSize - 4 - 28

// checkHeader reads a segment's header.
func checkHeader(src io.ReaderAt, first uint64, origin string) error {
	h := make([]byte, headerSize)
	n, err := src.ReadAt(h, 0)
	switch {
	case n < headerSize && (err == nil || errors.Is(err, io.EOF)):
		return fmt.Errorf("its header is cut off after %d bytes", n)
	case n < headerSize:
		return err
	case string(h[:16]) != segmentMagic:
		return errors.New("it does not begin as a segment of this version does")
	case binary.LittleEndian.Uint32(h[headerSize-4:]) != crc32.Checksum(h[:headerSize-4], castagnoli):
		return errors.New("its header's checksum is wrong")
	case binary.LittleEndian.Uint64(h[16:]) != first:
		return fmt.Errorf("it is the segment of entry %d under another's name", binary.LittleEndian.Uint64(h[16:]))
	}
	if size := binary.LittleEndian.Uint32(h[24:]); size > maxOrigin || string(h[28:28+size]) != origin {
		return fmt.Errorf("it is a segment of another ledger, not of %q", origin)
	}
	return nil
}

// frame is one entry as a segment holds it.
type frame struct {
	index uint64
	// durable is how many entries were known to be durable when this one was
	// written. It tells a torn tail from damage: see recover.go.
	durable    uint64
	leaf       []byte
	attachment []byte
}

// appendFrame appends a frame's bytes.
func appendFrame(dst []byte, f *frame) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, f.index)
	dst = binary.LittleEndian.AppendUint64(dst, f.durable)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.leaf)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.attachment)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, f.leaf...)
	dst = append(dst, f.attachment...)
	binary.LittleEndian.PutUint32(dst[at+24:], frameSum(dst[at:]))
	return dst
}

// frameSum is the CRC-32C of a frame but for the place that holds it.
func frameSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:24], castagnoli), castagnoli, b[frameHead:])
}

// frameSize reads the size of a frame from its head.
func frameSize(head []byte) (int, error) {
	leaf, attachment := binary.LittleEndian.Uint32(head[16:]), binary.LittleEndian.Uint32(head[20:])
	if leaf == 0 || leaf > MaxLeaf || attachment > MaxAttachment {
		return 0, badFrame("the lengths in its head can't be")
	}
	return frameHead + int(leaf) + int(attachment), nil
}

// badFrame is why bytes are no frame.
type badFrame string

func (e badFrame) Error() string { return string(e) }

// errNoFrame reports that nothing but zeros follows in the segment, or
// nothing at all: its end.
var errNoFrame = errors.New("no frame follows")

// isNoFrame reports that err is about the bytes, not about reading them.
func isNoFrame(err error) bool {
	var bad badFrame
	return errors.Is(err, errNoFrame) || errors.As(err, &bad)
}

// frameReader reads the frames of a segment in order, with bounded memory.
type frameReader struct {
	src  io.ReaderAt
	off  int64  // of the next frame
	buf  []byte // a window on src
	base int64  // the place of buf in src
}

const window = 256 << 10

func newFrameReader(src io.ReaderAt, off int64) *frameReader {
	return &frameReader{src: src, off: off}
}

// peek returns up to n bytes at off, fewer only at the end of src.
func (r *frameReader) peek(n int) ([]byte, error) {
	if at := r.off - r.base; at >= 0 && at+int64(n) <= int64(len(r.buf)) {
		return r.buf[at:][:n], nil
	}
	size := max(n, window)
	if cap(r.buf) < size {
		r.buf = make([]byte, size)
	}
	got, err := r.src.ReadAt(r.buf[:size], r.off)
	r.buf, r.base = r.buf[:got], r.off
	if err != nil && !errors.Is(err, io.EOF) {
		r.buf = r.buf[:0]
		return nil, err
	}
	return r.buf[:min(n, got)], nil
}

// head returns the size of the next frame and its index, unchecked.
func (r *frameReader) head() (size int, index uint64, err error) {
	h, err := r.peek(frameHead)
	if err != nil {
		return 0, 0, err
	}
	if allZero(h) {
		return 0, 0, errNoFrame
	}
	if len(h) < frameHead {
		return 0, 0, badFrame("its head is cut off")
	}
	size, err = frameSize(h)
	return size, binary.LittleEndian.Uint64(h), err
}

// next returns the next frame and moves on. The frame's bytes are valid until
// the next call. After an error r stands where it stood.
func (r *frameReader) next() (frame, error) {
	size, _, err := r.head()
	if err != nil {
		return frame{}, err
	}
	b, err := r.peek(size)
	if err != nil {
		return frame{}, err
	}
	if len(b) < size {
		return frame{}, badFrame("it is cut off")
	}
	if binary.LittleEndian.Uint32(b[24:]) != frameSum(b) {
		return frame{}, badFrame("its checksum is wrong")
	}
	r.off += int64(size)
	leaf := binary.LittleEndian.Uint32(b[16:])
	return frame{
		index: binary.LittleEndian.Uint64(b), durable: binary.LittleEndian.Uint64(b[8:]),
		leaf: b[frameHead:][:leaf:leaf], attachment: b[frameHead+int(leaf):],
	}, nil
}

// resync moves on, byte by byte, to the next whole frame whose index is at
// least from and could be in this segment, and returns it. It returns
// errNoFrame if there is none.
func (r *frameReader) resync(from uint64) (frame, error) {
	bound := from + window*window // no segment holds as many
	if bound < from {
		bound = math.MaxUint64
	}
	for start := r.off; ; r.off++ {
		b, err := r.peek(window)
		if err != nil {
			return frame{}, err
		}
		for i := 0; i+frameHead <= len(b); i++ {
			if index := binary.LittleEndian.Uint64(b[i:]); index < from || index > bound {
				continue
			}
			if _, err := frameSize(b[i:]); err != nil {
				continue
			}
			at := r.off
			r.off += int64(i)
			f, err := r.next()
			if err == nil {
				return f, nil
			}
			r.off = at
			if b, err = r.peek(window); err != nil { // next may have moved the window
				return frame{}, err
			}
		}
		if len(b) < window {
			r.off = start
			return frame{}, errNoFrame
		}
		r.off += window - frameHead
	}
}

// lastByte returns the place after the last byte in src that is not zero, or
// from.
func lastByte(src io.ReaderAt, from int64) (int64, error) {
	buf := make([]byte, window)
	end := from
	for {
		n, err := src.ReadAt(buf, from)
		if b := bytes.TrimRight(buf[:n], "\x00"); len(b) > 0 {
			end = from + int64(len(b))
		}
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return 0, err
		}
		from += int64(n)
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
