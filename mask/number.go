package mask

// numbers are the kinds that are found by their digits. Google's token is one
// for the two in its prefix: no other mark in it is rare.
const numbers = 1<<googleOAuth | 1<<creditCard | 1<<iban | 1<<phone | 1<<ipv4 | kinds(1<<(cnResidentID+1)-1<<usSSN)

const (
	// maxGroups and maxDigits bound a chain: no value has more.
	maxGroups = 10
	maxDigits = 20
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

// joins are the bytes that, behind digits, may make more of them.
var joins = func() (t [256]bool) {
	for c := range t {
		t[c] = is[c]&isLetter != 0 || c >= 0x80 && c != 0xFF
	}
	for _, c := range " -./()+" {
		t[c] = true
	}
	return t
}()

// number looks for a value in the chain of digits that begins at i. Where
// there is none, it says where to go on.
func (s *scanner) number(i int) (Span, int, bool) {
	b := s.b
	e := i + 1
	for e < len(b) && is[b[e]]&isDigit != 0 {
		e++
	}
	// Most numbers are short and alone.
	if e-i < 7 && b[i] < 0x80 && (i == 0 || is[b[i-1]]&isLetter == 0) {
		if e == len(b) || !joins[b[e]] {
			return Span{}, e, false
		}
		if c := b[e]; is[c]&isLetter == 0 && c < 0x80 && (e+1 == len(b) || is[b[e+1]]&isDigit == 0 && !joins[b[e+1]]) {
			return Span{}, e, false
		}
	}
	for from, ok := i, true; ok; from, ok = s.reframe(i, from) {
		if from > i && is[b[from]]&isDigit == 0 && b[from] != 0xEF {
			continue
		}
		end := s.parse(from)
		e = max(e, end)
		for g := range s.c.n {
			if hit, ok := s.groupAt(g); ok {
				return hit, hit.End, true
			}
		}
	}
	return Span{}, e, false
}

// parse reads the chain that begins at i, and returns the end of what it kept
// that need not be read again.
func (s *scanner) parse(i int) int {
	c := &s.c
	c.n, c.total, c.more = 0, 0, false
	sep := byte(0)
	for {
		g := group{start: i, off: c.total, sep: sep}
		i = s.parseGroup(&g)
		c.groups[c.n] = g
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
func (s *scanner) parseGroup(g *group) int {
	b, i := s.b, g.start
	g.end = i
	for i < len(b) {
		d, width := b[i]-'0', 1
		if b[i] >= 0x80 {
			d, width = beyond(b, i)
			if d == invisible {
				i += width
				continue
			}
		}
		if d > 9 {
			break
		}
		if g.n <= maxDigits {
			s.c.digits[g.off+g.n] = d
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

// groupAt looks for a value that begins with group g of the chain, or with
// the letters in front of it.
func (s *scanner) groupAt(g int) (Span, bool) {
	c := &s.c
	start := c.groups[g].start
	if start > s.floor && (is[s.b[start-1]]&isLetter != 0 || c.groups[g].n == 6 || c.groups[g].n == 2) {
		if hit, ok := s.lettered(g); ok {
			return hit, true
		}
	}
	if !s.left(start) {
		return Span{}, false
	}
	if end := c.groups[g].end; end < len(s.b) && is[s.b[end]]&isLetter != 0 || c.groups[g].n == 8 || s.b[start]-'0' <= 2 {
		if hit, ok := s.mixed(g); ok {
			return hit, true
		}
	}
	if s.m.want.has(phone) && start > s.floor && s.b[start-1] == '+' {
		if hit, ok := s.international(g); ok {
			return hit, true
		}
	}
	if hit, ok := s.single(g); ok {
		return hit, true
	}
	if g+1 < c.n || c.more {
		return s.several(g)
	}
	return Span{}, false
}

// several looks for a value of more than one group, the first of which is g.
func (s *scanner) several(g int) (Span, bool) {
	c := &s.c
	shape, total := uint32(0), 0
	last := min(g+7, c.n)
	if c.more {
		last = min(g+7, maxGroups)
	}
	for h := g; h < last && c.groups[h].n < 16; h++ {
		shape = shape<<4 | uint32(c.groups[h].n)
		total += c.groups[h].n
		if h == g || total > maxDigits {
			continue
		}
		d := c.digits[c.groups[g].off:][:total]
		if k := s.shaped(g, h, shape, d); k != other && s.right(c.groups[h].end) {
			start := c.groups[g].start
			if k == phone && start > s.floor && s.b[start-1] == '(' {
				start--
			}
			return hit(start, c.groups[h].end, k)
		}
	}
	return Span{}, false
}

// marked says whether all marks within the groups g to h are one of marks, and
// the same.
func (s *scanner) marked(g, h int, marks string) bool {
	sep := s.c.groups[g+1].sep
	ok := false
	for i := range len(marks) {
		ok = ok || marks[i] == sep
	}
	for ; ok && h > g+1; h-- {
		ok = s.c.groups[h].sep == sep
	}
	return ok
}

// alone says whether the groups g to h are no part of a longer row of groups
// with the same mark between them.
func (s *scanner) alone(g, h int) bool {
	c := &s.c
	sep := c.groups[h].sep
	if g > 0 && c.groups[g].sep == sep && !s.framing(c.groups[g].start) {
		return false
	}
	if h+1 < c.n || c.more && h+1 < maxGroups {
		return c.groups[h+1].sep != sep
	}
	return true
}

// shaped says what the groups g to h are by their sizes, a hexadecimal digit
// for each in shape. The digits are d.
func (s *scanner) shaped(g, h int, shape uint32, d []byte) Kind {
	want := s.m.want
	switch shape {
	case 0x4444, 0x465, 0x464, 0x44443, 0x4333:
		if want.has(creditCard) && s.marked(g, h, " -.") && isCard(d) {
			return creditCard
		}
	case 0x324:
		if want.has(usSSN) && s.marked(g, h, "- .") && s.alone(g, h) && isSSN(d) {
			return usSSN
		}
	case 0x333, 0x423:
		return s.nines(g, h, shape, d)
	case 0x3332:
		if want.has(brCPF) && s.c.groups[g+1].sep == '.' && s.c.groups[g+2].sep == '.' && isCPF(d) {
			return brCPF
		}
	case 0x23342:
		if want.has(brCNPJ) && s.c.groups[g+3].sep == '/' && isCNPJ(d) {
			return brCNPJ
		}
	case 0x2333:
		if want.has(deSteuerID) && s.marked(g, h, " ") && s.alone(g, h) && isSteuerID(d) {
			return deSteuerID
		}
	case 0x444:
		if want.has(inAadhaar) && s.marked(g, h, " -") && s.alone(g, h) && isAadhaar(d) {
			return inAadhaar
		}
	case 0x64, 0x84:
		sep := s.c.groups[h].sep
		if want.has(sePersonnummer) && (sep == '-' || sep == '+') && s.alone(g, h) && isPersonnummer(d) {
			return sePersonnummer
		}
	}
	if h-g == 3 && want.has(ipv4) && s.marked(g, h, ".") && s.address(g, h) {
		return ipv4
	}
	if want.has(phone) && s.national(g, h, shape, d) {
		return phone
	}
	return other
}

// nines tells the numbers of nine digits in groups. Their checks pass one
// number in ten, so that the groups must look like what is printed.
func (s *scanner) nines(g, h int, shape uint32, d []byte) Kind {
	want := s.m.want
	start := s.c.groups[g].start
	switch {
	case !s.alone(g, h):
	case shape == 0x423:
		if want.has(nlBSN) && s.marked(g, h, ".") && isBSN(d) {
			return nlBSN
		}
	case want.has(nlBSN) && s.marked(g, h, " -.") && isBSN(d) && s.word(start, bsnWords...):
		return nlBSN
	case want.has(auTFN) && s.marked(g, h, " ") && isTFN(d) && s.word(start, tfnWords...):
		return auTFN
	case want.has(caSIN) && s.marked(g, h, " -") && isSIN(d):
		return caSIN
	case want.has(auTFN) && s.marked(g, h, " ") && isTFN(d):
		return auTFN
	}
	return other
}

// address says whether the groups g to h are an IPv4 address, and no version.
func (s *scanner) address(g, h int) bool {
	c := &s.c
	for _, p := range c.groups[g : h+1] {
		d := c.digits[p.off:][:min(p.n, 4)]
		if p.n > 3 || p.n > 1 && d[0] == 0 || p.n == 3 && int(d[0])*100+int(d[1])*10+int(d[2]) > 255 {
			return false
		}
	}
	first := c.groups[g]
	if c.digits[first.off] == 0 || !s.alone(g, h) {
		return false
	}
	if s.framed {
		return true
	}
	// Chrome/120.0.0.0, version 1.2.3.4, release-1.2.3.4
	i := first.start
	if i-2 >= s.floor && (s.b[i-1] == '/' || s.b[i-1] == '-') && is[s.b[i-2]]&isLetter != 0 {
		return false
	}
	return !s.word(i, versionWords...)
}

// Words in front of a number that say what it is. Lower case.
var (
	versionWords = []string{"version", "release", "build", "ver."}
	ssnWords     = []string{"ssn", "social security", "social_security"}
	bsnWords     = []string{"bsn", "burgerservicenummer", "sofi"}
	tfnWords     = []string{"tfn", "tax file"}
	sinWords     = []string{"sin:", "sin\"", "sin=", "sin ", "social insurance", "social_insurance"}
	npiWords     = []string{"npi"}
	aadhaarWords = []string{"aadhaar", "aadhar", "uidai"}
	swedishWords = []string{"personnummer", "personnr", "pnr"}
	phoneWords   = []string{"phone", "mobile", "cell", "tel:", "tel\"", "tel=", "tel.", "tel ", "fax", "whatsapp", "sms"}
)

// single looks for a value that is all of group g.
func (s *scanner) single(g int) (Span, bool) {
	p := &s.c.groups[g]
	if p.n < 9 || p.n > 19 || !s.right(p.end) {
		return Span{}, false
	}
	if g > 0 && p.sep == '.' && !s.framing(p.start) {
		return Span{}, false
	}
	d := s.c.digits[p.off:][:p.n]
	k := s.digits(p.start, d)
	if k == other && p.n <= 15 && s.m.want.has(phone) && s.word(p.start, phoneWords...) {
		k = phone
	}
	if k == other {
		return Span{}, false
	}
	return hit(p.start, p.end, k)
}

// digits says what the bare digits d at i are.
func (s *scanner) digits(i int, d []byte) Kind {
	want := s.m.want
	// A check that one number in ten passes is enough only for a kind that a
	// rule asks for by its name, or with a word in front.
	weak := func(k Kind, valid func([]byte) bool, words []string) bool {
		return want.has(k) && valid(d) && (s.m.named.has(k) || s.word(i, words...))
	}
	switch len(d) {
	case 9:
		switch {
		case want.has(usSSN) && isSSN(d) && s.word(i, ssnWords...):
			return usSSN
		case weak(nlBSN, isBSN, bsnWords):
			return nlBSN
		case weak(caSIN, isSIN, sinWords):
			return caSIN
		case weak(auTFN, isTFN, tfnWords):
			return auTFN
		}
	case 10:
		switch {
		case weak(usNPI, isNPI, npiWords):
			return usNPI
		case weak(sePersonnummer, isPersonnummer, swedishWords):
			return sePersonnummer
		}
	case 11:
		switch {
		case want.has(brCPF) && isCPF(d):
			return brCPF
		case want.has(plPESEL) && isPESEL(d):
			return plPESEL
		case want.has(deSteuerID) && isSteuerID(d):
			return deSteuerID
		}
	case 12:
		switch {
		case want.has(sePersonnummer) && isPersonnummer(d):
			return sePersonnummer
		case weak(inAadhaar, isAadhaar, aadhaarWords):
			return inAadhaar
		}
	case 14:
		if want.has(brCNPJ) && isCNPJ(d) && !isTimestamp(d) {
			return brCNPJ
		}
	case 18:
		if want.has(cnResidentID) && isResidentID(d, false) {
			return cnResidentID
		}
	}
	if want.has(creditCard) && len(d) >= 14 && (len(d) < 17 || d[0] >= 5) && isCard(d) && !isTimestamp(d) {
		return creditCard
	}
	return other
}
