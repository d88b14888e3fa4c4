package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// target is what a request asks the API server for, by the rules of its own
// RequestInfo (k8s.io/apiserver, pkg/endpoints/request).
type target struct {
	method string
	// path is the path as it came, which is the only way to write it.
	path  string
	query url.Values

	resource    bool // else it is a path such as /version
	verb        string
	group       string
	version     string
	namespace   string
	kind        string // the resource, in the plural: "pods"
	name        string
	subresource string
	rest        []string // what follows a subresource, as proxy has it
}

// Limits of what a request's line may be.
const (
	maxPath     = 4 << 10 // bytes
	maxQuery    = 32 << 10
	maxSegments = 64
)

// verbs are the API server's names of the methods on a resource.
var verbs = map[string]string{
	http.MethodGet: "get", http.MethodHead: "get", http.MethodPost: "create",
	http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

// parseTarget reads a request's line. It takes a path that is written in one
// way only: what the API server, or a proxy before it, might clean, decode or
// cut otherwise is an error.
func parseTarget(method, rawPath, rawQuery string) (*target, error) {
	if verbs[method] == "" {
		return nil, fmt.Errorf("read request: the method %q is not of the Kubernetes API", method)
	}
	if len(rawPath) > maxPath || len(rawQuery) > maxQuery {
		return nil, errors.New("read request: its address is too long")
	}
	query, err := parseQuery(rawQuery)
	if err != nil {
		return nil, err
	}
	t := &target{method: method, path: rawPath, query: query}
	segments, err := segmentsOf(rawPath)
	if err != nil {
		return nil, err
	}
	return t, t.resolve(segments)
}

func parseQuery(raw string) (url.Values, error) {
	// A semicolon separates for some and not for others, and a NUL ends for some.
	if strings.ContainsAny(raw, ";#\x00") {
		return nil, errors.New("read request: its query holds a character that can be read in two ways")
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errors.New("read request: its query is malformed")
	}
	return query, nil
}

// segmentsOf splits a path, or says in which way it is not canonical.
func segmentsOf(raw string) ([]string, error) {
	inner, ok := strings.CutPrefix(raw, "/")
	if !ok {
		return nil, errors.New("read request: its path does not begin with /")
	}
	// A slash at the end means nothing to the API server.
	inner = strings.TrimSuffix(inner, "/")
	if inner == "" {
		return nil, nil
	}
	parts := strings.Split(inner, "/")
	if len(parts) > maxSegments {
		return nil, errors.New("read request: its path is too deep")
	}
	for i, p := range parts {
		s, err := segment(p)
		if err != nil {
			return nil, err
		}
		parts[i] = s
	}
	return parts, nil
}

func segment(raw string) (string, error) {
	s, err := url.PathUnescape(raw)
	switch {
	case err != nil:
		return "", errors.New("read request: an escape in its path is malformed")
	case s == "":
		return "", errors.New("read request: its path has an empty part")
	case s == "." || s == "..":
		return "", errors.New("read request: its path has a part that is cleaned away")
	}
	for _, r := range s {
		// An escaped separator, or an escape in an escape, is one part here and two elsewhere.
		if r < ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(`/\%?#;`, r) {
			return "", errors.New("read request: its path holds a character that can be read in two ways")
		}
	}
	return s, nil
}

// resolve is RequestInfoFactory.NewRequestInfo.
func (t *target) resolve(parts []string) error {
	if len(parts) < 3 || parts[0] != "api" && parts[0] != "apis" || parts[0] == "apis" && len(parts) < 4 {
		t.verb = strings.ToLower(t.method)
		return nil
	}
	t.resource = true
	if parts[0] == "apis" {
		t.group, parts = parts[1], parts[1:]
	}
	t.version, parts = parts[1], parts[2:]
	t.verb = verbs[t.method]
	// The verbs of the API server's youth: GET /api/v1/watch/..., and /api/v1/proxy/... which is gone.
	special := parts[0] == "watch" || parts[0] == "proxy"
	if special {
		if len(parts) < 2 || parts[0] == "proxy" || t.verb != "get" {
			return fmt.Errorf("read request: the API server has no such path under %s", parts[0])
		}
		t.verb, parts = parts[0], parts[1:]
	}
	if parts[0] == "namespaces" && len(parts) > 1 {
		t.namespace = parts[1]
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	t.kind = parts[0]
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 && !special {
		t.subresource, t.rest = parts[2], parts[3:]
	}
	if len(t.rest) > 0 && t.subresource != "proxy" || special && len(parts) > 2 {
		return errors.New("read request: the API server has nothing below that path")
	}
	if t.name == "" {
		t.collection()
	}
	return nil
}

// collection is what get and delete are without a name.
func (t *target) collection() {
	switch t.verb {
	case "get":
		t.verb = "list"
		if v, asked := t.query["watch"]; asked && !isFalse(v) {
			t.verb = "watch"
		}
	case "delete":
		t.verb = "deletecollection"
	}
}

// isFalse reports whether the API server takes v for false: the first value
// counts, and whatever is not false or 0 is true.
func isFalse(v []string) bool {
	return len(v) > 0 && (strings.EqualFold(v[0], "false") || v[0] == "0")
}

// is reports whether it asks for a resource of a group, or for a subresource
// of it where one is named: "pods", "pods/exec".
func (t *target) is(group string, resources ...string) bool {
	return t.resource && t.group == group && (slices.Contains(resources, t.kind) && t.subresource == "" || t.subresource != "" && slices.Contains(resources, t.kind+"/"+t.subresource))
}

// of is is, for the resource with all its subresources.
func (t *target) of(group string, resources ...string) bool {
	return t.resource && t.group == group && slices.Contains(resources, t.kind)
}

// object is what it touches, in words: namespace/resource.group/name/subresource.
func (t *target) object() string {
	if !t.resource {
		return t.path
	}
	var b strings.Builder
	if t.namespace != "" && t.kind != "namespaces" {
		b.WriteString(t.namespace + "/")
	}
	b.WriteString(t.kind)
	if t.group != "" {
		b.WriteString("." + t.group)
	}
	for _, s := range []string{t.name, t.subresource} {
		if s != "" {
			b.WriteString("/" + s)
		}
	}
	return b.String()
}

// reads reports whether the verb is one that cannot change a resource.
func (t *target) reads() bool {
	switch t.verb {
	case "get", "list", "watch", "head":
		return true
	}
	return false
}

// connect reports whether it opens a line to, or through, a workload or node,
// whatever the method says.
func (t *target) connect() bool {
	switch t.subresource {
	case "exec", "attach", "portforward", "proxy":
		return t.resource
	}
	return false
}
