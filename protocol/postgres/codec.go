package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	custos "github.com/custos-gateway/custos"
)

// Limits of the protocol itself, in bytes, from PostgreSQL's source.
const (
	// startupLimit is MAX_STARTUP_PACKET_LENGTH (libpq/pqcomm.h).
	startupLimit = 10_000
	// smallLimit is PQ_SMALL_MESSAGE_LIMIT (libpq/libpq.h).
	smallLimit = 10_000
	// largeLimit is PQ_LARGE_MESSAGE_LIMIT: MaxAllocSize-1 (utils/memutils.h).
	largeLimit = 0x3fffffff - 1
	// cancelKeyLimit is the longest key of a CancelRequest in protocol 3.2.
	cancelKeyLimit = 256
)

// Limits bounds what a client can make the gateway hold. Zero fields take the
// default.
type Limits struct {
	// PreAuth is how many connections may be open that have not yet logged
	// in; 1,000.
	PreAuth int
	// Password is the longest password message, in bytes; 128 KiB.
	Password int
	// Message is the longest message of a session, and with its statement's
	// text the longest operation, in bytes; 15 MiB, as the ledger keeps no
	// more than 16 MiB beside an entry. A longer message is refused and
	// skipped as it arrives, without being held.
	Message int
	// Statements is how many named statements and portals a session may have
	// defined at a time; 10,000.
	Statements int
	// StatementBytes bounds their texts and parameters; 16 MiB.
	StatementBytes int
}

func (l *Limits) fill() {
	set := func(v *int, standard int) {
		if *v <= 0 {
			*v = standard
		}
	}
	set(&l.PreAuth, 1000)
	set(&l.Password, 128<<10)
	set(&l.Message, 15<<20)
	set(&l.Statements, 10_000)
	set(&l.StatementBytes, 16<<20)
	l.Message = min(l.Message, largeLimit)
}

// The sizes of a session's buffers: small while it is quiet, large while it
// has much to move.
const (
	quietBuffer = 8 << 10
	busyBuffer  = 64 << 10
)

var busyBuffers = sync.Pool{New: func() any { b := make([]byte, busyBuffer); return &b }}

// buffer reads frames from one side. What it holds is r to w.
type buffer struct {
	src  io.Reader
	buf  []byte
	r, w int
}

func newBuffer(src io.Reader) buffer { return buffer{src: src, buf: make([]byte, quietBuffer)} }

// held returns what was read and not yet consumed. It is valid until fill.
func (b *buffer) held() []byte { return b.buf[b.r:b.w] }

// room reports whether n bytes from r on fit without moving what is held.
func (b *buffer) room(n int) bool { return b.r+n <= len(b.buf) }

// fill reads at least one more byte, after making room for n held bytes. What
// held returned before is no longer valid.
func (b *buffer) fill(n int) error {
	b.fit(n)
	return b.read()
}

