package kubernetes

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	custos "github.com/custos-gateway/custos"
	web "github.com/custos-gateway/custos/protocol/http"
)

// maxHead bounds, in bytes, a line of a recorded head.
const maxHead = 16 << 10

// Render shows the recorded answer of an operation: what kubectl shows as a
// table as a table, what a terminal showed as it came, other answers as text.
func Render(o *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	w := web.NewRecords(records)
	r := &replay{wire: w, in: bufio.NewReaderSize(w, maxHead), emit: emit}
	head, err := web.ReadHead(r.in)
	if err == nil {
		r.status, r.media = head.Status, head.Media
		r.code, _, _ = strings.Cut(r.status, " ")
	}
	switch {
	case err != nil:
	case r.code == "101" && o.Class == classConnect && r.terminal(o):
		err = r.frames()
	case r.code == "101":
		err = r.count()
	case r.media == typeJSON:
		err = r.json()
	case r.media == typeProtobuf:
		err = r.count()
	default:
		err = r.text()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // an answer that was cut short is shown as far as it goes
	}
	if err != nil || r.status == "" {
		return err
	}
	return r.emit(&custos.Event{At: w.At(), Tag: r.status})
}

type replay struct {
	wire                *web.Records
	in                  *bufio.Reader
	emit                func(*custos.Event) error
	status, code, media string
}

// terminal reports whether an operation opens one.
func (r *replay) terminal(o *custos.Operation) bool {
	_, path, _ := strings.Cut(o.Text, " ")
	path, _, _ = strings.Cut(path, "?")
	path, _, _ = strings.Cut(path, " ")
	return strings.HasSuffix(path, "/exec") || strings.HasSuffix(path, "/attach")
}

// frames shows what exec and attach put out.
func (r *replay) frames() error {
	f := &webSocket{r: r.in}
	for {
		p, err := f.next()
		if err != nil {
			return err
		}
		e := custos.Event{At: r.wire.At()}
		text := strings.ToValidUTF8(string(p.payload), "\uFFFD")
		switch p.channel {
		case channelOut:
			e.Text = text
		case channelErr:
			e.Notice = text
		case channelStatus:
			var s status
			if json.Unmarshal(p.payload, &s) != nil || s.Status == "Success" {
				continue
			}
			e.Error = s.Message
		default:
			continue
		}
		if text == "" {
			continue
		}
		if err := r.emit(&e); err != nil {
			return err
		}
	}
}

// count says how long what is not looked into was.
func (r *replay) count() error {
	n, err := io.Copy(io.Discard, r.in)
	if e := r.emit(&custos.Event{At: r.wire.At(), Text: fmt.Sprintf("(%d bytes)\n", n)}); e != nil {
		return e
	}
	return err
}

// text shows an answer as it came.
func (r *replay) text() error {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.in.Read(buf)
		if n > 0 {
			e := custos.Event{At: r.wire.At(), Text: strings.ToValidUTF8(string(buf[:n]), "\uFFFD")}
			if err := r.emit(&e); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// table is a Table of the API's (meta/v1), or a Status, or an event of a watch
// with one of them.
type table struct {
	Kind              string
	Message, Status   string
	Type              string
	Object            json.RawMessage
	ColumnDefinitions []struct{ Name string }
	Rows              []struct{ Cells []any }
}

// json shows an answer in JSON: tables as such.
func (r *replay) json() error {
	d := json.NewDecoder(io.LimitReader(r.in, maxWhole))
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return err
			}
			return r.emit(&custos.Event{At: r.wire.At(), Notice: "the rest is not shown: it is no JSON, or too long"})
		}
		if err := r.value(raw, ""); err != nil {
			return err
		}
	}
}

func (r *replay) value(raw json.RawMessage, change string) error {
	var t table
	if json.Unmarshal(raw, &t) != nil {
		t = table{}
	}
	switch {
	case t.Type != "" && len(t.Object) > 0 && change == "":
		return r.value(t.Object, t.Type)
	case t.Kind == "Status" && t.Status == "Failure":
		return r.emit(&custos.Event{At: r.wire.At(), Error: t.Message})
	case t.Kind == "Table":
		return r.rows(&t)
	}
	text := string(raw) + "\n"
	if change != "" {
		text = change + " " + text
	}
	return r.emit(&custos.Event{At: r.wire.At(), Text: text})
}

func (r *replay) rows(t *table) error {
	if len(t.ColumnDefinitions) > 0 {
		e := custos.Event{At: r.wire.At()}
		for _, c := range t.ColumnDefinitions {
			e.Columns = append(e.Columns, c.Name)
		}
		if err := r.emit(&e); err != nil {
			return err
		}
	}
	for _, row := range t.Rows {
		e := custos.Event{At: r.wire.At(), Row: []*string{}}
		for _, cell := range row.Cells {
			var text *string
			if cell != nil {
				s := fmt.Sprint(cell)
				text = &s
			}
			e.Row = append(e.Row, text)
		}
		if err := r.emit(&e); err != nil {
			return err
		}
	}
	return nil
}

var _ custos.Renderer = Render
