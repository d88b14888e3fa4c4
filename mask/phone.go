package mask

// international looks for a number in E.164's form, +CC and the rest, whose
// first group is g.
func (s *numeral) international(g int) (Span, bool) {
	c := &s.c
	start := c.groups[g].start - 1
	if !s.left(start) {
		return Span{}, false
	}
	total, best, end := 0, 0, 0
	last := min(g+7, c.n)
	if c.more {
		last = min(g+7, maxGroups)
	}
	for h := g; h < last; h++ {
		total += c.groups[h].n
		d := c.digits[c.groups[g].off:]
		if total > 16 || c.groups[h].n > 15 {
			break
		}
		if total >= 8 && total <= dialled(d[:total]) && s.right(c.groups[h].end) {
			best, end = total, c.groups[h].end
		}
	}
	if best == 0 {
		return Span{}, false
	}
	if d := c.digits[c.groups[g].off:][:best]; !assigned(d) || d[0] == 1 && (best != 11 || !isNANP(d[1:])) {
		return Span{}, false
	}
	return hit(start, end, phone)
}

// dialled is how many digits a number that begins as d has at most, its
// country's code with it: E.164's 15 where nothing less is known. A trunk 0, as
// in +44 (0)20, is one more.
func dialled(d []byte) int {
	n := 15
	switch value(d[:2]) {
	case 31, 32, 33, 34, 41, 45, 47, 48, 61, 64:
		n = 11
	case 44, 46, 90, 91:
		n = 12
	case 39, 49, 55, 81, 86:
		n = 13
	}
	if d[0] == 1 || d[0] == 7 {
		n = 11
	}
	if n < 15 && d[2] == 0 {
		n++
	}
	return n
}

// assigned says whether d begins with a country's code (ITU-T E.164, annex).
func assigned(d []byte) bool {
	switch d[0] {
	case 0:
		return false
	case 1, 7:
		return true
	}
	switch value(d[:2]) {
	case 20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58,
		60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98:
		return true
	case 21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99:
		return len(d) > 2
	}
	return false
}

// isNANP says whether the ten digits are a number of the North American
// numbering plan: neither area nor exchange begins with 0 or 1 or ends in 11.
func isNANP(d []byte) bool {
	return d[0] > 1 && d[3] > 1 && !(d[1] == 1 && d[2] == 1) && !(d[4] == 1 && d[5] == 1) && d[1] != 9
}

// national says whether the groups g to h, of that shape, are a phone number
// as it is written within a country.
func (s *numeral) national(g, h int, shape uint32, d []byte) bool {
	c := &s.c
	start, sep := c.groups[g].start, c.groups[g+1].sep
	if !s.alone(g, h) {
		return false
	}
	switch shape {
	case 0x334:
		if !isNANP(d) {
			return false
		}
		paren := start > s.floor && s.b[start-1] == '('
		if sep == ')' {
			return paren && c.groups[h].sep != '/'
		}
		return s.marked(g, h, "-.") || s.marked(g, h, " ") && s.word(start, phoneWords...)
	case 0x1334:
		return d[0] == 1 && isNANP(d[1:]) && (s.marked(g, h, "-. ") || sep == ')')
	}
	if d[0] != 0 || !s.spaced(g, h) {
		return false
	}
	if d[1] == 0 {
		n := c.groups[g].n
		return n >= 3 && n <= 5 && len(d) >= 10 && len(d) <= 17 && assigned(d[2:n]) && (d[2] > 1 || n == 3)
	}
	switch shape {
	case 0x22222, 0x244, 0x344, 0x434, 0x433, 0x443, 0x56, 0x46, 0x47, 0x48, 0x37, 0x38, 0x28, 0x533, 0x4222, 0x2322,
		0x3322, 0x2332, 0x2442, 0x343:
		return sep != '.' || shape == 0x22222
	}
	return false
}

// spaced says whether the marks between the groups are those of a phone
// number: all the same, but for the first, which may set the area apart.
func (s *numeral) spaced(g, h int) bool {
	c := &s.c
	for i := g + 1; i <= h; i++ {
		switch sep := c.groups[i].sep; sep {
		case ' ', '-', '.':
			if i > g+2 && sep != c.groups[i-1].sep {
				return false
			}
		case '/', ')':
			if i > g+1 {
				return false
			}
		default:
			return false
		}
	}
	return true
}
