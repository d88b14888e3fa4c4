package gatetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// Case is a protocol as Run sees it.
type Case struct {
	// Connection and Credential are of a real target that is running.
	Connection custos.Connection
	Credential custos.Credential
	// Serve serves the protocol in front of a world, until ctx ends.
	Serve func(ctx context.Context, w *World, l net.Listener) error
	// Dial opens a session with a token. The error is the gateway's.
	Dial func(t testing.TB, addr, token string) (Client, error)
	// Statement makes what a client asks from a word that shows in it, and
	// in what reaches the target: it is harmless.
	Statement func(word string) string
	// Slow is a statement that lasts for minutes.
	Slow string
	// Begun returns when the target works on Slow. It may be nil, where that
	// follows from the record of it.
	Begun func()
	// Unknown is what a client may send once it is in that the protocol does
	// not know or that is malformed: none of it reaches the target.
	Unknown map[string][]byte
	// Oversized begins a message that is longer than it may be, of which
	// the rest never comes.
	Oversized []byte
}

// Client is one client of a protocol.
type Client interface {
	// Do runs a statement to its end. A refusal or an error of the target's
	// is the error, with its text.
	Do(statement string) error
	// Conn is the connection, for what is not said politely.
	Conn() net.Conn
	Close() error
}

// patience bounds how long Run waits for what must come.
const patience = 30 * time.Second

// suite is a case that is being run.
type suite struct {
	Case
	*World
	addr string
}

// Run holds a protocol to the promises of the gate.
func Run(t *testing.T, c Case) {
	for name, test := range map[string]func(*testing.T, *suite){
		"nothing reaches the target before its record is durable": durable,
		"with the ledger failing nothing reaches the target":      failing,
		"a full disk":                                fullDisk,
		"a refusal leaves the session usable":        refusal,
		"a wrong token, an unknown connection":       door,
		"the credential stays inside":                credential,
		"what is unknown reaches nobody":             unknown,
		"what is too long is not held":               oversized,
		"every permit is settled: the client dies":   clientDies,
		"every permit is settled: the target dies":   targetDies,
		"every permit is settled: the gateway stops": gatewayStops,
		"every permit is settled: the token expires": expires,
		"what was asked and answered is on record":   recorded,
	} {
		t.Run(name, func(t *testing.T) { test(t, c.start(t)) })
	}
}

func (c Case) start(t *testing.T) *suite {
	t.Helper()
	s := &suite{Case: c, World: New(t, c.Connection, c.Credential)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, s.World, l) }()
	t.Cleanup(func() {
		s.Ledger.Release()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := s.Gate.Live(); n != 0 {
			t.Errorf("%d sessions are open after the end", n)
		}
		if t.Failed() {
			t.Logf("log:\n%s", s.Log())
		}
	})
	return s
}

