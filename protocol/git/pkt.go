package git

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxPkt is the longest pkt-line with its length, in bytes (gitprotocol-common(5):
// 65516 of data; git itself takes 65520 in all).
const maxPkt = 65520

// The packets that hold no data (gitprotocol-v2(5), "Packet-Line Framing").
const (
	pktData = iota
	pktFlush
	pktDelim
	pktResponseEnd
)

// pktReader reads pkt-lines (gitprotocol-common(5)).
type pktReader struct {
	r   *bufio.Reader
	buf []byte
}

func newPktReader(r io.Reader) *pktReader {
	return &pktReader{r: bufio.NewReaderSize(r, 64<<10)}
}

var errPkt = errors.New("it is no pkt-line")

// next returns the next packet: its sort, and its data until the next call.
// io.EOF: there is none.
func (p *pktReader) next() (sort int, data []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:1]); err != nil {
		return 0, nil, err
	}
	if _, err := io.ReadFull(p.r, head[1:]); err != nil {
		return 0, nil, fmt.Errorf("read pkt-line: %w", io.ErrUnexpectedEOF)
	}
	n := 0
	for _, c := range head {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | int(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		case 'A' <= c && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return 0, nil, fmt.Errorf("read pkt-line %q: %w", head, errPkt)
		}
	}
	switch {
	case n < 3:
		return pktFlush + n, nil, nil
	case n == 3, n > maxPkt:
		return 0, nil, fmt.Errorf("read pkt-line %q: %w", head, errPkt)
	}
	if cap(p.buf) < n-4 {
		p.buf = make([]byte, max(n-4, 1024))
	}
	data = p.buf[:n-4]
	if _, err := io.ReadFull(p.r, data); err != nil {
		return 0, nil, fmt.Errorf("read pkt-line: %w", io.ErrUnexpectedEOF)
	}
	return pktData, data, nil
}

// line returns the next packet, a line's end cut off.
func (p *pktReader) line() (sort int, line []byte, err error) {
	sort, line, err = p.next()
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	return sort, line, err
}

const hexDigits = "0123456789abcdef"

// appendPkt appends data as one pkt-line. It is at most maxPkt-4 long.
func appendPkt[T string | []byte](dst []byte, data T) []byte {
	n := len(data) + 4
	dst = append(dst, hexDigits[n>>12&15], hexDigits[n>>8&15], hexDigits[n>>4&15], hexDigits[n&15])
	return append(dst, data...)
}

// The packets without data, as they are written.
const (
	flushPkt = "0000"
	delimPkt = "0001"
)

// The bands of side-band-64k (gitprotocol-pack(5), "Packfile Data").
const (
	bandData     = 1
	bandProgress = 2
	bandError    = 3
)

// appendBand appends data in packets of a band, none longer than limit.
func appendBand[T string | []byte](dst []byte, band byte, data T, limit int) []byte {
	for {
		n := min(len(data), limit-5)
		dst = appendPkt(dst, append([]byte{band}, data[:n]...))
		if data = data[n:]; len(data) == 0 {
			return dst
		}
	}
}
