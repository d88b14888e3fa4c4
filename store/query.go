package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	custos "github.com/custos-gateway/custos"
)

// ErrQuery is the kind of error of a query that cannot be understood. Its
// text says which part, and what can be written.
var ErrQuery = errors.New("query not understood")

const fields = "who, connection, table, verb, session, effect, outcome, rule, skill, conversation, tool, trace, since, until"

// What a query may have: terms, and bytes.
const (
	maxTerms = 32
	maxQuery = 8 << 10
)

// term is one piece of a query.
type term struct {
	not          bool
	field, value string // without a field: words, or a phrase
	quoted       bool
}

// split cuts a query into terms: words, "phrases" and FIELD:VALUE, each with -
// before it for its opposite.
func split(query string) ([]term, error) {
	var terms []term
	rest := strings.TrimSpace(query)
	for rest != "" {
		var t term
		if strings.HasPrefix(rest, "-") && len(rest) > 1 {
			t.not, rest = true, rest[1:]
		}
		if i := strings.IndexFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || r == ':' || r == '"' }); i > 0 && rest[i] == ':' && isField(rest[:i]) {
			t.field, rest = strings.ToLower(rest[:i]), rest[i+1:]
		}
		if strings.HasPrefix(rest, `"`) {
			end := strings.IndexByte(rest[1:], '"')
			if end < 0 {
				return nil, fmt.Errorf(`%w: %s has no closing "`, ErrQuery, show(rest))
			}
			t.quoted, t.value, rest = true, rest[1:1+end], rest[end+2:]
		} else {
			end := strings.IndexFunc(rest, unicode.IsSpace)
			if end < 0 {
				end = len(rest)
			}
			t.value, rest = rest[:end], rest[end:]
		}
		if t.field == "" && !t.quoted {
			// A word with a colon in it is text, unless it looks like a field.
			if name, _, ok := strings.Cut(t.value, ":"); ok && name != "" && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsLetter(r) }) < 0 && !strings.Contains(t.value, "::") {
				return nil, fmt.Errorf("%w: there is no field %s; the fields are %s (to find the text, put it in quotes)", ErrQuery, show(name), fields)
			}
		}
		if t.field != "" && t.value == "" {
			return nil, fmt.Errorf("%w: %s: needs a value after the colon", ErrQuery, t.field)
		}
		if terms = append(terms, t); len(terms) > maxTerms {
			return nil, fmt.Errorf("%w: it has more than %d terms", ErrQuery, maxTerms)
		}
		rest = strings.TrimSpace(rest)
	}
	return terms, nil
}

func isField(s string) bool {
	for f := range strings.SplitSeq(fields, ", ") {
		if strings.EqualFold(f, s) {
			return true
		}
	}
	return false
}

// show quotes a piece of a query in an error.
func show(s string) string {
	if r := []rune(s); len(r) > 40 {
		s = string(r[:40]) + "…"
	}
	return strconv.Quote(s)
}

// query narrows operations o of sessions s by what a query says.
func (n *narrowing) query(query string, now time.Time) error {
	if len(query) > maxQuery {
		return fmt.Errorf("%w: it is longer than %d bytes", ErrQuery, maxQuery)
	}
	terms, err := split(query)
	if err != nil {
		return err
	}
	for _, t := range terms {
		if err := n.term(t, now); err != nil {
			return err
		}
	}
	return nil
}

func (n *narrowing) term(t term, now time.Time) error {
	v := t.value
	switch t.field {
	case "":
		if p := phrase(v); p != "" && t.not {
			n.without = append(n.without, p)
		} else if p != "" {
			n.words = append(n.words, p)
		}
		return nil
	case "session":
		return n.session(t)
	case "since", "until":
		return n.time(t, now)
	case "table", "effect", "outcome":
		v = strings.ToLower(v)
	case "verb":
		v = strings.ToUpper(v)
	}
	n.lists = append(n.lists, listed{t.field + ":" + v, t.not})
	return nil
}

func (n *narrowing) session(t term) error {
	if !custos.SessionID(t.value).Valid() {
		return fmt.Errorf("%w: %s is no session's id", ErrQuery, show(t.value))
	}
	is := "IS"
	if t.not {
		is = "IS NOT"
	} else {
		n.driven = true
	}
	n.add("o.opened "+is+" (SELECT entry FROM sessions WHERE id = ?)", t.value)
	return nil
}

func (n *narrowing) time(t term, now time.Time) error {
	at, err := parseTime(t.value, now)
	if err != nil {
		return fmt.Errorf("%w: %s:%s is no time; write 2006-01-02, 2006-01-02T15:04:05Z, or how long ago, such as 24h or 7d", ErrQuery, t.field, show(t.value))
	}
	if (t.field == "since") != t.not {
		n.after(at)
	} else {
		n.before(at)
	}
	return nil
}

// phrase is the FTS5 string that finds the words of v one after the other. In
// an FTS5 string only the quote is special. Without a word in v it is empty.
func phrase(v string) string {
	v = strings.Map(func(r rune) rune {
		if r == '"' || r == 0 || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, v)
	if strings.IndexFunc(v, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) < 0 {
		return ""
	}
	return `"` + v + `"`
}

// parseTime reads a time, a date, or how long ago something was.
func parseTime(v string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(v, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return now.AddDate(0, 0, -int(n)), err
	}
	d, err := time.ParseDuration(v)
	if err == nil && d < 0 {
		err = errors.New("it is in the future")
	}
	return now.Add(-d), err
}
