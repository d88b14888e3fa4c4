package recording

import (
	"crypto/cipher"
	"encoding/binary"
	"sync/atomic"
	"time"

	custos "github.com/custos-gateway/custos"
)

// nonceSize is AES-GCM's (NIST SP 800-38D, section 8.2.1): here a byte that
// says what is sealed, three of zero, and a counter of eight.
const nonceSize = 12

// What is sealed: the first byte of the nonce, so that one kind of piece never
// passes for another.
const (
	nonceInline = 1 // beside an entry
	nonceChunk  = 2 // in the file of an answer
)

// Recording seals what one session says. It is safe for concurrent use, and
// holds no file and no buffer while nothing is being said.
type Recording struct {
	id     custos.SessionID
	folder string
	aead   cipher.AEAD
	digest string
	count  atomic.Uint64 // of pieces sealed: no nonce is used twice
}

// KeyDigest is the SHA-256 of the session's key, in hexadecimal.
func (r *Recording) KeyDigest() string { return r.digest }

func (r *Recording) nonce(kind byte) (n [nonceSize]byte) {
	n[0] = kind
	binary.BigEndian.PutUint64(n[4:], r.count.Add(1))
	return n
}

// Seal appends plaintext to dst, sealed: the nonce, then the ciphertext. It
// does not allocate when dst has room.
func (r *Recording) Seal(dst, plaintext []byte) []byte {
	nonce := r.nonce(nonceInline)
	dst = append(dst, nonce[:]...)
	return r.aead.Seal(dst, dst[len(dst)-nonceSize:], plaintext, nil)
}

// Answer begins the answer to the operation of an entry. Several may be under
// way at once; each is for one goroutine.
func (r *Recording) Answer(entry uint64, submitted time.Time) *Answer {
	return &Answer{rec: r, entry: entry, last: submitted}
}

// Close ends the recording. What was sealed stays.
func (r *Recording) Close() error { return nil }
