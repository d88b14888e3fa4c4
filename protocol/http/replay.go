package http

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// maxHead bounds, in bytes, a line of a recorded head.
const maxHead = 64 << 10

// maxShown bounds, in bytes, an answer that is laid out whole.
const maxShown = 4 << 20

// Render shows the recorded answer of an operation: CSV as a table, JSON laid
// out, messages of a WebSocket as they came, other text as text.
func Render(o *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	w := NewRecords(records)
	in := bufio.NewReaderSize(w, maxHead)
	r := &replay{wire: w, in: in, emit: emit}
	head, err := ReadHead(in)
	if err != nil {
		return uncut(err)
	}
	switch {
	case strings.HasPrefix(head.Status, "101"):
		err = r.frames()
	case head.Media == "text/csv":
		err = r.table()
	case head.Media == "application/json", strings.HasSuffix(head.Media, "+json"):
		err = r.json(head.Status)
	case strings.HasPrefix(head.Media, "text/"), head.Media == "", strings.HasSuffix(head.Media, "+xml"), head.Media == "application/xml",
		head.Media == "application/x-ndjson", head.Media == "application/x-www-form-urlencoded", head.Media == "application/javascript":
		err = r.text(head.Status)
	default:
		err = r.count(head.Media)
	}
	if err = uncut(err); err != nil {
		return err
	}
	return r.emit(&custos.Event{At: w.At(), Tag: head.Status})
}

type replay struct {
	wire *Records
	in   *bufio.Reader
	emit func(*custos.Event) error
}

// uncut is nil for an answer that was cut short: it is shown as far as it goes.
func uncut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// say emits a piece of text; that of a status that is none of success is an
// error.
func (r *replay) say(status, text string) error {
	if text == "" {
		return nil
	}
	e := custos.Event{At: r.wire.At(), Text: strings.ToValidUTF8(text, "\uFFFD")}
	if status != "" && status[0] >= '4' {
		e.Error, e.Text = strings.TrimSpace(e.Text), ""
	}
	return r.emit(&e)
}

func (r *replay) text(status string) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.in.Read(buf)
		if e := r.say(status, string(buf[:n])); e != nil {
			return e
		}
		if err != nil {
			return err
		}
	}
}

// json lays JSON out, where it is whole and not too long.
func (r *replay) json(status string) error {
	b, err := io.ReadAll(io.LimitReader(r.in, maxShown+1))
	if uncut(err) != nil {
		return err
	}
	var laid bytes.Buffer
	if len(b) <= maxShown && json.Indent(&laid, bytes.TrimSpace(b), "", "  ") == nil {
		laid.WriteByte('\n')
		b = laid.Bytes()
	}
	if e := r.say(status, string(b)); e != nil {
		return e
	}
	if len(b) > maxShown {
		return r.text(status)
	}
	return nil
}

func (r *replay) table() error {
	c := csv.NewReader(r.in)
	c.FieldsPerRecord, c.LazyQuotes = -1, true
	for first := true; ; first = false {
		record, err := c.Read()
		if err != nil {
			var malformed *csv.ParseError
			if errors.As(err, &malformed) {
				return r.emit(&custos.Event{At: r.wire.At(), Notice: "the rest is not shown: it is no CSV"})
			}
			return err
		}
		e := custos.Event{At: r.wire.At(), Columns: record}
		if !first {
			e.Columns, e.Row = nil, []*string{}
			for i := range record {
				e.Row = append(e.Row, &record[i])
			}
		}
		if err := r.emit(&e); err != nil {
			return err
		}
	}
}

// count says how long what is not shown was.
func (r *replay) count(media string) error {
	n, err := io.Copy(io.Discard, r.in)
	if n > 0 {
		if e := r.say("", fmt.Sprintf("(%d bytes of %s)\n", n, oneLine(media, 60))); e != nil {
			return e
		}
	}
	return err
}

// frames shows what a WebSocket brought (RFC 6455, section 5.2).
func (r *replay) frames() error {
	for {
		var head [10]byte
		if _, err := io.ReadFull(r.in, head[:2]); err != nil {
			return err
		}
		size := uint64(head[1] & 0x7f)
		more := map[uint64]int{126: 2, 127: 8}[size]
		if _, err := io.ReadFull(r.in, head[2:2+more]); err != nil {
			return err
		}
		switch more {
		case 2:
			size = uint64(binary.BigEndian.Uint16(head[2:]))
		case 8:
			size = binary.BigEndian.Uint64(head[2:])
		}
		if err := r.frame(head[0]&0x0f, size); err != nil {
			return err
		}
	}
}

func (r *replay) frame(code byte, size uint64) error {
	if code > 1 || size > maxShown {
		if _, err := io.CopyN(io.Discard, r.in, int64(size&(1<<62-1))); err != nil {
			return err
		}
		if code > 2 {
			return nil // close, ping, pong
		}
		return r.say("", fmt.Sprintf("(%d bytes)\n", size))
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r.in, b); err != nil {
		return err
	}
	return r.say("", string(b)+"\n")
}

var _ custos.Renderer = Render
