package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

// A session goes through, both ways, and ends at both ends.
func TestSession(t *testing.T) {
	r := newRig(t)
	over := make(chan error, 1)
	address := place(t, func(c net.Conn) {
		_, err := io.Copy(c, c)
		over <- err
	})
	r.run(r.options("vpc-a", address))
	conn := r.mustDial("vpc-a", address)
	says(t, conn, "hello")
	says(t, conn, strings.Repeat("0123456789", 20_000))
	if l := r.hub.Lines(); len(l) != 1 || l[0].Sessions != 1 || l[0].Dials != 1 || l[0].Version != "test" {
		t.Errorf("lines are %+v", l)
	}
	conn.Close()
	if err := <-over; err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the target heard %v", err)
	}
	if l := r.hub.Lines(); l[0].Sessions != 0 {
		t.Errorf("lines are %+v", l)
	}
	if notes := r.recorded(custos.EntryJoined); len(notes) != 1 || notes[0].By != "one-time token of carol" || !strings.HasPrefix(notes[0].Text, "agent vpc-a joined as ") {
		t.Errorf("on record is %+v", notes)
	}
}

// What a target said last arrives, and then its end.
func TestTargetEnds(t *testing.T) {
	r := newRig(t)
	last := strings.Repeat("bye", 50_000)
	address := place(t, func(c net.Conn) { io.WriteString(c, last) })
	r.run(r.options("vpc-a", address))
	got, err := io.ReadAll(r.mustDial("vpc-a", address))
	if err != nil || string(got) != last {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

// What cannot be dialled says why, by whom, and what to do.
func TestErrors(t *testing.T) {
	r := newRig(t)
	_, err := r.dial("vpc-a", "127.0.0.1:1")
	if err == nil || !strings.Contains(err.Error(), "no agent vpc-a is connected") {
		t.Errorf("without an agent: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	r.run(r.options("vpc-a", closed))
	for address, want := range map[string]string{
		closed:             "refused",
		"127.0.0.1:1":      "not one of the agent's targets: add it to targets in agent.yaml",
		"db.internal:5432": "not one of the agent's targets",
		"no port":          "is not host:port",
		"x:1\nok":          "not",
	} {
		if _, err := r.dial("vpc-a", address); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "by agent vpc-a (") {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.hub.Dial(ctx, "vpc-a", closed); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if l := r.hub.Lines(); l[0].Sessions != 0 || l[0].Failed != l[0].Dials {
		t.Errorf("lines are %+v", l)
	}
}

// Agents of one name stand in for each other: one that cannot reach a target,
// one that is about to end, one that is gone.
func TestFailover(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	able := r.run(r.options("vpc-a", address))
	r.run(r.options("vpc-a", "127.0.0.1:1"))
	for range 4 {
		says(t, r.mustDial("vpc-a", address), "hello")
	}
	other := r.run(r.options("vpc-a", address))
	kept := r.mustDial("vpc-a", address)
	able.stop()
	r.log.await(t, "draining", 1)
	for range 4 {
		says(t, r.mustDial("vpc-a", address), "hello")
	}
	says(t, kept, "still here")
	other.stop()
	if _, err := r.dial("vpc-b", address); err == nil {
		t.Error("an agent of another name stood in")
	}
}

// An agent that is told to stop takes no new sessions, and lets those that are
// open end.
func TestDrain(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	g := r.run(r.options("vpc-a", address))
	conn := r.mustDial("vpc-a", address)
	says(t, conn, "before")
	g.stop()
	r.log.await(t, "draining", 1)
	r.until(func() bool { _, err := r.dial("vpc-a", address); return err != nil })
	says(t, conn, "after")
	select {
	case err := <-g.ended:
		t.Fatalf("it ended with a session open: %v", err)
	default:
	}
	conn.Close()
	if err := <-g.ended; err != nil {
		t.Error(err)
	}
	g.ended <- nil
}

// One whose sessions do not end in time cuts them.
func TestDrainEnds(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	o := r.options("vpc-a", address)
	o.Drain = time.Millisecond
	g := r.run(o)
	conn := r.mustDial("vpc-a", address)
	g.stop()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrCut) {
		t.Errorf("the session ended with %v", err)
	}
	<-g.ended
	g.ended <- nil
}

// A gateway that comes back has its agents back, with the certificates that
// they had: the one-time tokens are used up.
func TestGatewayRestarts(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	a, b := r.run(r.options("vpc-a", address)), r.run(r.options("vpc-b", address))
	conn := r.mustDial("vpc-a", address)
	r.stop()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a session outlived the gateway")
	}
	r.start()
	r.connected(a)
	r.connected(b)
	says(t, r.mustDial("vpc-a", address), "hello")
	says(t, r.mustDial("vpc-b", address), "hello")
	if n := len(r.recorded(custos.EntryJoined)); n != 2 {
		t.Errorf("%d agents joined", n)
	}
}

// A certificate is renewed on the line, for a new key, and a session outlives
// the certificate that it began with.
func TestRenewal(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	o := r.options("vpc-a", address)
	g := r.run(o)
	first, err := loadIdentity(g.Dir)
	if err != nil {
		t.Fatal(err)
	}
	conn := r.mustDial("vpc-a", address)
	g.stop()
	conn.Close()
	<-g.ended
	g.ended <- nil

	r.until(func() bool { return len(r.hub.Lines()) == 0 })

	// Three quarters of an hour later it is due at once.
	r.ahead.Store(int64(45 * time.Minute))
	g = r.begin(o)
	r.connected(g)
	conn = r.mustDial("vpc-a", address)
	r.log.await(t, `msg="certificate renewed"`, 1)
	second, err := loadIdentity(g.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if second.key.Equal(first.key) || !second.cert.NotAfter.After(first.cert.NotAfter) {
		t.Error("it is not a new key with a later end")
	}
	says(t, conn, "later")
	if l := r.hub.Lines(); len(l) != 1 || !l[0].Expires.Equal(second.cert.NotAfter) {
		t.Errorf("lines are %+v, want one until %v", l, second.cert.NotAfter)
	}
	if info, err := os.Stat(g.Dir + "/" + identityFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the identity is %v, %v", info, err)
	}
}

// A workload joins by a token of an issuer's, as often as it has to.
func TestWorkloadJoins(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	tell := func(token, name string) (string, error) {
		if token == "good" && name == "vpc-a" {
			return "https://id system:serviceaccount:custos:agent", nil
		}
		return "", errors.New("its token is not one of agent " + name)
	}
	r.tell.Store(&tell)
	o := r.options("vpc-a", address)
	o.Token = func() (string, error) { return "good", nil }
	g := r.run(o)
	conn := r.mustDial("vpc-a", address)
	says(t, conn, "hello")
	conn.Close()
	if notes := r.recorded(custos.EntryJoined); len(notes) != 1 || notes[0].By != "https://id system:serviceaccount:custos:agent" {
		t.Errorf("on record is %+v", notes)
	}
	// Its certificate ends while it is not running: it joins once more.
	g.stop()
	<-g.ended
	g.ended <- nil
	r.until(func() bool { return len(r.hub.Lines()) == 0 })
	r.ahead.Store(int64(2 * time.Hour))
	r.run(o)
	if n := len(r.recorded(custos.EntryJoined)); n != 2 {
		t.Errorf("%d joined", n)
	}
	o = r.options("vpc-b", address)
	o.Token = func() (string, error) { return "good", nil }
	r.begin(o)
	r.log.await(t, "its token is not one of agent vpc-b", 2) // both ends say so
}
