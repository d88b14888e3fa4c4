// Package mask finds personal data and credentials in bytes, and hides values.
//
// A Masker looks for the kinds of value that its rules name. What looks like
// one is verified by what its public format says (a checksum, a country's
// length, a prefix and an alphabet), so that a hit is a value that could
// exist and not only a run of digits. Value hides a whole value, whatever it
// is, for rules that name columns.
//
// The package is pure: it does no I/O and keeps no state. The time that a
// call takes is linear in what it reads, whatever the bytes are.
package mask

import (
	"fmt"
	"slices"
	"strings"
)

// Way is how a value is hidden.
type Way uint8

// The ways. The zero value hides the most.
const (
	// Redact puts ***MASKED*** in the value's place.
	Redact Way = iota
	// Partial leaves a part that helps to recognise the value: an e-mail
	// address keeps its domain, a card and a social security number their last
	// four digits, anything else its first character.
	Partial
	// Hash puts a token there, tok_KIND_HEX, that is the same wherever the
	// value is the same under one key, so that joins and counts still work.
	Hash
	// Format puts random-looking digits for digits and letters for letters, by
	// the key; length and punctuation stay. It can't be undone, not even with
	// the key.
	Format
	// Null leaves nothing there: the caller writes its protocol's NULL.
	Null
)

var wayNames = [...]string{"redact", "partial", "hash", "format", "null"}

// ParseWay returns the way of that name.
func ParseWay(name string) (Way, error) {
	if i := slices.Index(wayNames[:], name); i >= 0 {
		return Way(i), nil
	}
	return Redact, fmt.Errorf("read way to mask %q: no such way; use one of %s", name, strings.Join(wayNames[:], ", "))
}

// String returns the name that ParseWay reads.
func (w Way) String() string {
	if int(w) < len(wayNames) {
		return wayNames[w]
	}
	return fmt.Sprintf("way(%d)", uint8(w))
}

// strictness orders the ways for a kind that several rules name: the way that
// shows least wins.
var strictness = [...]uint8{Redact: 4, Null: 3, Hash: 2, Format: 1, Partial: 0}

// Span is a hit: b[Start:End] is a value of the kind.
type Span struct {
	Start, End int
	Kind       Kind
}

// Rule says which kinds are looked for and how they are hidden. Detect holds
// names of Kinds.
type Rule struct {
	Detect []string
	With   Way
}

// Masker looks for the kinds of its rules. It never changes once made, and is
// safe for concurrent use.
type Masker struct {
	key [32]byte
	// want are the kinds looked for; named those of them that a rule names
	// themselves and not by a group.
	want, named kinds
	way         [numKinds]Way
	// class says of each byte what, if anything, may start or turn there.
	class classes
	// anchors has for a byte the tokens that are recognised at that byte;
	// before those that have that byte in front of it.
	anchors, before [256]uint64
}

// New returns a Masker for the rules. The key is for Hash and Format. A rule
// that names an unknown kind or way is an error.
func New(key [32]byte, rules []Rule) (*Masker, error) {
	m := &Masker{key: key}
	for _, r := range rules {
		if int(r.With) >= len(wayNames) {
			return nil, fmt.Errorf("use way to mask %d: no such way", r.With)
		}
		for _, name := range r.Detect {
			set, single, err := kindsOf(name)
			if err != nil {
				return nil, err
			}
			for k := range numKinds {
				if !set.has(k) {
					continue
				}
				if !m.want.has(k) || strictness[r.With] > strictness[m.way[k]] {
					m.way[k] = r.With
				}
				m.want |= 1 << k
			}
			if single {
				m.named |= set
			}
		}
	}
	m.prepare()
	return m, nil
}

// Find appends the hits in b to dst: in order, and none overlaps another. It
// allocates nothing when dst has room.
func (m *Masker) Find(dst []Span, b []byte) []Span {
	first := m.class.skip(b, 0)
	if first == len(b) {
		return dst
	}
	s := scanner{m: m, b: b}
	for i := first; i < len(b); {
		hit, ok := s.next(i)
		if !ok {
			break
		}
		dst = append(dst, hit)
		i, s.floor = hit.End, hit.End
	}
	return dst
}

// Append appends b to dst with every hit hidden in its kind's way, and says
// how many there were. Where there is none, nothing is appended: out is dst,
// and b can be used as it is. A hit hidden by Null leaves nothing.
func (m *Masker) Append(dst, b []byte) (out []byte, n int) {
	first := m.class.skip(b, 0)
	if first == len(b) {
		return dst, 0
	}
	s := scanner{m: m, b: b}
	copied := 0
	for i := first; i < len(b); n++ {
		hit, ok := s.next(i)
		if !ok {
			break
		}
		dst = append(dst, b[copied:hit.Start]...)
		dst = hide(dst, b[hit.Start:hit.End], m.way[hit.Kind], hit.Kind, &m.key)
		i, copied, s.floor = hit.End, hit.End, hit.End
	}
	if n > 0 {
		dst = append(dst, b[copied:]...)
	}
	return dst, n
}

// Any says whether b may hold a hit. False means that there is none in b nor
// in any field of it, where b is text, or whole PostgreSQL messages: fields
// with a length of four bytes in front and the next message's type behind,
// which are no part of the value and don't hide it here. True may be wrong.
func (m *Masker) Any(b []byte) bool {
	s := scanner{m: m, b: b, framed: true}
	_, ok := s.next(0)
	return ok
}
