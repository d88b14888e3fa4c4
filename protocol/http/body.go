package http

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of what is judged of a body.
const (
	maxJudged = 1 << 20 // bytes that are read to be judged
	maxDepth  = 100     // of nesting
	maxFields = 1000    // that are said of it
	maxField  = 1024    // bytes that are said of one
	maxBody   = 4 << 30 // bytes of a body
)

// The forms of bodies.
type form uint8

const (
	formNone form = iota
	formJSON
	formLines // JSON, a value on each line
	formForm
	formParts // multipart/form-data
	formText
	formGraphQL
	formOpaque
)

// body is a request's, as far as it can be looked into.
type body struct {
	form   form
	media  string
	raw    []byte // decoded; of a body that is too long to judge, nothing
	size   int64
	values []any // of JSON: the value, or one for each line
	pairs  url.Values
	fields []field
	opaque bool
}

// field is one value of a body, and where it stands.
type field struct{ path, value string }

// object is a JSON object with its names in order.
type object struct {
	names  []string
	values map[string]any
}

// readBody takes a body apart. raw is all of it; long: there is more than is
// judged, and raw is nothing.
func readBody(header http.Header, raw []byte, size int64, long bool) (*body, error) {
	b := &body{raw: raw, size: size}
	encoding := strings.ToLower(strings.TrimSpace(strings.Join(header.Values("Content-Encoding"), ",")))
	declared := header.Get("Content-Type")
	if len(header.Values("Content-Type")) > 1 {
		return nil, refuse(ruleHeader, "the body has two types", "send one Content-Type")
	}
	var params map[string]string
	var err error
	if declared != "" {
		if b.media, params, err = mime.ParseMediaType(declared); err != nil {
			return nil, refuse(ruleBody, "the body's type is malformed", "send a Content-Type such as application/json")
		}
	}
	if size == 0 && !long {
		return b, nil
	}
	switch encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		if !long {
			if b.raw, err = inflate(raw); err != nil {
				return nil, err
			}
		}
	default:
		return nil, refuse(ruleBody, fmt.Sprintf("the body is encoded as %q, which cannot be looked into here", oneLine(encoding, 40)), "send it plain, or as gzip")
	}
	if charset := strings.ToLower(params["charset"]); charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return nil, refuse(ruleBody, "the body's characters are "+oneLine(charset, 40)+", which cannot be looked into here", "send it as UTF-8")
	}
	if long {
		b.form, b.opaque = formOpaque, true
		return b, nil
	}
	return b, b.parse(params)
}

// inflate decodes a gzipped body, up to what is judged.
func inflate(raw []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, refuse(ruleBody, "the body is no gzip, though it says so", "send it plain")
	}
	out, err := io.ReadAll(io.LimitReader(z, maxJudged+1))
	switch {
	case err != nil:
		return nil, refuse(ruleBody, "the body's gzip is damaged", "send it plain")
	case len(out) > maxJudged:
		return nil, refuse(ruleBody, fmt.Sprintf("the body inflates to more than %d bytes", maxJudged), "send it plain")
	}
	return out, nil
}

