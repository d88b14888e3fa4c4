package kubernetes

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/moby/spdystream/spdy"
)

// spdyFrames is SPDY/3.1 (https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/),
// of which exec and attach use a stream for each channel.
type spdyFrames struct {
	r        *bufio.Reader
	frame    bytes.Buffer // the frame that is being read
	framer   *spdy.Framer
	channels *channels
}

// channels are what the streams of a line are for. The client opens them; both
// directions use them.
type channels struct {
	mu sync.Mutex // guards of
	of map[uint32]int
}

func (c *channels) get(stream uint32) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if channel, ok := c.of[stream]; ok {
		return channel
	}
	return channelOther
}

func (c *channels) set(stream uint32, channel int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[stream] = channel
	return len(c.of) <= maxStreams
}

// stream is the one for a channel.
func (c *channels) stream(channel int) (uint32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, ch := range c.of {
		if ch == channel {
			return id, true
		}
	}
	return 0, false
}

// frameSPDY is a frame of data on a stream.
func frameSPDY(stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, stream)
	b = append(b, 0, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)))
	return append(b, payload...)
}

// maxStreams bounds the streams of one line.
const maxStreams = 64

func newSPDY(r *bufio.Reader, c *channels) framing {
	s := &spdyFrames{r: r, channels: c}
	framer, err := spdy.NewFramer(io.Discard, &s.frame)
	if err != nil {
		return broken{err}
	}
	s.framer = framer
	return s
}

type broken struct{ err error }

func (b broken) next() (piece, error) { return piece{}, b.err }

// channelNames are what a stream is for: its header "streamType".
var channelNames = map[string]int{"stdin": channelIn, "stdout": channelOut, "stderr": channelErr, "error": channelStatus, "resize": channelResize}

func (s *spdyFrames) next() (piece, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(s.r, head); err != nil {
		return piece{}, err
	}
	size := int(head[5])<<16 | int(head[6])<<8 | int(head[7])
	if size > maxFrame {
		return piece{}, errFrame
	}
	raw := make([]byte, 8+size)
	copy(raw, head)
	if _, err := io.ReadFull(s.r, raw[8:]); err != nil {
		return piece{}, io.ErrUnexpectedEOF
	}
	if head[0]&0x80 == 0 {
		stream := binary.BigEndian.Uint32(head)
		return piece{raw: raw, channel: s.channels.get(stream), stream: stream, payload: raw[8:], at: 8, last: head[4]&1 != 0}, nil
	}
	return piece{raw: raw, channel: channelOther, payload: nil, at: -1}, s.control(raw)
}

// control keeps what streams are for. Every header goes through the reader,
// for they are packed one with the other.
func (s *spdyFrames) control(raw []byte) error {
	kind := binary.BigEndian.Uint16(raw[2:])
	if kind != uint16(spdy.TypeSynStream) && kind != uint16(spdy.TypeSynReply) && kind != uint16(spdy.TypeHeaders) {
		return nil
	}
	s.frame.Reset()
	s.frame.Write(raw)
	f, err := s.framer.ReadFrame()
	if err != nil {
		return errFrame
	}
	syn, ok := f.(*spdy.SynStreamFrame)
	if !ok {
		return nil
	}
	channel, ok := channelNames[strings.ToLower(http.Header(syn.Headers).Get("streamType"))]
	if !ok {
		channel = channelOther
	}
	if !s.channels.set(uint32(syn.StreamId), channel) {
		return errFrame
	}
	return nil
}
