package custos

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Operation is one statement, request, push or tool call, as its protocol
// understood it, before it reaches the target.
type Operation struct {
	// Class is the protocol's own name of the message or request, such as
	// "Query" or "Execute": a row of the protocol's closed table.
	Class string
	// Text is the statement or request in words, complete.
	Text string
	// Params are the values bound to the statement, in order.
	Params []Param
	// Verbs say what it does, such as "SELECT"; empty when unknown.
	Verbs []string
	// Objects are what it touches, such as "public.customers".
	Objects []string
	// Writes reports that it may change the target. Unknown counts as true.
	Writes bool
	// Facts are what more its protocol knows of it; nil: nothing. They are
	// shared by operations that differ in constants only.
	Facts *Facts
}

// Facts are what a protocol knows of an operation before it runs, besides its
// verbs and objects. They never change once made, so that a decision may be
// kept for them. Columns are stored columns of the target, as
// schema.table.column; a column that a view or an inherited table shows is
// also named as the one that it shows.
type Facts struct {
	// Effects are what it does, of the closed list in docs/policy.md, such as
	// "write.unfiltered" or "file".
	Effects []string
	// Columns are the columns that it reads, wherever it does.
	Columns []string
	// Predicates are the columns by which rows are chosen, joined, grouped,
	// ordered or told apart: what an answer says of them without showing them.
	Predicates []string
	// Changed are the columns that it writes.
	Changed []string
	// Copied are the columns whose values it writes into other columns.
	Copied []string
	// Tags are those that the target's own catalogue gives to columns among
	// these, by column.
	Tags map[string][]string
	// Attributes are what else rules may ask of it, by name, of the closed list
	// in docs/policy.md: the method of a request, the namespace of a resource,
	// the files of a push.
	Attributes map[string][]string
	// Fingerprint is the same for operations that differ in constants only.
	Fingerprint string
	// Unknown says, in words, what could not be known; empty: nothing.
	Unknown []string
}

// Param is one bound value, exactly as it was on the wire.
type Param struct {
	// Type is the protocol's number for the value's type; 0 is unspecified.
	Type uint32
	// Binary reports the binary wire format; otherwise Value is text.
	Binary bool
	// Null reports the null value; Value is then empty.
	Null bool
	// Value is the value's bytes.
	Value []byte
}

// AppendSealed appends the part of o that is kept sealed: its class, text and
// parameters. docs/formats/ledger.md specifies the layout.
func (o *Operation) AppendSealed(dst []byte) []byte {
	dst = appendBytes(dst, o.Class)
	dst = appendBytes(dst, o.Text)
	dst = binary.AppendUvarint(dst, uint64(len(o.Params)))
	for i := range o.Params {
		p := &o.Params[i]
		var flags byte
		if p.Binary {
			flags |= 1
		}
		if p.Null {
			flags |= 2
		}
		dst = append(dst, flags)
		dst = binary.AppendUvarint(dst, uint64(p.Type))
		dst = appendBytes(dst, p.Value)
	}
	return dst
}

// ParseSealed reads what AppendSealed wrote.
func ParseSealed(b []byte) (*Operation, error) {
	r := sealedReader{b: b}
	o := &Operation{Class: string(r.bytes()), Text: string(r.bytes())}
	n := r.uvarint()
	if r.err == nil && n > uint64(len(r.b)) {
		r.err = fmt.Errorf("%d parameters in %d bytes", n, len(r.b))
	}
	for i := uint64(0); i < n && r.err == nil; i++ {
		flags := r.byte()
		p := Param{Binary: flags&1 != 0, Null: flags&2 != 0, Type: uint32(r.uvarint())}
		p.Value = append([]byte(nil), r.bytes()...)
		o.Params = append(o.Params, p)
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes after the end", len(r.b))
	}
	if r.err != nil {
		return nil, fmt.Errorf("parse sealed operation: %w", r.err)
	}
	return o, nil
}

func appendBytes[T string | []byte](dst []byte, s T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

var errShort = errors.New("it ends too early")

// sealedReader reads the sealed layout, keeping the first error.
type sealedReader struct {
	b   []byte
	err error
}

func (r *sealedReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *sealedReader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *sealedReader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *sealedReader) fail() {
	if r.err == nil {
		r.err = errShort
	}
	r.b = nil
}
