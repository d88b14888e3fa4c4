package mask

// class says what a byte may be the mark of.
type class uint8

const (
	nothing class = iota
	digit         // of a number: '0' to '9'
	wide          // the first byte of a full-width digit
	at            // of an e-mail address
	percent       // of %40, an '@' in a URL
	colon         // of a URL, or an IPv6 address
	anchor        // of a token
)

// What a byte is, for the alphabets of values.
const (
	isDigit uint8 = 1 << iota
	isUpper
	isLower
	isHex    // 0-9 a-f
	isBase32 // A-Z 2-7
	isURL    // - _
	isBase64 // + / =
	isMail   // what else the local part of an address holds

	isLetter = isUpper | isLower
	isAlnum  = isDigit | isUpper | isLower
	isToken  = isAlnum | isURL
)

var is = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = isDigit | isHex
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = isUpper | isBase32
		t[c+'a'-'A'] = isLower
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c] |= isHex
	}
	for c := '2'; c <= '7'; c++ {
		t[c] |= isBase32
	}
	for _, c := range "+/=" {
		t[c] |= isBase64
	}
	t['-'] |= isURL
	t['_'] |= isURL
	for _, c := range ".%+-_'" {
		t[c] |= isMail
	}
	// What is beyond ASCII is a letter of an internationalised address (RFC
	// 6531). 0xFF is in no UTF-8; it is in the length of a NULL.
	for c := 0x80; c < 0xF5; c++ {
		t[c] |= isMail
	}
	return t
}()

// classes has every byte's class.
type classes [256]class

// skip returns the first place from i on that isn't nothing, or b's length.
func (t *classes) skip(b []byte, i int) int {
	for i+8 <= len(b) {
		p := (*[8]byte)(b[i:])
		if t[p[0]]|t[p[1]]|t[p[2]]|t[p[3]]|t[p[4]]|t[p[5]]|t[p[6]]|t[p[7]] != nothing {
			break
		}
		i += 8
	}
	for i < len(b) && t[b[i]] == nothing {
		i++
	}
	return i
}

// prepare builds the tables that say where to look.
func (m *Masker) prepare() {
	for k, marks := range map[class]string{at: "@", percent: "%", colon: ":", digit: "0123456789", wide: "\xEF"} {
		need := numbers
		switch k {
		case at, percent:
			need = 1 << email
		case colon:
			need = 1<<ipv6 | 1<<urlPassword
		}
		if m.want&need != 0 {
			for i := range len(marks) {
				m.class[marks[i]] = k
			}
		}
	}
	for i := range tokens {
		t := &tokens[i]
		if m.want.has(t.kind) {
			c := t.prefix[t.anchor]
			m.class[c] = anchor
			m.anchors[c] |= 1 << i
			m.before[t.prefix[t.anchor-1]] |= 1 << i
		}
	}
}

// scanner is one pass over some bytes.
type scanner struct {
	m *Masker
	b []byte
	// floor is the end of the last hit: no other begins before it.
	floor int
	// framed says that b holds a protocol's framing as well as values: the
	// bytes next to a value may be no part of what the value stands in.
	framed bool
}

// next returns the first hit whose mark is at i or later.
func (s *scanner) next(i int) (Span, bool) {
	b, class := s.b, &s.m.class
	for {
		if i = class.skip(b, i); i >= len(b) {
			return Span{}, false
		}
		var hit Span
		var ok bool
		switch class[b[i]] {
		case digit:
			hit, i, ok = s.number(i)
		case wide:
			if v, _ := beyond(b, i); v < 10 {
				hit, i, ok = s.number(i)
			} else {
				i++
			}
		case at:
			hit, ok = s.findEmail(i, 1)
			i++
		case percent:
			if i+3 <= len(b) && b[i+1] == '4' && b[i+2] == '0' {
				hit, ok = s.findEmail(i, 3)
			}
			i++
		case colon:
			hit, ok = s.findColon(i)
			i++
		case anchor:
			hit, ok = s.findToken(i)
			i++
		}
		if ok {
			return hit, true
		}
	}
}

// hit returns the span, as what a finder that found something returns.
func hit(start, end int, k Kind) (Span, bool) { return Span{start, end, k}, true }

// left says whether a value may begin at i by what is in front of it: no word,
// and no longer number.
func (s *scanner) left(i int) bool {
	if i <= s.floor || s.framing(i) {
		return true
	}
	switch c := s.b[i-1]; {
	case is[c]&isAlnum != 0:
		// An escape's letter, as JSON and COPY write a line's end, is no word.
		return i-2 >= s.floor && s.b[i-2] == '\\' && (c == 'n' || c == 'r' || c == 't')
	case c == '_':
		return false
	case c == '.':
		return i-2 >= s.floor && is[s.b[i-2]]&isLetter != 0
	case c == '-':
		return i-2 < s.floor || is[s.b[i-2]]&isDigit == 0
	}
	return true
}

// right says the same of a value's end.
func (s *scanner) right(end int) bool {
	b := s.b
	if end >= len(b) {
		return true
	}
	if s.framed && (end+1 >= len(b) || b[end+1] == 0) {
		return true
	}
	switch c := b[end]; {
	case is[c]&isAlnum != 0, c == '_', c == '@':
		return false
	case c == '.', c == '-':
		return end+1 >= len(b) || is[b[end+1]]&isDigit == 0
	}
	return true
}

// framing says whether the four bytes in front of i may be a length: no value
// is of 16 MiB or more, so that the first is zero.
func (s *scanner) framing(i int) bool {
	return s.framed && (i < 4 || s.b[i-4] == 0)
}

// reframe returns the next place after i where a value may begin although a
// length's bytes look as if they were its first. The run of such bytes begins
// at i.
func (s *scanner) reframe(i, after int) (int, bool) {
	if !s.framed {
		return 0, false
	}
	for j := after + 1; j < i+4 && j < len(s.b); j++ {
		if j < 4 || s.b[j-4] == 0 {
			return j, true
		}
	}
	return 0, false
}

// word says whether one of the words, which are in lower case, begins in the 24
// bytes in front of i.
func (s *scanner) word(i int, words ...string) bool {
	b := s.b[max(s.floor, i-24, 0):i]
	for j, c := range b {
		if is[c]&isLetter == 0 || j > 0 && !s.framed && is[b[j-1]]&isLetter != 0 && !(is[b[j-1]]&isLower != 0 && is[c]&isUpper != 0) {
			continue
		}
		for _, w := range words {
			if c|0x20 == w[0] && len(b)-j >= len(w) && equalFold(b[j:j+len(w)], w) {
				return true
			}
		}
	}
	return false
}

// equalFold says whether b is w, which is in lower case.
func equalFold(b []byte, w string) bool {
	for i, c := range b {
		if is[c]&isUpper != 0 {
			c |= 0x20
		}
		if c != w[i] {
			return false
		}
	}
	return true
}
