package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/custos-gateway/custos/mask"
	"github.com/custos-gateway/custos/sql"
)

// described is a column of a RowDescription.
type described struct {
	name   string
	table  uint32
	number int16
	typ    uint32
	binary bool
}

// readDescription reads a RowDescription's body.
func readDescription(body []byte) []described {
	f := fields{b: body}
	n := max(f.int16(), 0)
	columns := make([]described, 0, min(n, 2000))
	for range n {
		var c described
		c.name = string(f.text())
		c.table, c.number, c.typ = uint32(f.int32()), int16(f.int16()), uint32(f.int32())
		f.take(2 + 4)
		c.binary = f.int16() == 1
		if f.bad {
			break
		}
		columns = append(columns, c)
	}
	return columns
}

// plan says what is hidden of the rows of one answer.
type plan struct {
	veil    *veil
	columns []planned
	// whole: a column is hidden whatever it holds; scan: values are looked
	// through; deep: some of them in a form that a look at the row misses.
	whole, scan, deep bool
	types             *pgtype.Map
}

type planned struct {
	hidden
	described
	scan bool
}

// newPlan plans for an answer of columns, of which the statement's own text
// says results; known: it does. Without a description columns is nil, and n the
// count of columns.
func newPlan(v *veil, columns []described, results []sql.Result, known bool, c *sql.Catalog) *plan {
	p := &plan{veil: v, columns: make([]planned, len(columns))}
	known = known && len(results) == len(columns)
	for i, d := range columns {
		h := v.result(d.name)
		names, tags, exact := []string(nil), []string(nil), false
		if d.table != 0 && d.number > 0 && c != nil {
			names, tags, exact = c.Column(d.table, d.number)
		}
		switch {
		case exact:
			plain := c.Plain(d.table, d.number)
			for _, name := range names {
				switch at := v.column(name, tags); {
				case at.is && plain:
					h.add(at.way)
				case at.is:
					h.add(derived(at.way))
				}
			}
		case known && !results[i].Opaque:
			for _, name := range results[i].Sources {
				switch at := v.column(name, c.Tags(name)); {
				case at.is && results[i].Plain:
					h.add(at.way)
				case at.is:
					h.add(derived(at.way))
				}
			}
		case v.columns:
			// What it is made of is not known.
			h.add(mask.Redact)
		}
		pc := planned{hidden: h, described: d, scan: v.masker != nil && scanned(d.typ)}
		p.whole = p.whole || h.is
		p.scan = p.scan || pc.scan
		p.deep = p.deep || pc.scan && (d.typ == 0 || !d.textual() && !d.json() && (d.binary || d.typ == pgtype.ByteaOID))
		p.columns[i] = pc
	}
	if !p.whole && !p.scan {
		return nil
	}
	return p
}

// derived is how a value is hidden that is made of a hidden one: what a way
// leaves of the value itself it must not leave of one made of it.
func derived(way mask.Way) mask.Way {
	if way == mask.Null || way == mask.Hash {
		return way
	}
	return mask.Redact
}

// scanned reports types whose values are looked through: not those that hold
// nothing that is looked for.
func scanned(typ uint32) bool {
	switch typ {
	case pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.OIDOID, pgtype.Float4OID, pgtype.Float8OID, pgtype.DateOID, pgtype.TimeOID,
		pgtype.TimetzOID, pgtype.TimestampOID, pgtype.TimestamptzOID, pgtype.IntervalOID, pgtype.UUIDOID, pgtype.XIDOID, pgtype.TIDOID, pgtype.CIDOID:
		return false
	}
	return true
}

// textual reports that a value may be any text: of a type that is text, or one
// that this package does not know, in the text format.
func (d *described) textual() bool {
	switch d.typ {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.UnknownOID:
		return true
	}
	return !d.binary && (d.typ >= firstUserType || d.typ == pgtype.XMLOID)
}

// firstUserType is FirstNormalObjectId (access/transam.h).
const firstUserType = 16384

func (d *described) json() bool { return d.typ == pgtype.JSONOID || d.typ == pgtype.JSONBOID }

