package tunnel

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire stands between an agent and its gateway, and does to the line what
// networks do: it delays, and carries in pieces of its own making; it falls
// silent; it is cut.
type wire struct {
	address string
	delay   time.Duration

	mu     sync.Mutex
	silent chan struct{} // not nil: nothing passes until it is closed
	open   []net.Conn
}

func newWire(t *testing.T, to string, delay time.Duration) *wire {
	t.Helper()
	w := &wire{delay: delay}
	w.address = place(t, func(c net.Conn) {
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.open = append(w.open, c, out)
		w.mu.Unlock()
		var both sync.WaitGroup
		for _, d := range [][2]net.Conn{{c, out}, {out, c}} {
			both.Go(func() { w.carry(d[0], d[1]); c.Close(); out.Close() })
		}
		both.Wait()
	})
	t.Cleanup(w.speak)
	return w
}

// carry takes pieces of any size, and hands each on after the delay.
func (w *wire) carry(from, to net.Conn) {
	type piece struct {
		b  []byte
		at time.Time
	}
	pieces := make(chan piece, 1000)
	var writer sync.WaitGroup
	writer.Go(func() {
		for p := range pieces {
			time.Sleep(time.Until(p.at)) // the delay itself
			w.mu.Lock()
			silent := w.silent
			w.mu.Unlock()
			if silent != nil {
				<-silent
			}
			if _, err := to.Write(p.b); err != nil {
				from.Close()
			}
		}
	})
	for {
		b := make([]byte, 1+rand.IntN(3000))
		n, err := from.Read(b)
		pieces <- piece{b[:n], time.Now().Add(w.delay)}
		if err != nil {
			close(pieces)
			writer.Wait()
			return
		}
	}
}

func (w *wire) hush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = make(chan struct{})
}

func (w *wire) speak() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent != nil {
		close(w.silent)
		w.silent = nil
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.(*net.TCPConn).SetLinger(0) // a reset, and what was on its way is lost
		c.Close()
	}
	w.open = nil
}

// overWire is an agent whose line goes over w.
func (r *rig) overWire(w *wire, targets ...string) *guest {
	o := r.options("vpc-a", targets...)
	o.Gateway = "https://" + w.address
	return r.run(o)
}

// Over a slow line, in which all comes in other pieces than it was sent, every
// session hears its own answer, whole and in order.
func TestLineDelayed(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	r.overWire(newWire(t, r.address, 20*time.Millisecond), address)
	var all sync.WaitGroup
	for i := range 20 {
		conn := r.mustDial("vpc-a", address)
		all.Go(func() {
			want := bytes.Repeat([]byte{byte(i), byte(i + 1), byte(i + 2)}, 50_000)
			go conn.Write(want)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("session %d: %v, %v", i, err, bytes.Equal(got, want))
			}
		})
	}
	all.Wait()
}

// A line that is cut ends its sessions at both ends, with an error that says
// so and never as if the target had ended them; the agent comes back, and what
// was sent is not sent again.
func TestLineCut(t *testing.T) {
	r := newRig(t)
	heard := make(chan string, 10)
	address := place(t, func(c net.Conn) {
		b, _ := io.ReadAll(c) // to its end, however it comes
		heard <- string(b)
	})
	w := newWire(t, r.address, 0)
	g := r.overWire(w, address)
	conn := r.mustDial("vpc-a", address)
	if _, err := io.WriteString(conn, "INSERT"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.mustDial("vpc-a", address).Write(nil); err != nil {
		t.Fatal(err)
	}
	w.cut()
	if n, err := conn.Read(make([]byte, 10)); !errors.Is(err, ErrCut) {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := conn.Write([]byte("more")); err == nil {
		t.Error("a session without a line takes more")
	}
	for range 2 {
		// Cut off, it may have arrived or not.
		if text := <-heard; text != "INSERT" && text != "" {
			t.Errorf("the target heard %q", text)
		}
	}
	r.connected(g)
	conn = r.mustDial("vpc-a", address)
	io.WriteString(conn, "again")
	conn.Close()
	if text := <-heard; text != "again" {
		t.Errorf("the target heard %q", text)
	}
}

// A line on which nothing comes any more is given up by both ends.
func TestLineSilent(t *testing.T) {
	r := newRig(t)
	r.pace = pace{50 * time.Millisecond, 500 * time.Millisecond}
	r.hub.pace = r.pace
	ended := make(chan struct{}, 1)
	address := place(t, func(c net.Conn) { echo(c); ended <- struct{}{} })
	w := newWire(t, r.address, 0)
	g := r.overWire(w, address)
	conn := r.mustDial("vpc-a", address)
	says(t, conn, "hello")
	w.hush()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrCut) {
		t.Errorf("read: %v", err)
	}
	<-ended // the agent let go of the target by itself
	w.speak()
	r.connected(g)
	// The line that was silent may be counted as one for a moment still.
	for late := time.After(patience); ; {
		conn, err := r.dial("vpc-a", address)
		if err == nil {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			says(t, conn, "hello")
			return
		}
		select {
		case <-late:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A dial that has no answer ends with its caller's patience, and is not taken
// for the line's fault.
func TestDialEndsWithItsCaller(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	w := newWire(t, r.address, 0)
	r.overWire(w, address)
	w.hush()
	done := make(chan error, 1)
	go func() {
		_, err := r.dialFor("vpc-a", address, 50*time.Millisecond)
		done <- err
	}()
	err := <-done
	wantError(t, err, "deadline exceeded")
	w.speak()
	says(t, r.mustDial("vpc-a", address), "hello")
	if n := len(r.hub.Lines()); n != 1 {
		t.Errorf("there are %d lines", n)
	}
}

// Through a proxy that speaks CONNECT.
func TestProxy(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{"HTTP/1.1 200 Connection established\r\n\r\n", ""},
		{"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "it answered 407"},
		{"HTTP/1.1 200 OK\r\n\r\nearly words", "it answered 200"},
		{"rubbish\r\n", "ask proxy"},
	} {
		asked := make(chan string, 1)
		address := place(t, func(conn net.Conn) {
			q, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				asked <- err.Error()
				return
			}
			asked <- q.Method + " " + q.Host + " " + q.Header.Get("Proxy-Authorization")
			io.WriteString(conn, c.answer)
			io.Copy(io.Discard, conn)
		})
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		proxy := &url.URL{Scheme: "http", Host: address, User: url.UserPassword("u", "p")}
		conn.SetDeadline(time.Now().Add(patience))
		err = throughProxy(conn, proxy, "gw.example.com:8443")
		conn.Close()
		if got := <-asked; got != "CONNECT gw.example.com:8443 Basic dTpw" {
			t.Errorf("it was asked %q", got)
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v, want %q", c.answer, err, c.want)
		}
	}
}
