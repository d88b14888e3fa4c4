package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var sighup = syscall.SIGHUP

// logged is what a process logs.
type logged struct {
	mu    sync.Mutex
	more  chan struct{} // closed when there is more
	text  bytes.Buffer
	ended bool
}

func newLogged() *logged { return &logged{more: make(chan struct{})} }

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) follow(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		l.mu.Lock()
		l.text.WriteString(line)
		l.ended = err != nil
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// patience is how long scripts wait for what must come.
const patience = time.Minute

// await waits until the log is as it must be.
func (l *logged) await(ok func(string) bool) error {
	late := time.After(patience)
	for {
		l.mu.Lock()
		text, more, ended := l.text.String(), l.more, l.ended
		l.mu.Unlock()
		switch {
		case ok(text):
			return nil
		case ended:
			return fmt.Errorf("the gateway ended:\n%s", text)
		}
		select {
		case <-more:
		case <-late:
			return fmt.Errorf("the gateway did not log what it should:\n%s", text)
		}
	}
}

// trust is what makes a client believe the gateway's certificate.
func trust(ts *testscript.TestScript) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ts.ReadFile(ts.Getenv("CUSTOS_CA"))))
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// get asks the gateway's HTTP API as a person, without custos' own client:
// `get bob /api/v1/sessions` prints the status and the answer.
func (w *world) get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get WHO PATH")
	}
	sc := of(ts)
	req, err := http.NewRequest(http.MethodGet, ts.Getenv("CUSTOS_URL"), nil)
	ts.Check(err)
	// As it stands: the client must not clean the path.
	req.URL.Opaque = args[1]
	if args[0] != "nobody" {
		req.Header.Set("Authorization", "Bearer "+w.token(sc, args[0]))
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: trust(ts), DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	sc.seen.Write(body)
	fmt.Fprintf(ts.Stdout(), "%s\n%s\n", res.Status, body)
}

// speak is a client that says what it is told to, byte by byte:
// `speak WHO FILE`. Each line of the file is one step; what the gateway says
// is printed, one message a line.
//
//	tls                 ask for TLS, and speak it
//	startup K=V ...     a startup message of version 3.0
//	password            the person's token
//	password "TEXT"     another
//	say T "TEXT"        a message of type T
//	bytes "TEXT"        bytes as they are
//	cancel "KEY"        a cancel request with a key, in hexadecimal
//	interrupt           a cancel request for this session, on another line
//	heard TEXT          wait until the target heard a text
//	fill N              N bytes of x, or as many as are taken
//	until T             hear up to a message of type T, or the end
func (w *world) speak(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: speak WHO FILE")
	}
	conn, err := net.DialTimeout("tcp", ts.Getenv("POSTGRES"), patience)
	ts.Check(err)
	s := &speaker{ts: ts, w: w, who: args[0], conn: conn}
	defer func() { s.conn.Close() }()
	s.conn.SetDeadline(time.Now().Add(patience))
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		line = strings.TrimSpace(os.Expand(line, ts.Getenv))
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		if err := s.step(verb, strings.TrimSpace(rest)); err != nil {
			// A door that is closed in the middle of a word is an answer.
			fmt.Fprintln(ts.Stdout(), "closed")
			ts.Logf("%s: %v", line, err)
			return
		}
	}
}

type speaker struct {
	ts   *testscript.TestScript
	w    *world
	who  string
	conn net.Conn
	key  []byte // for cancelling
}

func (s *speaker) step(verb, rest string) error {
	switch verb {
	case "tls":
		return s.encrypt()
	case "startup":
		body := binary.BigEndian.AppendUint32(nil, 3<<16)
		for _, p := range strings.Fields(rest) {
			k, v, _ := strings.Cut(p, "=")
			v, err := strconv.Unquote(`"` + v + `"`)
			s.ts.Check(err)
			body = append(append(append(append(body, k...), 0), v...), 0)
		}
		return s.write(0, append(body, 0))
	case "password":
		token := s.unquote(rest)
		if rest == "" {
			token = s.w.token(of(s.ts), s.who)
		}
		return s.write('p', append([]byte(token), 0))
	case "say":
		t, text, _ := strings.Cut(rest, " ")
		return s.write(t[0], []byte(s.unquote(text)))
	case "bytes":
		_, err := s.conn.Write([]byte(s.unquote(rest)))
		return err
	case "cancel":
		key, err := hex.DecodeString(s.unquote(rest))
		s.ts.Check(err)
		return s.write(0, append(binary.BigEndian.AppendUint32(nil, 80877102), key...))
	case "interrupt":
		return s.interrupt()
	case "heard":
		return s.w.hears(rest)
	case "fill":
		n, err := strconv.Atoi(rest)
		s.ts.Check(err)
		for chunk := bytes.Repeat([]byte("x"), 1<<16); n > 0; n -= len(chunk) {
			if _, err := s.conn.Write(chunk[:min(n, len(chunk))]); err != nil {
				return err
			}
		}
		return nil
	case "until":
		return s.until(rest[0])
	}
	s.ts.Fatalf("there is no step %q", verb)
	return nil
}

func (s *speaker) unquote(text string) string {
	if text == "" {
		return ""
	}
	text, err := strconv.Unquote(text)
	s.ts.Check(err)
	return text
}

// write writes a message; one of type 0 has no type, as at the start.
func (s *speaker) write(t byte, body []byte) error {
	var m []byte
	if t != 0 {
		m = append(m, t)
	}
	m = binary.BigEndian.AppendUint32(m, uint32(4+len(body)))
	_, err := s.conn.Write(append(m, body...))
	return err
}

func (s *speaker) interrupt() error {
	conn, err := net.DialTimeout("tcp", s.ts.Getenv("POSTGRES"), patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	other := &speaker{ts: s.ts, conn: conn}
	return other.write(0, append(binary.BigEndian.AppendUint32(nil, 80877102), s.key...))
}

func (s *speaker) encrypt() error {
	if err := s.write(0, binary.BigEndian.AppendUint32(nil, 80877103)); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(s.conn, answer[:]); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return errors.New("no TLS")
	}
	t := tls.Client(s.conn, trust(s.ts))
	s.conn = t
	return t.Handshake()
}

// until prints what is heard up to a message of type t.
func (s *speaker) until(t byte) error {
	for {
		var head [5]byte
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(s.conn, body); err != nil {
			return err
		}
		of(s.ts).seen.Write(body)
		if head[0] == 'K' {
			s.key = body
		}
		if head[0] != 'S' { // ParameterStatus
			fmt.Fprintf(s.ts.Stdout(), "%c %s\n", head[0], readable(head[0], body))
		}
		if head[0] == t {
			return nil
		}
	}
}

// readable is a message for people: an error's fields in a line, a key in
// hexadecimal, else what of it is text.
func readable(t byte, body []byte) string {
	switch t {
	case 'E', 'N':
		var fields []string
		for f := range bytes.SplitSeq(body, []byte{0}) {
			if len(f) > 1 && strings.IndexByte("SCMDH", f[0]) >= 0 {
				fields = append(fields, string(f[1:]))
			}
		}
		return strings.Join(fields, "|")
	case 'K':
		return hex.EncodeToString(body)
	case 'R':
		return strconv.Itoa(int(binary.BigEndian.Uint32(body)))
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, string(body)))
}
