package config

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Schema is the JSON Schema (draft 2020-12) of a configuration file. It is
// made from the types by `go test ./config -update`.
//
//go:embed schema.json
var Schema []byte

// schema is the part of JSON Schema that Schema uses.
type schema struct {
	Description string     `json:"description"`
	Type        string     `json:"type"`
	Properties  properties `json:"properties"`
	Required    []string   `json:"required"`
	Items       *schema    `json:"items"`
	OneOf       []*schema  `json:"oneOf"`
	Enum        []string   `json:"enum"`
	Default     any        `json:"default"`
	Examples    []any      `json:"examples"`
}

// properties are the keys of a mapping, in the order of the manual.
type properties []property

type property struct {
	name string
	*schema
}

func (p *properties) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		s := new(schema)
		if err := d.Decode(s); err != nil {
			return err
		}
		*p = append(*p, property{name.(string), s})
	}
	return nil
}

func (p properties) get(name string) *schema {
	for _, q := range p {
		if q.name == name {
			return q.schema
		}
	}
	return nil
}

func (p properties) names() []string {
	names := make([]string, len(p))
	for i, q := range p {
		names[i] = q.name
	}
	return names
}

// mapping returns the form of s that has keys of its own, or nil.
func (s *schema) mapping() *schema {
	for s != nil && s.Items != nil {
		s = s.Items
	}
	if s == nil || s.Properties != nil {
		return s
	}
	for _, form := range s.OneOf {
		if form.Properties != nil {
			return form
		}
	}
	return nil
}

func (s *schema) form() string {
	switch {
	case s.Items != nil && s.mapping() != nil:
		return "list of mappings"
	case s.Items != nil:
		return "list"
	case len(s.OneOf) > 0:
		return "text or mapping"
	case s.Properties != nil:
		return "mapping"
	case s.Type == "object":
		return "names and values"
	case s.Type == "integer":
		return "whole number"
	default:
		return "text"
	}
}

func (s *schema) about(required bool) string {
	parts := []string{s.form()}
	if required {
		parts = append(parts, "required")
	}
	values := s
	if s.Items != nil {
		values = s.Items
	}
	if len(values.Enum) > 0 {
		parts = append(parts, "one of "+strings.Join(values.Enum, ", "))
	}
	if s.Default != nil {
		parts = append(parts, fmt.Sprintf("default %v", s.Default))
	}
	if len(s.Examples) > 0 {
		parts = append(parts, fmt.Sprintf("for example %v", s.Examples[0]))
	}
	return strings.Join(parts, "; ")
}

func manual() *schema {
	root := new(schema)
	if err := json.Unmarshal(Schema, root); err != nil {
		panic("config: embedded schema: " + err.Error())
	}
	return root
}

// Explain returns what the manual says of a key, such as connections.tls, and
// of the keys under it; of "", of all. Indexes are passed over, so that a key
// may be copied from an error.
func Explain(key string) (string, error) {
	at, required := manual(), false
	var path []string
	for name := range strings.SplitSeq(key, ".") {
		name, _, _ = strings.Cut(name, "[")
		if name == "" {
			continue
		}
		level := at.mapping()
		if level == nil || level.Properties.get(name) == nil {
			return "", noSuchKey(name, path, level)
		}
		required = slices.Contains(level.Required, name)
		at, path = level.Properties.get(name), append(path, name)
	}
	var b strings.Builder
	if len(path) > 0 {
		fmt.Fprintf(&b, "%s (%s)\n", strings.Join(path, "."), at.about(required))
	}
	fmt.Fprintf(&b, "  %s\n", at.Description)
	if level := at.mapping(); level != nil {
		for _, p := range level.Properties {
			fmt.Fprintf(&b, "\n%s (%s)\n  %s\n", strings.Join(append(path, p.name), "."),
				p.about(slices.Contains(level.Required, p.name)), p.Description)
		}
	}
	return b.String(), nil
}

func noSuchKey(name string, path []string, level *schema) error {
	where := "the configuration"
	if len(path) > 0 {
		where = strings.Join(path, ".")
	}
	if level == nil {
		return fmt.Errorf("explain key: %s has no keys: run custos config explain %s", where, where)
	}
	names := level.Properties.names()
	if guess := nearest(name, names); guess != "" {
		return fmt.Errorf("explain key: %s has no key %s: did you mean %s?", where, name, strings.Join(append(path, guess), "."))
	}
	return fmt.Errorf("explain key: %s has no key %s: its keys are %s", where, name, strings.Join(names, ", "))
}
