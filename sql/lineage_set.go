package sql

import "math/bits"

// set is a set of stored columns, by their numbers in a tracer. It does not
// change once made, so that the columns of an answer can share one.
type set []uint64

// only returns the set of n alone.
func only(n int) set {
	s := make(set, n/64+1)
	s[n/64] = 1 << (n % 64)
	return s
}

// with returns what is in s or o.
func (s set) with(o set) set {
	if o.within(s) {
		return s
	}
	if s.within(o) {
		return o
	}
	long, short := s, o
	if len(short) > len(long) {
		long, short = short, long
	}
	both := append(set(nil), long...)
	for i, word := range short {
		both[i] |= word
	}
	return both
}

// without returns what is in s and not in o.
func (s set) without(o set) set {
	rest := append(set(nil), s...)
	for i := range min(len(s), len(o)) {
		rest[i] &^= o[i]
	}
	return rest
}

// within reports whether o has all of s.
func (s set) within(o set) bool {
	for i, word := range s {
		if i >= len(o) && word != 0 || i < len(o) && word&^o[i] != 0 {
			return false
		}
	}
	return true
}

// names returns the names of the columns in s, of those in all.
func (s set) names(all []string) []string {
	count := 0
	for _, word := range s {
		count += bits.OnesCount64(word)
	}
	if count == 0 {
		return nil
	}
	out := make([]string, 0, count)
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			out = append(out, all[i*64+bits.TrailingZeros64(word)])
		}
	}
	return out
}
