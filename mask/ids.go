package mask

import "bytes"

// lettered looks for a value that begins with letters in front of group g.
func (s *numeral) lettered(g int) (Span, bool) {
	b, p := s.b, &s.c.groups[g]
	want, i := s.m.want, p.start
	c := b[i-1]
	if is[c]&isLetter == 0 {
		if c == ' ' && want.has(ukNINO) {
			return s.findNINO(g, i-3)
		}
		return Span{}, false
	}
	if want.has(iban) && i-2 >= s.floor && p.n >= 2 {
		if end := s.ibanEnd(i - 2); end > 0 {
			return hit(i-2, end, iban)
		}
	}
	if want.has(itCodiceFiscale) && p.n == 2 && i-6 >= s.floor && isCodiceFiscale(b[i-6:]) && s.left(i-6) && s.right(i+10) {
		return hit(i-6, i+10, itCodiceFiscale)
	}
	if want.has(googleOAuth) && p.n == 2 && c == 'a' && i-2 >= s.floor && bytes.HasPrefix(b[i-2:], []byte("ya29.")) && s.begins(i-2) {
		if end, ok := s.run(i+3, isToken, 20, 0); ok {
			return hit(i-2, end, googleOAuth)
		}
	}
	if want.has(esNIE) && p.n == 7 && c >= 'X' && c <= 'Z' && s.left(i-1) {
		if end := s.controlLetter(p.end, int(c-'X')*1e7+value(s.c.digits[p.off:][:7])); end > 0 {
			return hit(i-1, end, esNIE)
		}
	}
	if want.has(ukNINO) {
		return s.findNINO(g, i-2)
	}
	return Span{}, false
}

// mixed looks for a value that begins with group g and goes on with letters.
func (s *numeral) mixed(g int) (Span, bool) {
	b, p := s.b, &s.c.groups[g]
	want, i := s.m.want, p.start
	d := s.c.digits[p.off:]
	if want.has(esDNI) && p.n == 8 {
		if end := s.controlLetter(p.end, value(d[:8])); end > 0 {
			return hit(i, end, esDNI)
		}
	}
	if want.has(cnResidentID) && p.n == 17 && p.end < len(b) && b[p.end]|0x20 == 'x' && isResidentID(d[:17], true) && s.right(p.end+1) {
		return hit(i, p.end+1, cnResidentID)
	}
	if want.has(usMBI) && p.n == 1 {
		if n := mbiLen(b[i:]); n > 0 && s.right(i+n) {
			return hit(i, i+n, usMBI)
		}
	}
	if want.has(frNIR) && (d[0] == 1 || d[0] == 2) {
		if n := nirLen(b[i:]); n > 0 && s.right(i+n) {
			return hit(i, i+n, frNIR)
		}
	}
	return Span{}, false
}

// controlLetter returns the end of the Spanish control letter of v, with a
// hyphen or none in front, or 0.
func (s *scanner) controlLetter(i, v int) int {
	if i < len(s.b) && s.b[i] == '-' {
		i++
	}
	if i < len(s.b) && s.b[i] == "TRWAGMYFPDXBNJZSQVHLCKE"[v%23] && s.right(i+1) {
		return i + 1
	}
	return 0
}

// findNINO looks for a British national insurance number, whose two letters
// are at i: HMRC's prefixes, six digits, together or in pairs, and A to D.
func (s *numeral) findNINO(g, i int) (Span, bool) {
	b, c := s.b, &s.c
	if i < s.floor || is[b[i]]&isUpper == 0 || is[b[i+1]]&isUpper == 0 || !s.left(i) {
		return Span{}, false
	}
	end := c.groups[g].end
	switch {
	case c.groups[g].n == 6:
	case c.groups[g].n == 2 && g+2 < c.n && c.groups[g+1].n == 2 && c.groups[g+2].n == 2 && s.marked(g, g+2, " -"):
		end = c.groups[g+2].end
	default:
		return Span{}, false
	}
	if end < len(b) && (b[end] == ' ' || b[end] == '-') {
		end++
	}
	if end >= len(b) || b[end] < 'A' || b[end] > 'D' || !s.right(end+1) {
		return Span{}, false
	}
	for j := range 2 {
		switch b[i+j] {
		case 'D', 'F', 'I', 'Q', 'U', 'V':
			return Span{}, false
		}
	}
	switch string(b[i : i+2]) {
	case "BG", "GB", "KN", "NK", "NT", "TN", "ZZ":
		return Span{}, false
	}
	if b[i+1] == 'O' {
		return Span{}, false
	}
	return hit(i, end+1, ukNINO)
}

// ibanLength has the length of a country's account numbers, from the registry
// of SWIFT (ISO 13616).
var ibanLength = func() (t [26][26]uint8) {
	const registry = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18" +
		"FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24" +
		"ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25" +
		"SV28TL23TN24TR26UA29VA22VG24XK20YE30"
	for i := 0; i < len(registry); i += 4 {
		t[registry[i]-'A'][registry[i+1]-'A'] = (registry[i+2]-'0')*10 + registry[i+3] - '0'
	}
	return t
}()

