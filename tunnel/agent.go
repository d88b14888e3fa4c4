package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// AgentOptions are what an Agent is made of.
type AgentOptions struct {
	// Gateway is the gateway's URL: https://host:port.
	Gateway string
	// Roots are trusted for it. Nil: the system's.
	Roots *x509.CertPool
	// Name is that of the gateway's configuration.
	Name string
	// Dir holds the agent's key and certificate.
	Dir string
	// Token is what the agent joins with: a one-time token, or an issuer's. It
	// is asked for whenever the agent has no certificate in force.
	Token func() (string, error)
	// Targets is what may be dialled.
	Targets *Targets
	// Sessions bounds what is open at one time.
	Sessions int
	// Drain is how long sessions may go on when the agent stops.
	Drain time.Duration
	// Version is told to the gateway.
	Version string
	Logger  *slog.Logger
	Now     func() time.Time
}

// Agent is the agent's end.
type Agent struct {
	AgentOptions
	address string // host:port of the gateway
	client  *http.Client
	slots   chan struct{}
	id      *identity // nil: it has not joined
	pace    pace
}

// NewAgent returns an agent that is ready to run.
func NewAgent(o AgentOptions) (*Agent, error) {
	u, err := url.Parse(o.Gateway)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("start agent: %q is not of the form https://host:port", o.Gateway)
	}
	o.Gateway = strings.TrimRight(o.Gateway, "/")
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start agent: %w", err)
	}
	a := &Agent{AgentOptions: o, address: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443")), slots: make(chan struct{}, o.Sessions), pace: usual}
	a.client = &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS13},
			TLSHandshakeTimeout: wordTimeout, DisableKeepAlives: true},
		// The token goes to the gateway and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if a.id, err = loadIdentity(o.Dir); err != nil {
		return nil, err
	}
	return a, nil
}

// A lost line is tried again after a while that doubles from firstWait to
// lastWait, at random between nothing and that, so that the agents of a gateway
// that was restarted do not all come at once. A line that lasted for steady
// begins anew.
const (
	firstWait = 500 * time.Millisecond
	lastWait  = 30 * time.Second
	steady    = 10 * time.Second
)

// Run keeps a line to the gateway until ctx ends, then drains it: it takes no
// new sessions, and returns when the last is over, or after Drain.
func (a *Agent) Run(ctx context.Context) error {
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		begun := a.Now()
		err := a.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if a.Now().Sub(begun) >= steady {
			wait = firstWait
		}
		pause := rand.N(wait)
		a.Logger.Warn("no line to the gateway", "gateway", a.Gateway, "cause", err, "again_in", pause.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// once joins, where that is due, connects, and serves until the line ends.
func (a *Agent) once(ctx context.Context) error {
	if a.id == nil || !a.Now().Before(a.id.cert.NotAfter) {
		if err := a.join(ctx); err != nil {
			return err
		}
	}
	conn, err := a.connect(ctx)
	if errors.Is(err, errNotTaken) {
		// The agent was removed, or the gateway has a new CA. A workload's token
		// is good again, and so is a new one-time token.
		if again := a.join(ctx); again != nil {
			return errors.Join(err, again)
		}
		conn, err = a.connect(ctx)
	}
	if err != nil {
		return err
	}
	a.Logger.Info("connected", "gateway", a.Gateway, "agent", a.Name)
	return a.work(ctx, conn)
}

func (a *Agent) join(ctx context.Context) error {
	token, err := a.Token()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	key, request, err := newRequest()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	in, err := apply(ctx, a.client, a.Gateway, token, &application{Name: a.Name, Request: request})
	if err != nil {
		return err
	}
	id, err := newIdentity(key, in.Certificate)
	if err != nil {
		return err
	}
	if err := id.store(a.Dir); err != nil {
		return err
	}
	a.id = id
	a.Logger.Info("joined", "gateway", a.Gateway, "agent", a.Name, "id", in.ID, "expires", id.cert.NotAfter)
	return nil
}

// connect makes a line and is admitted.
func (a *Agent) connect(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*wordTimeout)
	defer cancel()
	raw, err := dialGateway(ctx, a.Gateway, a.address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	host, _, _ := net.SplitHostPort(a.address)
	conn := tls.Client(raw, &tls.Config{RootCAs: a.Roots, ServerName: host, MinVersion: tls.VersionTLS13, NextProtos: []string{ALPN},
		Certificates: []tls.Certificate{a.id.certificate()}, Time: a.Now, DynamicRecordSizingDisabled: true})
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if err = a.greet(ctx, conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

func (a *Agent) greet(ctx context.Context, conn *tls.Conn) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if conn.ConnectionState().NegotiatedProtocol != ALPN {
		return errors.New("what answers is not a custos gateway with agents, or something between ends TLS: agents need it end to end")
	}
	name, _ := os.Hostname()
	said, err := json.Marshal(hello{Host: short(name), Version: short(a.Version)})
	if err != nil {
		return err
	}
	if err := writeLine(conn, string(said)); err != nil {
		return err
	}
	// In TLS 1.3 the gateway's opinion of the certificate arrives only now.
	_, err = readAnswer(conn)
	if op, ok := errors.AsType[*net.OpError](err); isRefusal(err, codeUnknown) || ok && op.Op == "remote error" {
		return fmt.Errorf("%w: %w", errNotTaken, err)
	}
	return err
}

var errNotTaken = errors.New("the gateway does not take this agent's certificate")

// work serves a line until it ends, or, when ctx ends, until it is drained.
func (a *Agent) work(ctx context.Context, conn net.Conn) error {
	mux, err := yamux.Client(&joined{Conn: conn}, muxConfig(a.Logger, a.pace, false))
	if err != nil {
		conn.Close()
		return err
	}
	line, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var sessions, renewing sync.WaitGroup
	defer func() {
		mux.Close()
		cancel()
		sessions.Wait()
		renewing.Wait()
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			stream, err := mux.AcceptStream()
			if err != nil {
				return
			}
			sessions.Go(func() { a.serve(line, &fair{Stream: stream, mux: mux, onEnd: func() {}}) })
		}
	}()
	renewing.Go(func() { a.renewing(line, mux) })
	select {
	case <-ended:
		return ErrCut
	case <-ctx.Done():
	}
	return a.drain(mux, &sessions)
}

// drain ends a line in order.
func (a *Agent) drain(mux *yamux.Session, sessions *sync.WaitGroup) error {
	a.Logger.Info("draining", "sessions", mux.NumStreams(), "at_most", a.Drain)
	if err := mux.GoAway(); err != nil {
		return err
	}
	over := make(chan struct{})
	go func() { sessions.Wait(); close(over) }()
	late := time.NewTimer(a.Drain)
	defer late.Stop()
	select {
	case <-over:
	case <-mux.CloseChan():
	case <-late.C:
		a.Logger.Warn("sessions did not end in time and are cut", "sessions", mux.NumStreams())
	}
	return nil
}

// serve does what one stream asks for.
func (a *Agent) serve(ctx context.Context, stream *fair) {
	defer stream.Close()
	stream.SetReadDeadline(time.Now().Add(wordTimeout))
	text, err := readLine(stream)
	if err != nil {
		return
	}
	address, ok := strings.CutPrefix(text, "dial ")
	if !ok {
		writeRefusal(stream, fmt.Errorf("%.20q is not a word of a gateway's", text))
		return
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		writeRefusal(stream, &refusal{codeBusy, fmt.Sprintf("the agent has its limit of %d sessions open", a.Sessions)})
		return
	}
	target, err := a.Targets.Dial(ctx, address)
	if err != nil {
		a.Logger.Warn("not dialled", "target", address, "cause", err)
		writeRefusal(stream, err)
		return
	}
	defer target.Close()
	// With the line the session is over, whatever the target is doing.
	stop := context.AfterFunc(ctx, func() { target.Close() })
	defer stop()
	stream.SetReadDeadline(time.Time{})
	if err := writeLine(stream, "ok"); err != nil {
		return
	}
	relay(stream, target)
}

// relay carries bytes both ways. When the gateway ends the stream, the session
// is over, and so is the target's end of it; when the target ends it, what it
// said before still goes to the gateway.
func relay(stream *fair, target net.Conn) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		transfer(&patient{target, stream}, stream)
		target.Close()
		stream.Close()
	}()
	if _, err := transfer(stream, target); err != nil {
		target.Close()
	}
	stream.Close()
	<-over
}

