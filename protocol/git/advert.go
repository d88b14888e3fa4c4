package git

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
)

// advertReader passes on what a repository has for a push, and leaves out of
// its capabilities those that the gateway does not take (gitprotocol-http(5), "Discovering
// References").
type advertReader struct {
	r    *pktReader
	left []byte
	caps bool // the line with the capabilities is past
	err  error
}

func newAdvertReader(r io.Reader) *advertReader { return &advertReader{r: newPktReader(r)} }

func (a *advertReader) Read(b []byte) (int, error) {
	for len(a.left) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		a.left, a.err = a.next(a.left[:0])
	}
	n := copy(b, a.left)
	a.left = a.left[n:]
	return n, nil
}

func (a *advertReader) next(dst []byte) ([]byte, error) {
	sort, data, err := a.r.next()
	if err != nil {
		return dst, err
	}
	switch sort {
	case pktData:
	case pktFlush:
		return append(dst, flushPkt...), nil
	default:
		return dst, fmt.Errorf("read upstream's refs: a packet of another version: %w", errUpstream)
	}
	line, caps, found := bytes.Cut(data, []byte{0})
	if !found || a.caps {
		return appendPkt(dst, data), nil
	}
	a.caps = true
	kept := slices.DeleteFunc(strings.Fields(string(caps)), func(word string) bool {
		key, _, _ := strings.Cut(word, "=")
		return !slices.Contains(pushCaps, key) && key != "no-thin" && !strings.HasPrefix(key, "symref")
	})
	return appendPkt(dst, string(line)+"\x00"+strings.Join(kept, " ")+"\n"), nil
}