// ibanEnd returns the end of the account number that begins at start, or 0.
// Groups may have a space or a hyphen between them.
func (s *scanner) ibanEnd(start int) int {
	b := s.b
	if is[b[start]]&isLetter == 0 || !s.left(start) {
		return 0
	}
	length := int(ibanLength[b[start]&^0x20-'A'][b[start+1]&^0x20-'A'])
	i, rest := start, uint32(0)
	var head [4]byte
	for n := 0; n < length; n++ {
		if n > 0 && n%4 == 0 {
			if i < len(b) && (b[i] == ' ' || b[i] == '-') {
				i++
			} else if i+1 < len(b) && b[i] == 0xC2 && b[i+1] == 0xA0 {
				i += 2
			}
		}
		if i >= len(b) || is[b[i]]&isAlnum == 0 {
			return 0
		}
		if n < 4 {
			head[n] = b[i]
		} else {
			rest = mod97(rest, b[i])
		}
		i++
	}
	for _, c := range head {
		rest = mod97(rest, c)
	}
	if length == 0 || rest != 1 || !s.right(i) {
		return 0
	}
	return i
}

// mod97 takes one more character, A being 10, into the remainder.
func mod97(rest uint32, c byte) uint32 {
	if is[c]&isDigit != 0 {
		return (rest*10 + uint32(c-'0')) % 97
	}
	return (rest*100 + uint32(c&^0x20-'A'+10)) % 97
}

// isCodiceFiscale checks the 16 characters that b begins with (decree of 12
// March 1974): letters of the names, year, month, day, place, and a letter
// that checks them. The digits behind the year may be letters, where two
// people had the same.
func isCodiceFiscale(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	sum := 0
	for i := range 16 {
		c := b[i] &^ 0x20
		letter := is[b[i]]&isLetter != 0
		v := int(c - 'A')
		switch i {
		case 6, 7, 9, 10, 12, 13, 14:
			if !letter {
				if is[b[i]]&isDigit == 0 {
					return false
				}
				v = int(b[i] - '0')
			} else if c < 'L' || c > 'V' || c == 'O' {
				return false
			}
		default:
			if !letter {
				return false
			}
		}
		if i == 8 && !isMonthLetter(c) {
			return false
		}
		if i == 15 {
			return sum%26 == v
		}
		if i%2 == 0 {
			v = [...]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}[v]
		}
		sum += v
	}
	return false
}

func isMonthLetter(c byte) bool {
	for _, m := range []byte("ABCDEHLMPRST") {
		if c == m {
			return true
		}
	}
	return false
}

// mbiLen returns the length of the Medicare beneficiary identifier that b
// begins with, or 0 (CMS: the place of every letter is fixed; S, L, O, I, B
// and Z aren't used).
func mbiLen(b []byte) int {
	i := 0
	for n, c := range []byte("CAEN-AEN-AANN") {
		if c == '-' {
			if i < len(b) && b[i] == '-' {
				i++
			}
			continue
		}
		if i >= len(b) {
			return 0
		}
		isnum, isabc := is[b[i]]&isDigit != 0, is[b[i]]&isUpper != 0
		switch b[i] {
		case 'S', 'L', 'O', 'I', 'B', 'Z':
			return 0
		}
		if !(isnum && (c == 'N' || c == 'E' || c == 'C' && b[i] != '0') || isabc && (c == 'A' || c == 'E')) {
			return 0
		}
		i++
		// With the first hyphen there must be the second.
		if n == 7 && i >= 8 && b[4] == '-' && (i >= len(b) || b[i] != '-') {
			return 0
		}
	}
	return i
}

// nirLen returns the length of the French social security number that b begins
// with, or 0: sex, year, month, department (2A and 2B for Corsica), commune,
// order, and 97 less the rest of the others by 97. Spaces may be in it.
func nirLen(b []byte) int {
	var v uint64
	i := 0
	month := 0
	for n := 0; n < 13; n++ {
		if n > 0 && i < len(b) && b[i] == ' ' {
			i++
		}
		if i >= len(b) {
			return 0
		}
		switch c := b[i]; {
		case is[c]&isDigit != 0:
			v = v*10 + uint64(c-'0')
			if n == 3 || n == 4 {
				month = month*10 + int(c-'0')
			}
		case n == 6 && b[i-1] == '2' && (c == 'A' || c == 'B'):
			// 2A counts as 19, 2B as 18.
			v = v/10*100 + 19 - uint64(c-'A')
		default:
			return 0
		}
		i++
		if n == 4 && (month < 1 || month > 12 && month != 20) {
			return 0
		}
	}
	if i < len(b) && b[i] == ' ' {
		i++
	}
	if i+2 > len(b) || is[b[i]]&isDigit == 0 || is[b[i+1]]&isDigit == 0 {
		return 0
	}
	if uint64(b[i]-'0')*10+uint64(b[i+1]-'0') != 97-v%97 {
		return 0
	}
	return i + 2
}
