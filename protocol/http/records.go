package http

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
)

// Records joins the records of an answer to the stream of bytes that they were
// cut from, and knows when each byte came.
type Records struct {
	in   *bufio.Reader
	left uint64 // of the record
	at   int64
}

// NewRecords reads an answer's plaintext (docs/formats/ledger.md).
func NewRecords(r io.Reader) *Records { return &Records{in: bufio.NewReaderSize(r, 32<<10)} }

// At is when what was read last came, in microseconds since the operation was
// submitted.
func (w *Records) At() int64 { return w.at }

func (w *Records) Read(p []byte) (int, error) {
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

// AppendHead appends an answer's head as it is recorded: of the header the
// fields that are named, and in that order.
func AppendHead(dst []byte, status int, header http.Header, names []string) []byte {
	dst = fmt.Appendf(dst, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, name := range names {
		for _, v := range header[name] {
			dst = fmt.Appendf(dst, "%s: %s\r\n", name, v)
		}
	}
	return append(dst, "\r\n"...)
}

// Head is the head of a recorded answer.
type Head struct {
	// Status is the code and its words, Media the type of the body.
	Status, Media string
}

// ReadHead reads what AppendHead wrote. r must hold a line of it at a time.
func ReadHead(r *bufio.Reader) (*Head, error) {
	h := &Head{}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("show answer: %w", err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		switch value, ok := strings.CutPrefix(text, "Content-Type: "); {
		case text == "":
			return h, nil
		case h.Status == "":
			_, h.Status, _ = strings.Cut(text, " ")
		case ok:
			h.Media, _, _ = mime.ParseMediaType(value)
		}
	}
}
