package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

var update = flag.Bool("update", false, "write the schema and the manual anew")

// forms are the types that are written in other ways than encoding/json would.
func forms(r *jsonschema.Reflector, t reflect.Type) *jsonschema.Schema {
	text := func(pattern string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern}
	}
	switch t {
	case reflect.TypeFor[Duration]():
		return text(`^([0-9]+d)?([0-9.]+(ns|us|µs|ms|s|m|h))*$`)
	case reflect.TypeFor[Instant]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+(Z|[+-][0-9:]+))?$`}
	case reflect.TypeFor[Space]():
		return text(`^[0-9]+(\.[0-9]+)?%$|^[0-9]+ ?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$`)
	case reflect.TypeFor[TargetTLS]():
		plain := *r
		plain.Mapper = nil
		mapping := plain.ReflectFromType(t)
		mapping.Version, mapping.ID = "", ""
		mode, _ := mapping.Properties.Get("mode")
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string", Enum: mode.Enum}, mapping}}
	}
	return nil
}

func makeSchema(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true, DoNotReference: true, Anonymous: true}
	if err := r.AddGoComments("github.com/custos-gateway/custos/config", ".", jsonschema.WithFullComment()); err != nil {
		t.Fatal(err)
	}
	for k, comment := range r.CommentMap { // AddGoComments names the base by the folder, which here is "."
		r.CommentMap[k] = strings.Join(strings.Fields(comment), " ")
	}
	r.Mapper = func(t reflect.Type) *jsonschema.Schema { return forms(r, t) }
	s := r.Reflect(&Config{})
	s.Title = "custos configuration"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

const manualHead = `# custos.yaml

The configuration of a gateway is one YAML file. Check it with custos config check, which reports every
error at once, with its line. This page is made from the types of package config by go test ./config -update;
custos config explain KEY prints a part of it, and config.schema.json is the same for editors.

` + "```yaml\n%s```\n\n"

// section writes the manual of a mapping and of everything under it.
func section(b *strings.Builder, s *schema, path []string) {
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	b.WriteString("| key | form | meaning |\n|---|---|---|\n")
	for _, p := range s.Properties {
		about := p.about(slices.Contains(s.Required, p.name))
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.name, cell.Replace(about), cell.Replace(p.Description))
	}
	for _, p := range s.Properties {
		if m := p.mapping(); m != nil {
			under := append(path[:len(path):len(path)], p.name)
			fmt.Fprintf(b, "\n## %s\n\n%s\n\n", strings.Join(under, "."), m.Description)
			section(b, m, under)
		}
	}
}

// What is published says what the types say.
func TestPublished(t *testing.T) {
	published := makeSchema(t)
	root := new(schema)
	if err := json.Unmarshal(published, root); err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("testdata/custos.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	fmt.Fprintf(&page, manualHead, example)
	section(&page, root, nil)
	for path, want := range map[string][]byte{
		"schema.json":                published,
		"../docs/config.schema.json": published,
		"../docs/config.md":          []byte(page.String()),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say: run go test ./config -update", path)
		}
	}
}

// Every key is documented.
func TestEveryKeyIsDocumented(t *testing.T) {
	var walk func(s *schema, path string)
	walk = func(s *schema, path string) {
		if s.Description == "" {
			t.Errorf("%q has no documentation", path)
		}
		if m := s.mapping(); m != nil {
			for _, p := range m.Properties {
				walk(p.schema, path+"."+p.name)
			}
		}
	}
	for _, p := range manual().Properties {
		walk(p.schema, p.name)
	}
}

func TestExplain(t *testing.T) {
	for key, want := range map[string][]string{
		"":                             {"listen (mapping; required)", "connections (list of mappings)"},
		"connections[0].tls":           {"connections.tls (text or mapping)", "connections.tls.mode", "one of verify-full, verify-ca, disable"},
		"connections.credential":       {"connections.credential.password (mapping)"},
		"limits.sessions":              {"whole number; default 10000"},
		"issuers.algorithms":           {"list; one of RS256"},
		"connections.labels":           {"names and values"},
		"limits.free_space.operations": {"default 1GiB"},
	} {
		got, err := Explain(key)
		if err != nil {
			t.Errorf("%q: %v", key, err)
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%q: no %q in\n%s", key, w, got)
			}
		}
	}
	for key, want := range map[string]string{
		"conections":         "did you mean connections?",
		"connections.adress": "did you mean connections.address?",
		"limits.sessions.x":  "limits.sessions has no keys",
		"zzzzzzzzzz":         "its keys are listen, tls",
	} {
		if _, err := Explain(key); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", key, err, want)
		}
	}
}
