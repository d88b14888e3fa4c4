package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// decoder fills a Config, or another struct of its sort, from YAML nodes. It goes on after an error, so that
// all of them are found in one run.
type decoder struct {
	file     string
	raw      []byte
	at       map[string]mark // where each key's value stands
	problems Errors
	warnings Errors
}

type mark struct {
	line, column int
	// file is where, if it is not the decoder's own.
	file string
}

func newDecoder(file string, raw []byte) *decoder {
	return &decoder{file: file, raw: raw, at: make(map[string]mark)}
}

// fail reports a problem at key, or where its nearest parent stands. Only the
// first of a key is kept: the others would follow from it.
func (d *decoder) fail(key, format string, args ...any) {
	if !d.failed(key) {
		d.problems = append(d.problems, d.problem(key, format, args...))
	}
}

func (d *decoder) failed(key string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Key == key })
}

func (d *decoder) warn(key, format string, args ...any) {
	d.warnings = append(d.warnings, d.problem(key, format, args...))
}

func (d *decoder) problem(key, format string, args ...any) Problem {
	m := d.at[key]
	for parent := key; m.line == 0 && parent != ""; {
		parent = parent[:max(strings.LastIndexAny(parent, ".["), 0)]
		m = d.at[parent]
	}
	return Problem{File: cmp.Or(m.file, d.file), Line: m.line, Column: m.column, Key: key, Message: fmt.Sprintf(format, args...)}
}

// decode reads the one document of raw into the struct that c points to, and reports whether it is a
// mapping, so that it makes sense to look further.
func (d *decoder) decode(raw []byte, c any) bool {
	reader := yaml.NewDecoder(bytes.NewReader(raw))
	var document, second yaml.Node
	err := reader.Decode(&document)
	if err == nil {
		if err = reader.Decode(&second); err == nil {
			d.at[""] = mark{line: second.Line, column: second.Column}
			d.fail("", "a second document starts here: keep one in a file")
			return false
		}
	}
	switch {
	case errors.Is(err, io.EOF) && len(document.Content) == 0:
		d.fail("", "it is empty: docs/config.md has an example")
		return false
	case !errors.Is(err, io.EOF):
		d.syntax(err)
		return false
	}
	root := document.Content[0]
	d.value(root, reflect.ValueOf(c).Elem(), "")
	return root.Kind == yaml.MappingNode
}

// syntax reports what is not YAML.
func (d *decoder) syntax(err error) {
	var e *yaml.LoadError
	if !errors.As(err, &e) {
		d.fail("", "it is not YAML: %v", err)
		return
	}
	d.at[""] = mark{line: e.Mark.Line, column: e.Mark.Column}
	message := e.Message
	if e.ContextMsg != "" {
		message += fmt.Sprintf(", %s that starts in line %d", e.ContextMsg, e.ContextMark.Line)
	}
	d.fail("", "it is not YAML: %s", message)
}

// value decodes n into v, whose key is key.
func (d *decoder) value(n *yaml.Node, v reflect.Value, key string) {
	d.at[key] = mark{line: n.Line, column: n.Column}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.fail(key, "anchors and aliases are not read here: write the value out")
		return
	}
	isWord := n.Value == "null" && v.Type() == reflect.TypeFor[Way]()
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && !isWord {
		d.fail(key, "it has no value: give it one, or remove the key")
		return
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		if n.Kind == yaml.ScalarNode {
			if err := s.parse(n.Value); err != nil {
				d.fail(key, "%v", err)
			}
			return
		}
		if v.Kind() != reflect.Struct || len(fieldsOf(v.Type())) == 0 {
			d.fail(key, "want one value, got %s", kind(n))
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), key)
	case reflect.Struct:
		d.structure(n, v, key)
	case reflect.Slice:
		d.list(n, v, key)
	case reflect.Map:
		d.names(n, v, key)
	case reflect.String:
		d.text(n, v, key)
	case reflect.Int, reflect.Int64:
		d.number(n, v, key)
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
			d.fail(key, "want true or false")
		}
		v.SetBool(n.Value == "true")
	default:
		// Only a new type in Config gets here, and every test would.
		panic("config: no decoding for " + v.Type().String())
	}
}

func (d *decoder) text(n *yaml.Node, v reflect.Value, key string) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(key, "want one value, got %s", kind(n))
	case n.Value == "":
		d.fail(key, "it is empty: give it a value, or remove the key")
	case strings.ContainsFunc(n.Value, func(r rune) bool { return r < ' ' || r == 0x7f }):
		d.fail(key, "it holds a control character or a line break: remove it")
	default:
		v.SetString(n.Value)
	}
}

func (d *decoder) number(n *yaml.Node, v reflect.Value, key string) {
	bits := 32 // what is counted one by one
	if v.Kind() == reflect.Int64 {
		bits = 64
	}
	i, err := strconv.ParseInt(n.Value, 10, bits)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.fail(key, "want a whole number")
		return
	}
	v.SetInt(i)
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, key string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(key, "want a list, got %s", kind(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", key, i))
	}
}

// names decodes a mapping with free keys.
func (d *decoder) names(n *yaml.Node, v reflect.Value, key string) {
	v.Set(reflect.MakeMap(v.Type()))
	for name, item := range d.pairs(n, key) {
		text := reflect.New(v.Type().Elem()).Elem()
		d.value(item, text, join(key, name.Value))
		v.SetMapIndex(reflect.ValueOf(name.Value), text)
	}
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, key string) {
	fields := fieldsOf(v.Type())
	for name, item := range d.pairs(n, key) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name.Value })
		if i < 0 {
			d.unknown(name, fields, key)
			continue
		}
		d.value(item, v.FieldByIndex(fields[i].index), join(key, name.Value))
	}
}

// unknown reports a key that is not in the manual, and the one that it may
// have been meant for.
func (d *decoder) unknown(name *yaml.Node, fields []field, key string) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	where := join(key, name.Value)
	d.at[where] = mark{line: name.Line, column: name.Column}
	if guess := nearest(name.Value, names); guess != "" {
		d.fail(where, "unknown key: did you mean %s?", guess)
		return
	}
	d.fail(where, "unknown key: the keys here are %s", strings.Join(names, ", "))
}

// pairs yields the keys and values of a mapping, once each.
func (d *decoder) pairs(n *yaml.Node, key string) func(func(name, item *yaml.Node) bool) {
	return func(yield func(name, item *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			d.fail(key, "want keys and values, got %s", kind(n))
			return
		}
		seen := make(map[string]int)
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, item := n.Content[i], n.Content[i+1]
			if name.Kind != yaml.ScalarNode || name.Anchor != "" {
				d.at[key] = mark{line: name.Line, column: name.Column}
				d.fail(key, "a key must be one plain word")
				continue
			}
			if line, twice := seen[name.Value]; twice {
				where := join(key, name.Value)
				d.at[where] = mark{line: name.Line, column: name.Column}
				d.fail(where, "it stands twice, first in line %d: keep one", line)
				continue
			}
			seen[name.Value] = name.Line
			if !yield(name, item) {
				return
			}
		}
	}
}

func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "one value"
	}
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}