// row appends a DataRow as the caller may see it; n == 0: it is as it was, and
// nothing is appended.
func (p *plan) row(dst, message []byte) (out []byte, n int) {
	body := message[headerSize:]
	if !p.whole && !p.deep && !p.veil.masker.Any(body) {
		return dst, 0
	}
	f := fields{b: body}
	count := max(f.int16(), 0)
	start := len(dst)
	out, at := begin(dst, 'D')
	out = binary.BigEndian.AppendUint16(out, uint16(count))
	for i := range count {
		size := f.int32()
		if f.bad {
			break
		}
		if size < 0 {
			out = binary.BigEndian.AppendUint32(out, math.MaxUint32)
			continue
		}
		value := f.take(size)
		lengthAt := len(out)
		out = append(out, 0, 0, 0, 0)
		shown, masked, null := p.value(out, i, value)
		switch {
		case null:
			binary.BigEndian.PutUint32(out[lengthAt:], math.MaxUint32)
			n++
			continue
		case masked == 0:
			shown = append(out, value...)
		}
		n += masked
		out = shown
		binary.BigEndian.PutUint32(out[lengthAt:], uint32(len(out)-lengthAt-4))
	}
	if f.end() != nil {
		// A row that is not one is not shown.
		return finish(binary.BigEndian.AppendUint16(out[:at+4], 0), at), 1
	}
	if n == 0 {
		return dst[:start], 0
	}
	return finish(out, at), n
}

// value appends value i of a row as the caller may see it; masked == 0: it is
// as it was, and nothing is appended. null: the caller sees NULL.
func (p *plan) value(dst []byte, i int, value []byte) (out []byte, masked int, null bool) {
	var c planned
	if i < len(p.columns) {
		c = p.columns[i]
	} else {
		c = planned{hidden: hidden{true, mask.Null}}
	}
	switch {
	case c.is && c.way == mask.Null:
		return dst, 1, true
	case c.is && c.textual():
		return mask.Value(dst, value, c.way, c.name, p.veil.key), 1, false
	case c.is && c.json():
		return appendJSONText(dst, &c.described, mask.Value(nil, value, mask.Redact, "", p.veil.key)), 1, false
	case c.is:
		return dst, 1, true
	case c.scan:
		return p.look(dst, &c.described, value)
	}
	return dst, 0, false
}

func appendJSONText(dst []byte, d *described, text []byte) []byte {
	if d.binary && d.typ == pgtype.JSONBOID {
		dst = append(dst, 1) // the version of the format
	}
	return strconv.AppendQuote(dst, string(text))
}

// look looks through a value.
func (p *plan) look(dst []byte, d *described, value []byte) (out []byte, masked int, null bool) {
	m := p.veil.masker
	hexadecimal := !d.binary && len(value) > 2 && value[0] == '\\' && value[1] == 'x'
	if d.typ == pgtype.ByteaOID || hexadecimal || d.binary && (d.typ == pgtype.Int8OID || d.typ == pgtype.NumericOID || d.typ == 0 && len(value) == 8) {
		if p.veil.masker.Any(p.plain(d, value)) {
			return dst, 1, true
		}
		return dst, 0, false
	}
	start := len(dst)
	if d.binary && !d.textual() && !d.json() && m.Any(value) {
		// Such as an array, with lengths between its values.
		return dst, 1, true
	}
	out, masked = m.Append(dst, value)
	switch {
	case masked == 0 || d.textual():
		return out, masked, false
	case d.json():
		text := out[start:]
		if d.binary && d.typ == pgtype.JSONBOID {
			text = text[min(1, len(text)):]
		}
		// A number that was hidden leaves something that is no JSON.
		if !json.Valid(text) {
			out = appendJSONText(out[:start], d, mask.Value(nil, value, mask.Redact, "", p.veil.key))
		}
		return out, masked, false
	}
	// Another text would be no value of the type.
	return dst[:start], masked, true
}

// plain is a value as text that can be looked through.
func (p *plan) plain(d *described, value []byte) []byte {
	switch {
	case !d.binary && len(value) > 2 && value[0] == '\\' && value[1] == 'x':
		b, err := hex.DecodeString(string(value[2:]))
		if err == nil {
			return b
		}
	case d.binary && d.typ != pgtype.ByteaOID && len(value) == 8:
		return strconv.AppendInt(nil, int64(binary.BigEndian.Uint64(value)), 10)
	case d.typ == pgtype.NumericOID && d.binary:
		if p.types == nil {
			p.types = pgtype.NewMap()
		}
		return []byte(binaryWords(p.types, d.typ, value))
	}
	return value
}
