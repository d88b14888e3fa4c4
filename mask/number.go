package mask

// numbers are the kinds that are found by their digits. Google's token is one
// for the two in its prefix: no other mark in it is rare.
const numbers = 1<<googleOAuth | 1<<creditCard | 1<<iban | 1<<phone | 1<<ipv4 | kinds(1<<(cnResidentID+1)-1<<usSSN)

// numeral is a look at one chain.
type numeral struct {
	*scanner
	c chain
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
	if e-i == 4 {
		if end := timestamp(b, i); end > 0 {
			return Span{}, end, false
		}
	}
	if b[i] < 0x80 && !s.plausible(i, e) {
		return Span{}, e, false
	}
	n := numeral{scanner: s}
	end := n.parse(i)
	for g := range n.c.n {
		if hit, ok := n.groupAt(g); ok {
			return hit, hit.End, true
		}
	}
	if !s.framed {
		return Span{}, max(e, end), false
	}
	// The first digits may be the last bytes of a length. What is behind them
	// is looked at again by itself: without them, it may be read otherwise.
	first := &n.c.groups[0]
	for from, ok := s.reframe(i, i); ok && from < first.end; from, ok = s.reframe(i, from) {
		for ; first.start < from; first.start++ {
			if is[b[first.start]]&isDigit == 0 {
				return Span{}, e, false
			}
			first.off++
			first.n--
		}
		if hit, ok := n.groupAt(0); ok {
			return hit, hit.End, true
		}
	}
	return Span{}, e, false
}

// timestamp returns the end of the date, with or without a time, at i, or 0.
// No value begins in YYYY-MM-DD, nor in hh:mm:ss behind it.
func timestamp(b []byte, i int) int {
	if len(b)-i < 10 || b[i+4] != '-' || b[i+7] != '-' || is[b[i+5]]&is[b[i+6]]&is[b[i+8]]&is[b[i+9]]&isDigit == 0 {
		return 0
	}
	b, end := b[i:], i+10
	if len(b) == 10 || !joins[b[10]] && is[b[10]]&isDigit == 0 {
		return end
	}
	if c := b[10]; len(b) < 19 || c != ' ' && c != 'T' || b[13] != ':' || b[16] != ':' ||
		is[b[11]]&is[b[12]]&is[b[14]]&is[b[15]]&is[b[17]]&is[b[18]]&isDigit == 0 {
		return 0
	}
	if len(b) > 19 && (is[b[19]]&isDigit != 0 || b[19] == ':') {
		return 0
	}
	return end + 9
}

// plausible says, before any closer look, whether a value may begin with the
// digits b[i:e] or the letters in front of them. Most numbers are short and
// stand alone, or are dates, times and amounts.
func (s *scanner) plausible(i, e int) bool {
	b, n := s.b, e-i
	next := byte(0)
	if e < len(b) {
		next = b[e]
	}
	if i > s.floor {
		switch c := b[i-1]; {
		case is[c]&isLetter != 0:
			if s.prefixed(i) {
				return true
			}
			if _, ok := s.reframe(i, i); !ok && !s.left(i) {
				return false
			}
		case c == '+' && (b[i] != '0' || s.framed):
			return true
		case c == ' ' && (n == 2 || n == 6) && i-3 >= s.floor && is[b[i-2]]&isUpper != 0:
			return true
		}
	}
	if n >= 8 {
		return true
	}
	// A length's last byte may be the first digit or two.
	short := n
	if s.framed {
		short = max(1, n-3)
	}
	switch {
	case !joins[next]:
		return false
	case is[next]&isLetter != 0:
		return short == 1 || n >= 6
	case next >= 0x80 || e+1 >= len(b):
		return next >= 0x80
	case is[b[e+1]]&isDigit == 0:
		return joins[b[e+1]]
	}
	q := e + 1
	for q < len(b) && q < e+16 && is[b[q]]&isDigit != 0 {
		q++
	}
	if next == '.' && n <= 3 && (q+1 >= len(b) || b[q] != '.' || is[b[q+1]]&isDigit == 0) {
		// An amount, or the last bytes of one.
		return q < len(b) && b[q] >= 0x80
	}
	for ; n >= short; n-- {
		if paired(n, q-e-1, b[e-n] == '0', next) {
			return true
		}
	}
	return q < len(b) && b[q] >= 0x80
}

// prefixed says whether the letters in front of i are as many as some value
// begins with.
func (s *scanner) prefixed(i int) bool {
	b := s.b
	j := i - 1
	for j > s.floor && j > i-7 && is[b[j-1]]&isLetter != 0 {
		j--
	}
	switch i - j {
	case 1:
		return b[j] >= 'X' && b[j] <= 'Z'
	case 2, 6:
		return true
	case 0:
		return false
	}
	return s.framed && (s.framing(i-2) || s.framing(i-6) || s.framing(i-1)) || i-j > 2 && (b[i-3]|0x20 == 'n' || b[i-3]|0x20 == 'r' || b[i-3]|0x20 == 't') && i-4 >= 0 && b[i-4] == '\\'
}

