package http

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/mask"
)

// plan is what is hidden of one answer.
type plan struct {
	// find looks for kinds of value; nil: for none.
	find *mask.Masker
	// named are hidden by where they stand.
	named []named
	// within are the names that the answer's fields stand under: of its path.
	within []string
	// aliases are the real names behind those that a caller gave to fields.
	aliases map[string][]string
	key     *[32]byte
}

// named is hidden by its name, and by those that it stands under.
type named struct {
	pattern []string // from the outermost; the last is the field's own
	way     mask.Way
}

// newPlan is what rules hide of an answer. A rule's columns are matched with the
// names of the path and then those of the fields: *.customers.email hides
// email, at any depth, in what /v1/customers answers.
func newPlan(q *asked, masks []custos.Mask, key *[32]byte) (*plan, error) {
	p := &plan{key: key, aliases: map[string][]string{}}
	if masks = custos.Hiding(masks); len(masks) == 0 {
		return p, nil
	}
	var rules []mask.Rule
	for i := range masks {
		m := &masks[i]
		way, err := mask.ParseWay(m.With)
		if err != nil {
			return nil, errors.New("hide answer: a rule hides in a way that is not known")
		}
		for _, patterns := range [][]string{m.Columns, m.Results} {
			for _, pattern := range patterns {
				p.named = append(p.named, named{strings.Split(strings.ToLower(pattern), "."), way})
			}
		}
		if len(m.Detect) > 0 {
			rules = append(rules, mask.Rule{Detect: m.Detect, With: way})
		}
	}
	if len(rules) > 0 {
		var err error
		if p.find, err = mask.New(*key, rules); err != nil {
			return nil, fmt.Errorf("hide answer: %w", err)
		}
	}
	// Where rules name one field, the one that shows least wins.
	slices.SortStableFunc(p.named, func(a, b named) int { return strict[b.way] - strict[a.way] })
	for _, s := range q.address.segments {
		if !identifier(s) {
			name, _, _ := strings.Cut(strings.ToLower(s), ".")
			p.within = append(p.within, name)
		}
	}
	for _, d := range q.documents {
		for alias, real := range d.aliases {
			p.aliases[alias] = append(p.aliases[alias], real...)
		}
	}
	return p, nil
}

// strict orders the ways by how little they show.
var strict = map[mask.Way]int{mask.Partial: 0, mask.Format: 1, mask.Hash: 2, mask.Null: 3, mask.Redact: 4}

// hides reports whether anything is hidden at all.
func (p *plan) hides() bool { return p.find != nil || len(p.named) > 0 }

// way is how a field is hidden; false: it is not. path are the names above it and
// its own, in lower case.
func (p *plan) way(path []string) (mask.Way, bool) {
	for i := range p.named {
		if p.matches(p.named[i].pattern, path) {
			return p.named[i].way, true
		}
	}
	return 0, false
}

// matches reports whether the last name is the pattern's last, and the names
// above it have the others in their order, though not next to each other. A
// pattern's leading * stand for anything, and nothing.
func (p *plan) matches(pattern, path []string) bool {
	if len(path) == 0 || !p.called(pattern[len(pattern)-1], path[len(path)-1]) {
		return false
	}
	pattern = pattern[:len(pattern)-1]
	for len(pattern) > 0 && pattern[0] == "*" {
		pattern = pattern[1:]
	}
	for _, above := range [][]string{p.within, path[:len(path)-1]} {
		for _, name := range above {
			if len(pattern) > 0 && p.called(pattern[0], name) {
				pattern = pattern[1:]
			}
		}
	}
	return len(pattern) == 0
}

// called reports whether a name, or what it is really called, is of a pattern.
func (p *plan) called(pattern, name string) bool {
	return custos.MatchColumn(pattern, name) || slices.ContainsFunc(p.aliases[name], func(real string) bool { return custos.MatchColumn(pattern, real) })
}

// veil passes an answer's bytes on, hidden, as they come.
type veil interface {
	Append(dst, b []byte) ([]byte, error)
	// End appends what was kept back, or says that the answer was cut off.
	End(dst []byte) ([]byte, error)
	// Hidden is how many values were.
	Hidden() int64
}

// bare hides nothing.
type bare struct{}

func (bare) Append(dst, b []byte) ([]byte, error) { return append(dst, b...), nil }
func (bare) End(dst []byte) ([]byte, error)       { return dst, nil }
func (bare) Hidden() int64                        { return 0 }

// maxHeld bounds, in bytes, what is looked at whole: a string, a record, an
// event, a line.
const maxHeld = 4 << 20

var (
	errHeld    = errors.New("hide answer: a value of it is too long to be looked at whole")
	errNotJSON = errors.New("hide answer: it is not the JSON that it says it is")
)

