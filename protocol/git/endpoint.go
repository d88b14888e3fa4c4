package git

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// endpoint is what a request is to, by its method and path behind the
// connection's name (gitprotocol-http(5); git-lfs, docs/api).
type endpoint struct {
	class      string
	repository string // its path as it goes upstream, unescaped
	service    string // of discover: git-upload-pack or git-receive-pack
	suffix     string // what follows the repository's path
	oid, verb  string // of an LFS object: its id, and what is done with it
	query      string // as it goes upstream
}

// name is the repository as rules know it: without the suffix that may be left
// out.
func (e *endpoint) name() string { return strings.TrimSuffix(e.repository, ".git") }

// maxPath bounds a request's path, in bytes.
const maxPath = 2048

// parseEndpoint reads a request's method, path (as the client wrote it) and
// query. What is not in its table is refused.
func parseEndpoint(method, escaped, query string) (*endpoint, error) {
	if len(escaped) > maxPath {
		return nil, fmt.Errorf("read path: it is longer than %d bytes: %w", maxPath, errRequest)
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, fmt.Errorf("read path: %v: %w", err, errRequest)
	}
	segments := strings.Split(path, "/")
	for _, s := range segments {
		if err := checkSegment(s); err != nil {
			return nil, err
		}
	}
	if strings.Count(escaped, "/") != len(segments)-1 {
		return nil, fmt.Errorf("read path: it hides a slash: %w", errRequest)
	}
	for n := 1; n < len(segments); n++ {
		e := &endpoint{repository: strings.Join(segments[:n], "/"), suffix: "/" + strings.Join(segments[n:], "/")}
		if e.match(method, segments[n:], query) {
			return e, nil
		}
	}
	return nil, fmt.Errorf("read path: %s of it is nothing that git asks: %w", clip(method, 20), errRequest)
}

// checkSegment refuses names that a server may read as something else.
func checkSegment(s string) error {
	switch {
	case s == "", s == ".", s == "..", strings.HasPrefix(s, "-"), fold(s) == ".git":
		return fmt.Errorf("read path: the name %q: %w", clip(s, 80), errRequest)
	case !utf8.ValidString(s), strings.ContainsAny(s, "\\%;?#:*\"<>|"), strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || ignoredByHFS(r) }):
		return fmt.Errorf("read path: the name %q has a character that names do not have: %w", clip(s, 80), errRequest)
	}
	return nil
}

func (e *endpoint) match(method string, rest []string, query string) bool {
	get, post := method == http.MethodGet, method == http.MethodPost
	switch strings.Join(rest, "/") {
	case "info/refs":
		e.class, e.query = classDiscover, query
		e.service, _ = strings.CutPrefix(query, "service=")
		return get && (e.service == serviceFetch || e.service == servicePush)
	case serviceFetch:
		e.class = classFetch
		return post && query == ""
	case servicePush:
		e.class = classPush
		return post && query == ""
	case "info/lfs/objects/batch":
		e.class = classBatch
		return post && query == ""
	case "info/lfs/locks":
		e.class = classLocks
		return post && query == "" || get && e.setQuery(query, "path", "id", "cursor", "limit", "refspec")
	case "info/lfs/locks/verify":
		e.class = classLocks
		return post && query == ""
	}
	if len(rest) < 4 || rest[0] != "info" || rest[1] != "lfs" || query != "" {
		return false
	}
	switch {
	case len(rest) == 5 && rest[2] == "locks" && rest[4] == "unlock":
		e.class = classLocks
		return post
	case rest[2] == "objects" && isLFSID(rest[3]):
		e.class, e.oid = classObject, rest[3]
		switch {
		case len(rest) == 4 && get:
			e.verb = "download"
		case len(rest) == 4 && method == http.MethodPut:
			e.verb = "upload"
		case len(rest) == 5 && rest[4] == "verify" && post:
			e.verb = "verify"
		}
		return e.verb != ""
	}
	return false
}

// setQuery takes a query of known names, written anew.
func (e *endpoint) setQuery(query string, names ...string) bool {
	values, err := url.ParseQuery(query)
	for name := range values {
		if !slices.Contains(names, name) {
			return false
		}
	}
	e.query = values.Encode()
	return err == nil
}

// The services of git's (gitprotocol-http(5)).
const (
	serviceFetch = "git-upload-pack"
	servicePush  = "git-receive-pack"
)

// url is where the endpoint is, below a base.
func (e *endpoint) url(base *url.URL) *url.URL {
	u := *base
	u.Path = strings.TrimSuffix(base.Path, "/") + "/" + e.repository + e.suffix
	u.RawPath, u.RawQuery = "", e.query
	return &u
}
