package kubernetes

import (
	"errors"
	"net/textproto"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// Operation is what a request in words is: METHOD PATH?QUERY BODY, where notes
// in parentheses before the body give its (Content-Type TYPE) and further
// headers, (header NAME: VALUE). A request that is refused whatever the rules
// is an error.
func Operation(statement string) (*custos.Operation, error) {
	s, err := parseStatement(statement)
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(s.address, "?")
	op, _, err := understand(s.method, path, query, s.header, []byte(s.body), new([32]byte))
	return op, err
}

// spoken is a request in words, taken apart.
type spoken struct {
	method, address, body string
	header                map[string][]string
}

func parseStatement(text string) (*spoken, error) {
	method, rest, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok {
		return nil, errors.New("read request: want METHOD PATH, such as GET /api/v1/pods")
	}
	s := &spoken{method: method, header: map[string][]string{}}
	s.address, rest, _ = strings.Cut(strings.TrimSpace(rest), " ")
	for {
		rest = strings.TrimSpace(rest)
		note, after, closed := strings.Cut(strings.TrimPrefix(rest, "("), ")")
		if !strings.HasPrefix(rest, "(") || !closed {
			break
		}
		if media, ok := strings.CutPrefix(note, "Content-Type "); ok {
			s.set("Content-Type", media)
		} else if h, ok := strings.CutPrefix(note, "header "); ok {
			name, value, _ := strings.Cut(h, ":")
			s.set(name, value)
		}
		rest = after
	}
	s.body = rest
	if s.body != "" && s.header["Content-Type"] == nil {
		s.set("Content-Type", s.media())
	}
	return s, nil
}

func (s *spoken) set(name, value string) {
	name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
	s.header[name] = append(s.header[name], strings.TrimSpace(value))
}

// media is what kubectl would call such a body.
func (s *spoken) media() string {
	switch {
	case s.method != "PATCH":
		return typeJSON
	case strings.HasPrefix(s.body, "["):
		return typeJSONPatch
	}
	return typeMerge
}
