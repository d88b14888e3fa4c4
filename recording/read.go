package recording

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"github.com/klauspost/compress/s2"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

// Key opens what a session sealed. It is safe for concurrent use.
type Key struct {
	id     custos.SessionID
	folder string
	aead   cipher.AEAD
	digest [sha256.Size]byte
}

// OpenWithKey opens what a session sealed with a key from an evidence bundle,
// where the session's files lie in folder.
func OpenWithKey(folder string, id custos.SessionID, key []byte) (*Key, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("open recording of session %s: its key has %d bytes, not %d", id, len(key), keySize)
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, fmt.Errorf("open recording of session %s: %w", id, err)
	}
	return &Key{id: id, folder: folder, aead: aead, digest: sha256.Sum256(key)}, nil
}

// Matches reports whether an opened entry commits to this key.
func (k *Key) Matches(o *custos.Opened) bool {
	want, err := hex.DecodeString(o.Key)
	return err == nil && subtle.ConstantTimeCompare(want, k.digest[:]) == 1
}

// OpenSealed opens a piece that is stored beside an entry.
func (k *Key) OpenSealed(sealed []byte) ([]byte, error) {
	if len(sealed) < nonceSize || sealed[0] != nonceInline {
		return nil, fmt.Errorf("open recording of session %s: this is not a sealed piece", k.id)
	}
	b, err := k.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], nil)
	if err != nil {
		return nil, fmt.Errorf("open recording of session %s: it was altered, or sealed with another key", k.id)
	}
	return b, nil
}

// saltSize is that of the salt before a sealed operation, in bytes.
const saltSize = 16

// Operation opens the operation of a submitted entry, and checks it against
// the digest that the entry's leaf holds.
func (k *Key) Operation(e *custos.Entry, attachment []byte) (*custos.Operation, error) {
	if e.Submit == nil {
		return nil, errors.New("open operation: the entry has none")
	}
	plain, err := k.OpenSealed(attachment)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(plain)
	if len(plain) < saltSize || hex.EncodeToString(sum[:]) != e.Submit.Digest {
		return nil, fmt.Errorf("open recording of session %s: the operation is not the one on record", k.id)
	}
	op, err := custos.ParseSealed(plain[saltSize:])
	if err != nil {
		return nil, err
	}
	op.Verbs, op.Objects, op.Writes = e.Submit.Verbs, e.Submit.Objects, e.Submit.Writes
	return op, nil
}

// OpenAnswer opens the file of a large answer: the reader gives its records.
// It holds one chunk in memory.
func (k *Key) OpenAnswer(entry uint64) (io.ReadCloser, error) {
	f, err := os.Open(answerPath(k.folder, k.id, entry))
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	return &chunkReader{key: k, entry: entry, file: f, in: bufio.NewReaderSize(f, chunkSize)}, nil
}

type chunkReader struct {
	key    *Key
	entry  uint64
	file   *os.File
	in     *bufio.Reader
	number uint64
	last   bool
	body   []byte // one chunk's, used again for the next
	wide   []byte // its text where it was compressed, likewise
	plain  []byte // of it what was not read yet
	err    error
}

func (r *chunkReader) Close() error { return r.file.Close() }

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.plain) == 0 {
		return 0, r.err
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// next opens the next chunk, or returns io.EOF after the last. A file without
// a last chunk is cut: what a crash left of it was readable up to there.
func (r *chunkReader) next() error {
	head, body, err := readChunk(r.in, r.body)
	switch {
	case errors.Is(err, io.EOF) && r.last:
		return io.EOF
	case err != nil:
		return fmt.Errorf("read recording of session %s, entry %d, after chunk %d: it is cut: %w", r.key.id, r.entry, r.number, io.ErrUnexpectedEOF)
	case r.last:
		return fmt.Errorf("read recording of session %s, entry %d: bytes follow its end", r.key.id, r.entry)
	}
	r.body = body
	flags := head[4]
	plain, err := r.key.aead.Open(body[:0], head[5:], body, chunkAAD(r.key.id, r.entry, r.number, flags))
	if err == nil && flags&flagCompressed != 0 {
		plain, err = r.decompress(plain)
	}
	if err != nil {
		return fmt.Errorf("read recording of session %s, entry %d, chunk %d: it was altered", r.key.id, r.entry, r.number)
	}
	r.plain, r.last = plain, flags&flagLast != 0
	r.number++
	return nil
}

// decompress bounds what it makes room for before it does.
func (r *chunkReader) decompress(b []byte) (plain []byte, err error) {
	n, err := s2.DecodedLen(b)
	if err == nil && n > maxChunk {
		err = fmt.Errorf("a chunk of %d bytes", n)
	}
	if err != nil {
		return nil, err
	}
	if cap(r.wide) < n {
		r.wide = make([]byte, n)
	}
	return s2.Decode(r.wide[:n], b)
}

var errChunkSize = errors.New("a chunk of impossible size")

// readChunk reads a chunk, its body into the room of buf if that is enough.
func readChunk(in io.Reader, buf []byte) (head [headSize]byte, body []byte, err error) {
	if _, err = io.ReadFull(in, head[:]); err != nil {
		return head, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:])) - (headSize - 4)
	if n < 0 || n > maxChunk {
		return head, nil, fmt.Errorf("%w: %d bytes", errChunkSize, n)
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	body = buf[:n]
	if _, err = io.ReadFull(in, body); errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return head, body, err
}