// veilFor is what hides in an answer of a type; an error where there is no way to.
func (p *plan) veilFor(contentType string) (veil, error) {
	if !p.hides() {
		return bare{}, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, errors.New("it does not say what it is")
	}
	if charset := strings.ToLower(params["charset"]); charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return nil, fmt.Errorf("its characters are %s", oneLine(charset, 40))
	}
	switch {
	case media == "application/json", strings.HasSuffix(media, "+json"), media == "text/json",
		media == "application/x-ndjson", media == "application/ndjson", media == "application/jsonl", media == "application/json-seq":
		return &jsonVeil{plan: p}, nil
	case media == "text/event-stream":
		return &events{plan: p}, nil
	case media == "text/csv", media == "application/csv":
		return &table{plan: p}, nil
	case media == "text/tab-separated-values":
		return &table{plan: p, comma: '\t'}, nil
	case media == "application/x-www-form-urlencoded":
		return &pairs{plan: p}, nil
	case len(p.named) > 0:
		return nil, fmt.Errorf("%s has no fields that show, and a rule hides fields", oneLine(media, 60))
	case strings.HasPrefix(media, "text/"), media == "application/xml", strings.HasSuffix(media, "+xml"), media == "application/javascript", media == "application/yaml", media == "application/x-yaml":
		return &lines{plan: p}, nil
	}
	return nil, fmt.Errorf("%s cannot be looked into", oneLine(media, 60))
}

// search appends text with the kinds that rules name hidden.
func (p *plan) search(dst, text []byte) ([]byte, int64) {
	if p.find == nil {
		return append(dst, text...), 0
	}
	before := len(dst)
	dst, n := p.find.Append(dst, text)
	if n == 0 {
		return append(dst[:before], text...), 0
	}
	return dst, int64(n)
}

// lines hides in text, line by line: a value does not go over the end of one.
type lines struct {
	plan   *plan
	held   []byte
	hidden int64
}

func (l *lines) Append(dst, b []byte) ([]byte, error) {
	l.held = append(l.held, b...)
	end := bytes.LastIndexByte(l.held, '\n') + 1
	if end == 0 && len(l.held) > maxHeld {
		return dst, errHeld
	}
	dst, n := l.plan.search(dst, l.held[:end])
	l.hidden += n
	l.held = append(l.held[:0], l.held[end:]...)
	return dst, nil
}

func (l *lines) End(dst []byte) ([]byte, error) {
	dst, n := l.plan.search(dst, l.held)
	l.hidden += n
	l.held = nil
	return dst, nil
}

func (l *lines) Hidden() int64 { return l.hidden }

// value appends what stands for a whole value under a name; for Null nothing.
func (p *plan) value(dst, text []byte, way mask.Way, name string) []byte {
	return mask.Value(dst, text, way, name, p.key)
}

// table hides in rows of CSV (RFC 4180), of which the first names the fields.
type table struct {
	plan   *plan
	comma  rune
	held   []byte
	quoted bool
	at     int // how much of held was looked at
	names  []string
	begun  bool
	hidden int64
}

func (t *table) Append(dst, b []byte) ([]byte, error) {
	t.held = append(t.held, b...)
	for from := 0; ; from = 0 {
		for ; t.at < len(t.held) && (t.quoted || t.held[t.at] != '\n'); t.at++ {
			if t.held[t.at] == '"' {
				t.quoted = !t.quoted
			}
		}
		if t.at == len(t.held) {
			if len(t.held) > maxHeld {
				return dst, errHeld
			}
			return dst, nil
		}
		var err error
		if dst, err = t.row(dst, t.held[from:t.at+1]); err != nil {
			return dst, err
		}
		t.held = append(t.held[:0], t.held[t.at+1:]...)
		t.at = 0
	}
}

func (t *table) End(dst []byte) ([]byte, error) {
	if len(t.held) == 0 {
		return dst, nil
	}
	return t.row(dst, t.held)
}

