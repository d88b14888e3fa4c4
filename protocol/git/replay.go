package git

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// recorded joins records to the stream of bytes that they were cut from, and knows
// when each byte came.
type recorded struct {
	in   *bufio.Reader
	left uint64 // of the record
	at   int64
}

func (w *recorded) Read(p []byte) (int, error) {
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

// Render shows the recorded answer of an operation: what git printed, the
// state of each ref, lists of refs, and of packs how long they were.
func Render(o *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	w := &recorded{in: bufio.NewReaderSize(records, 32<<10)}
	r := &replay{wire: w, in: newPktReader(w), emit: emit}
	status, contentType, err := r.head()
	if err != nil {
		return ignoreCut(err)
	}
	switch {
	case !strings.HasPrefix(contentType, "application/x-git-"):
		err = r.text(status)
	default:
		err = r.packets(o)
	}
	if err := ignoreCut(err); err != nil {
		return err
	}
	if r.bytes > 0 {
		if err := r.emit(&custos.Event{At: w.at, Text: fmt.Sprintf("(a pack of %d bytes)\n", r.bytes)}); err != nil {
			return err
		}
	}
	return r.emit(&custos.Event{At: w.at, Tag: status})
}

type replay struct {
	wire  *recorded
	in    *pktReader
	emit  func(*custos.Event) error
	bytes int64 // of a pack
}

// ignoreCut tells an answer that ends early, which is as it was, from a damaged
// one.
func ignoreCut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// head reads the head that answering.begin has recorded.
func (r *replay) head() (status, contentType string, err error) {
	for {
		line, err := r.in.r.ReadSlice('\n')
		if err != nil {
			return "", "", fmt.Errorf("show answer: %w", err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			return status, contentType, nil
		}
		if status == "" {
			_, status, _ = strings.Cut(text, " ")
		}
		if value, ok := strings.CutPrefix(text, "Content-Type: "); ok {
			contentType = value
		}
	}
}

// text shows an answer that is no packets: of LFS, or an error.
func (r *replay) text(status string) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.in.r.Read(buf)
		if n > 0 {
			e := custos.Event{At: r.wire.at, Text: strings.ToValidUTF8(string(buf[:n]), "\uFFFD")}
			if !strings.HasPrefix(status, "2") {
				e.Error, e.Text = strings.TrimSpace(e.Text), ""
			}
			if err := r.emit(&e); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// packets shows an answer packet by packet.
func (r *replay) packets(o *custos.Operation) error {
	for {
		sort, data, err := r.in.next()
		if errors.Is(err, errPkt) {
			// A pack outside of packets: of the oldest clients.
			n, err := io.Copy(io.Discard, r.in.r)
			r.bytes += n
			return err
		}
		if err != nil {
			return err
		}
		if sort != pktData || len(data) == 0 {
			continue
		}
		e := custos.Event{At: r.wire.at}
		switch band := data[0]; {
		case band == bandProgress:
			e.Notice = strings.TrimSpace(strings.ToValidUTF8(string(data[1:]), "\uFFFD"))
		case band == bandError:
			e.Error = strings.TrimSpace(strings.ToValidUTF8(string(data[1:]), "\uFFFD"))
		case band == bandData && o.Class == classPush:
			e.Text = report(data[1:])
		case band == bandData:
			r.bytes += int64(len(data) - 1)
		case strings.HasPrefix(string(data), "ERR "):
			e.Error = strings.TrimSpace(string(data[4:]))
		default:
			e.Text = strings.TrimRight(strings.ToValidUTF8(strings.ReplaceAll(string(data), "\x00", " "), "\uFFFD"), "\n") + "\n"
		}
		if e.Notice == "" && e.Error == "" && e.Text == "" {
			continue
		}
		if err := r.emit(&e); err != nil {
			return err
		}
	}
}

// report is the state of refs in words.
func report(status []byte) string {
	var b strings.Builder
	in := newPktReader(strings.NewReader(string(status)))
	for {
		sort, line, err := in.line()
		if err != nil || sort != pktData {
			return b.String()
		}
		b.WriteString(strings.ToValidUTF8(string(line), "\uFFFD") + "\n")
	}
}
