package postgres

import (
	"bytes"
	"errors"
	"io"
	"testing"

	custos "github.com/custos-gateway/custos"
)

// FuzzBuffer reads frames as a session does, from reads of any size: they are
// those that were written, and what is held stays bounded.
func FuzzBuffer(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x0dselect 1\x00S\x00\x00\x00\x04"), uint16(3))
	f.Add([]byte("Q\xff\xff\xff\xff"), uint16(1))
	f.Add([]byte("d\x00\x00\x40\x00"), uint16(9000))
	f.Fuzz(func(t *testing.T, wire []byte, chunk uint16) {
		b := newBuffer(&chunked{wire, int(chunk)%20000 + 1})
		defer b.free()
		var got []byte
		for {
			held := b.held()
			size, err := frameSize(held)
			if err != nil {
				return
			}
			if size > 0 && size <= len(held) {
				got = append(got, held[:size]...)
				b.r += size
				continue
			}
			if size > 1<<20 {
				break
			}
			if err := b.fill(max(size, headerSize)); err != nil {
				break
			}
			if len(b.buf) > 1<<20+busyBuffer {
				t.Fatalf("%d bytes are held", len(b.buf))
			}
		}
		if !bytes.Equal(append(got, b.held()...), wire[:len(got)+len(b.held())]) {
			t.Fatalf("read %q of %q", got, wire)
		}
	})
}

// chunked gives its bytes in pieces.
type chunked struct {
	b []byte
	n int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.b)
	c.b = c.b[n:]
	return n, nil
}

// FuzzMessages decodes every message of a client's: no panic, and what a
// message is said to hold lies in it.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x00\x01\x00\x02\x00\x00\x00\x01x\xff\xff\xff\xff\x00\x00"))
	f.Add([]byte("name\x00select $1\x00\x00\x01\x00\x00\x00\x17"))
	f.Add([]byte("Sname\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x07"))
	f.Fuzz(func(t *testing.T, body []byte) {
		params, results, err := readBind(body, nil)
		total := len(results)
		for _, p := range params {
			total += len(p.Value)
		}
		if total > len(body) || err == nil && len(params) > len(body)/4 {
			t.Errorf("%d parameters of %d bytes in %d", len(params), total, len(body))
		}
		if m, err := readParse(body); err == nil && (len(m.types)%4 != 0 || len(m.name)+len(m.text)+len(m.types)+4 != len(body)) {
			t.Errorf("Parse: %+v", m)
		}
		if kind, name, err := readNamed(body); err == nil && (len(name)+2 != len(body) || kind != 'S' && kind != 'P') {
			t.Errorf("named: %c %q", kind, name)
		}
		if name, _, err := readExecute(body); err == nil && len(name)+5 != len(body) {
			t.Errorf("Execute: %q", name)
		}
		if text, err := readQuery(body); err == nil && len(text)+1 != len(body) {
			t.Errorf("Query: %q", text)
		}
		errorCode(body)
		tagRows(body)
		bearerToken(string(body))
		h := &hello{settings: map[string]string{}}
		if h.options(string(body)) == nil {
			for name := range h.settings {
				if !settable[name] {
					t.Errorf("an option has set %q", name)
				}
			}
		}
	})
}

// FuzzRender shows whatever may be on record, and ends.
func FuzzRender(f *testing.F) {
	f.Add([]byte("\x05\x11T\x00\x00\x00\x1f\x00\x01a\x00"))
	f.Add([]byte("\x00\x0bC\x00\x00\x00\x0aSELECT\x00"))
	f.Fuzz(func(t *testing.T, records []byte) {
		stop := errors.New("enough")
		events := 0
		err := Render(nil, bytes.NewReader(records), func(*custos.Event) error {
			if events++; events > len(records) {
				return stop
			}
			return nil
		})
		if errors.Is(err, stop) {
			t.Errorf("%d events from %d bytes", events, len(records))
		}
	})
}