func (b *body) parse(params map[string]string) error {
	switch m := b.media; {
	case m == "application/json", strings.HasSuffix(m, "+json"), m == "text/json":
		b.form = formJSON
		v, err := parseJSON(b.raw)
		if err != nil {
			return b.malformed("JSON", err)
		}
		b.values = []any{v}
	case m == "application/x-ndjson", m == "application/ndjson", m == "application/jsonl", m == "application/json-seq":
		b.form = formLines
		if err := b.lines(); err != nil {
			return b.malformed("lines of JSON", err)
		}
	case m == "application/x-www-form-urlencoded":
		b.form = formForm
		values, err := url.ParseQuery(string(b.raw))
		if err != nil {
			return b.malformed("a form", err)
		}
		b.pairs = values
	case m == "multipart/form-data":
		b.form = formParts
		if err := b.parts(params["boundary"]); err != nil {
			return b.malformed("a form in parts", err)
		}
	case m == "application/graphql":
		b.form = formGraphQL
	case strings.HasPrefix(m, "text/"), strings.HasSuffix(m, "+xml"), m == "application/xml", m == "application/yaml", m == "application/x-yaml", m == "application/sql", m == "application/javascript":
		b.form = formText
	default:
		b.form, b.opaque = formOpaque, true
		return nil
	}
	if !utf8.Valid(b.raw) {
		return b.malformed("UTF-8", errors.New("a byte of it is not"))
	}
	for _, v := range b.values {
		b.collect("", v)
	}
	names := make([]string, 0, len(b.pairs))
	for name := range b.pairs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range b.pairs[name] {
			b.say(name, v)
		}
	}
	return nil
}

func (b *body) malformed(what string, err error) error {
	return refuse(ruleBody, "the body is not "+what+": "+oneLine(err.Error(), 120), "send what its Content-Type says")
}

func (b *body) lines() error {
	for line := range bytes.Lines(b.raw) {
		line = bytes.TrimLeft(bytes.TrimSpace(line), "\x1e")
		if len(line) == 0 {
			continue
		}
		v, err := parseJSON(line)
		if err != nil {
			return err
		}
		b.values = append(b.values, v)
	}
	return nil
}

func (b *body) parts(boundary string) error {
	if boundary == "" {
		return errors.New("it has no boundary")
	}
	r := multipart.NewReader(bytes.NewReader(b.raw), boundary)
	b.pairs = url.Values{}
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		v, err := io.ReadAll(p)
		if err != nil {
			return err
		}
		if p.FileName() != "" || !utf8.Valid(v) {
			b.opaque = true
			b.say(p.FormName(), p.FileName())
			continue
		}
		b.pairs.Add(p.FormName(), string(v))
	}
}

// say notes a field.
func (b *body) say(path, value string) {
	if len(b.fields) < maxFields {
		b.fields = append(b.fields, field{path, oneLine(value, maxField)})
	}
}

// collect notes the fields of a value.
func (b *body) collect(path string, v any) {
	switch v := v.(type) {
	case *object:
		for _, name := range v.names {
			at := name
			if path != "" {
				at = path + "." + name
			}
			b.collect(at, v.values[name])
		}
	case []any:
		for _, item := range v {
			b.collect(path, item)
		}
	case nil:
		b.say(path, "null")
	default:
		b.say(path, fmt.Sprint(v))
	}
}

// parseJSON reads one value (RFC 8259). A name that stands twice in an object is
// an error: parsers differ on which of its values counts.
func parseJSON(raw []byte) (any, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := value(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one value")
	}
	return v, nil
}

func value(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("it is nested too deep")
	}
	t, err := d.Token()
	if err != nil {
		return nil, unquoted(err)
	}
	switch t {
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, unquoted(err)
	case json.Delim('{'):
		o := &object{values: map[string]any{}}
		for d.More() {
			t, err := d.Token()
			if err != nil {
				return nil, unquoted(err)
			}
			name, _ := t.(string)
			if _, twice := o.values[name]; twice {
				return nil, fmt.Errorf("%q stands in it twice", oneLine(name, 60))
			}
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			o.names, o.values[name] = append(o.names, name), v
		}
		_, err := d.Token()
		return o, unquoted(err)
	}
	return t, nil
}

// unquoted is a parser's error without what it quotes.
func unquoted(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("it is malformed")
}

// text is a string of an object; "": there is none.
func (o *object) text(name string) string {
	s, _ := o.values[name].(string)
	return s
}

// object returns the body where it is one JSON object.
func (b *body) object() *object {
	if b.form != formJSON || len(b.values) != 1 {
		return nil
	}
	o, _ := b.values[0].(*object)
	return o
}
