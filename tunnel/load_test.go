package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// flood writes for as long as somebody takes it.
func flood(c net.Conn) {
	b := make([]byte, 64<<10)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Sessions whose answers nobody takes, and targets that take nothing, hold up
// nobody else, and hold a bounded amount of memory.
func TestSlowReaders(t *testing.T) {
	r := newRig(t)
	deaf := make(chan struct{})
	flooding, stuck, address := place(t, flood), place(t, func(net.Conn) { <-deaf }), place(t, echo)
	defer close(deaf)
	r.run(r.options("vpc-a", flooding, stuck, address))
	conn := r.mustDial("vpc-a", address)
	says(t, conn, "before")
	before := heap()

	const slow = 20
	var writers sync.WaitGroup
	t.Cleanup(writers.Wait)
	for range slow {
		r.mustDial("vpc-a", flooding)
		w := r.mustDial("vpc-a", stuck)
		w.SetDeadline(time.Time{})
		writers.Go(func() { flood(w) })
		t.Cleanup(func() { w.Close() })
	}
	text := string(bytes.Repeat([]byte("x"), 10_000))
	for range 500 {
		says(t, conn, text)
	}
	// One window at each end of each, twice as much where a buffer has just
	// grown, and the writers' own.
	if grown, most := heap()-before, int64(2*slow*(4*Window)); grown > most {
		t.Errorf("%d sessions that nobody serves hold %d KiB", 2*slow, grown>>10)
	}
}

// 2,000 sessions go over one line at a time, opened all at once.
func TestManySessions(t *testing.T) {
	const many = 2000
	r := newRig(t)
	address := place(t, echo)
	r.run(r.options("vpc-a", address))
	r.mustDial("vpc-a", address).Close()
	before := heap()
	conns, errs := make([]net.Conn, many), make([]error, many)
	each := func(f func(i int) error) {
		t.Helper()
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() { errs[i] = f(i) })
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(i int) error {
		want := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 50)
		got := make([]byte, len(want))
		conns[i].SetDeadline(time.Now().Add(patience))
		if _, err := conns[i].Write(want); err != nil {
			return err
		}
		if _, err := io.ReadFull(conns[i], got); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return errors.New("another's answer came")
		}
		return nil
	}
	begun := time.Now()
	each(func(i int) (err error) { conns[i], err = r.dial("vpc-a", address); return err })
	each(ask)
	opened := time.Since(begun)
	each(ask)
	lines := r.hub.Lines()
	if len(lines) != 1 || lines[0].Sessions != many || lines[0].Failed != 0 {
		t.Errorf("lines are %+v", lines)
	}
	grown := heap() - before
	t.Logf("%d sessions opened in %v, %v for one question each; %d KiB each for gateway, agent and target together",
		many, opened, time.Since(begun)-opened, grown/many>>10)
	if grown > many*64<<10 {
		t.Errorf("an idle session holds %d KiB", grown/many>>10)
	}
	for _, c := range conns {
		c.Close()
	}
	if l := r.hub.Lines(); l[0].Sessions != 0 {
		t.Errorf("lines are %+v", l)
	}
}

// An agent has its limit, and says so.
func TestLimitOfSessions(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	o := r.options("vpc-a", address)
	o.Sessions = 1
	r.run(o)
	first := r.mustDial("vpc-a", address)
	says(t, first, "hello")
	_, err := r.dial("vpc-a", address)
	wantError(t, err, "its limit of 1 sessions")
	first.Close()
	r.until(func() bool {
		c, err := r.dial("vpc-a", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// An agent that waits for a target which takes nothing notices that the
// gateway has ended the session.
func TestPatience(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	r.run(r.options("vpc-a", address))
	conn := r.mustDial("vpc-a", address).(*fair)
	p := &patient{stream: conn}
	if p.ended() {
		t.Error("an open stream is taken for ended")
	}
	// What is asked takes nothing of what was said.
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(conn, one); err != nil {
		t.Fatal(err)
	}
	if p.ended() {
		t.Error("a stream with something to read is taken for ended")
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	if rest, err := io.ReadAll(io.LimitReader(conn, 4)); err != nil || string(rest) != "ello" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	r.hub.Close()
	if !p.ended() {
		t.Error("a stream whose line has ended is taken for open")
	}
}

// cpu is the time that this process has had of the processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkBulk(b *testing.B) {
	r := newRig(b)
	address := place(b, flood)
	r.run(r.options("vpc-a", address))
	for _, way := range []string{"direct", "agent"} {
		b.Run(way, func(b *testing.B) {
			dial := func() (net.Conn, error) { return net.Dial("tcp", address) }
			if way == "agent" {
				dial = func() (net.Conn, error) { return r.hub.Dial(context.Background(), "vpc-a", address) }
			}
			conn, err := dial()
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			buf := make([]byte, 32<<10)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				if _, err := io.ReadFull(conn, buf); err != nil {
					b.Fatal(err)
				}
			}
			// On a busy machine it says more than the time that passed.
			b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	r := newRig(b)
	address := place(b, echo)
	r.run(r.options("vpc-a", address))
	for _, way := range []string{"direct", "agent"} {
		b.Run(way, func(b *testing.B) {
			dial := func() (net.Conn, error) { return net.Dial("tcp", address) }
			if way == "agent" {
				dial = func() (net.Conn, error) { return r.hub.Dial(context.Background(), "vpc-a", address) }
			}
			conn, err := dial()
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			buf := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(conn, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
