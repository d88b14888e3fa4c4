package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/tlsca"
)

// patience is how long tests wait for what must come.
const patience = 20 * time.Second

// rig is a gateway's end with its web server, and the agents that join it.
type rig struct {
	t     testing.TB
	dir   string
	ahead atomic.Int64 // of the real time
	life  sync.Map     // name -> time.Duration
	roots *x509.CertPool
	ca    *tlsca.CA
	log   *journal
	pace  pace // zero: the usual
	tell  atomic.Pointer[func(token, name string) (string, error)]

	mu      sync.Mutex
	entries []custos.Entry
	failing error // of the ledger

	address string
	hub     *Hub
	web     *http.Server
	served  chan error
}

// journal keeps a log, and tells when it said something.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(b)
	close(j.more)
	j.more = make(chan struct{})
	return len(b), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// await waits until the log holds a text n times.
func (j *journal) await(t testing.TB, text string, n int) {
	t.Helper()
	late := time.After(patience)
	for {
		j.mu.Lock()
		more, count := j.more, strings.Count(j.text.String(), text)
		j.mu.Unlock()
		if count >= n {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("the log has %q %d times, not %d:\n%s", text, count, n, j)
		}
	}
}

func (r *rig) now() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }

// newRig starts a gateway that knows the agents vpc-a and vpc-b.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), log: &journal{more: make(chan struct{})}, address: "127.0.0.1:0", roots: x509.NewCertPool()}
	r.life.Store("vpc-a", time.Hour)
	r.life.Store("vpc-b", time.Hour)
	var err error
	if r.ca, err = tlsca.Load(filepath.Join(r.dir, "tls"), nil, time.Now); err != nil {
		t.Fatal(err)
	}
	r.roots.AppendCertsFromPEM(r.ca.PEM())
	r.start()
	t.Cleanup(r.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log:\n%s", r.log)
		}
	})
	return r
}

func (r *rig) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// start starts the gateway's end, anew on the address that it had.
func (r *rig) start() {
	r.t.Helper()
	a, err := OpenAuthority(AuthorityOptions{Dir: filepath.Join(r.dir, "agents"), Now: r.now, Record: r.record, Life: func(name string) (time.Duration, bool) {
		d, ok := r.life.Load(name)
		if !ok {
			return 0, false
		}
		return d.(time.Duration), true
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	identify := func(_ context.Context, token, name string) (string, error) {
		if f := r.tell.Load(); f != nil {
			return (*f)(token, name)
		}
		return "", errors.New("nobody joins by a workload's token here")
	}
	r.hub = NewHub(a, identify, r.logger())
	if r.pace != (pace{}) {
		r.hub.pace = r.pace
	}
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle(JoinPath, r.hub)
	mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Proto) })
	r.web = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(r.logger().Handler(), slog.LevelInfo),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.ca.GetCertificate}}
	r.hub.Attach(r.web)
	web, served := r.web, make(chan error, 1)
	r.served = served
	go func() { served <- web.ServeTLS(listener, "", "") }()
}

func (r *rig) stop() {
	r.hub.Close()
	r.web.Close()
	<-r.served
}

func (r *rig) record(kind custos.EntryKind, n custos.Note) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != nil {
		return r.failing
	}
	r.entries = append(r.entries, custos.Entry{Kind: kind, Note: &n})
	return nil
}

func (r *rig) recorded(kind custos.EntryKind) (notes []custos.Note) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		if e.Kind == kind {
			notes = append(notes, *e.Note)
		}
	}
	return notes
}

func (r *rig) token(name string) string {
	r.t.Helper()
	token, _, err := r.hub.Token("carol", name, MinTokenLife)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// guest is an agent that runs.
type guest struct {
	*Agent
	stop  context.CancelFunc
	ended chan error
}

// options are those of an agent with a fresh one-time token that may dial
// targets.
func (r *rig) options(name string, targets ...string) AgentOptions {
	r.t.Helper()
	allowed, err := ParseTargets(targets, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	token := r.token(name)
	return AgentOptions{Gateway: "https://" + r.address, Roots: r.roots, Name: name, Dir: filepath.Join(r.t.TempDir(), "agent"), Token: func() (string, error) { return token, nil },
		Targets: allowed, Sessions: 4096, Drain: patience, Version: "test", Logger: r.logger(), Now: r.now}
}

// run runs an agent and returns when its line is there.
func (r *rig) run(o AgentOptions) *guest {
	r.t.Helper()
	g := r.begin(o)
	r.connected(g)
	return g
}

func (r *rig) begin(o AgentOptions) *guest {
	r.t.Helper()
	a, err := NewAgent(o)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.pace != (pace{}) {
		a.pace = r.pace
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &guest{Agent: a, stop: cancel, ended: make(chan error, 1)}
	go func() { g.ended <- a.Run(ctx) }()
	r.t.Cleanup(func() { cancel(); <-g.ended; g.ended <- nil })
	return g
}

// connected waits until an agent's line is listed.
func (r *rig) connected(g *guest) {
	r.t.Helper()
	r.until(func() bool {
		id, err := loadIdentity(g.Dir)
		if err != nil || id == nil {
			return false
		}
		_, own, err := named(id.cert)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, l := range r.hub.Lines() {
			if l.ID == own && !l.Draining {
				return true
			}
		}
		return false
	})
}

// until waits for a state that nothing announces.
func (r *rig) until(ok func() bool) {
	r.t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-look.C:
		case <-late:
			r.t.Fatal("it did not come to pass")
		}
	}
}

func (r *rig) dial(name, address string) (net.Conn, error) { return r.dialFor(name, address, patience) }

func (r *rig) dialFor(name, address string, d time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.hub.Dial(ctx, name, address)
}

func (r *rig) mustDial(name, address string) net.Conn {
	r.t.Helper()
	conn, err := r.dial(name, address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// place is a target that serves each connection.
func place(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() { serve(c); c.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

func echo(c net.Conn) { io.Copy(c, c) }

// says sends a text and wants it back.
func says(t testing.TB, c io.ReadWriter, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}
