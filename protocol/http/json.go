package http

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/custos-gateway/custos/mask"
)

// jsonVeil hides in JSON that comes in pieces, one value after another: whatever
// stands under a name that a rule hides, and the kinds of value that a rule
// names, in strings, numbers and names. What it does not hide passes byte for
// byte.
type jsonVeil struct {
	plan   *plan
	hidden int64

	stack  []level
	path   []string // the names that what is read stands under
	token  []byte   // the string or number that is read, kept whole
	kind   byte     // of the token: '"', or 'n' for what has no quotes; 0: none
	escape bool
}

// level is an object or a list that is open.
type level struct {
	list  bool
	named bool // an object's name was read, its value is next
	way   mask.Way
	hides bool // all within is hidden
	depth int  // of path, outside of it
}

// Append hides what b, the next piece, holds, and appends it to dst.
func (v *jsonVeil) Append(dst, b []byte) ([]byte, error) {
	for i := 0; i < len(b); {
		c := b[i]
		switch {
		case v.kind == '"':
			n, done := v.span(b[i:])
			if len(v.token)+n > maxHeld {
				return dst, errHeld
			}
			v.token = append(v.token, b[i:i+n]...)
			if i += n; !done {
				continue
			}
			i++ // the closing quote
			var err error
			if dst, err = v.text(dst); err != nil {
				return dst, err
			}
		case v.kind == 'n' && !strings.ContainsRune(" \t\r\n,:]}[{\"\x1e", rune(c)):
			if len(v.token) > maxHeld {
				return dst, errHeld
			}
			v.token = append(v.token, c)
			i++
		case v.kind == 'n':
			var err error
			if dst, err = v.scalar(dst); err != nil {
				return dst, err
			}
		default:
			var err error
			if dst, err = v.step(dst, c); err != nil {
				return dst, err
			}
			i++
		}
	}
	return dst, nil
}

// span is how much of b is of the string, and whether it ends there.
func (v *jsonVeil) span(b []byte) (n int, done bool) {
	for ; n < len(b); n++ {
		switch {
		case v.escape:
			v.escape = false
		case b[n] == '\\':
			v.escape = true
		case b[n] == '"':
			return n, true
		}
	}
	return n, false
}

func (v *jsonVeil) top() *level {
	if len(v.stack) == 0 {
		return nil
	}
	return &v.stack[len(v.stack)-1]
}

// step is one byte outside of strings and numbers.
func (v *jsonVeil) step(dst []byte, c byte) ([]byte, error) {
	top := v.top()
	switch c {
	case '"':
		v.kind, v.token = '"', v.token[:0]
		return dst, nil // the quote is written with the string
	case '{', '[':
		if top != nil && !top.list && !top.named || len(v.stack) >= maxDepth*10 {
			return dst, errNotJSON
		}
		l := level{list: c == '[', depth: len(v.path)}
		l.way, l.hides = v.way()
		v.stack = append(v.stack, l)
	case '}', ']':
		if top == nil || top.list != (c == ']') {
			return dst, errNotJSON
		}
		v.path = v.path[:top.depth]
		v.stack = v.stack[:len(v.stack)-1]
	case ':':
		if top == nil || top.list || len(v.path) == top.depth {
			return dst, errNotJSON
		}
		top.named = true
	case ',':
		if top == nil {
			return dst, errNotJSON
		}
		if !top.list {
			top.named, v.path = false, v.path[:top.depth]
		}
	case ' ', '\t', '\r', '\n', 0x1e:
	default:
		v.kind, v.token = 'n', append(v.token[:0], c)
		return dst, nil
	}
	return append(dst, c), nil
}

// way is how what stands next is hidden.
func (v *jsonVeil) way() (mask.Way, bool) {
	if top := v.top(); top != nil && top.hides {
		return top.way, true
	}
	return v.plan.way(v.path)
}

// name is what the value that is read is called.
func (v *jsonVeil) name() string {
	if len(v.path) == 0 {
		return ""
	}
	return v.path[len(v.path)-1]
}

// text ends a string: a name, or a value.
func (v *jsonVeil) text(dst []byte) ([]byte, error) {
	v.kind = 0
	plain, err := unquote(v.token)
	if err != nil {
		return dst, err
	}
	top := v.top()
	isName := top != nil && !top.list && !top.named
	if isName {
		if len(v.path) != top.depth {
			return dst, errNotJSON
		}
		v.path = append(v.path, strings.ToLower(string(plain)))
	} else if way, ok := v.way(); ok {
		return v.value(dst, plain, way), nil
	}
	if v.plan.find != nil {
		if out, n := v.plan.find.Append(nil, plain); n > 0 {
			v.hidden += int64(n)
			return quote(dst, out), nil
		}
	}
	return append(append(append(dst, '"'), v.token...), '"'), nil
}

// scalar ends a number, or true, false or null.
func (v *jsonVeil) scalar(dst []byte) ([]byte, error) {
	v.kind = 0
	top := v.top()
	if top != nil && !top.list && !top.named || !json.Valid(v.token) {
		return dst, errNotJSON
	}
	if string(v.token) == "null" {
		return append(dst, "null"...), nil
	}
	if way, ok := v.way(); ok {
		return v.value(dst, v.token, way), nil
	}
	if v.plan.find != nil {
		if out, n := v.plan.find.Append(nil, v.token); n > 0 {
			v.hidden += int64(n)
			return quote(dst, out), nil
		}
	}
	return append(dst, v.token...), nil
}

// value appends what stands for a whole value.
func (v *jsonVeil) value(dst, plain []byte, way mask.Way) []byte {
	v.hidden++
	if way == mask.Null {
		return append(dst, "null"...)
	}
	return quote(dst, v.plan.value(nil, plain, way, v.name()))
}

// End says whether the JSON ended where the answer did.
func (v *jsonVeil) End(dst []byte) ([]byte, error) {
	if v.kind == 'n' {
		var err error
		if dst, err = v.scalar(dst); err != nil {
			return dst, err
		}
	}
	if v.kind != 0 || len(v.stack) > 0 {
		return dst, errNotJSON
	}
	return dst, nil
}

// Hidden is how many values were.
func (v *jsonVeil) Hidden() int64 { return v.hidden }

// unquote is the text of a string without its quotes.
func unquote(raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		return raw, nil
	}
	var s string
	if json.Unmarshal(append(append([]byte{'"'}, raw...), '"'), &s) != nil {
		return nil, errNotJSON
	}
	return []byte(s), nil
}

func quote(dst, s []byte) []byte {
	b, err := json.Marshal(string(s))
	if err != nil {
		return append(dst, `""`...)
	}
	return append(dst, b...)
}
