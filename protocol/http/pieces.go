package http

import (
	"errors"
	"io"
)

// Pieces is a body that lies ready, judged, and goes out in pieces: what is in
// memory, then what is in a spool. It is of gate.Pieces.
type Pieces struct {
	head  []byte
	spool *Spool
	at    int64
	size  int64
	buf   []byte
}

// maxPiece is how much of a body is put on record at once, in bytes.
const maxPiece = 1 << 20

// NewPieces returns a body of head and then all of s, which may be nil. s stays
// its maker's to close.
func NewPieces(head []byte, s *Spool) *Pieces {
	p := &Pieces{head: head, spool: s, size: int64(len(head))}
	if s != nil {
		p.size += s.Size()
	}
	return p
}

// Size is how many bytes it is.
func (p *Pieces) Size() int64 { return p.size }

// Next is of gate.Pieces.
func (p *Pieces) Next() ([]byte, error) {
	if n := min(len(p.head), maxPiece); n > 0 {
		piece := p.head[:n]
		p.head = p.head[n:]
		return piece, nil
	}
	if p.spool == nil || p.at == p.spool.Size() {
		return nil, io.EOF
	}
	if p.buf == nil {
		p.buf = make([]byte, min(maxPiece, p.spool.Size()))
	}
	n, err := p.spool.ReadAt(p.buf, p.at)
	if n == 0 {
		return nil, err
	}
	p.at += int64(n)
	return p.buf[:n], nil
}

// Read is not how it is sent.
func (p *Pieces) Read([]byte) (int, error) {
	return 0, errors.New("read body: it is sent in pieces")
}

// Close leaves the spool to who made it.
func (p *Pieces) Close() error { return nil }
