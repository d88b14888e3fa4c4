package postgres

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"

	"github.com/custos-gateway/custos/mask"
	"github.com/custos-gateway/custos/sql"
)

// copyPlan says what is hidden of a COPY's output. The target sends a row in
// each CopyData message, in the text or the binary format; of another form
// nothing that is hidden is let through.
type copyPlan struct {
	veil   *veil
	ways   []hidden // of each column
	names  []string
	any    bool
	known  bool // the columns are
	binary bool
	header bool // the next message is a binary copy's header
	form   sql.CopyForm
	line   int
}

// newCopyPlan plans for the output of w, which a CopyOutResponse began.
func (w *work) newCopyPlan(body []byte) *copyPlan {
	f := fields{b: body}
	p := &copyPlan{veil: w.veil, binary: f.byte() == 1}
	n := f.int16()
	p.header = p.binary
	st := w.answering()
	if st != nil {
		p.form = st.Copy
	}
	p.known = st != nil && st.Results != nil && len(st.Results) == n
	p.ways, p.names = make([]hidden, max(n, 0)), make([]string, max(n, 0))
	for i := range p.ways {
		switch {
		case p.known && !st.Results[i].Opaque:
			p.names[i] = st.Results[i].Name
			for _, name := range st.Results[i].Sources {
				if at := w.veil.column(name, w.statement.catalog.Tags(name)); at.is {
					way := derived(at.way)
					if len(st.Results[i].Sources) == 1 && st.Results[i].Plain {
						way = at.way
					}
					p.ways[i].add(way)
				}
			}
		case w.veil.columns:
			p.ways[i].add(mask.Redact)
		}
		if at := w.veil.result(p.names[i]); at.is {
			p.ways[i].add(at.way)
		}
		p.any = p.any || p.ways[i].is
	}
	return p
}

// hexSign begins a bytea in the text format.
var hexSign = []byte(`\x`)

// data returns a CopyData message as the caller may see it; nil: as it is.
func (p *copyPlan) data(body []byte) (instead []byte, masked int) {
	out, at := begin(nil, 'd')
	switch {
	case p.binary:
		out, masked = p.binaryRow(out, body)
	case p.any || p.veil.masker != nil && bytes.Contains(body, hexSign):
		out, masked = p.textRow(out, body)
	case p.veil.masker != nil:
		out, masked = p.veil.masker.Append(out, body)
	}
	if masked == 0 {
		return nil, 0
	}
	return finish(out, at), masked
}

// binaryHeader is the signature of the binary format (COPY, section "Binary
// Format"); flags and an extension's length follow it.
var binaryHeader = []byte("PGCOPY\n\xff\r\n\x00")

func (p *copyPlan) binaryRow(out, body []byte) ([]byte, int) {
	f := fields{b: body}
	if p.header {
		p.header = false
		f.take(len(binaryHeader) + 4)
		f.take(f.int32())
		out = append(out, body[:len(body)-len(f.b)]...)
		if len(f.b) == 0 {
			return out, 0
		}
	}
	count := f.int16()
	if count < 0 { // the trailer
		return append(out, 0xff, 0xff), 0
	}
	out = binary.BigEndian.AppendUint16(out, uint16(count))
	masked := 0
	for i := range count {
		size := f.int32()
		value := f.take(size)
		hide := i >= len(p.ways) || p.ways[i].is
		if size >= 0 && !hide && p.veil.masker != nil && p.veil.masker.Any(value) {
			hide = true
		}
		if size < 0 || hide {
			if size >= 0 {
				masked++
			}
			out = binary.BigEndian.AppendUint32(out, math.MaxUint32)
			continue
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(size)), value...)
	}
	return out, masked
}

// textRow hides the columns of a line of the text or the CSV format.
func (p *copyPlan) textRow(out, body []byte) ([]byte, int) {
	p.line++
	line, end := bytes.CutSuffix(body, []byte("\n"))
	if p.form.Header && p.line == 1 {
		return out, 0
	}
	values, ok := p.form.Split(line)
	if !ok || len(values) != len(p.ways) {
		// Not a line as the form says: nothing of it is shown.
		values = make([][]byte, len(p.ways))
		for i := range values {
			values[i] = []byte("?")
		}
	}
	masked := 0
	for i, raw := range values {
		if i > 0 {
			out = append(out, p.form.Delimiter)
		}
		switch {
		case string(raw) == p.form.Null && ok:
			out = append(out, raw...)
		case p.ways[i].is || !ok:
			masked++
			if p.ways[i].way == mask.Null {
				out = append(out, p.form.Null...)
				break
			}
			out = p.form.Append(out, mask.Value(nil, p.form.Value(raw), p.ways[i].way, p.names[i], p.veil.key))
		case p.veil.masker != nil && p.bytes(p.form.Value(raw)):
			masked++
			out = append(out, p.form.Null...)
		case p.veil.masker != nil:
			shown, n := p.veil.masker.Append(out, raw)
			if n == 0 {
				shown = append(out, raw...)
			}
			out, masked = shown, masked+n
		default:
			out = append(out, raw...)
		}
	}
	if end {
		out = append(out, '\n')
	}
	return out, masked
}

// bytes reports a bytea, in the text format, that holds what is looked for.
func (p *copyPlan) bytes(value []byte) bool {
	digits, found := bytes.CutPrefix(value, hexSign)
	if !found {
		return false
	}
	b := make([]byte, hex.DecodedLen(len(digits)))
	_, err := hex.Decode(b, digits)
	return err == nil && p.veil.masker.Any(b)
}
