package http

import (
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"net/url"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// Operation is what a request in words is: METHOD ADDRESS BODY. The address is a
// path below the connection, or a whole URL of the target's. Notes in
// parentheses before the body give its type (Content-Type TYPE), and further
// fields of the header (header NAME: VALUE). A request that is refused whatever
// the rules is an error.
func Operation(statement string) (*custos.Operation, error) {
	s, err := parseStatement(statement)
	if err != nil {
		return nil, err
	}
	raw := []byte(s.body)
	q, err := take(s.method, s.host, s.path, s.query, s.header, raw, int64(len(raw)), len(raw) > maxJudged)
	if err != nil {
		return nil, err
	}
	q.sum = digest(raw)
	return q.operation(), nil
}

// spoken is a request in words, taken apart.
type spoken struct {
	method, host, path, query, body string
	header                          http.Header
}

func parseStatement(text string) (*spoken, error) {
	method, rest, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok {
		return nil, errors.New("read request: want METHOD PATH BODY, such as GET /v1/orders/5")
	}
	s := &spoken{method: method, header: http.Header{}}
	to, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
	if scheme, after, whole := strings.Cut(to, "://"); whole && (scheme == "https" || scheme == "http") && !strings.Contains(scheme, "/") {
		cut := strings.IndexAny(after, "/?")
		if cut < 0 {
			cut = len(after)
		}
		u, err := url.Parse(scheme + "://" + after[:cut])
		if err != nil {
			return nil, errors.New("read request: its host is malformed")
		}
		s.host, to = u.Hostname(), after[cut:]
	}
	s.path, s.query, _ = strings.Cut(to, "?")
	for {
		rest = strings.TrimSpace(rest)
		note, after, closed := strings.Cut(strings.TrimPrefix(rest, "("), ")")
		if !strings.HasPrefix(rest, "(") || !closed {
			break
		}
		if media, ok := strings.CutPrefix(note, "Content-Type "); ok {
			s.header.Add("Content-Type", strings.TrimSpace(media))
		} else if h, ok := strings.CutPrefix(note, "header "); ok {
			name, value, _ := strings.Cut(h, ":")
			s.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
		rest = after
	}
	s.body = rest
	if s.body != "" && s.header.Get("Content-Type") == "" {
		s.header.Set("Content-Type", likelyMedia(s.path, s.body))
	}
	if strings.EqualFold(s.header.Get("Content-Encoding"), "gzip") {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte(s.body))
		if err := z.Close(); err != nil {
			return nil, err
		}
		s.body = b.String()
	}
	return s, nil
}

// likelyMedia is what clients would call such a body.
func likelyMedia(path, body string) string {
	switch {
	case strings.HasSuffix(path, "/_bulk"), strings.HasSuffix(path, "/_msearch"):
		return "application/x-ndjson"
	case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["), strings.HasPrefix(body, `"`):
		return "application/json"
	case strings.Contains(body, "=") && !strings.ContainsAny(body, " \n"):
		return "application/x-www-form-urlencoded"
	}
	return "text/plain; charset=utf-8"
}