// Salvage takes stock of an answer that a crash left without an outcome: a
// chunk that was not written to its end is cut off, and the rest is cited. A
// chunk that is whole and does not open was altered, not torn: then nothing is
// cut, and the file is cited as it is. Salvage returns nil where nothing is
// left. It may be called again.
func (s *Store) Salvage(id custos.SessionID, entry uint64) (*custos.Digest, error) {
	path := s.Path(id, entry)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("salvage recording: %w", err)
	}
	defer f.Close()
	whole, err := s.whole(f, id, entry)
	if err == nil && whole == 0 {
		if err = os.Remove(path); err == nil {
			err = durable.OS.SyncDir(s.folder(id))
		}
		if err != nil {
			return nil, fmt.Errorf("salvage recording: %w", err)
		}
		return nil, nil
	}
	if err == nil {
		err = f.Truncate(whole)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, fmt.Errorf("salvage recording: %w", err)
	}
	return digestOf(f, whole)
}

// whole returns how many bytes of a file are chunks that were written to their
// end. It goes by the key, where that is there: a damaged length must not pass
// for a torn end.
func (s *Store) whole(f *os.File, id custos.SessionID, entry uint64) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	key, err := s.Key(id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	in := bufio.NewReaderSize(f, chunkSize)
	var whole int64
	var buf []byte
	for number := uint64(0); ; number++ {
		head, body, err := readChunk(in, buf)
		buf = body
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			// Torn: at most one chunk is, as the next is written after it.
			if info.Size()-whole > headSize+maxChunk {
				return info.Size(), nil
			}
			return whole, nil
		case errors.Is(err, errChunkSize):
			return info.Size(), nil
		case err != nil:
			return 0, err
		}
		if key != nil {
			if _, err := key.aead.Open(body[:0], head[5:], body, chunkAAD(id, entry, number, head[4])); err != nil {
				return info.Size(), nil
			}
		}
		whole += int64(headSize + len(body))
	}
}

func digestOf(f *os.File, size int64) (*custos.Digest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
		return nil, fmt.Errorf("salvage recording: %w", err)
	}
	return &custos.Digest{SHA256: hex.EncodeToString(h.Sum(nil)), Bytes: size}, nil
}

// Record is a piece of an answer.
type Record struct {
	After time.Duration // since the record before, or the submission
	Bytes []byte
}

// Records reads an answer's records. The bytes of one are good until the next.
func Records(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		in := bufio.NewReader(r)
		var buf bytes.Buffer
		for {
			after, err := binary.ReadUvarint(in)
			if errors.Is(err, io.EOF) {
				return
			}
			var n uint64
			if err == nil {
				n, err = binary.ReadUvarint(in)
			}
			if err == nil && n > maxRecord {
				err = fmt.Errorf("a record of %d bytes", n)
			}
			if err == nil {
				buf.Reset()
				_, err = io.CopyN(&buf, in, int64(n))
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				yield(Record{}, fmt.Errorf("read recording: %w", err))
				return
			}
			if !yield(Record{time.Duration(after) * time.Microsecond, buf.Bytes()}, nil) {
				return
			}
		}
	}
}