// row appends one record, hidden.
func (t *table) row(dst, raw []byte) ([]byte, error) {
	if !t.begun {
		t.begun = true
		if t.comma == 0 {
			t.comma = separator(raw)
		}
	} else if len(bytes.TrimSpace(raw)) == 0 {
		return append(dst, raw...), nil
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\ufeff"))))
	r.Comma, r.FieldsPerRecord, r.LazyQuotes = t.comma, -1, true
	record, err := r.Read()
	if err != nil {
		return dst, errors.New("hide answer: it is not the CSV that it says it is")
	}
	changed := int64(0)
	if t.names == nil {
		for _, name := range record {
			t.names = append(t.names, strings.ToLower(strings.TrimSpace(name)))
		}
	} else {
		for i := range record {
			// A field beyond those that are named could be any of them.
			name := ""
			if i < len(t.names) {
				name = t.names[i]
			} else if len(t.plan.named) > 0 {
				return dst, errors.New("hide answer: a row of it has more fields than its head")
			}
			if way, ok := t.plan.way([]string{name}); ok {
				record[i] = string(t.plan.value(nil, []byte(record[i]), way, name))
				changed++
			}
		}
	}
	for i := range record {
		text, n := t.plan.search(nil, []byte(record[i]))
		if n > 0 {
			record[i] = string(text)
			changed += n
		}
	}
	if changed == 0 {
		return append(dst, raw...), nil
	}
	t.hidden += changed
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	w.Comma, w.UseCRLF = t.comma, bytes.HasSuffix(raw, []byte("\r\n"))
	if err := w.Write(record); err != nil {
		return dst, fmt.Errorf("hide answer: %w", err)
	}
	w.Flush()
	return append(dst, out.Bytes()...), nil
}

// separator is what stands between the fields of a head.
func separator(head []byte) rune {
	best, most := ',', 0
	for _, c := range []rune{',', ';', '\t', '|'} {
		if n := bytes.Count(head, []byte(string(c))); n > most {
			best, most = c, n
		}
	}
	return best
}

func (t *table) Hidden() int64 { return t.hidden }

// pairs hides in a form, as a whole.
type pairs struct {
	plan   *plan
	held   []byte
	hidden int64
}

func (f *pairs) Append(dst, b []byte) ([]byte, error) {
	if len(f.held)+len(b) > maxHeld {
		return dst, errHeld
	}
	f.held = append(f.held, b...)
	return dst, nil
}

func (f *pairs) End(dst []byte) ([]byte, error) {
	for i, pair := range strings.Split(string(f.held), "&") {
		if i > 0 {
			dst = append(dst, '&')
		}
		name, value, _ := strings.Cut(pair, "=")
		plainName, err1 := url.QueryUnescape(name)
		plain, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return dst, errors.New("hide answer: it is not the form that it says it is")
		}
		text, n := []byte(nil), int64(0)
		if way, ok := f.plan.way([]string{strings.ToLower(plainName)}); ok {
			text, n = f.plan.value(nil, []byte(plain), way, plainName), 1
		} else {
			text, n = f.plan.search(nil, []byte(plain))
		}
		if n == 0 {
			dst = append(dst, pair...)
			continue
		}
		f.hidden += n
		dst = append(append(append(dst, name...), '='), url.QueryEscape(string(text))...)
	}
	return dst, nil
}

func (f *pairs) Hidden() int64 { return f.hidden }

// events hides in server-sent events (html.spec.whatwg.org, 9.2), one at a time.
// What is split over several events is not put together.
type events struct {
	plan   *plan
	held   []byte
	hidden int64
}

func (v *events) Append(dst, b []byte) ([]byte, error) {
	v.held = append(v.held, b...)
	for {
		n := eventEnd(v.held)
		if n < 0 {
			if len(v.held) > maxHeld {
				return dst, errHeld
			}
			return dst, nil
		}
		var err error
		if dst, err = v.event(dst, v.held[:n]); err != nil {
			return dst, err
		}
		v.held = append(v.held[:0], v.held[n:]...)
	}
}

// eventEnd is where the first event ends; -1: it has not yet.
func eventEnd(b []byte) int {
	end := -1
	for _, mark := range []string{"\n\n", "\r\n\r\n", "\r\r"} {
		if i := bytes.Index(b, []byte(mark)); i >= 0 && (end < 0 || i+len(mark) < end) {
			end = i + len(mark)
		}
	}
	return end
}

func (v *events) End(dst []byte) ([]byte, error) {
	if len(v.held) == 0 {
		return dst, nil
	}
	return v.event(dst, v.held)
}

// event appends one event: its data, joined, as JSON if it is, else as text.
func (v *events) event(dst, raw []byte) ([]byte, error) {
	var data []string
	all := strings.FieldsFunc(string(raw), func(r rune) bool { return r == '\n' || r == '\r' })
	for _, line := range all {
		if d, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, strings.TrimPrefix(d, " "))
		}
	}
	before := v.hidden
	payload := strings.Join(data, "\n")
	if len(data) > 0 {
		out, err := v.payload([]byte(payload))
		if err != nil {
			return dst, err
		}
		payload = string(out)
	}
	var out []byte
	told := false
	for _, line := range all {
		if strings.HasPrefix(line, "data:") {
			if !told {
				for part := range strings.SplitSeq(payload, "\n") {
					out = append(append(append(out, "data: "...), part...), '\n')
				}
			}
			told = true
			continue
		}
		text, n := v.plan.search(nil, []byte(line))
		v.hidden += n
		out = append(append(out, text...), '\n')
	}
	if v.hidden == before {
		return append(dst, raw...), nil
	}
	return append(append(dst, out...), '\n'), nil
}

// ended is what some services send as the data of the last event.
const ended = "[DONE]"

func (v *events) payload(data []byte) ([]byte, error) {
	if json.Valid(data) {
		h := &jsonVeil{plan: v.plan}
		out, err := h.Append(nil, data)
		if err == nil {
			out, err = h.End(out)
		}
		v.hidden += h.hidden
		return out, err
	}
	if len(v.plan.named) > 0 && string(data) != ended {
		// Whether a field that is hidden stands in it cannot be known.
		v.hidden++
		return []byte("***MASKED***"), nil
	}
	out, n := v.plan.search(nil, data)
	v.hidden += n
	return out, nil
}

func (v *events) Hidden() int64 { return v.hidden }
