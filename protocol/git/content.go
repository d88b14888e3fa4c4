package git

import (
	"errors"
	"fmt"
	web "github.com/custos-gateway/custos/protocol/http"
	"io"
)

// inMemory is up to how many bytes an object is held in memory; a larger one is
// held in a spool.
const inMemory = 8 << 20

// content is an object's bytes: in memory, or in a spool where they are many.
type content struct {
	kind  kind
	size  int64
	mem   []byte
	spool *web.Spool
}

// newContent makes room for an object of a size.
func newContent(k kind, size int64, dir string) *content {
	c := &content{kind: k, size: size}
	if size > inMemory {
		c.spool = web.NewSpool(dir)
	} else {
		c.mem = make([]byte, 0, size)
	}
	return c
}

func (c *content) Write(b []byte) (int, error) {
	if c.spool != nil {
		return c.spool.Write(b)
	}
	c.mem = append(c.mem, b...)
	return len(b), nil
}

// ReadAt reads what was written.
func (c *content) ReadAt(b []byte, off int64) (int, error) {
	if c.spool != nil {
		return c.spool.ReadAt(b, off)
	}
	if off < 0 || off > int64(len(c.mem)) {
		return 0, io.EOF
	}
	n := copy(b, c.mem[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// head returns the first bytes, at most n of them.
func (c *content) head(n int) ([]byte, error) {
	if c.spool == nil {
		return c.mem[:min(n, len(c.mem))], nil
	}
	b := make([]byte, min(int64(n), c.size))
	_, err := io.ReadFull(c.spool.Reader(0, int64(len(b))), b)
	return b, err
}

func (c *content) close() {
	if c.spool != nil {
		c.spool.Close()
	}
}

var errDelta = errors.New("it is no delta of its base")

// applyDelta writes to w what a delta makes of its base (gitformat-pack(5),
// "Deltified representation"). work is told of each piece before it is made.
func applyDelta(delta io.ByteReader, base *content, size int64, w io.Writer, work func(int64) error) error {
	made := int64(0)
	buf := make([]byte, 32<<10)
	for {
		op, err := delta.ReadByte()
		if err == io.EOF {
			if made != size {
				return fmt.Errorf("apply delta: it makes %d bytes of %d: %w", made, size, errDelta)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("apply delta: %w", err)
		}
		off, n, err := deltaOp(op, delta)
		if err != nil {
			return err
		}
		if made += n; made > size || off >= 0 && off+n > base.size {
			return fmt.Errorf("apply delta: it reaches beyond the end: %w", errDelta)
		}
		if err := work(n); err != nil {
			return err
		}
		for n > 0 {
			piece := buf[:min(n, int64(len(buf)))]
			if off >= 0 {
				if _, err := base.ReadAt(piece, off); err != nil && err != io.EOF {
					return fmt.Errorf("apply delta: %w", err)
				}
				off += int64(len(piece))
			} else {
				for i := range piece {
					if piece[i], err = delta.ReadByte(); err != nil {
						return fmt.Errorf("apply delta: it is cut: %w", errDelta)
					}
				}
			}
			if _, err := w.Write(piece); err != nil {
				return err
			}
			n -= int64(len(piece))
		}
	}
}

// deltaOp reads an instruction: n bytes of the base from off on, or, where off
// is -1, n bytes that follow.
func deltaOp(op byte, delta io.ByteReader) (off, n int64, err error) {
	if op == 0 {
		return 0, 0, fmt.Errorf("apply delta: an unknown instruction: %w", errDelta)
	}
	if op&0x80 == 0 {
		return -1, int64(op), nil
	}
	for i := range 7 {
		if op>>i&1 == 0 {
			continue
		}
		c, err := delta.ReadByte()
		if err != nil {
			return 0, 0, fmt.Errorf("apply delta: it is cut: %w", errDelta)
		}
		if i < 4 {
			off |= int64(c) << (8 * i)
		} else {
			n |= int64(c) << (8 * (i - 4))
		}
	}
	if n == 0 {
		n = 0x10000
	}
	return off, n, nil
}

// deltaSize reads one of the two sizes that a delta begins with.
func deltaSize(delta io.ByteReader) (int64, error) {
	var size int64
	for shift := 0; shift < 63; shift += 7 {
		c, err := delta.ReadByte()
		if err != nil {
			return 0, fmt.Errorf("read delta's size: it is cut: %w", errDelta)
		}
		size |= int64(c&0x7f) << shift
		if c&0x80 == 0 {
			if size < 0 {
				break
			}
			return size, nil
		}
	}
	return 0, fmt.Errorf("read delta's size: it is too large: %w", errDelta)
}
