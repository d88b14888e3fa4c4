package postgres

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	custos "github.com/custos-gateway/custos"
)

// maxShown bounds a message that is shown, in bytes: PostgreSQL's own limit of
// a field. What is longer was never sent.
const maxShown = largeLimit

// Render shows the recorded answer of an operation: tables and their rows,
// notices, errors and tags. It holds one message at a time.
func Render(_ *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	r := &replay{wire: wire{in: bufio.NewReaderSize(records, 32<<10)}, emit: emit, types: pgtype.NewMap()}
	for {
		done, err := r.next()
		if err != nil {
			return err
		}
		if done {
			return nil
		}
	}
}

// wire joins records to the stream of bytes that they were cut from, and
// knows when each byte came.
type wire struct {
	in   *bufio.Reader
	left uint64 // of the record
	at   int64
}

func (w *wire) Read(p []byte) (int, error) {
	for w.left == 0 {
		later, err := binary.ReadUvarint(w.in)
		if err != nil {
			return 0, err // io.EOF: between records
		}
		if w.left, err = binary.ReadUvarint(w.in); err != nil {
			return 0, fmt.Errorf("read answer: a record is cut: %w", io.ErrUnexpectedEOF)
		}
		w.at += int64(later)
	}
	n, err := w.in.Read(p[:min(uint64(len(p)), w.left)])
	w.left -= uint64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type replay struct {
	wire    wire
	emit    func(*custos.Event) error
	types   *pgtype.Map
	body    []byte
	columns []column
	row     []*string
	values  []string
}

type column struct {
	name   string
	oid    uint32
	binary bool
}

func (r *replay) next() (done bool, err error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(&r.wire, head[:]); errors.Is(err, io.EOF) {
		return true, nil
	} else if err != nil {
		// An answer may be cut by the end of its session, in the middle of
		// a message: what there is was shown.
		return errors.Is(err, io.ErrUnexpectedEOF) && r.wire.left == 0, ignoreCut(err, &r.wire)
	}
	size, err := frameSize(head[:])
	if err != nil {
		return false, fmt.Errorf("show answer: %w", err)
	}
	n := size - headerSize
	if n > maxShown {
		return false, fmt.Errorf("show answer: a message of %d bytes", n)
	}
	r.body = r.body[:0]
	for len(r.body) < n {
		m := min(n-len(r.body), 64<<10)
		at := len(r.body)
		r.body = append(r.body, make([]byte, m)...)
		if _, err := io.ReadFull(&r.wire, r.body[at:]); err != nil {
			return true, ignoreCut(err, &r.wire)
		}
	}
	e := custos.Event{At: r.wire.at}
	if !r.show(head[0], &e) {
		return false, nil
	}
	return false, r.emit(&e)
}

// ignoreCut tells the end of an answer inside a message, which is as it was,
// from a damaged recording.
func ignoreCut(err error, w *wire) error {
	if w.left == 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return nil
	}
	return err
}

// show fills in e from a message; false: there is nothing to see.
func (r *replay) show(t byte, e *custos.Event) bool {
	switch t {
	case 'T':
		r.describe()
		e.Columns = make([]string, len(r.columns))
		for i, c := range r.columns {
			e.Columns[i] = c.name
		}
	case 'D':
		e.Row = r.cells()
	case 'd':
		if !utf8.Valid(r.body) {
			e.Text = hex.EncodeToString(r.body)
			break
		}
		e.Text = string(r.body)
	case 'C':
		f := fields{b: r.body}
		e.Tag = string(f.text())
	case 's':
		e.Tag = "SUSPENDED"
	case 'I':
		e.Tag = "EMPTY"
	case 'E':
		e.Error = spoken(r.body)
	case 'N':
		e.Notice = spoken(r.body)
	case 'A':
		f := fields{b: r.body}
		f.int32()
		channel, payload := f.text(), f.text()
		e.Notice = fmt.Sprintf("NOTIFY %s: %s", channel, payload)
	default:
		return false
	}
	return true
}

// spoken puts an error or a notice in words, as psql does.
func spoken(body []byte) string {
	text := errorField(body, 'S') + ": " + errorField(body, 'M')
	if code := errorField(body, 'C'); code != "" && code != "00000" {
		text += " (SQLSTATE " + code + ")"
	}
	for _, f := range []struct {
		key  byte
		name string
	}{{'D', "DETAIL"}, {'H', "HINT"}} {
		if v := errorField(body, f.key); v != "" {
			text += "\n" + f.name + ": " + v
		}
	}
	return text
}

func (r *replay) describe() {
	f := fields{b: r.body}
	n := f.int16()
	r.columns = r.columns[:0]
	for i := 0; i < n && !f.bad; i++ {
		c := column{name: string(f.text())}
		f.take(4 + 2)
		c.oid = uint32(f.int32())
		f.take(2 + 4)
		c.binary = f.int16() == 1
		r.columns = append(r.columns, c)
	}
}

// cells reads a row. Values in the binary format are put in words where their
// type is a common one, else in hexadecimal.
func (r *replay) cells() []*string {
	f := fields{b: r.body}
	n := max(f.int16(), 0)
	var set string // marks what is not null until the values lie still
	r.row, r.values = r.row[:0], r.values[:0]
	for range n {
		size := f.int32()
		if f.bad {
			break
		}
		if size < 0 {
			r.values = append(r.values, "")
			r.row = append(r.row, nil)
			continue
		}
		r.values = append(r.values, r.words(len(r.values), f.take(size)))
		r.row = append(r.row, &set)
	}
	for i := range r.row {
		if r.row[i] != nil {
			r.row[i] = &r.values[i]
		}
	}
	return r.row
}

func (r *replay) words(i int, value []byte) string {
	if i >= len(r.columns) || !r.columns[i].binary {
		// Without a description, as when a statement was described before
		// it was run, text is taken for text.
		if utf8.Valid(value) && !control(value) {
			return string(value)
		}
		return `\x` + hex.EncodeToString(value)
	}
	return binaryWords(r.types, r.columns[i].oid, value)
}

// control reports bytes that text from PostgreSQL does not have.
func control(b []byte) bool {
	for _, c := range b {
		if c == 0 {
			return true
		}
	}
	return false
}

// binaryWords puts a value in the binary format of a type in words: as PostgreSQL
// would in the text format, or in hexadecimal for types that are not known.
func binaryWords(types *pgtype.Map, oid uint32, value []byte) string {
	switch oid {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID, pgtype.JSONOID, pgtype.UnknownOID:
		if utf8.Valid(value) {
			return string(value)
		}
	case pgtype.BoolOID:
		if len(value) == 1 {
			return strconv.FormatBool(value[0] != 0)
		}
	}
	if t, ok := types.TypeForOID(oid); ok && oid != pgtype.ByteaOID {
		if v, err := t.Codec.DecodeValue(types, oid, pgtype.BinaryFormatCode, value); err == nil {
			if text, err := types.Encode(oid, pgtype.TextFormatCode, v, nil); err == nil {
				return string(text)
			}
		}
	}
	return `\x` + hex.EncodeToString(value)
}
