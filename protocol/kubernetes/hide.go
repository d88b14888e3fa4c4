package kubernetes

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/custos-gateway/custos/mask"
)

// lastApplied is the annotation in which kubectl apply keeps what it was given:
// a Secret's data too.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// redacted stands in a value's place where nothing is said of it.
const redacted = "***MASKED***"

// hideValue appends what stands for the plain value of a Secret.
type hideValue func(dst, plain []byte) []byte

func redactSecret(dst, _ []byte) []byte { return append(dst, redacted...) }

// maxHeld bounds, in bytes, one string of an answer that is looked at whole:
// the API server itself takes no Secret over 1 MiB.
const maxHeld = 4 << 20

// hider hides the values of Secrets in JSON that comes in pieces: of one
// Secret, a list, a table's rows, the events of a watch, their metadata. It
// goes by names, at any depth: whatever stands under data or stringData, and
// the annotation that repeats it.
type hider struct {
	hide hideValue
	// keys are the names under which all is hidden.
	keys map[string]encoding
	// values: what stands under "value" in a list is hidden too: the values of
	// a JSON patch.
	values bool
	// find looks through every string besides; nil: nothing does.
	find *mask.Masker
	// fields hide what stands under a name of a rule's.
	fields []field
	hidden int64

	stack  []frame
	str    []byte // the string that is being read, without its quotes
	inStr  bool
	held   bool // str is kept, not passed on
	escape bool
	key    bool // the string is a name
}

// encoding is how a hidden value is written.
type encoding uint8

const (
	plainText encoding = iota + 1
	base64Text
)

type frame struct {
	list   bool
	name   string   // the name whose value is read
	hiding encoding // all within is hidden; 0: it is not
	under  *field   // all within is hidden as a rule's field is
	colon  bool     // an object's name was read, its value is next
}

// secretKeys are the names under which a Secret has its values.
var secretKeys = map[string]encoding{"data": base64Text, "stringData": plainText}

// tokenKeys is the name under which a TokenRequest has its token.
var tokenKeys = map[string]encoding{"token": plainText}

// hideSecrets hides the values of Secrets in one whole JSON value.
func hideSecrets(b []byte, hide hideValue) ([]byte, int64, error) {
	h := &hider{hide: hide, keys: secretKeys, values: true}
	out, err := h.Append(make([]byte, 0, len(b)), b)
	if err == nil {
		out, err = h.End(out)
	}
	return out, h.hidden, err
}

// Append hides what b, the next piece, holds, and appends it to dst. It may
// keep a part of it until the next piece.
func (h *hider) Append(dst, b []byte) ([]byte, error) {
	for i := 0; i < len(b); {
		if h.inStr {
			n, done := h.span(b[i:])
			if h.held {
				if len(h.str)+n > maxHeld {
					return dst, errors.New("hide secrets: a string is too long")
				}
				h.str = append(h.str, b[i:i+n]...)
			} else {
				dst = append(dst, b[i:i+n]...)
			}
			i += n
			if !done {
				continue
			}
			i++ // the closing quote
			h.inStr = false
			var err error
			if dst, err = h.close(dst); err != nil {
				return dst, err
			}
			continue
		}
		var err error
		if dst, err = h.step(dst, b[i]); err != nil {
			return dst, err
		}
		i++
	}
	return dst, nil
}

// span is how much of b is of the string, and whether it ends there.
func (h *hider) span(b []byte) (n int, done bool) {
	for ; n < len(b); n++ {
		switch {
		case h.escape:
			h.escape = false
		case b[n] == '\\':
			h.escape = true
		case b[n] == '"':
			return n, true
		}
	}
	return n, false
}

// step is one byte outside of strings.
func (h *hider) step(dst []byte, c byte) ([]byte, error) {
	top := h.top()
	switch c {
	case '"':
		h.inStr, h.str = true, h.str[:0]
		h.key = top != nil && !top.list && !top.colon
		h.held = h.key || h.find != nil || top != nil && (top.encoding(h) != 0 || top.name == lastApplied || top.field(h) != nil)
		if h.held {
			return dst, nil // the quote is written with the string
		}
	case '{', '[':
		f := frame{list: c == '['}
		if top != nil {
			f.hiding, f.under = top.encoding(h), top.field(h)
			if f.list {
				f.name = top.name
			}
		}
		if len(h.stack) >= maxDepth {
			return dst, errors.New("hide secrets: it is nested too deep")
		}
		h.stack = append(h.stack, f)
	case '}', ']':
		if top == nil || top.list != (c == ']') {
			return dst, errNotJSON
		}
		h.stack = h.stack[:len(h.stack)-1]
	case ':':
		if top == nil || top.list {
			return dst, errNotJSON
		}
		top.colon = true
	case ',':
		if top == nil {
			return dst, errNotJSON
		}
		if !top.list {
			top.colon, top.name = false, ""
		}
	default:
		if hidesScalar(top, h) && !bytes.ContainsRune([]byte(" \t\r\nnul"), rune(c)) {
			// A number or a boolean in a Secret's data: there is no such.
			return dst, errors.New("hide secrets: a value is no string")
		}
	}
	return append(dst, c), nil
}

