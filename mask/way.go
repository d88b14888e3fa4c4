package mask

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"unicode"
	"unicode/utf8"
)

// redacted stands in the place of a value of which nothing is shown.
const redacted = "***MASKED***"

// tokenDigits is how many hexadecimal digits of the HMAC a token has. With 64
// bits, two of a million values have one token once in 37 million times.
const tokenDigits = 16

// Value appends one whole value to dst, hidden, whatever it is. Partial goes by
// what the value is, which its content says or else the name of the column
// that it is from, which may be "". For Null it appends nothing.
func Value(dst, value []byte, way Way, column string, key *[32]byte) []byte {
	k := other
	if way != Redact && way != Null {
		k = guess(value, column)
	}
	return hide(dst, value, way, k, key)
}

// hide appends v, of kind k, to dst as the way says.
func hide(dst, v []byte, way Way, k Kind, key *[32]byte) []byte {
	switch way {
	case Partial:
		return partial(dst, v, k)
	case Hash:
		sum := mac(key, 'h', 0, v)
		dst = append(append(append(dst, "tok_"...), k.String()...), '_')
		return hex.AppendEncode(dst, sum[:tokenDigits/2])
	case Format:
		return reformat(dst, v, k, key)
	case Null:
		return dst
	}
	return append(dst, redacted...)
}

// guess says what kind a whole value is by its shape, or by its column's name.
func guess(v []byte, column string) Kind {
	if len(v) <= 320 {
		s := scanner{m: shapes, b: v}
		if hit, ok := s.next(0); ok && hit.Start == 0 && hit.End == len(v) {
			return hit.Kind
		}
	}
	n := 0
	for _, c := range v {
		if is[c]&isDigit != 0 {
			n++
		}
	}
	switch name := []byte(column); {
	case n == 9 && holdsFold(name, "ssn", "social_security"):
		return usSSN
	case n >= 12 && n <= 19 && holdsFold(name, "card", "pan", "cc_num"):
		return creditCard
	case n >= 7 && n <= 15 && holdsFold(name, "phone", "mobile", "fax", "tel"):
		return phone
	}
	return other
}

// shapes finds the kinds that Partial shows a part of.
var shapes = func() *Masker {
	m := &Masker{want: 1<<email | 1<<creditCard | 1<<usSSN | 1<<phone}
	m.prepare()
	return m
}()

// holdsFold says whether b holds one of the words, which are in lower case.
func holdsFold(b []byte, words ...string) bool {
	b = bytes.ToLower(b)
	for _, w := range words {
		if bytes.Contains(b, []byte(w)) {
			return true
		}
	}
	return false
}

// partial appends what may be shown of v. Sentinel knows all that it writes.
func partial(dst, v []byte, k Kind) []byte {
	first, size := utf8.DecodeRune(v)
	// Of what is short, the first character is too large a part.
	shown := utf8.RuneCount(v) >= 4 && first != utf8.RuneError && (unicode.IsLetter(first) || unicode.IsDigit(first))
	switch k {
	case email:
		local, domain, ok := bytes.Cut(v, []byte("@"))
		if !ok {
			break
		}
		if shown && utf8.RuneCount(local) >= 3 {
			dst = append(dst, v[:size]...)
		}
		return append(append(dst, "***@"...), domain...)
	case creditCard, usSSN:
		var digits [maxDigits]byte
		n := 0
		for i := 0; i < len(v); {
			d, width := v[i]-'0', 1
			if v[i] >= 0x80 {
				d, width = beyond(v, i)
			}
			if i += width; d <= 9 && n < maxDigits {
				digits[n] = '0' + d
				n++
			}
		}
		if k == usSSN && n == 9 {
			return append(append(dst, "***-**-"...), digits[5:9]...)
		}
		if k == creditCard && n >= 12 {
			dst = append(dst, "********************"[:n-4]...)
			return append(dst, digits[n-4:n]...)
		}
	}
	if !shown {
		return append(dst, redacted...)
	}
	return append(append(dst, v[:size]...), "***"...)
}

