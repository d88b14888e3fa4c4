package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// field is a key of a mapping, with the rules of its jsonschema tag: the
// published schema and what is enforced here have one source.
type field struct {
	name     string
	index    []int
	required bool
	fallback string
	enum     []string
	minimum  string
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if !f.IsExported() || name == "-" {
			continue
		}
		out := field{name: name, index: f.Index}
		for rule := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
			word, value, _ := strings.Cut(rule, "=")
			switch word {
			case "required":
				out.required = true
			case "default":
				out.fallback = value
			case "enum":
				out.enum = append(out.enum, value)
			case "minimum":
				out.minimum = value
			}
		}
		fields = append(fields, out)
	}
	return fields
}

// rules applies the rules of the tags to v and everything in it: defaults for
// what is absent, and errors.
func (d *decoder) rules(v reflect.Value, key string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			d.rules(v.Elem(), key)
		}
	case reflect.Slice:
		for i := range v.Len() {
			d.rules(v.Index(i), fmt.Sprintf("%s[%d]", key, i))
		}
	case reflect.Struct:
		if d.failed(key) {
			return
		}
		for _, f := range fieldsOf(v.Type()) {
			where := join(key, f.name)
			value := v.FieldByIndex(f.index)
			_, present := d.at[where]
			d.rule(f, value, where, present)
			if present || value.Kind() == reflect.Struct && !f.required {
				d.rules(value, where)
			}
		}
	}
}

func (d *decoder) rule(f field, v reflect.Value, key string, present bool) {
	switch {
	case !present && f.required:
		d.fail(key, "it is missing: add it")
	case !present && f.fallback != "" && v.IsZero():
		setDefault(v, f.fallback)
	case present && f.required && v.Kind() == reflect.Slice && v.Len() == 0:
		d.fail(key, "it is empty: list at least one")
	}
	if f.minimum != "" {
		if least, _ := strconv.ParseInt(f.minimum, 10, 64); v.Int() < least {
			d.fail(key, "want at least %d", least)
		}
	}
	if len(f.enum) == 0 {
		return
	}
	texts := []string{}
	if v.Kind() == reflect.Slice {
		texts = v.Interface().([]string)
	} else if v.String() != "" {
		texts = append(texts, v.String())
	}
	for _, text := range texts {
		if !slices.Contains(f.enum, text) {
			d.fail(key, "unknown value %q: want one of %s", text, strings.Join(f.enum, ", "))
		}
	}
}

// setDefault gives v the default of its tag; TestDefaults shows each to be
// valid.
func setDefault(v reflect.Value, text string) {
	if s, ok := v.Addr().Interface().(scalar); ok {
		if err := s.parse(text); err != nil {
			panic("config: default " + text + ": " + err.Error())
		}
		return
	}
	if v.Kind() == reflect.Int {
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic("config: default " + text + ": " + err.Error())
		}
		v.SetInt(i)
		return
	}
	v.SetString(text)
}