// read reads at least one more byte, and moves nothing. There must be room.
func (b *buffer) read() error {
	m, err := b.src.Read(b.buf[b.w:])
	b.w += m
	if m > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// fit moves and resizes. A buffer that was filled to its end is too small; one
// that stands empty has done its work.
func (b *buffer) fit(n int) {
	full, empty := b.w == len(b.buf), b.r == b.w
	size := len(b.buf)
	switch {
	case n > busyBuffer:
		size = max(size, n)
	case n > quietBuffer || full:
		size = max(size, busyBuffer)
	}
	if empty && !full && n <= quietBuffer {
		size = quietBuffer
	}
	if size == len(b.buf) {
		if b.r > 0 && (empty || full || !b.room(n)) {
			b.w = copy(b.buf, b.held())
			b.r = 0
		}
		return
	}
	old := b.buf
	switch size {
	case busyBuffer:
		b.buf = *busyBuffers.Get().(*[]byte)
	default:
		b.buf = make([]byte, size)
	}
	b.w = copy(b.buf, old[b.r:b.w])
	b.r = 0
	if len(old) == busyBuffer {
		busyBuffers.Put(&old)
	}
}

// free gives the buffer back.
func (b *buffer) free() {
	if len(b.buf) == busyBuffer {
		busyBuffers.Put(&b.buf)
	}
	b.buf, b.r, b.w = nil, 0, 0
}

// headerSize is a message's type byte and length (section "Message Formats").
const headerSize = 5

// frameSize returns the size of the frame at the start of held, header
// included; 0 when held is too short to tell. A length is refused before it is
// used.
func frameSize(held []byte) (int, error) {
	if len(held) < headerSize {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(held[1:])
	if n < 4 || n > largeLimit {
		return 0, fmt.Errorf("read message %s: its length is %d, want 4 to %d", messageName(held[0]), n, largeLimit)
	}
	return int(n) + 1, nil
}

func messageName(t byte) string {
	if t > ' ' && t < 0x7f {
		return fmt.Sprintf("%q", t)
	}
	return fmt.Sprintf("0x%02x", t)
}

var errMalformed = errors.New("the message ends too early, or too late")

// fields reads the fields of a message's body, keeping the first error.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) byte() byte {
	if v := f.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (f *fields) int16() int {
	if v := f.take(2); v != nil {
		return int(int16(binary.BigEndian.Uint16(v)))
	}
	return 0
}

func (f *fields) int32() int {
	if v := f.take(4); v != nil {
		return int(int32(binary.BigEndian.Uint32(v)))
	}
	return 0
}

// text reads a string and its NUL.
func (f *fields) text() []byte {
	i := bytes.IndexByte(f.b, 0)
	if i < 0 {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:i]
	f.b = f.b[i+1:]
	return v
}

// end reports whether all was there and nothing is left.
func (f *fields) end() error {
	if f.bad || len(f.b) > 0 {
		return errMalformed
	}
	return nil
}

// parseFields are those of a Parse message.
type parseFields struct {
	name, text []byte
	types      []byte // 4 bytes each
}

func readParse(body []byte) (m parseFields, err error) {
	f := fields{b: body}
	m.name, m.text = f.text(), f.text()
	n := f.int16()
	m.types = f.take(4 * n)
	return m, f.end()
}

// readBind reads a Bind message. It appends its parameters to params; they and
// the format codes of the answer's columns refer to body.
func readBind(body []byte, params []custos.Param) (_ []custos.Param, results []byte, err error) {
	f := fields{b: body}
	f.text()
	f.text()
	formats := f.take(2 * f.int16())
	n := f.int16()
	if f.bad || n < 0 || len(formats) > 2 && len(formats) != 2*n || len(f.b) < 4*n {
		return params, nil, errMalformed
	}
	for i := range n {
		var p custos.Param
		switch len(formats) {
		case 0:
		case 2:
			p.Binary = formats[1] != 0
		default:
			p.Binary = formats[2*i+1] != 0
		}
		if size := f.int32(); size < 0 {
			p.Null = true
			f.bad = f.bad || size != -1
		} else {
			p.Value = f.take(size)
		}
		params = append(params, p)
	}
	results = f.take(2 * f.int16())
	return params, results, f.end()
}

// readNamed reads a Describe or Close message.
func readNamed(body []byte) (kind byte, name []byte, err error) {
	f := fields{b: body}
	kind, name = f.byte(), f.text()
	if kind != 'S' && kind != 'P' {
		f.bad = true
	}
	return kind, name, f.end()
}

// readExecute reads an Execute message. rows is the limit; 0: none.
func readExecute(body []byte) (portal []byte, rows int, err error) {
	f := fields{b: body}
	portal, rows = f.text(), f.int32()
	return portal, rows, f.end()
}

// readQuery reads a Query message: exactly one string.
func readQuery(body []byte) (text []byte, err error) {
	f := fields{b: body}
	text = f.text()
	return text, f.end()
}

// errorCode finds the SQLSTATE in the body of an ErrorResponse.
func errorCode(body []byte) string { return errorField(body, 'C') }

// errorField finds a field of an ErrorResponse or NoticeResponse (section
// "Error and Notice Message Fields").
func errorField(body []byte, want byte) string {
	f := fields{b: body}
	for {
		t := f.byte()
		if t == 0 {
			return ""
		}
		if v := f.text(); t == want {
			return string(v)
		}
	}
}

// tagRows reads the count at the end of a command's tag, such as "INSERT 0 5"
// (section "Message Formats", CommandComplete).
func tagRows(body []byte) (rows int64, counted bool) {
	body = bytes.TrimSuffix(body, []byte{0})
	i := bytes.LastIndexByte(body, ' ') + 1
	if i == 0 || i == len(body) || len(body)-i > 18 {
		return 0, false
	}
	for _, c := range body[i:] {
		if c < '0' || c > '9' {
			return 0, false
		}
		rows = 10*rows + int64(c-'0')
	}
	return rows, true
}

// begin appends the header of a message; finish sets its length.
func begin(dst []byte, t byte) ([]byte, int) {
	at := len(dst) + 1
	return append(dst, t, 0, 0, 0, 0), at
}

func finish(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(append(dst, s...), 0)
}
