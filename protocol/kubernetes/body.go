package kubernetes

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// The media types of bodies.
const (
	typeJSON      = "application/json"
	typeYAML      = "application/yaml"
	typeProtobuf  = "application/vnd.kubernetes.protobuf"
	typeJSONPatch = "application/json-patch+json"
	typeMerge     = "application/merge-patch+json"
	typeStrategic = "application/strategic-merge-patch+json"
	typeApply     = "application/apply-patch+yaml"
)

// maxDepth bounds how deep a body is nested.
const maxDepth = 128

// body is what a request carries, as a tree of maps, lists and scalars: of a
// JSON patch, the object that its paths and values would make.
type body struct {
	media string
	tree  any
	// json is the body in words, whatever form it came in.
	json []byte
	// moves: a JSON patch moves or copies values, or asks whether they are there.
	moves bool
	// paths are those that a JSON patch changes.
	paths []string
}

// taken stands where a JSON patch puts a value that is not in it.
type taken struct{}

// readBody reads a body as the API server would. What the server might read in
// two ways is an error.
func readBody(t *target, contentType string, b []byte) (*body, error) {
	if len(b) == 0 {
		return &body{}, nil
	}
	media := typeJSON // RFC 9110 leaves it open; the server takes it for this
	if contentType != "" {
		m, params, err := mime.ParseMediaType(contentType)
		if err != nil {
			return nil, errors.New("read body: its Content-Type is malformed")
		}
		if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
			return nil, fmt.Errorf("read body: the charset %q is not UTF-8", c)
		}
		media = m
	}
	out := &body{media: media}
	var err error
	switch {
	case t.verb == "patch" && (media == typeMerge || media == typeStrategic):
		out.json = b
		out.tree, err = readJSON(b)
	case t.verb == "patch" && media == typeJSONPatch:
		out.json = b
		err = out.patch(b)
	case t.verb == "patch" && media == typeApply, t.verb != "patch" && media == typeYAML:
		if out.json, err = yamlToJSON(b); err == nil {
			out.tree, err = readJSON(out.json)
		}
	case t.verb != "patch" && media == typeJSON:
		out.json = b
		out.tree, err = readJSON(b)
	case t.verb != "patch" && media == typeProtobuf:
		if out.json, err = protobufToJSON(b); err == nil {
			out.tree, err = readJSON(out.json)
		}
	default:
		err = fmt.Errorf("read body: %s is not known for %s", media, t.verb)
	}
	return out, err
}

// readJSON reads one JSON value and nothing after it. A name that stands twice
// in an object is an error: the server takes the last of two scalars, and both
// of two objects.
func readJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read body: something follows the JSON value")
	}
	return v, nil
}

func readValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("read body: it is nested too deep")
	}
	token, err := d.Token()
	if err != nil {
		return nil, errors.New("read body: it is not JSON")
	}
	switch token {
	case json.Delim('{'):
		m := map[string]any{}
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, errors.New("read body: it is not JSON")
			}
			name := k.(string)
			if _, twice := m[name]; twice {
				return nil, fmt.Errorf("read body: the field %q stands twice in one object", name)
			}
			if m[name], err = readValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		return m, end(d)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, end(d)
	}
	return token, nil
}

func end(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errors.New("read body: it is not JSON")
	}
	return nil
}

// yamlToJSON reads YAML with the API server's own reader.
func yamlToJSON(b []byte) ([]byte, error) {
	content := false
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\r\n")
		marker := bytes.HasPrefix(line, []byte("---")) || bytes.HasPrefix(line, []byte("..."))
		if marker && content {
			return nil, errors.New("read body: it holds several YAML documents")
		}
		if trimmed := bytes.TrimSpace(line); !marker && len(trimmed) > 0 && trimmed[0] != '#' {
			content = true
		}
	}
	out, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return nil, errors.New("read body: it is not YAML in which every field stands once")
	}
	return out, nil
}

var errTwoTypes = errors.New("read body: it has two Content-Types")

// protobufCodec knows the kinds that the API server knows itself.
var protobufCodec = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)

// protobufToJSON reads the envelope and the object of a kind that is known.
func protobufToJSON(b []byte) ([]byte, error) {
	o, kind, err := protobufCodec.Decode(b, nil, nil)
	if err != nil {
		return nil, errors.New("read body: it is not Protocol Buffers of a kind that is known")
	}
	if err := known(kind); err != nil {
		return nil, err
	}
	out, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return out, nil
}

func known(kind *schema.GroupVersionKind) error {
	if kind == nil || !scheme.Scheme.Recognizes(*kind) {
		return errors.New("read body: its kind is not known")
	}
	return nil
}

// patch reads a JSON patch (RFC 6902) into the object that it would make.
func (b *body) patch(raw []byte) error {
	v, err := readJSON(raw)
	if err != nil {
		return err
	}
	operations, ok := v.([]any)
	if !ok {
		return errors.New("read body: a JSON patch is a list")
	}
	trees := make([]any, 0, len(operations))
	for _, o := range operations {
		m, _ := o.(map[string]any)
		op, _ := m["op"].(string)
		path, isText := m["path"].(string)
		if !isText || path != "" && path[0] != '/' {
			return errors.New("read body: an operation of the JSON patch has no path")
		}
		value := m["value"]
		switch op {
		case "add", "replace":
		case "remove":
			value = nil
		case "move", "copy":
			b.moves = true
			value = taken{}
		case "test":
			b.moves = true
			continue
		default:
			return fmt.Errorf("read body: the JSON patch has an unknown operation %q", op)
		}
		b.paths = append(b.paths, path)
		trees = append(trees, nest(path, value))
	}
	b.tree = trees
	return nil
}

// nest is an object in which value stands at a JSON pointer (RFC 6901).
func nest(pointer string, value any) any {
	if pointer == "" {
		return value
	}
	tokens := strings.Split(pointer[1:], "/")
	for i := len(tokens) - 1; i >= 0; i-- {
		name := strings.ReplaceAll(strings.ReplaceAll(tokens[i], "~1", "/"), "~0", "~")
		value = map[string]any{name: value}
	}
	return value
}

// decoded is a Secret's value as it is meant, if it is base64.
func decoded(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
