package mask

const (
	// maxGroups and maxDigits bound a chain: no value has more.
	maxGroups = 10
	maxDigits = 20
	// maxWide is how far a group goes on with what isn't ASCII.
	maxWide = 128
)

// group is digits that stand together.
type group struct {
	start, end int
	// off and n say which of the chain's digits they are; n is beyond
	// maxDigits where there are more than that.
	off, n int
	// sep is the mark in front: 0 for the first group of the chain.
	sep byte
}

// chain is groups of digits with a mark or two between each.
type chain struct {
	groups [maxGroups + 1]group
	n      int
	digits [(maxGroups + 1) * (maxDigits + 1)]byte
	total  int
	// more says that the chain goes on after the groups kept.
	more bool
}

// parse reads the chain that begins at i, and returns the end of what it kept
// that need not be read again.
func (s *numeral) parse(i int) int {
	c := &s.c
	c.n, c.total, c.more = 0, 0, false
	sep := byte(0)
	for {
		g := &c.groups[c.n]
		g.start, g.off, g.n, g.sep = i, c.total, 0, sep
		i = s.parseGroup(g)
		c.n++
		c.total += min(g.n, maxDigits)
		width := 0
		if sep, width = s.separator(i); width == 0 {
			return i
		}
		i += width
		if c.n == maxGroups {
			// The last groups are seen again, with what follows them.
			c.more = true
			c.n = maxGroups / 2
			return c.groups[maxGroups/2].start
		}
	}
}

// parseGroup reads the digits at g.start, and what is invisible between them.
func (s *numeral) parseGroup(g *group) int {
	b, i := s.b, g.start
	digits := s.c.digits[g.off:][:maxDigits+1]
	g.end = i
	for i < len(b) {
		d, width := b[i]-'0', 1
		if d > 9 {
			if b[i] < 0x80 || i-g.start > maxWide {
				break
			}
			d, width = beyond(b, i)
			if d == invisible {
				i += width
				continue
			}
			if d > 9 {
				break
			}
		}
		if g.n < len(digits) {
			digits[g.n] = d
			g.n++
		}
		i += width
		g.end = i
	}
	return g.end
}

// separator reads the marks at i between two groups of digits.
func (s *scanner) separator(i int) (mark byte, width int) {
	b := s.b
	if i >= len(b) || !joins[b[i]] || is[b[i]]&isLetter != 0 {
		return 0, 0
	}
	for n := 0; n < 2 && i+width < len(b); n++ {
		c, w := b[i+width], 1
		if c >= 0x80 {
			switch d, dw := beyond(b, i+width); d {
			case space:
				c, w = ' ', dw
			case dash:
				c, w = '-', dw
			case invisible:
				width += dw
				n--
				if width > 16 {
					return 0, 0
				}
				continue
			}
		}
		switch c {
		case ' ', '-', '.', '/', '(', ')', '+':
		default:
			return 0, 0
		}
		width += w
		switch {
		case n == 0:
			mark = c
		case c == '(' || mark == ')':
			mark = ')'
		default:
			return 0, 0
		}
		if i+width < len(b) {
			if d := b[i+width] - '0'; d <= 9 {
				return mark, width
			} else if b[i+width] >= 0x80 {
				if d, _ := beyond(b, i+width); d <= 9 {
					return mark, width
				}
			}
		}
	}
	return 0, 0
}

// What beyond says of a byte sequence that is no digit.
const (
	unknown byte = 10 + iota
	invisible
	space
	dash
)

// beyond reads the UTF-8 sequence at i as a part of a number: a full-width
// digit, a space or a hyphen that isn't ASCII's, or what has no width.
func beyond(b []byte, i int) (d byte, width int) {
	if i+1 >= len(b) {
		return unknown, 1
	}
	switch {
	case b[i] == 0xC2 && b[i+1] == 0xA0: // no-break space
		return space, 2
	case b[i] == 0xC2 && b[i+1] == 0xAD: // soft hyphen
		return invisible, 2
	case i+2 >= len(b):
	case b[i] == 0xEF && b[i+1] == 0xBC && b[i+2] >= 0x90 && b[i+2] <= 0x99:
		return b[i+2] - 0x90, 3
	case b[i] == 0xEF && b[i+1] == 0xBC && b[i+2] == 0x8D: // full-width hyphen
		return dash, 3
	case b[i] == 0xEF && b[i+1] == 0xBB && b[i+2] == 0xBF: // zero-width no-break space
		return invisible, 3
	case b[i] == 0xE3 && b[i+1] == 0x80 && b[i+2] == 0x80: // ideographic space
		return space, 3
	case b[i] == 0xE2 && b[i+1] == 0x81 && b[i+2] == 0xA0: // word joiner
		return invisible, 3
	case b[i] == 0xE2 && b[i+1] == 0x88 && b[i+2] == 0x92: // minus sign
		return dash, 3
	case b[i] == 0xE2 && b[i+1] == 0x80:
		switch c := b[i+2]; {
		case c >= 0x8B && c <= 0x8F: // zero-width space to right-to-left mark
			return invisible, 3
		case c >= 0x80 && c <= 0x8A, c == 0xAF: // en quad to hair space, narrow no-break space
			return space, 3
		case c >= 0x90 && c <= 0x95: // hyphen to horizontal bar
			return dash, 3
		}
	}
	return unknown, 1
}
