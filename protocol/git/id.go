package git

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
)

// format is how a repository names its objects (gitformat-hash-function-transition(5)).
type format struct {
	name string
	size int // of an id, in bytes
	new  func() hash.Hash
}

var (
	formatSHA1   = &format{"sha1", sha1.Size, sha1.New}
	formatSHA256 = &format{"sha256", sha256.Size, sha256.New}
)

// formatOf returns the format of a capability object-format; without one it is
// SHA-1.
func formatOf(name string) (*format, error) {
	switch name {
	case "", formatSHA1.name:
		return formatSHA1, nil
	case formatSHA256.name:
		return formatSHA256, nil
	}
	return nil, fmt.Errorf("read object-format %q: it is neither sha1 nor sha256", name)
}

// id names an object, in either format.
type id struct {
	size uint8
	sum  [sha256.Size]byte
}

// parseID reads an id in hexadecimal, in lower case as git writes it.
func (f *format) parseID(s []byte) (id, error) {
	i := id{size: uint8(f.size)}
	if len(s) != 2*f.size || bytes.ContainsAny(s, "ABCDEF") {
		return id{}, fmt.Errorf("read object id %q: it is not %d digits", clip(s, 80), 2*f.size)
	}
	if _, err := hex.Decode(i.sum[:], s); err != nil {
		return id{}, fmt.Errorf("read object id %q: it is not hexadecimal", s)
	}
	return i, nil
}

// rawID reads an id in binary.
func (f *format) rawID(b []byte) id {
	i := id{size: uint8(f.size)}
	copy(i.sum[:], b[:f.size])
	return i
}

func (f *format) idOf(h hash.Hash) id {
	i := id{size: uint8(f.size)}
	h.Sum(i.sum[:0])
	return i
}

// objectHash starts the hash of an object (gitformat-pack(5), git-hash-object(1)).
func (f *format) objectHash(k kind, size int64) hash.Hash {
	h := f.new()
	h.Write(append(strconv.AppendInt(append([]byte(k.String()), ' '), size, 10), 0))
	return h
}

// zero reports the id that stands for no object.
func (i id) zero() bool { return i.sum == [sha256.Size]byte{} }

func (i id) String() string { return hex.EncodeToString(i.sum[:i.size]) }

// short is the id as people quote it.
func (i id) short() string { return i.String()[:min(12, 2*int(i.size))] }

// kind is an object's type, as packs number it.
type kind uint8

const (
	kindCommit   kind = 1
	kindTree     kind = 2
	kindBlob     kind = 3
	kindTag      kind = 4
	kindOfsDelta kind = 6
	kindRefDelta kind = 7
)

func (k kind) String() string {
	switch k {
	case kindCommit:
		return "commit"
	case kindTree:
		return "tree"
	case kindBlob:
		return "blob"
	case kindTag:
		return "tag"
	}
	return "object of type " + strconv.Itoa(int(k))
}

// clip cuts b for an error's text.
func clip[T string | []byte](b T, n int) T { return b[:min(n, len(b))] }
