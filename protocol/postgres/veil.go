package postgres

import (
	"errors"
	"slices"
	"strings"
	"sync"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/mask"
	"github.com/custos-gateway/custos/sql"
)

// veil is a set of masks, made ready: what is hidden from a caller, and how.
type veil struct {
	masks   []custos.Mask
	ways    []mask.Way // of each mask
	tags    []custos.ColumnTag
	masker  *mask.Masker // nil: nothing is looked for
	columns bool         // stored columns are hidden
	key     *[32]byte

	mu    sync.Mutex
	known map[string]hidden // by stored column
}

// hidden says whether, and how, something is hidden.
type hidden struct {
	is  bool
	way mask.Way
}

// strict orders the ways: the one that shows least wins.
var strict = map[mask.Way]int{mask.Partial: 0, mask.Format: 1, mask.Hash: 2, mask.Null: 3, mask.Redact: 4}

func (h *hidden) add(way mask.Way) {
	if !h.is || strict[way] > strict[h.way] {
		*h = hidden{true, way}
	}
}

// hiding keeps the veils of sets of masks, by the sets' identity: policy gives
// the same slice for the same set.
type hiding struct {
	mu    sync.Mutex
	veils map[veilKey]*veil
}

type veilKey struct {
	masks      *custos.Mask
	n          int
	connection *custos.Connection
}

// maxVeils bounds how many are kept. Those of policies that are no longer in
// force go with the rest.
const maxVeils = 1000

// veil returns that of masks on a connection; nil: nothing is hidden. With an
// error nothing may be shown.
func (s *Server) veil(masks []custos.Mask, c *custos.Connection) (*veil, error) {
	if len(masks) == 0 {
		return nil, nil
	}
	key := veilKey{&masks[0], len(masks), c}
	s.hiding.mu.Lock()
	defer s.hiding.mu.Unlock()
	if v := s.hiding.veils[key]; v != nil {
		return v, nil
	}
	v, err := newVeil(masks, c, &s.MaskKey)
	if err != nil {
		return nil, err
	}
	if s.hiding.veils == nil || len(s.hiding.veils) >= maxVeils {
		s.hiding.veils = map[veilKey]*veil{}
	}
	s.hiding.veils[key] = v
	return v, nil
}

func newVeil(masks []custos.Mask, c *custos.Connection, key *[32]byte) (*veil, error) {
	masks = custos.Hiding(masks)
	v := &veil{masks: masks, tags: c.Tags, key: key, known: map[string]hidden{}}
	var rules []mask.Rule
	for i := range masks {
		m := &masks[i]
		way := mask.Redact
		if m.With != "" {
			var err error
			if way, err = mask.ParseWay(m.With); err != nil {
				return nil, err
			}
		}
		v.ways = append(v.ways, way)
		v.columns = v.columns || len(m.Columns) > 0 || len(m.Tags) > 0
		if len(m.Detect) > 0 {
			rules = append(rules, mask.Rule{Detect: m.Detect, With: way})
		}
	}
	if len(rules) > 0 {
		var err error
		if v.masker, err = mask.New(*key, rules); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// column says how a stored column is hidden. tags are those of its comment.
func (v *veil) column(name string, tags []string) hidden {
	if !v.columns {
		return hidden{}
	}
	key := name
	if len(tags) > 0 {
		key += "\x00" + strings.Join(tags, "\x00")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	h, known := v.known[key]
	if known {
		return h
	}
	matches := func(pattern string) bool { return custos.MatchColumn(pattern, name) }
	for i := range v.masks {
		m := &v.masks[i]
		tagged := slices.ContainsFunc(m.Tags, func(t string) bool { return slices.Contains(tags, t) })
		for j := range v.tags {
			tagged = tagged || slices.Contains(m.Tags, v.tags[j].Tag) && slices.ContainsFunc(v.tags[j].Columns, matches)
		}
		if tagged || slices.ContainsFunc(m.Columns, matches) {
			h.add(v.ways[i])
		}
	}
	v.known[key] = h
	return h
}

// result says how a column of an answer is hidden for its name.
func (v *veil) result(name string) (h hidden) {
	for i := range v.masks {
		if slices.ContainsFunc(v.masks[i].Results, func(p string) bool { return custos.MatchColumn(p, strings.ReplaceAll(name, ".", "_")) }) {
			h.add(v.ways[i])
		}
	}
	return h
}

// touches reports whether a statement has to do with anything that is hidden,
// or may have.
func (v *veil) touches(s *sql.Text, c *sql.Catalog) bool {
	if !v.columns {
		return false
	}
	if s == nil || c == nil || len(s.Facts.Unknown) > 0 {
		return true
	}
	for _, list := range [][]string{s.Facts.Columns, s.Facts.Predicates, s.Facts.Changed, s.Facts.Copied} {
		for _, name := range list {
			if v.column(name, c.Tags(name)).is {
				return true
			}
		}
	}
	return s.Writes && v.inRows(s.Objects, c)
}

// inRows reports whether rows of relations hold anything that is hidden: an
// error of a write, such as of a constraint, quotes the whole row. What
// triggers say cannot be known.
func (v *veil) inRows(objects []string, c *sql.Catalog) bool {
	for _, object := range objects {
		schema, name, qualified := strings.Cut(object, ".")
		if !qualified {
			schema, name = "", object
		}
		for _, r := range c.Named(schema, name) {
			if r.Ruled {
				return true
			}
			for i := range r.Columns {
				names, tags, known := c.Column(r.OID, r.Columns[i].Number)
				if !known || slices.ContainsFunc(names, func(name string) bool { return v.column(name, tags).is }) {
					return true
				}
			}
		}
	}
	return false
}

// tell are the classes of SQLSTATE whose messages speak of statements, of the
// session or of the server, and not of values (appendix "PostgreSQL Error
// Codes").
var tell = []string{"03", "08", "0A", "25", "26", "28", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}

var errWithheld = errors.New("the target's message is withheld: it may hold values that are hidden from you")

// message returns an ErrorResponse or NoticeResponse as the caller may see it;
// nil: as it is. touched says that the statement has to do with what is hidden.
func (v *veil) message(t byte, body []byte, touched bool) (instead []byte, masked int) {
	code := errorCode(body)
	if touched && (len(code) < 2 || !slices.Contains(tell, code[:2])) {
		f := fatal{code: code, message: errWithheld.Error(), hint: "the gateway's auditors can read it at the target"}
		instead = f.append(nil, errorField(body, 'V'))
		instead[0] = t
		return instead, 1
	}
	if v.masker == nil || !v.masker.Any(body) {
		return nil, 0
	}
	instead, at := begin(nil, t)
	for f := (fields{b: body}); ; {
		field := f.byte()
		if field == 0 {
			break
		}
		value := f.text()
		instead = append(instead, field)
		out, n := v.masker.Append(instead, value)
		if n == 0 {
			out = append(instead, value...)
		}
		instead, masked = append(out, 0), masked+n
	}
	if masked == 0 {
		return nil, 0
	}
	return finish(append(instead, 0), at), masked
}

// notification returns a NotificationResponse as the caller may see it; nil:
// as it is. A payload says nothing of where it comes from.
func (v *veil) notification(body []byte) (instead []byte, masked int) {
	if v.masker == nil || len(body) < 4 {
		return nil, 0
	}
	out, n := v.masker.Append(nil, body[4:])
	if n == 0 {
		return nil, 0
	}
	instead, at := begin(nil, 'A')
	return finish(append(append(instead, body[:4]...), out...), at), n
}