func (s *suite) dial(t *testing.T) Client {
	t.Helper()
	c, err := s.Case.Dial(t, s.addr, Token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (s *suite) heard(word string) bool { return bytes.Contains(s.Tap.Sent(), []byte(word)) }

func durable(t *testing.T, s *suite) {
	c := s.dial(t)
	s.Tap.Sent()
	s.Ledger.Hold()
	done := make(chan error, 1)
	go func() { done <- c.Do(s.Statement("early_bird")) }()
	s.Ledger.AwaitWaiting()
	if sent := s.Tap.Sent(); len(sent) != 0 {
		t.Errorf("the target got %q before the record was durable", sent)
	}
	select {
	case err := <-done:
		t.Errorf("it was answered before the record was durable: %v", err)
	default:
	}
	s.Ledger.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !s.heard("early_bird") {
		t.Error("the tap does not show what is sent: the test proves nothing")
	}
}

func failing(t *testing.T, s *suite) {
	for _, appends := range []bool{true, false} {
		c := s.dial(t)
		s.Tap.Sent()
		s.Ledger.Break(appends, true)
		if err := c.Do(s.Statement("unrecorded")); err == nil || !strings.Contains(err.Error(), "ledger-unavailable") {
			t.Errorf("the client was told: %v", err)
		}
		if sent := s.Tap.Sent(); len(sent) != 0 {
			t.Errorf("the target got %q", sent)
		}
		if c, err := s.Case.Dial(t, s.addr, Token); err == nil {
			c.Close()
			t.Error("a session was opened without a record")
		}
		if sent := s.Tap.Sent(); len(sent) != 0 {
			t.Errorf("the target got %q of a session that has no record", sent)
		}
		s.Ledger.Break(false, false)
		if err := c.Do(s.Statement("recorded")); err != nil {
			t.Errorf("after the ledger has come back: %v", err)
		}
	}
}

func fullDisk(t *testing.T, s *suite) {
	c := s.dial(t)
	s.Tap.Sent()
	s.FillDisk(errors.New("the disk has 2 MB left"))
	if err := c.Do(s.Statement("unrecorded")); err == nil || !strings.Contains(err.Error(), "2 MB left") {
		t.Errorf("the client was told: %v", err)
	}
	if s.heard("unrecorded") {
		t.Error("the target heard it")
	}
	if c, err := s.Case.Dial(t, s.addr, Token); err == nil {
		c.Close()
		t.Error("a session was opened")
	}
	s.FillDisk(nil)
	if err := c.Do(s.Statement("recorded")); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

func refusal(t *testing.T, s *suite) {
	s.RefuseText("forbidden")
	c := s.dial(t)
	for range 2 {
		err := c.Do(s.Statement("forbidden"))
		if err == nil {
			t.Fatal("it was not refused")
		}
		for _, word := range []string{"no-forbidden", "it says forbidden", "leave it out"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the refusal does not say %q: %v", word, err)
			}
		}
		if err := c.Do(s.Statement("allowed")); err != nil {
			t.Errorf("after the refusal: %v", err)
		}
	}
	if s.heard("forbidden") {
		t.Error("the target heard what was refused")
	}
	refused := 0
	for _, e := range s.Ledger.Entries() {
		if e.Submit != nil && e.Submit.Rule == "no-forbidden" {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d refusals are on record", refused)
	}
}

func door(t *testing.T, s *suite) {
	if c, err := s.Case.Dial(t, s.addr, "forged"); err == nil {
		c.Close()
		t.Error("a wrong token was let in")
	}
	if n := len(s.Ledger.Entries()); n != 0 {
		t.Errorf("a stranger put %d entries on record", n)
	}
	s.World.Connection.Access = nil
	if c, err := s.Case.Dial(t, s.addr, Token); err == nil {
		c.Close()
		t.Error("a caller without access was let in")
	}
	if e := s.Ledger.Entries(); len(e) != 1 || e[0].Kind != custos.EntryTurned {
		t.Errorf("on record: %v", e)
	}
	if sent := s.Tap.Sent(); len(sent) != 0 {
		t.Errorf("the target got %q", sent)
	}
}

// wiretap keeps what a client gets.
type wiretap struct {
	net.Conn
	got bytes.Buffer
}

func (w *wiretap) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.got.Write(b[:n])
	return n, err
}

// credential has a session that succeeds and one whose login fails, and looks
// for the credential wherever it could have got out.
func credential(t *testing.T, s *suite) {
	secret := s.World.Credential.Password
	if len(secret) < 8 {
		t.Fatal("the case's password is too short to be looked for")
	}
	// What the client gets is seen on a line in between.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taps := make(chan *wiretap, 2)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.addr)
			if err != nil {
				in.Close()
				return
			}
			tap := &wiretap{Conn: out}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, tap); in.Close(); taps <- tap }()
		}
	}()
	c, err := s.Case.Dial(t, l.Addr().String(), Token)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(s.Statement("harmless")); err != nil {
		t.Error(err)
	}
	c.Close()
	s.World.Credential.Password = secret + "x"
	if c, err := s.Case.Dial(t, l.Addr().String(), Token); err == nil {
		c.Close()
		t.Error("a wrong credential has logged in: the test proves nothing")
	}
	s.Ledger.AwaitClosed(2)
	for range 2 {
		if tap := <-taps; bytes.Contains(tap.got.Bytes(), []byte(secret)) {
			t.Error("the client got the credential")
		}
	}
	if strings.Contains(s.Log(), secret) {
		t.Error("the log has the credential")
	}
	for _, e := range s.Ledger.Entries() {
		if strings.Contains(e.Leaf, secret) || bytes.Contains(e.Sealed, []byte(secret)) {
			t.Errorf("entry %d has the credential", e.Index)
		}
		if len(e.Sealed) > 0 && bytes.Contains(s.Open(t, e), []byte(secret)) {
			t.Errorf("what entry %d seals has the credential", e.Index)
		}
	}
}

