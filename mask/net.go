package mask

import "bytes"

// findEmail looks for an e-mail address whose '@', of so many bytes, is at i.
//
// The local part is RFC 5322's dot-atom without its rarer marks, of at most 64
// bytes (RFC 5321, section 4.5.3.1); the domain has at least two labels and
// ends in letters. A word beyond ASCII counts as letters.
func (s *scanner) findEmail(i, width int) (Span, bool) {
	b := s.b
	start := i
	for low := max(s.floor, i-64); start > low && is[b[start-1]]&(isAlnum|isMail) != 0; {
		start--
	}
	for start < i && is[b[start]]&isAlnum == 0 && b[start] < 0x80 && b[start] != '_' {
		start++
	}
	if start == i || b[i-1] == '.' {
		return Span{}, false
	}
	domain := i + width
	end, label, dots := 0, domain, 0
	top := min(len(b), domain+255)
	j := domain
	for {
		letters := true
		for j < top && (is[b[j]]&isAlnum != 0 || b[j] == '-' || b[j] >= 0x80 && b[j] < 0xF5) {
			letters = letters && is[b[j]]&isDigit == 0
			j++
		}
		if j == label || b[label] == '-' {
			break
		}
		last := j
		for b[last-1] == '-' {
			last--
		}
		ascii := last-label > 4 && b[label]|0x20 == 'x' && b[label+1]|0x20 == 'n' && b[label+2] == '-'
		if dots > 0 && last-label >= 2 && (letters || ascii) {
			end = last
		}
		if j == top || b[j] != '.' || last != j {
			break
		}
		dots++
		j++
		label = j
	}
	if end == 0 || !s.framed && !addressed(b[start:i], b[domain:end]) {
		return Span{}, false
	}
	return hit(start, end, email)
}

// addressed tells an address from what only looks like one: a package's
// version (lodash@4.17.21-rc.one), a picture's scale (logo@2x.png), a
// repository (git@github.com), a URL's password that we hid.
func addressed(local, domain []byte) bool {
	if is[domain[0]]&isDigit != 0 {
		j := 1
		for j < len(domain) && is[domain[j]]&isDigit != 0 {
			j++
		}
		if j+1 < len(domain) && (domain[j] == '.' && is[domain[j+1]]&isDigit != 0 || domain[j] == 'x' && domain[j+1] == '.') {
			return false
		}
	}
	return string(local) != "git" && !isHashed(local, 0)
}

// findColon looks for what has a ':' in it.
func (s *scanner) findColon(i int) (Span, bool) {
	b := s.b
	if i+2 < len(b) && b[i+1] == '/' && b[i+2] == '/' {
		if s.m.want.has(urlPassword) {
			return s.findURLPassword(i)
		}
		return Span{}, false
	}
	if s.m.want.has(ipv6) {
		return s.findIPv6(i)
	}
	return Span{}, false
}

// findURLPassword looks for the password of a URL (RFC 3986, section 3.2.1:
// scheme://user:password@host) whose "://" is at i.
func (s *scanner) findURLPassword(i int) (Span, bool) {
	b := s.b
	if i == 0 || is[b[i-1]]&isAlnum == 0 {
		return Span{}, false
	}
	start, end := 0, 0
	for j := i + 3; j < len(b) && j < i+3+512; j++ {
		switch c := b[j]; {
		case c == ':' && start == 0:
			start = j + 1
		case c == '@' && start != 0:
			end = j
		case c <= ' ', c == '/', c == '?', c == '#', c == '"', c == '\'', c == '<', c == '>', c == 0x7F, c == 0xFF:
			j = len(b)
		}
	}
	// What one of our ways put there hides nothing more.
	if start == 0 || end <= start || Sentinel(b[start:end]) || len(bytes.Trim(b[start:end], "*")) == 0 {
		return Span{}, false
	}
	return hit(start, end, urlPassword)
}

// findIPv6 looks for an IPv6 address (RFC 4291, section 2.2) whose first ':'
// is at i.
func (s *scanner) findIPv6(i int) (Span, bool) {
	b := s.b
	end, colons, gap := i, 0, false
	for end < len(b) && end < i+46 && (ishex(b[end]) || b[end] == ':' || b[end] == '.') {
		if b[end] == ':' {
			colons++
			gap = gap || end > i && b[end-1] == ':'
		}
		end++
	}
	if colons < 2 || colons < 6 && !gap {
		return Span{}, false
	}
	start := i
	for start > s.floor && start > i-8 && ishex(b[start-1]) {
		start--
	}
	for from, ok := start, true; ok; from, ok = s.reframe(start, from) {
		if (s.left(from) && (from == 0 || b[from-1] != ':') || s.framing(from)) && from <= i {
			if to := s.ipv6End(from, end); to > 0 {
				return hit(from, to, ipv6)
			}
		}
	}
	return Span{}, false
}

// ipv6End returns the end of the address that b[start:end] begins with, or 0.
func (s *scanner) ipv6End(start, end int) int {
	b := s.b
	to := end
	for to > start && (b[to-1] == '.' || b[to-1] == ':' && (to-2 < start || b[to-2] != ':')) {
		to--
	}
	if isIPv6(b[start:to]) && s.right(to) {
		return to
	}
	// The last byte may be the next message's type.
	if s.framed && to == end && end > start && end < len(b) && b[end] == 0 && b[end-1] != ':' {
		return s.ipv6End(start, end-1)
	}
	return 0
}

func ishex(c byte) bool { return is[c]&isHex != 0 || c >= 'A' && c <= 'F' }

// isIPv6 says whether b is an address that could be somebody's: eight groups,
// or fewer with :: of a global, unique local or link-local address, or one
// that maps IPv4. A time, a MAC, a fingerprint and C++'s a::b are none.
func isIPv6(b []byte) bool {
	groups, gap, long, v4 := 0, -1, false, false
	for i := 0; i < len(b); {
		if b[i] == ':' {
			switch {
			case i+1 < len(b) && b[i+1] == ':' && gap < 0:
				gap = groups
				i += 2
				continue
			case i == 0 || b[i-1] == ':':
				return false
			}
			i++
		}
		j := i
		for j < len(b) && ishex(b[j]) {
			j++
		}
		if j < len(b) && b[j] == '.' {
			if !isIPv4(b[i:]) {
				return false
			}
			groups, v4 = groups+2, true
			break
		}
		if j == i || j-i > 4 {
			return false
		}
		long = long || j-i > 2
		groups++
		i = j
	}
	if gap < 0 {
		return groups == 8 && long
	}
	if groups > 7 || len(b) < 5 {
		return false
	}
	if b[0] == ':' {
		return v4
	}
	c := b[0] | 0x20
	return b[4] == ':' && (c == '2' || c == '3' || c == 'f' && (b[1]|0x20 >= 'c' && b[1]|0x20 <= 'f')) || v4
}

// isIPv4 says whether b is four numbers of at most 255 without leading zeros.
func isIPv4(b []byte) bool {
	parts := 1
	for i, v, n := 0, 0, 0; ; i++ {
		switch {
		case i < len(b) && is[b[i]]&isDigit != 0:
			if n > 0 && v == 0 {
				return false
			}
			v, n = v*10+int(b[i]-'0'), n+1
			if v > 255 {
				return false
			}
		case n == 0 || i < len(b) && b[i] != '.':
			return false
		case i == len(b):
			return parts == 4
		default:
			parts, v, n = parts+1, 0, 0
		}
	}
}
