package tunnel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// ALPN is the protocol's name in the TLS handshake (RFC 7301). After it the
// agent writes one line that says what it is, the gateway one that admits or
// refuses it, and both speak yamux, the agent as its client. A stream begins
// with a line of words, and the other side's answer, also a line:
//
//	dial HOST:PORT    by the gateway; after "ok" the stream is the target's
//	renew N           by the agent, N bytes of a certificate request after it;
//	                  after "ok M" come M bytes of a certificate
//
// A refusal is "no CODE REASON" instead.
const ALPN = "custos-agent/1"

// Limits of the protocol.
const (
	// Window is how many bytes of one stream may wait at one end of it.
	Window = 512 << 10
	// maxLine bounds a line of words, in bytes.
	maxLine = 1 << 10
	// maxCertificate bounds a certificate and a request for one, in bytes.
	maxCertificate = 16 << 10
	// frame is how much one stream sends before another has its turn, in bytes:
	// with its header, four full TLS records.
	frame = 4*(16<<10) - headerSize
	// backlog is how many streams may be on their way to being opened.
	backlog = 256
)

// Times of the protocol.
const (
	// wordTimeout bounds the exchange of lines, in which nobody has to wait for
	// anything.
	wordTimeout = 10 * time.Second
	// stalled bounds what waits for the other side's machine.
	stalled = 20 * time.Second
)

// pace is how soon a dead line is noticed: the other side is asked for a sign
// of life every pulse, and the line is given up when there is none, or a frame
// cannot be sent, for stalled.
type pace struct{ pulse, stalled time.Duration }

var usual = pace{5 * time.Second, 15 * time.Second}

// The codes of a refusal.
const (
	codeUnknown     = "unknown"     // the gateway does not know this agent (any more)
	codeBusy        = "busy"        // there is no room now
	codeForbidden   = "forbidden"   // the agent's allowlist does not have the target
	codeUnreachable = "unreachable" // the target did not answer
	codeProtocol    = "protocol"    // something else was to be said
)

// refusal is the other side's no.
type refusal struct{ code, reason string }

func (r *refusal) Error() string { return r.reason }

func isRefusal(err error, code string) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.code == code
}

// writeLine writes words, cut to a line's size and free of control characters.
func writeLine(w io.Writer, words ...string) error {
	line := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.Join(words, " "))
	_, err := io.WriteString(w, line[:min(len(line), maxLine-1)]+"\n")
	return err
}

// readLine reads to the end of a line, and not one byte further: what follows
// belongs to somebody else.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var one [1]byte
	for len(line) < maxLine {
		if _, err := io.ReadFull(r, one[:]); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[0])
	}
	return "", fmt.Errorf("a line is longer than %d bytes: the other side speaks another protocol", maxLine)
}

// readAnswer reads a line that begins with ok, and returns what follows that.
func readAnswer(r io.Reader) (string, error) {
	line, err := readLine(r)
	if err != nil {
		return "", err
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "ok":
		return rest, nil
	case "no":
		code, reason, _ := strings.Cut(rest, " ")
		return "", &refusal{code, reason}
	}
	return "", errors.New("the other side speaks another protocol")
}

func writeRefusal(w io.Writer, err error) error {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		r = &refusal{codeProtocol, err.Error()}
	}
	return writeLine(w, "no", r.code, r.reason)
}

// writeBlob writes a line that ends with a size, and that many bytes.
func writeBlob(w io.Writer, word string, b []byte) error {
	_, err := w.Write(append(fmt.Appendf(nil, "%s %d\n", word, len(b)), b...))
	return err
}

// readBlob reads the bytes whose size a line said.
func readBlob(r io.Reader, size string) ([]byte, error) {
	n, err := strconv.ParseUint(size, 10, 32)
	if err != nil || n > maxCertificate {
		return nil, fmt.Errorf("a size of %.20q is not one of a certificate", size)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}

func muxConfig(logger *slog.Logger, p pace, gateway bool) *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = backlog
	c.MaxStreamWindowSize = Window
	c.KeepAliveInterval = p.pulse
	c.ConnectionWriteTimeout = p.stalled
	c.StreamOpenTimeout = p.stalled
	// The gateway resets what an agent does not end when the gateway does; an
	// agent leaves the gateway time to read what a target said last.
	if gateway {
		c.StreamCloseTimeout = stalled
	}
	c.LogOutput = nil
	c.Logger = muxLog{logger}
	return c
}

// muxLog passes yamux' remarks on. They name no target and hold no data.
type muxLog struct{ *slog.Logger }

func (l muxLog) Print(v ...any)            { l.Debug("line", "remark", fmt.Sprint(v...)) }
func (l muxLog) Printf(f string, v ...any) { l.Debug("line", "remark", fmt.Sprintf(f, v...)) }
func (l muxLog) Println(v ...any)          { l.Debug("line", "remark", fmt.Sprintln(v...)) }

// joined makes one write of a frame's header and its body, which yamux writes
// one after the other: one TLS record and one system call instead of two.
type joined struct {
	net.Conn
	held []byte
}

// A yamux header is version, type, flags, stream, length: 12 bytes. One of
// type 0, data, has length bytes after it.
const headerSize = 12

func (j *joined) Write(b []byte) (int, error) {
	if len(j.held) == 0 && len(b) == headerSize && b[1] == 0 && binary.BigEndian.Uint32(b[8:]) > 0 {
		j.held = append(j.held, b...)
		return len(b), nil
	}
	if len(j.held) == 0 {
		return j.Conn.Write(b)
	}
	j.held = append(j.held, b...)
	_, err := j.Conn.Write(j.held)
	j.held = j.held[:0]
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// fair is a stream that shares its line: long writes go out in frames, so that
// others come in between.
type fair struct {
	*yamux.Stream
	mux    *yamux.Session
	closed sync.Once
	onEnd  func()
}

// ErrCut is what readers get when the line ends before the stream did.
var ErrCut = errors.New("the line between gateway and agent was cut")

// Read does not take the end of the line for the end of the stream.
func (f *fair) Read(b []byte) (int, error) {
	n, err := f.Stream.Read(b)
	if err == io.EOF && f.mux.IsClosed() {
		err = ErrCut
	}
	return n, err
}

func (f *fair) Write(b []byte) (n int, err error) {
	for n < len(b) {
		m, err := f.Stream.Write(b[n:min(n+frame, len(b))])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close ends the stream in both directions.
func (f *fair) Close() error {
	f.closed.Do(f.onEnd)
	return f.Stream.Close()
}

// WriteTo is of io.WriterTo.
func (f *fair) WriteTo(w io.Writer) (int64, error) { return transfer(w, struct{ io.Reader }{f}) }

var frames = sync.Pool{New: func() any { return new([frame]byte) }}

// transfer copies until r ends. Its buffer is as large as a frame while much
// comes, and small while it waits: most sessions wait most of the time.
func transfer(w io.Writer, r io.Reader) (total int64, err error) {
	var small [2 << 10]byte
	b := small[:]
	var large *[frame]byte
	defer func() {
		if large != nil {
			frames.Put(large)
		}
	}()
	for {
		n, err := r.Read(b)
		if n > 0 {
			m, werr := w.Write(b[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
		}
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		case n == len(b) && large == nil:
			large = frames.Get().(*[frame]byte)
			b = large[:]
		case n < len(small) && large != nil:
			frames.Put(large)
			large, b = nil, small[:]
		}
	}
}

// clean makes an error of elsewhere fit for a line of words.
func clean(err error) string {
	return string(bytes.ToValidUTF8([]byte(err.Error()), []byte("?")))
}
