package kubernetes

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// The subprotocols of WebSocket that are looked into
// (k8s.io/apimachinery, pkg/util/remotecommand), and the one that carries SPDY
// for port-forward.
var knownSubprotocols = []string{"v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", tunnelled}

const tunnelled = "SPDY/3.1+portforward.k8s.io"

// subprotocols are those that a client offers and that are known.
func subprotocols(header http.Header) []string {
	var known []string
	for p := range strings.SplitSeq(strings.Join(header.Values("Sec-Websocket-Protocol"), ","), ",") {
		if p = strings.TrimSpace(p); slices.Contains(knownSubprotocols, p) {
			known = append(known, p)
		}
	}
	return known
}

// The channels of exec and attach: the first byte of a message of WebSocket, and
// here also what a stream of SPDY is for.
const (
	channelIn     = 0
	channelOut    = 1
	channelErr    = 2
	channelStatus = 3
	channelResize = 4
	channelOther  = 255
)

// piece is one frame of the line, and what it means.
type piece struct {
	raw     []byte // the frame as it came
	channel int
	payload []byte // what it carries, in the clear
	at      int    // where payload begins in raw, when it is there as it is; else -1
	stream  uint32 // of SPDY
	last    bool   // the channel ends with it
}

// framing cuts frames out of one direction of a line.
type framing interface{ next() (piece, error) }

// maxFrame bounds, in bytes, one frame.
const maxFrame = 1 << 20

var errFrame = errors.New("read line: a frame is malformed or too long")

// upgrade carries a line whose change of protocols the API server has agreed
// to: everything on it is on record before it goes on.
func (x *exchange) upgrade(p *gate.Permit, plan *plan, resp *http.Response) {
	target, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		x.broken(p, custos.StateInterrupted, errors.New("the line cannot be written to"))
		return
	}
	defer target.Close()
	if plan.find != nil && (x.target.subresource == "portforward" || x.target.subresource == "proxy") {
		x.opaque(p, errors.New("hide answer: a rule hides values, and what goes through such a line cannot be looked into"))
		return
	}
	head := http.Header{}
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Accept", "Sec-Websocket-Protocol", "X-Stream-Protocol-Version"} {
		if v := resp.Header.Values(name); len(v) > 0 {
			head[name] = v
		}
	}
	if err := p.Answer(web.AppendHead(nil, resp.StatusCode, head, recordedHeader)); err != nil {
		x.broken(p, custos.StateInterrupted, err)
		return
	}
	client, rw, err := x.control.Hijack()
	if err != nil {
		x.broken(p, custos.StateInterrupted, err)
		return
	}
	defer client.Close()
	head.Set("Custos-Session", string(x.session.ID()))
	head.Set("Custos-Entry", fmt.Sprint(p.Entry()))
	if err := writeHead(client, resp.StatusCode, head); err != nil {
		x.settle(p, gate.Outcome{State: custos.StateInterrupted})
		return
	}
	l := &line{x: x, permit: p, plan: plan, client: client, target: target, spdy: strings.EqualFold(head.Get("Upgrade"), "spdy/3.1"), channels: &channels{of: map[uint32]int{}}}
	l.typed.begin(x.target)
	l.carry(rw.Reader)
}

func writeHead(w io.Writer, status int, h http.Header) error {
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for name, values := range h {
		for _, v := range values {
			b = fmt.Appendf(b, "%s: %s\r\n", name, v)
		}
	}
	_, err := w.Write(append(b, "\r\n"...))
	return err
}

// line is one that stands after a change of protocols.
type line struct {
	x      *exchange
	permit *gate.Permit
	plan   *plan
	client net.Conn
	target io.ReadWriteCloser
	spdy   bool
	// channels are of SPDY.
	channels *channels
	typed    typed
	sending  sync.Mutex // one frame at a time goes to the client
	hidden   int64
}

// carry carries both ways until one ends, and puts the outcome on record.
func (l *line) carry(client *bufio.Reader) {
	ctx := l.x.session.Context()
	stop := context.AfterFunc(ctx, func() { l.client.Close(); l.target.Close() })
	defer stop()
	in, out := make(chan error, 1), make(chan error, 1)
	go func() { in <- l.fromClient(client) }()
	go func() { out <- l.fromTarget() }()
	o := gate.Outcome{State: custos.StateOK, Code: "101"}
	var err error
	select {
	case err = <-out:
		// What came is with the client; it may have something to say still.
		l.client.Close()
		<-in
	case err = <-in:
		l.target.Close()
		<-out
		l.client.Close()
	}
	var refused *custos.Refusal
	if errors.As(err, &refused) || ctx.Err() != nil {
		o.State = custos.StateInterrupted
	}
	o.Masked = l.hidden
	l.x.settle(l.permit, o)
}

// looked reports whether what goes over the line is looked into.
func (l *line) looked() bool {
	return l.x.target.subresource == "exec" || l.x.target.subresource == "attach"
}

// fromClient judges and records what the client sends, and passes it on.
func (l *line) fromClient(r *bufio.Reader) error {
	if !l.looked() {
		return l.raw(r, func(b []byte) error { _, err := l.target.Write(b); return err })
	}
	f := l.framing(r, true)
	for {
		p, err := f.next()
		if err != nil {
			return ended(err)
		}
		frames := [][]byte{p.raw}
		if p.channel == channelIn || p.last {
			if frames, err = l.typed.judge(l, &p); err != nil {
				l.tell(err)
				return err
			}
		}
		for _, frame := range frames {
			if _, err := l.target.Write(frame); err != nil { // Input: recorded first
				return ended(err)
			}
		}
	}
}