// patient writes to a target that may take its time, for as long as the
// gateway wants it to. Nobody reads the stream meanwhile, so nobody would
// notice that the gateway has ended it.
type patient struct {
	target net.Conn
	stream *fair
}

func (p *patient) Write(b []byte) (n int, err error) {
	for {
		p.target.SetWriteDeadline(time.Now().Add(stalled))
		m, err := p.target.Write(b[n:])
		n += m
		if !errors.Is(err, os.ErrDeadlineExceeded) || p.ended() {
			return n, err
		}
	}
}

// ended looks at the stream without taking anything of it.
func (p *patient) ended() bool {
	p.stream.SetReadDeadline(time.Now())
	_, err := p.stream.Read(nil)
	p.stream.SetReadDeadline(time.Time{})
	return err != nil && !errors.Is(err, yamux.ErrTimeout)
}

// renewing renews the certificate on the line, from the half of its life on.
func (a *Agent) renewing(ctx context.Context, mux *yamux.Session) {
	failed := false
	for {
		left := a.id.cert.NotAfter.Sub(a.Now())
		life := a.id.cert.NotAfter.Sub(a.id.cert.NotBefore)
		due := left - life/2
		switch {
		case failed:
			due = min(left/20, time.Minute)
		case due > 0:
			due += rand.N(life / 50)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(due, 0)):
		}
		err := a.renew(mux)
		if failed = err != nil; failed && ctx.Err() == nil {
			a.Logger.Error("renew certificate", "cause", err, "expires", a.id.cert.NotAfter)
		}
	}
}

func (a *Agent) renew(mux *yamux.Session) error {
	key, request, err := newRequest()
	if err != nil {
		return err
	}
	stream, err := mux.OpenStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(stalled))
	if err := writeBlob(stream, "renew", request); err != nil {
		return err
	}
	size, err := readAnswer(stream)
	if err != nil {
		return err
	}
	der, err := readBlob(stream, size)
	if err != nil {
		return err
	}
	id, err := newIdentity(key, der)
	if err != nil {
		return err
	}
	if err := id.store(a.Dir); err != nil {
		return err
	}
	a.id = id
	a.Logger.Info("certificate renewed", "expires", id.cert.NotAfter)
	return nil
}