// groupAt looks for a value that begins with group g of the chain, or with
// the letters in front of it.
func (s *numeral) groupAt(g int) (Span, bool) {
	b, p := s.b, &s.c.groups[g]
	start := p.start
	if start > s.floor {
		if c := b[start-1]; is[c]&isLetter != 0 || c == ' ' && (p.n == 2 || p.n == 6) && start-3 >= s.floor && is[b[start-2]]&isUpper != 0 {
			if hit, ok := s.lettered(g); ok {
				return hit, true
			}
		}
	}
	pair := false
	if g+1 < s.c.n || s.c.more {
		q := &s.c.groups[g+1]
		pair = paired(p.n, q.n, s.c.digits[p.off] == 0, q.sep)
	}
	bare := p.n >= 9 && p.n <= 19
	lettered := p.end < len(b) && is[b[p.end]]&isLetter != 0 || p.n == 8 || p.n == 1 && b[start]-'1' < 2
	plus := start > s.floor && b[start-1] == '+' && p.n < 16
	if !pair && !bare && !lettered && !plus || !s.left(start) {
		return Span{}, false
	}
	if lettered || bare {
		if hit, ok := s.mixed(g); ok {
			return hit, true
		}
	}
	if plus && s.m.want.has(phone) {
		if hit, ok := s.international(g); ok {
			return hit, true
		}
	}
	if bare {
		if hit, ok := s.single(g); ok {
			return hit, true
		}
	}
	if pair {
		return s.several(g)
	}
	return Span{}, false
}

// pairs has for the size of a group the sizes of the next, a bit each, with
// which it can be the beginning of a value: in the first half where the first
// digit isn't 0, then where it is.
var pairs = [2][16]uint16{
	{1: 1<<2 | 1<<3, 2: 1 << 3, 3: 1<<2 | 1<<3 | 1<<4, 4: 1<<2 | 1<<3 | 1<<4 | 1<<6, 6: 1 << 4, 8: 1 << 4},
	{2: 1<<2 | 1<<3 | 1<<4 | 1<<8, 3: 0xFFFE, 4: 0xFFFE, 5: 0xFFFE, 6: 1 << 4, 8: 1 << 4},
}

// paired says whether groups of n and m digits with a mark between may begin a
// value. Those of most dates and times don't.
func paired(n, m int, zero bool, mark byte) bool {
	switch {
	case n > 15 || m > 15:
		return false
	case mark == '.' && n <= 3 && m <= 3:
		return true
	case zero:
		return pairs[1][n]&(1<<m) != 0
	}
	return pairs[0][n]&(1<<m) != 0 && (n != 4 || m != 2 || mark == '.')
}

// several looks for a value of more than one group, the first of which is g.
func (s *numeral) several(g int) (Span, bool) {
	c := &s.c
	shape, total := uint32(0), 0
	last := min(g+7, c.n)
	if c.more {
		last = min(g+7, maxGroups)
	}
	for h := g; h < last && c.groups[h].n < 16; h++ {
		shape = shape<<4 | uint32(c.groups[h].n)
		if total += c.groups[h].n; total > maxDigits {
			break
		}
		if h == g {
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
func (s *numeral) marked(g, h int, marks string) bool {
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
func (s *numeral) alone(g, h int) bool {
	c := &s.c
	sep, start := c.groups[h].sep, c.groups[g].start
	if start-1 > s.floor && s.b[start-1] == sep && is[s.b[start-2]]&isDigit != 0 && !s.framing(start) {
		return false
	}
	if h+1 < c.n || c.more && h+1 < maxGroups {
		return c.groups[h+1].sep != sep
	}
	return true
}

// shaped says what the groups g to h are by their sizes, a hexadecimal digit
// for each in shape. The digits are d.
func (s *numeral) shaped(g, h int, shape uint32, d []byte) Kind {
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
// number in ten, and 123 456 789 is how much of the world writes an amount: it
// takes a word in front, or a rule that asks for the kind by its name.
func (s *numeral) nines(g, h int, shape uint32, d []byte) Kind {
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
	case want.has(caSIN) && isSIN(d) && (s.marked(g, h, "-") || s.marked(g, h, " ") && (s.m.named.has(caSIN) || s.word(start, sinWords...))):
		return caSIN
	case s.m.named.has(auTFN) && s.marked(g, h, " ") && isTFN(d):
		return auTFN
	}
	return other
}

// address says whether the groups g to h are an IPv4 address, and no version.
func (s *numeral) address(g, h int) bool {
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
func (s *numeral) single(g int) (Span, bool) {
	p := &s.c.groups[g]
	if p.n < 9 || p.n > 19 || !s.right(p.end) {
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