func unknown(t *testing.T, s *suite) {
	for name, wire := range s.Unknown {
		c := s.dial(t)
		s.Tap.Sent()
		if _, err := c.Conn().Write(wire); err != nil {
			t.Fatal(err)
		}
		// Whatever it does to this session, nothing of it gets through, and
		// the next session is served.
		c.Conn().SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 4096)
		if n, err := c.Conn().Read(b); err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("%s: no answer: %d, %v", name, n, err)
		}
		if s.heard(string(wire)) {
			t.Errorf("%s reached the target", name)
		}
		c.Conn().Close()
	}
	if err := s.dial(t).Do(s.Statement("harmless")); err != nil {
		t.Error(err)
	}
}

func oversized(t *testing.T, s *suite) {
	c := s.dial(t)
	s.Tap.Sent()
	if _, err := c.Conn().Write(s.Oversized); err != nil {
		t.Fatal(err)
	}
	c.Conn().SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Conn().Read(make([]byte, 1)); n == 0 {
		t.Errorf("it waits for the rest instead of refusing: %v", err)
	}
	if sent := s.Tap.Sent(); bytes.Contains(sent, s.Oversized) {
		t.Errorf("the target got %q", sent)
	}
}

// interrupted starts a statement that lasts, ends it, and looks at its
// outcome: the target may have been told to stop, and have said so.
func (s *suite) interrupted(t *testing.T, end func(Client, custos.SessionID)) {
	t.Helper()
	c := s.dial(t)
	done := make(chan error, 1)
	go func() { done <- c.Do(s.Slow) }()
	opened := s.Ledger.Await(func(e Kept) bool { return e.Kind == custos.EntryOpened })
	submitted := s.Ledger.Await(func(e Kept) bool { return e.Submit != nil })
	if s.Begun != nil {
		s.Begun()
	}
	end(c, opened.Session)
	s.Ledger.AwaitClosed(1)
	if err := <-done; err == nil {
		t.Error("the client takes it for done")
	}
	settled := s.Ledger.Await(func(e Kept) bool { return e.Settled != nil && e.Settled.Operation == submitted.Index })
	switch settled.Settled.State {
	case custos.StateInterrupted, custos.StateError, custos.StateNotSent:
	default:
		t.Errorf("the outcome on record is %q", settled.Settled.State)
	}
}

func clientDies(t *testing.T, s *suite) {
	s.interrupted(t, func(c Client, _ custos.SessionID) { c.Conn().Close() })
}

func targetDies(t *testing.T, s *suite) {
	s.interrupted(t, func(Client, custos.SessionID) { s.Tap.Cut() })
}

func gatewayStops(t *testing.T, s *suite) {
	s.interrupted(t, func(Client, custos.SessionID) { s.Gate.Shutdown() })
}

func expires(t *testing.T, s *suite) {
	s.interrupted(t, func(_ Client, id custos.SessionID) { s.Gate.Stop(id, gate.ErrExpired) })
	if e := s.Ledger.Await(func(e Kept) bool { return e.Closed != nil }); e.Closed.Reason != gate.ErrExpired.Error() {
		t.Errorf("the end on record: %q", e.Closed.Reason)
	}
}

func recorded(t *testing.T, s *suite) {
	c := s.dial(t)
	if err := c.Do(s.Statement("remember_me")); err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.Ledger.AwaitClosed(1)
	var asked, answered bool
	for _, e := range s.Ledger.Entries() {
		switch {
		case e.Submit != nil:
			asked = asked || strings.Contains(s.Operation(t, e).Text, "remember_me")
		case e.Settled != nil && len(e.Sealed) > 0:
			answered = answered || bytes.Contains(s.Open(t, e), []byte("remember_me"))
		}
	}
	if !asked || !answered {
		t.Errorf("on record: asked %v, answered %v", asked, answered)
	}
}
