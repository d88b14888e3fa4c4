package git

import (
	"errors"
	"fmt"
	"io"
	"strings"

	custos "github.com/custos-gateway/custos"
	web "github.com/custos-gateway/custos/protocol/http"
)

// Render shows the recorded answer of an operation: what git printed, the
// state of each ref, lists of refs, and of packs how long they were.
func Render(o *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	w := web.NewRecords(records)
	r := &replay{wire: w, in: newPktReader(w), emit: emit}
	head, err := web.ReadHead(r.in.r)
	if err != nil {
		return ignoreCut(err)
	}
	switch {
	case !strings.HasPrefix(head.Media, "application/x-git-"):
		err = r.text(head.Status)
	default:
		err = r.packets(o)
	}
	if err := ignoreCut(err); err != nil {
		return err
	}
	if r.bytes > 0 {
		if err := r.emit(&custos.Event{At: w.At(), Text: fmt.Sprintf("(a pack of %d bytes)\n", r.bytes)}); err != nil {
			return err
		}
	}
	return r.emit(&custos.Event{At: w.At(), Tag: head.Status})
}

type replay struct {
	wire  *web.Records
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

// text shows an answer that is no packets: of LFS, or an error.
func (r *replay) text(status string) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.in.r.Read(buf)
		if n > 0 {
			e := custos.Event{At: r.wire.At(), Text: strings.ToValidUTF8(string(buf[:n]), "\uFFFD")}
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
		e := custos.Event{At: r.wire.At()}
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