// reformat appends what has v's shape: for a digit a digit, for a letter one
// of its case, for a character beyond ASCII one of as many bytes, by the HMAC
// of the value. It never is v, nor a valid card.
func reformat(dst, v []byte, k Kind, key *[32]byte) []byte {
	base := len(dst)
	var pad [32]byte
	turn, used := uint64(0), len(pad)
	// below takes four bytes of the stream. What one value is likelier than
	// another by is under one in 10^5.
	below := func(n int) int {
		if used == len(pad) {
			pad, used = mac(key, 'f', turn, v), 0
			turn++
		}
		x := uint32(pad[used]) | uint32(pad[used+1])<<8 | uint32(pad[used+2])<<16 | uint32(pad[used+3])<<24
		used += 4
		return int(x % uint32(n))
	}
	turnable, lastDigit := -1, -1
	for i := 0; i < len(v); {
		c := v[i]
		switch {
		case c-'0' <= 9:
			turnable, lastDigit = len(dst), len(dst)
			dst = append(dst, '0'+byte(below(10)))
		case c-'A' < 26:
			turnable = len(dst)
			dst = append(dst, 'A'+byte(below(26)))
		case c-'a' < 26:
			turnable = len(dst)
			dst = append(dst, 'a'+byte(below(26)))
		case c < 0x80:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRune(v[i:])
			switch {
			case size == 1: // No UTF-8: nothing that it could look like.
				dst = append(dst, '?')
			case !unicode.IsLetter(r) && !unicode.IsDigit(r) && unicode.IsPrint(r) || unicode.IsSpace(r):
				dst = append(dst, v[i:i+size]...)
			default:
				first := [...]rune{2: 0xE0, 3: 0x4E00, 4: 0x20000}[size]
				span := [...]int{2: 23, 3: 20000, 4: 40000}[size]
				dst = utf8.AppendRune(dst, first+rune(below(span)))
			}
			i += size
			continue
		}
		i++
	}
	out := dst[base:]
	if turnable < 0 && bytes.Equal(out, v) && len(v) > 0 {
		return append(dst[:base], redacted...)
	}
	// One more on the last digit makes a right check wrong; on any place, it
	// makes another value.
	if k == creditCard && lastDigit >= 0 && validLuhn(out) {
		advance(&dst[lastDigit])
	}
	if turnable >= 0 && bytes.Equal(out, v) {
		advance(&dst[turnable])
	}
	return dst
}

// advance makes a digit or letter the next of its kind.
func advance(c *byte) {
	switch *c {
	case '9', 'Z', 'z':
		*c = map[byte]byte{'9': '0', 'Z': 'A', 'z': 'a'}[*c]
	default:
		*c++
	}
}

// validLuhn says whether the digits in b pass Luhn's check.
func validLuhn(b []byte) bool {
	var d [maxDigits]byte
	n := 0
	for _, c := range b {
		if c-'0' <= 9 && n < maxDigits {
			d[n] = c - '0'
			n++
		}
	}
	return luhn(d[:n])
}

// mac is HMAC-SHA256 (RFC 2104) over a use, a counter and v. It allocates
// nothing for a short v.
func mac(key *[32]byte, use byte, turn uint64, v []byte) [32]byte {
	const block = 64
	if len(v) > 256 {
		h := hmac.New(sha256.New, key[:])
		h.Write([]byte{use, byte(turn), byte(turn >> 8), byte(turn >> 16), byte(turn >> 24)})
		h.Write(v)
		return [32]byte(h.Sum(nil))
	}
	var inner [block + 5 + 256]byte
	var outer [block + 32]byte
	for i := range block {
		k := byte(0)
		if i < len(key) {
			k = key[i]
		}
		inner[i], outer[i] = k^0x36, k^0x5C
	}
	inner[block] = use
	for i := range 4 {
		inner[block+1+i] = byte(turn >> (8 * i))
	}
	n := block + 5 + copy(inner[block+5:], v)
	sum := sha256.Sum256(inner[:n])
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}

// Sentinel says whether b, a constant in a statement, is or holds what Redact,
// Partial or Hash puts in a value's place. It may say so of a text that was
// never masked: one that holds j***@, or a word of one character and three
// asterisks.
func Sentinel(b []byte) bool {
	for i := 0; i < len(b); {
		j := bytes.IndexAny(b[i:], "*t")
		if j < 0 {
			return false
		}
		i += j
		if b[i] == 't' {
			if isHashed(b, i) {
				return true
			}
			i++
			continue
		}
		end := i
		for end < len(b) && b[end] == '*' {
			end++
		}
		if isStarred(b, i, end) {
			return true
		}
		i = end
	}
	return false
}

// isHashed says whether tok_KIND_HEX is at i.
func isHashed(b []byte, i int) bool {
	rest, ok := bytes.CutPrefix(b[i:], []byte("tok_"))
	if !ok {
		return false
	}
	for _, name := range kindNames {
		if tail, ok := bytes.CutPrefix(rest, []byte(name)); ok && len(tail) > 10 && tail[0] == '_' {
			n := 1
			for n < len(tail) && is[tail[n]]&isHex != 0 {
				n++
			}
			if n > 10 {
				return true
			}
		}
	}
	return false
}

// isStarred says whether the asterisks b[i:end] are a sentinel's.
func isStarred(b []byte, i, end int) bool {
	rest := b[end:]
	digits := 0
	for digits < len(rest) && is[rest[digits]]&isDigit != 0 {
		digits++
	}
	switch n := end - i; {
	case n >= 8 && digits == 4:
		return true
	case n != 3:
		return false
	case bytes.HasPrefix(rest, []byte("MASKED***")), bytes.HasPrefix(rest, []byte("@")):
		return true
	case len(rest) >= 7 && string(rest[:4]) == "-**-" && is[rest[4]]&is[rest[5]]&is[rest[6]]&isDigit != 0:
		return true
	}
	// One letter or digit, and nothing of a word around.
	if r, _ := utf8.DecodeRune(rest); len(rest) > 0 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		return false
	}
	r, size := utf8.DecodeLastRune(b[:i])
	if !unicode.IsLetter(r) && !unicode.IsDigit(r) || r == utf8.RuneError {
		return false
	}
	r, _ = utf8.DecodeLastRune(b[:i-size])
	return i == size || !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '*'
}
