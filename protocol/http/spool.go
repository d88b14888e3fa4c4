package http

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// How a spool lies on disk: blocks of spoolBlock bytes, each sealed by AES-256
// in GCM with its number as nonce and a key that is nowhere but in memory. What
// is below spoolMemory stays in memory.
const (
	spoolBlock  = 64 << 10
	spoolMemory = 1 << 20
	spoolTag    = 16
	spoolCached = 8 // blocks in the clear, in memory
)

// Spool holds bytes that were not judged yet. It is written once, from its
// beginning to its end, and then read anywhere. On disk there is nothing in the
// clear, and no name: what a crash leaves of it is gone, and could not be read.
// It is not safe for concurrent use.
type Spool struct {
	dir  string
	size int64
	tail []byte // what is not a whole block yet, or all of it while it is small
	file *os.File
	aead cipher.AEAD
	buf  []byte

	cached [spoolCached]struct {
		block int64 // its number from 1; 0: none
		data  []byte
	}
	turn int
}

// NewSpool makes an empty spool, whose file, if it needs one, is in dir.
func NewSpool(dir string) *Spool { return &Spool{dir: dir} }

// Write appends. It keeps nothing of b.
func (s *Spool) Write(b []byte) (int, error) {
	n := len(b)
	if s.file == nil && len(s.tail)+len(b) > spoolMemory {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	s.tail = append(s.tail, b...)
	s.size += int64(n)
	if s.file != nil {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// spill begins the file.
func (s *Spool) spill() error {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err == nil {
		s.aead, err = cipher.NewGCM(block)
	}
	if err == nil {
		s.file, err = os.CreateTemp(s.dir, "body-*")
	}
	if err != nil {
		return fmt.Errorf("make spool: %w", err)
	}
	// The file lives on without its name.
	if err := os.Remove(s.file.Name()); err != nil {
		s.file.Close()
		return fmt.Errorf("make spool: %w", err)
	}
	return s.flush()
}

// flush seals the whole blocks of the tail.
func (s *Spool) flush() error {
	done := 0
	at := s.size - int64(len(s.tail))
	for ; len(s.tail)-done >= spoolBlock; done += spoolBlock {
		n := (at + int64(done)) / spoolBlock
		s.buf = s.aead.Seal(s.buf[:0], nonce(n), s.tail[done:done+spoolBlock], nil)
		if _, err := s.file.WriteAt(s.buf, n*(spoolBlock+spoolTag)); err != nil {
			return fmt.Errorf("write spool: %w", err)
		}
	}
	s.tail = s.tail[:copy(s.tail, s.tail[done:])]
	if cap(s.tail) > 2*spoolMemory {
		s.tail = append(make([]byte, 0, 2*spoolBlock), s.tail...)
	}
	return nil
}

func nonce(block int64) []byte {
	var n [12]byte
	binary.BigEndian.PutUint64(n[4:], uint64(block))
	return n[:]
}

// ReadAt reads what was written.
func (s *Spool) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read spool: a negative offset")
	}
	n := 0
	for n < len(b) {
		at := off + int64(n)
		if at >= s.size {
			return n, io.EOF
		}
		from := s.size - int64(len(s.tail))
		if at >= from {
			n += copy(b[n:], s.tail[at-from:])
			continue
		}
		data, err := s.block(at / spoolBlock)
		if err != nil {
			return n, err
		}
		n += copy(b[n:], data[at%spoolBlock:])
	}
	return n, nil
}

// block returns a whole block in the clear.
func (s *Spool) block(n int64) ([]byte, error) {
	for i := range s.cached {
		if s.cached[i].block == n+1 {
			return s.cached[i].data, nil
		}
	}
	if cap(s.buf) < spoolBlock+spoolTag {
		s.buf = make([]byte, spoolBlock+spoolTag)
	}
	sealed := s.buf[:spoolBlock+spoolTag]
	if _, err := s.file.ReadAt(sealed, n*(spoolBlock+spoolTag)); err != nil {
		return nil, fmt.Errorf("read spool: %w", err)
	}
	c := &s.cached[s.turn]
	s.turn = (s.turn + 1) % spoolCached
	c.block = 0
	data, err := s.aead.Open(c.data[:0], nonce(n), sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("read spool: the disk gave back something else: %w", err)
	}
	c.block, c.data = n+1, data
	return data, nil
}

// Reader reads n bytes from off on.
func (s *Spool) Reader(off, n int64) *io.SectionReader { return io.NewSectionReader(s, off, n) }

// Dir is the folder of its file.
func (s *Spool) Dir() string { return s.dir }

// Size is how many bytes were written.
func (s *Spool) Size() int64 { return s.size }

// Close frees what it holds.
func (s *Spool) Close() error {
	s.tail, s.buf = nil, nil
	for i := range s.cached {
		s.cached[i].block, s.cached[i].data = 0, nil
	}
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
