package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"

	yaml "go.yaml.in/yaml/v4"
)

// managed is the file of what was added at run time. It has the form that the
// configuration file has.
type managed struct {
	Connections []Connection `yaml:"connections"`
	Skills      []Skill      `yaml:"skills"`
}

// ManagedFile is where the connections and skills lie that were added at run
// time.
func (c *Config) ManagedFile() string { return filepath.Join(c.DataDir, "connections.yaml") }

// at returns c as far as it takes to find its data folder.
func (c *Config) at(base string) *Config {
	dir := c.DataDir
	if dir == "" {
		dir = "custos-data"
	}
	return &Config{DataDir: absolute(base, dir)}
}

func readManaged(c *Config) ([]byte, error) {
	if _, err := os.Stat(c.ManagedFile()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return read(c.ManagedFile())
}

var managedKey = regexp.MustCompile(`^(connections|skills)\[(\d+)\]`)

// overlay adds what was added at run time, which is raw, to what c has. What is wrong in them is reported with their own file's place.
func (d *decoder) overlay(c *Config, raw []byte) {
	if len(raw) == 0 {
		return
	}
	more := newDecoder(c.ManagedFile(), raw)
	var part managed
	if more.decode(raw, &part) {
		more.rules(reflect.ValueOf(&part).Elem(), "")
	}
	d.problems = append(d.problems, more.problems...)
	before := map[string]int{"connections": len(c.Connections), "skills": len(c.Skills)}
	for key, m := range more.at {
		m.file = more.file
		if i := managedKey.FindStringSubmatch(key); i != nil {
			n, _ := strconv.Atoi(i[2]) // it was made of an index
			d.at[fmt.Sprintf("%s[%d]%s", i[1], n+before[i[1]], key[len(i[0]):])] = m
		}
	}
	for i := range part.Connections {
		part.Connections[i].Managed = true
	}
	for i := range part.Skills {
		part.Skills[i].Managed = true
	}
	c.Connections = append(c.Connections, part.Connections...)
	c.Skills = append(c.Skills, part.Skills...)
	c.Raw = slices.Concat(c.Raw, []byte("\n---\n# added at run time\n"), raw)
}

// WithConnection returns the configuration at path with one managed connection
// added, replaced, or, where definition is nil, removed, and the new contents
// of the file of managed connections. Nothing is written. definition is a YAML
// mapping as one of connections: in the file; its name may be left out.
func WithConnection(path, name string, definition []byte, opts Options) (c *Config, file []byte, err error) {
	return with(path, "connections", name, definition, opts)
}

// WithSkill is WithConnection for a skill.
func WithSkill(path, name string, definition []byte, opts Options) (c *Config, file []byte, err error) {
	return with(path, "skills", name, definition, opts)
}

func with(path, section, name string, definition []byte, opts Options) (c *Config, file []byte, err error) {
	raw, err := read(path)
	if err != nil {
		return nil, nil, fmt.Errorf("load configuration: %w", err)
	}
	opts.managed = func(c *Config) ([]byte, error) {
		old, err := readManaged(c)
		if err == nil {
			file, err = edit(old, section, name, definition)
		}
		return file, err
	}
	if c, err = parse(path, raw, opts); err != nil {
		return nil, nil, err
	}
	return c, file, nil
}

// Definition returns the YAML mapping of a managed connection.
func (c *Config) Definition(name string) ([]byte, error) {
	raw, err := readManaged(c)
	if err != nil {
		return nil, err
	}
	all, err := definitions(raw)
	if err != nil {
		return nil, err
	}
	list := all["connections"]
	i := slices.IndexFunc(list, func(n *yaml.Node) bool { return nameOf(n) == name })
	if i < 0 {
		return nil, errNotManaged
	}
	return marshal(list[i])
}

var errNotManaged = errors.New("it is not managed here: it is written in the configuration file, or is not there at all")

// edit changes one item of a section in the file of what is managed.
func edit(old []byte, section, name string, definition []byte) ([]byte, error) {
	all, err := definitions(old)
	if err != nil {
		return nil, err
	}
	list := all[section]
	i := slices.IndexFunc(list, func(n *yaml.Node) bool { return nameOf(n) == name })
	switch {
	case definition == nil && i < 0:
		return nil, errNotManaged
	case definition == nil:
		list = slices.Delete(list, i, i+1)
	default:
		n, err := parseDefinition(definition, name)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			list = append(list, n)
		} else {
			list[i] = n
		}
	}
	if all[section] = list; len(list) == 0 {
		delete(all, section)
	}
	if len(all) == 0 {
		return []byte("connections: []\n"), nil
	}
	return marshal(all)
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("write definition: %w", err)
	}
	return b.Bytes(), nil
}

// parseDefinition reads one item's mapping, and gives it its name.
func parseDefinition(b []byte, name string) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(b, &document); err != nil {
		return nil, fmt.Errorf("read definition: %w", err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("read definition: want a mapping, as one item has it in the configuration file")
	}
	n := document.Content[0]
	switch written := nameOf(n); {
	case written == "":
		n.Content = append([]*yaml.Node{{Kind: yaml.ScalarNode, Value: "name"}, {Kind: yaml.ScalarNode, Value: name}}, n.Content...)
	case written != name:
		return nil, fmt.Errorf("read definition: it is named %q, and %q is asked for: what is registered keeps its name", written, name)
	}
	return n, nil
}

// definitions are the items of a file of what is managed, by section.
func definitions(raw []byte) (map[string][]*yaml.Node, error) {
	var file map[string][]yaml.Node
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("read managed connections: %w", err)
	}
	all := map[string][]*yaml.Node{}
	for section, items := range file {
		for i := range items {
			all[section] = append(all[section], &items[i])
		}
	}
	return all, nil
}

func nameOf(n *yaml.Node) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" {
			return n.Content[i+1].Value
		}
	}
	return ""
}