// fromTarget hides and records what the target sends, and passes it on.
func (l *line) fromTarget() error {
	if !l.looked() {
		return l.raw(l.target, func(b []byte) error { return l.pass(b, b) })
	}
	f := l.framing(bufio.NewReaderSize(l.target, 32<<10), false)
	for {
		p, err := f.next()
		if err != nil {
			return ended(err)
		}
		seen, b := p.payload, p.raw
		if l.plan.find != nil && (p.channel == channelOut || p.channel == channelErr) && p.at >= 0 {
			if hidden, n := l.plan.find.Append(nil, p.payload); n > 0 {
				l.hidden += int64(n)
				seen, b = hidden, reframe(p, hidden, l.spdy)
			}
		}
		if p.channel == channelOther {
			seen = p.raw
		}
		if err := l.pass(frameWebSocket(byte(p.channel), seen), b); err != nil {
			return ended(err)
		}
	}
}

// pass records what the client is about to see, and sends it. What exec and
// attach show is recorded in one form, messages of WebSocket with a channel
// each, whichever the line has.
func (l *line) pass(recorded, b []byte) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	if err := l.permit.Answer(recorded); err != nil {
		return err
	}
	_, err := l.client.Write(b)
	return err
}

func (l *line) raw(r io.Reader, pass func([]byte) error) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if e := pass(buf[:n]); e != nil {
				return ended(e)
			}
		}
		if err != nil {
			return ended(err)
		}
	}
}

// ended is nil for the ends of lines that are as they should be.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

func (l *line) framing(r *bufio.Reader, fromClient bool) framing {
	if l.spdy {
		return newSPDY(r, l.channels)
	}
	return &webSocket{r: r, masked: fromClient}
}

// tell says to the client, between what it is shown, why the line ends.
func (l *line) tell(err error) {
	text := []byte("\r\n" + told(asRefusal(err)) + "\r\n")
	for _, channel := range []int{channelErr, channelOut} {
		b := frameWebSocket(byte(channel), text)
		recorded := b
		if l.spdy {
			stream, ok := l.channels.stream(channel)
			if !ok {
				continue
			}
			b = frameSPDY(stream, text)
		}
		if err := l.pass(recorded, b); err != nil {
			l.x.log.Warn("tell client", "entry", l.permit.Entry(), "cause", err)
		}
		return
	}
}

// webSocket is RFC 6455, section 5.
type webSocket struct {
	r       *bufio.Reader
	masked  bool // a client's frames are
	buf     []byte
	channel int // of the message that goes on
}

func (w *webSocket) next() (piece, error) {
	head := make([]byte, 2, 14)
	if _, err := io.ReadFull(w.r, head); err != nil {
		return piece{}, err
	}
	fin, code, masked, size := head[0]&0x80 != 0, head[0]&0x0f, head[1]&0x80 != 0, uint64(head[1]&0x7f)
	if head[0]&0x70 != 0 || masked != w.masked {
		return piece{}, errFrame // an extension that nobody agreed to
	}
	more := map[uint64]int{126: 2, 127: 8}[size]
	if masked {
		more += 4
	}
	head = head[:2+more]
	if _, err := io.ReadFull(w.r, head[2:]); err != nil {
		return piece{}, io.ErrUnexpectedEOF
	}
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		size = binary.BigEndian.Uint64(head[2:])
	}
	if size > maxFrame || code >= 8 && (size > 125 || !fin) {
		return piece{}, errFrame
	}
	w.buf = append(w.buf[:0], head...)
	w.buf = append(w.buf, make([]byte, size)...)
	body := w.buf[len(head):]
	if _, err := io.ReadFull(w.r, body); err != nil {
		return piece{}, io.ErrUnexpectedEOF
	}
	return w.read(piece{raw: w.buf, at: len(head)}, code, fin, head, body)
}

func (w *webSocket) read(p piece, code byte, fin bool, head, body []byte) (piece, error) {
	p.channel, p.payload = channelOther, body
	if w.masked {
		key := head[len(head)-4:]
		p.payload = make([]byte, len(body))
		for i := range body {
			p.payload[i] = body[i] ^ key[i%4]
		}
	}
	switch {
	case code >= 8: // close, ping, pong
		return p, nil
	case code == 0 && w.channel < 0, code > 2:
		return p, errFrame
	case code != 0:
		if len(p.payload) == 0 {
			w.channel = channelOther
			return p, nil
		}
		w.channel = int(p.payload[0])
		p.payload, p.at = p.payload[1:], p.at+1
		if w.channel == channelOther && len(p.payload) == 1 && w.masked {
			// v5: this channel says which other one ends.
			p.last = p.payload[0] == channelIn
		}
	}
	p.channel = w.channel
	if !fin || code == 0 {
		p.at = -1 // a part of a message is passed on as it is
	}
	return p, nil
}

// asClient makes of a frame one that a client sends: masked, by nothing.
func asClient(b []byte) []byte {
	head := 2 + map[byte]int{126: 2, 127: 8}[b[1]]
	out := append([]byte(nil), b[:head]...)
	out[1] |= 0x80
	return append(append(out, 0, 0, 0, 0), b[head:]...)
}

// frameWebSocket is a message of a channel, as a server sends it.
func frameWebSocket(channel byte, payload []byte) []byte {
	b := []byte{0x82}
	switch n := len(payload) + 1; {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(append(b, channel), payload...)
}

// reframe is p with another payload.
func reframe(p piece, payload []byte, spdy bool) []byte {
	if !spdy {
		return frameWebSocket(byte(p.channel), payload)
	}
	b := append([]byte(nil), p.raw[:8]...)
	b[5], b[6], b[7] = byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload))
	return append(b, payload...)
}
