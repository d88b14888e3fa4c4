package recording

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

const (
	// inlineLimit is how many bytes of records are kept beside the ledger's
	// entry; an answer with more goes to a file.
	inlineLimit = 32 << 10
	// chunkSize is how many bytes of records make a chunk of the file. The
	// last chunk has fewer, and one that a large record overfills has more.
	chunkSize = 64 << 10
	// maxChunk bounds a chunk in the file, against a reader's memory.
	maxChunk = 1 << 20
	// maxRecord bounds one record; longer writes become several.
	maxRecord = 512 << 10
)

// flags of a chunk.
const (
	flagCompressed = 1 << iota // s2 block format
	flagLast                   // no chunk follows
)

// headSize is that of a chunk's head: u32 length of what follows it, flags,
// nonce.
const headSize = 4 + 1 + nonceSize

// Answer records what comes back of one operation.
type Answer struct {
	rec    *Recording
	entry  uint64
	last   time.Time
	plain  *[]byte // records not yet written, from pool
	bytes  int64
	file   *os.File
	hash   hash.Hash
	size   int64
	chunks uint64
	err    error
}

var pool = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// maxPooled bounds a buffer that is kept for the next answer.
const maxPooled = 2 * chunkSize

// Bytes is the count of bytes written.
func (a *Answer) Bytes() int64 { return a.bytes }

// Write records b as it came at a time. After an error the answer is
// incomplete, and every further call returns that error; Finish says what was
// kept.
func (a *Answer) Write(at time.Time, b []byte) error {
	if a.err != nil {
		return a.err
	}
	if a.plain == nil {
		a.plain = pool.Get().(*[]byte)
	}
	delta := max(at.Sub(a.last), 0).Microseconds()
	a.last = a.last.Add(time.Duration(delta) * time.Microsecond)
	for first := true; first || len(b) > 0; first = false {
		piece := b[:min(len(b), maxRecord)]
		b = b[len(piece):]
		a.grow(2*binary.MaxVarintLen64 + len(piece))
		p := binary.AppendUvarint(*a.plain, uint64(delta))
		p = binary.AppendUvarint(p, uint64(len(piece)))
		*a.plain = append(p, piece...)
		a.bytes += int64(len(piece))
		delta = 0
		if len(*a.plain) >= chunkSize || (a.file == nil && len(*a.plain) > inlineLimit) {
			if a.err = a.spill(0); a.err != nil {
				return a.err
			}
		}
	}
	return nil
}

// grow makes room for n more bytes, and clears what it leaves behind.
func (a *Answer) grow(n int) {
	old := *a.plain
	if cap(old)-len(old) >= n {
		return
	}
	*a.plain = append(make([]byte, 0, max(2*cap(old), len(old)+n)), old...)
	clear(old)
}

// spill writes the gathered records as one chunk. A crash leaves the chunks
// before it, and perhaps a part of this one, which Salvage cuts off.
func (a *Answer) spill(flags byte) error {
	if a.file == nil {
		f, err := os.OpenFile(answerPath(a.rec.folder, a.rec.id, a.entry), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("write recording: %w", err)
		}
		a.file, a.hash = f, sha256.New()
	}
	body := *a.plain
	packed := scratch.Get().(*[]byte)
	defer scratch.Put(packed)
	if n := s2.MaxEncodedLen(len(body)); cap(*packed) < n+headSize+16 {
		*packed = make([]byte, 0, n+headSize+16)
	}
	out := (*packed)[:headSize]
	// Compressed behind the head, sealed in place.
	if c := s2.Encode(out[headSize:cap(out)], body); len(c) < len(body) {
		flags |= flagCompressed
		out = out[:headSize+len(c)]
	} else {
		out = append(out, body...)
	}
	nonce := a.rec.nonce(nonceChunk)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4+a.rec.aead.Overhead()))
	out[4] = flags
	copy(out[5:], nonce[:])
	aad := chunkAAD(a.rec.id, a.entry, a.chunks, flags)
	out = a.rec.aead.Seal(out[:headSize], nonce[:], out[headSize:], aad)
	*packed = out[:0]
	if _, err := a.file.Write(out); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	a.hash.Write(out)
	a.size += int64(len(out))
	a.chunks++
	clear(body)
	*a.plain = body[:0]
	return nil
}

var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 2*chunkSize); return &b }}

// chunkAAD binds a chunk to its place: session, entry, number and flags.
func chunkAAD(id custos.SessionID, entry, number uint64, flags byte) []byte {
	b := make([]byte, 0, len(id)+17)
	b = append(b, id...)
	b = binary.BigEndian.AppendUint64(b, entry)
	b = binary.BigEndian.AppendUint64(b, number)
	return append(b, flags)
}

// Finish ends the answer. It returns a small one sealed, nil if nothing was
// written, and cites the file of a large one, which is durable by then: the
// ledger never cites what a loss of power may take.
//
// Where the disk failed, Finish returns the error, and cites beside it what
// got into the file before: the caller may have seen it.
func (a *Answer) Finish() (sealed []byte, file *custos.Digest, err error) {
	defer a.release()
	switch {
	case errors.Is(a.err, errFinished), a.plain == nil:
		return nil, nil, a.err
	case a.err == nil && a.file == nil:
		return a.rec.Seal(make([]byte, 0, nonceSize+len(*a.plain)+a.rec.aead.Overhead()), *a.plain), nil, nil
	case a.err == nil:
		a.err = a.spill(flagLast)
	}
	file, err = a.closeFile()
	return nil, file, errors.Join(a.err, err)
}

var errFinished = errors.New("write recording: the answer is finished")

// closeFile cites the chunks that were written to their end, and cuts off what
// a failed write left behind them.
func (a *Answer) closeFile() (*custos.Digest, error) {
	if a.file == nil {
		return nil, nil
	}
	f := a.file
	a.file = nil
	var err error
	if a.size == 0 {
		err = os.Remove(f.Name())
	} else if a.err != nil {
		err = f.Truncate(a.size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = durable.OS.SyncDir(a.rec.folder)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("write recording: %w", err)
	}
	if a.size == 0 {
		return nil, nil
	}
	return &custos.Digest{SHA256: hex.EncodeToString(a.hash.Sum(nil)), Bytes: a.size}, nil
}

// release gives back what the answer holds. What the pool keeps is cleared.
func (a *Answer) release() {
	if a.plain != nil {
		clear(*a.plain)
		if cap(*a.plain) <= maxPooled {
			*a.plain = (*a.plain)[:0]
			pool.Put(a.plain)
		}
		a.plain = nil
	}
	a.err = errFinished
}
