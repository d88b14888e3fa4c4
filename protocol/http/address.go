package http

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	custos "github.com/custos-gateway/custos"
)

// The rules of this protocol itself: what it lets through for nobody.
const (
	ruleAddress = "http/address"
	ruleHeader  = "http/header"
	ruleMethod  = "http/method"
	ruleBody    = "http/body"
	ruleForm    = "http/form"
	ruleMoved   = "http/redirect"
	ruleTooLong = "http/body-limit"
	// ruleCredential is by what an answer is kept back that is about the gateway.
	ruleCredential = "http/credential"
)

// notFor is a request that is let through for nobody.
type notFor struct{ decision custos.Decision }

func (n *notFor) Error() string { return n.decision.Reason }

func refuse(rule, reason, hint string) error {
	return &notFor{custos.Decision{Effect: custos.Refuse, Rule: rule, Reason: reason, Hint: hint}}
}

// Bounds of what is read of a request's first line, in bytes.
const (
	maxPath  = 8 << 10
	maxQuery = 32 << 10
)

// address is what a request is to, below the connection's own path.
type address struct {
	raw      string   // the path as it goes to the target
	path     string   // the path without escapes
	segments []string // of path
	template string
	query    url.Values
	rawQuery string
}

// parseAddress reads a path, as the client wrote it, and a query. Whatever one
// server could read as something else than another does is refused: the words
// that are judged are the words that the target reads.
func parseAddress(raw, query string) (*address, error) {
	if raw == "" {
		raw = "/"
	}
	if len(raw) > maxPath || len(query) > maxQuery {
		return nil, addressed(fmt.Sprintf("the path is longer than %d bytes, or the query than %d", maxPath, maxQuery))
	}
	for _, s := range []string{raw, query} {
		for i := range len(s) {
			if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '\\' {
				return nil, addressed("a character in it has to be escaped")
			}
		}
	}
	path, err := url.PathUnescape(raw)
	switch {
	case err != nil:
		return nil, addressed("an escape in the path is malformed")
	case !utf8.ValidString(path), strings.ContainsFunc(path, unicode.IsControl), strings.Contains(path, `\`):
		return nil, addressed("the path hides a character that paths do not have")
	case twice.MatchString(path):
		return nil, addressed("the path is escaped twice")
	case strings.Contains(path, "://"), strings.HasPrefix(path, "//"):
		return nil, addressed("another host stands in the path: a connection reaches its own target only")
	}
	a := &address{raw: raw, path: path, rawQuery: query, segments: strings.Split(strings.Trim(path, "/"), "/")}
	for i, s := range a.segments {
		name, _, _ := strings.Cut(s, ";")
		if name == "." || name == ".." {
			return nil, addressed("the path leads out of itself")
		}
		if s == "" && (len(a.segments) > 1 || strings.Trim(path, "/") != "" || len(path) > 1 && i == 0) {
			return nil, addressed("a part of the path is empty")
		}
	}
	if a.segments[0] == "" {
		a.segments = nil
	}
	if a.query, err = url.ParseQuery(query); err != nil {
		return nil, addressed("the query is malformed")
	}
	a.template = "/"
	for i, s := range a.segments {
		if identifier(s) {
			s = "{id}"
		}
		if i > 0 {
			a.template += "/"
		}
		a.template += s
	}
	return a, nil
}

func addressed(reason string) error {
	return refuse(ruleAddress, reason, "write the address as the target's documentation does")
}

// twice is what is left of a path that was escaped twice.
var twice = regexp.MustCompile(`%(?i:2e|2f|5c|25|00|3b)`)

var identifiers = regexp.MustCompile(`^(?i:[0-9]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{16,}|[a-z]{1,10}[_-][0-9a-z]*[0-9][0-9a-z_-]*|[0-9a-hjkmnp-tv-z]{26})$`)

// identifier reports whether a segment names one of many things, as far as that
// shows.
func identifier(s string) bool {
	if identifiers.MatchString(s) || strings.Contains(s, "@") {
		return true
	}
	digits := 0
	for _, r := range s {
		if r >= '0' && r <= '9' {
			digits++
		}
	}
	return digits >= 3 && len(s) >= 8
}

var version = regexp.MustCompile(`^(?i:v[0-9]+([.][0-9]+)*((alpha|beta)[0-9]*)?|api|rest|[0-9]{4}-[0-9]{2}(-[0-9]{2})?)$`)

// own are the segments without those in front that say which API it is.
func (a *address) own() []string {
	s := a.segments
	for len(s) > 0 && version.MatchString(s[0]) {
		s = s[1:]
	}
	return s
}

// last is the last segment; "": there is none.
func (a *address) last() string {
	if len(a.segments) == 0 {
		return ""
	}
	return a.segments[len(a.segments)-1]
}

// collection is where the fields of an answer stand, as columns do in a table:
// the last two names of the path that are no identifiers.
func (a *address) collection() (schema, table string) {
	schema, table = "http", "root"
	for _, s := range a.segments {
		if !identifier(s) {
			name, _, _ := strings.Cut(strings.ToLower(s), ".")
			if table != "root" {
				schema = table
			}
			table = name
		}
	}
	return schema, table
}

// asRefused is an error's decision, if it is one.
func asRefused(err error) *custos.Decision {
	var n *notFor
	if errors.As(err, &n) {
		return &n.decision
	}
	return nil
}