func hidesScalar(top *frame, h *hider) bool {
	return top != nil && (top.list || top.colon) && top.hiding != 0 && top.encoding(h) != 0
}

var errNotJSON = errors.New("hide secrets: the answer is not JSON")

func (h *hider) top() *frame {
	if len(h.stack) == 0 {
		return nil
	}
	return &h.stack[len(h.stack)-1]
}

// encoding is how a value that stands next in f is hidden; 0: it is not.
func (f *frame) encoding(h *hider) encoding {
	if f.hiding != 0 {
		return f.hiding
	}
	if e := h.keys[f.name]; e != 0 {
		return e
	}
	if h.values && f.name == "value" && len(h.stack) > 0 && h.stack[0].list {
		return plainText
	}
	return 0
}

// close ends a string that was held.
func (h *hider) close(dst []byte) ([]byte, error) {
	top := h.top()
	if !h.held {
		return append(dst, '"'), nil
	}
	h.held = false
	if h.key {
		name, err := unquote(h.str)
		if err != nil {
			return dst, err
		}
		top.name = name
		return quoteRaw(dst, h.str), nil
	}
	if top == nil {
		return h.search(dst)
	}
	if e := top.encoding(h); e != 0 && (top.hiding != 0 || top.list || e == plainText) {
		return h.value(dst, e)
	}
	if f := top.field(h); f != nil {
		return h.whole(dst, f)
	}
	if top != nil && top.name == lastApplied {
		return h.annotation(dst)
	}
	return h.search(dst)
}

// whole writes what stands for a string under a rule's name.
func (h *hider) whole(dst []byte, f *field) ([]byte, error) {
	s, err := unquote(h.str)
	if err != nil {
		return dst, err
	}
	h.hidden++
	if f.way == mask.Null {
		return append(dst, "null"...), nil
	}
	return quote(dst, mask.Value(nil, []byte(s), f.way, "", f.key)), nil
}

// search looks through a string for what rules detect.
func (h *hider) search(dst []byte) ([]byte, error) {
	if h.find == nil {
		return quoteRaw(dst, h.str), nil
	}
	s, err := unquote(h.str)
	if err != nil {
		return dst, err
	}
	out, n := h.find.Append(nil, []byte(s))
	if n == 0 {
		return quoteRaw(dst, h.str), nil
	}
	h.hidden += int64(n)
	return quote(dst, out), nil
}

// field is what hides under f; nil: nothing of a rule's.
func (f *frame) field(h *hider) *field {
	if f == nil {
		return nil
	}
	if f.under != nil {
		return f.under
	}
	for i := range h.fields {
		if h.fields[i].matches(f.name) {
			return &h.fields[i]
		}
	}
	return nil
}

// value writes what stands for a hidden string.
func (h *hider) value(dst []byte, e encoding) ([]byte, error) {
	s, err := unquote(h.str)
	if err != nil {
		return dst, err
	}
	h.hidden++
	plain := []byte(s)
	if e == plainText {
		return quote(dst, h.hide(nil, plain)), nil
	}
	if b, err := base64.StdEncoding.DecodeString(s); err == nil {
		plain = b
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, h.hide(nil, plain))
	return append(dst, '"'), nil
}

// annotation writes an annotation that holds a whole object in JSON.
func (h *hider) annotation(dst []byte) ([]byte, error) {
	s, err := unquote(h.str)
	if err != nil {
		return dst, err
	}
	if h.keys == nil {
		return h.search(dst)
	}
	out, n := hideAnnotation([]byte(s), h.hide, h.find)
	h.hidden += n
	return quote(dst, out), nil
}

// hideAnnotation hides what an object repeats; what is no JSON is hidden whole.
func hideAnnotation(s []byte, hide hideValue, find *mask.Masker) ([]byte, int64) {
	h := &hider{hide: hide, keys: secretKeys, find: find}
	out, err := h.Append(make([]byte, 0, len(s)), s)
	if err == nil {
		out, err = h.End(out)
	}
	if err != nil || !json.Valid(s) {
		return []byte(`{}`), 1
	}
	return out, h.hidden
}

// End says whether the JSON ended where the answer did.
func (h *hider) End(dst []byte) ([]byte, error) {
	if h.inStr || len(h.stack) > 0 {
		return dst, errNotJSON
	}
	return dst, nil
}

// Hidden is how many values were.
func (h *hider) Hidden() int64 { return h.hidden }

func unquote(raw []byte) (string, error) {
	if bytes.IndexByte(raw, '\\') < 0 && utf8.Valid(raw) {
		return string(raw), nil
	}
	var s string
	if err := json.Unmarshal(quoteRaw(nil, raw), &s); err != nil {
		return "", fmt.Errorf("hide secrets: a string is malformed")
	}
	return s, nil
}

func quoteRaw(dst, raw []byte) []byte {
	return append(append(append(dst, '"'), raw...), '"')
}

func quote(dst, s []byte) []byte {
	b, err := json.Marshal(string(s))
	if err != nil {
		return append(dst, `""`...)
	}
	return append(dst, b...)
}
