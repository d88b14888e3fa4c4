package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// The media types of a push (gitprotocol-http(5), "Smart Service git-receive-pack").
const (
	pushType   = "application/x-git-receive-pack-request"
	reportType = "application/x-git-receive-pack-result"
)

// keepAlive is how often a client whose push is held hears something: git waits
// as long as it likes, what is between it and the gateway may not.
const keepAlive = 5 * time.Second

// push judges a push, and sends it if it is let through.
func (x *exchange) push() {
	raw, err := x.decoded(pushType, x.server.limits.Pack+maxCommands*200)
	if err != nil {
		x.unread(classPush, err, x.sayPlain)
		return
	}
	patient := &patient{r: raw, control: http.NewResponseController(x.w)}
	defer patient.done()
	in := newPktReader(patient)
	req, err := parsePush(in)
	if err != nil {
		x.unread(classPush, err, x.sayPlain)
		return
	}
	if req == nil {
		if _, err := in.r.Peek(1); !errors.Is(err, io.EOF) {
			x.unread(classPush, fmt.Errorf("read push: something is behind it: %w", errRequest), x.sayPlain)
			return
		}
		x.probe()
		return
	}
	say := x.sayPush(req)
	// What the gateway itself reads to judge the push is on record before it is
	// read, and only who may read the repository can have it read.
	look := x.submit(gate.Request{Operation: x.consideration(req)}, say)
	if look == nil {
		return
	}
	p, err := x.judge(req, in.r)
	patient.done()
	state := gate.Outcome{State: custos.StateOK}
	if err != nil {
		state.State = custos.StateError
	}
	if e := look.Settle(state); e != nil && err == nil {
		err = e
	}
	if p != nil {
		defer p.close()
	}
	if err != nil {
		x.unjudged(req, err, say)
		return
	}
	x.send(req, p, say)
}

// stalled is how long a client may send nothing of a push that it has begun.
const stalled = time.Minute

// patient reads from a client that goes on sending.
type patient struct {
	r       io.Reader
	control *http.ResponseController
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.control.SetReadDeadline(time.Now().Add(stalled)); err != nil {
		return 0, fmt.Errorf("read push: %w", err)
	}
	return p.r.Read(b)
}

// done lets the line be silent again.
func (p *patient) done() { p.control.SetReadDeadline(time.Time{}) }

// consideration is the reading by which a push is judged.
func (x *exchange) consideration(req *pushRequest) *custos.Operation {
	o := discovery(x.e.name(), servicePush)
	o.Class = classConsider
	var b strings.Builder
	fmt.Fprintf(&b, "consider a push to %s", x.e.name())
	for _, c := range req.commands {
		fmt.Fprintf(&b, "\n%s %s..%s", c.ref, shown(c.old), shown(c.new))
	}
	o.Text = b.String()
	return o
}

func (x *exchange) judge(req *pushRequest, body io.Reader) (*pushed, error) {
	// Pushes are looked through a few at a time: each takes memory.
	select {
	case x.server.turns <- struct{}{}:
		defer func() { <-x.server.turns }()
	case <-x.r.Context().Done():
		return nil, x.r.Context().Err()
	}
	g, ok := x.session.Greeting().(*greeting)
	if !ok {
		return nil, errors.New("judge push: the session has no upstream")
	}
	j := &judgement{upstream: g.upstream(x.e.repository, x.server.dir), repository: x.e.name(), caller: x.session.Caller(), masker: x.server.masker,
		limits: x.server.limits, dir: x.server.dir}
	return j.judge(x.r.Context(), req, body)
}

// unjudged refuses a push of which nobody can say what it does.
func (x *exchange) unjudged(req *pushRequest, err error, say func(*custos.Refusal)) {
	d := refusalOf(err)
	if d == nil {
		x.log.Warn("judge push", "session", x.session.ID(), "cause", err)
		d = refuse("target-unavailable", "the gateway could not look through the push", "try again later; if it lasts, tell whoever runs the gateway")
	}
	o := x.consideration(req)
	o.Class, o.Verbs, o.Writes = classPush, []string{"PUSH"}, true
	o.Text = strings.Replace(o.Text, "consider a push to", "push", 1)
	x.submit(gate.Request{Operation: o, Refused: d}, say)
}

// sayPush answers a push with a refusal, as git shows it best.
func (x *exchange) sayPush(req *pushRequest) func(*custos.Refusal) {
	return func(r *custos.Refusal) {
		b := req.report(nil, r)
		if b == nil {
			x.sayPlain(r)
			return
		}
		x.head(http.StatusOK, reportType, r)
		x.w.Write(b)
	}
}

// probe answers the push of nothing by which git asks whether it is let in,
// before a long one.
func (x *exchange) probe() {
	o := discovery(x.e.name(), servicePush)
	o.Class, o.Text = classProbe, "probe "+x.e.name()
	to := &wire{method: http.MethodPost, contentType: pushType, accept: reportType}
	to.body, to.size = ready([]byte(flushPkt))
	q, err := x.request(x.r.Context(), to)
	if err != nil {
		x.broken(nil, err)
		return
	}
	if p := x.submit(gate.Request{Operation: o, HTTP: q}, x.sayPlain); p != nil {
		x.forward(p, reportType, nil)
	}
}

// send asks leave for the push as it was judged and passes on what the upstream
// makes of it.
func (x *exchange) send(req *pushRequest, p *pushed, say func(*custos.Refusal)) {
	to := &wire{method: http.MethodPost, contentType: pushType, accept: reportType}
	var spool *web.Spool
	if p.pack != nil {
		spool = p.pack.spool
	}
	body := web.NewPieces(p.wire, spool)
	to.body, to.size = body, body.Size()
	q, err := x.request(x.r.Context(), to)
	if err != nil {
		x.broken(nil, err)
		return
	}
	w := &waiting{x: x, req: req}
	permit := x.submit(gate.Request{Operation: p.op, HTTP: q, Held: w.held}, func(r *custos.Refusal) {
		if w.stop() {
			x.w.Write(req.report(nil, r))
			return
		}
		say(r)
	})
	began := w.stop()
	if permit == nil {
		return
	}
	resp, err := permit.RoundTrip()
	if err != nil {
		x.brokenPush(req, permit, began, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != reportType {
		if began {
			x.brokenPush(req, permit, began, fmt.Errorf("the upstream answers %s", resp.Status))
			return
		}
		x.unexpected(permit, resp)
		return
	}
	x.report(req, permit, began, resp.Body)
}

// brokenPush ends a push that was sent, or nearly, and has no answer.
func (x *exchange) brokenPush(req *pushRequest, permit *gate.Permit, began bool, err error) {
	if !began {
		x.broken(permit, err)
		return
	}
	x.log.Warn("push", "session", x.session.ID(), "entry", permit.Entry(), "cause", err)
	if e := permit.Settle(gate.Outcome{State: custos.StateInterrupted}); e != nil {
		x.log.Error("settle", "session", x.session.ID(), "entry", permit.Entry(), "cause", e)
	}
	x.w.Write(appendBand(nil, bandError, "the gateway lost the upstream: git fetch tells whether it has the push\n", maxPkt))
}

// report passes on the upstream's report packet by packet, and takes from it
// whether each ref was changed.
func (x *exchange) report(req *pushRequest, permit *gate.Permit, began bool, body io.Reader) {
	out := &answering{x: x, permit: permit, began: began}
	if err := out.begin(http.StatusOK, reportType); err != nil {
		x.broken(permit, err)
		return
	}
	var status bytes.Buffer
	err := passPackets(out, body, req.has("side-band-64k"), &status)
	out.outcome = outcomeOf(&status, len(req.commands))
	if !req.has("report-status") && !req.has("report-status-v2") {
		out.outcome = gate.Outcome{State: custos.StateOK, Code: "200"}
	}
	out.finish(nil, err)
}

// maxStatus bounds what is kept of a report to read it, in bytes.
const maxStatus = 4 << 20

// passPackets copies packets, and the report among them into status.
func passPackets(out io.Writer, body io.Reader, banded bool, status *bytes.Buffer) error {
	in := newPktReader(body)
	var buf []byte
	for {
		sort, data, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		buf = buf[:0]
		switch sort {
		case pktData:
			buf = appendPkt(buf, data)
		case pktFlush:
			buf = append(buf, flushPkt...)
		default:
			return fmt.Errorf("read report: a packet of another version: %w", errUpstream)
		}
		if status.Len() < maxStatus {
			switch {
			case !banded:
				status.Write(buf)
			case len(data) > 0 && data[0] == bandData:
				status.Write(data[1:])
			}
		}
		if _, err := out.Write(buf); err != nil {
			return err
		}
	}
}

// outcomeOf reads a report (gitprotocol-pack(5), "Report Status").
func outcomeOf(status io.Reader, refs int) gate.Outcome {
	in := newPktReader(status)
	o := gate.Outcome{State: custos.StateError}
	refused := 0
	for {
		sort, line, err := in.line()
		if err != nil || sort != pktData {
			break
		}
		word, _, _ := strings.Cut(string(line), " ")
		switch word {
		case "ok":
			o.Rows++
		case "ng":
			refused++
		}
	}
	switch {
	case int(o.Rows) == refs:
		o.State, o.Code = custos.StateOK, "ok"
	case refused > 0:
		o.Code = "ng"
	default:
		o.State = custos.StateInterrupted
	}
	return o
}

// waiting keeps the client of a held push informed.
type waiting struct {
	x   *exchange
	req *pushRequest

	mu    sync.Mutex // orders writes to the client
	began bool
	done  chan struct{}
	ended chan struct{}
}

// held tells the client that people are asked. A client without a band for
// it waits in silence.
func (w *waiting) held(a *custos.Approval) context.Context {
	ctx := w.x.r.Context()
	if !w.req.has("side-band-64k") {
		return ctx
	}
	lines := []string{fmt.Sprintf("held by rule %s: %s; waiting until %s for approval %s", a.Rule, a.Reason, a.Expires.UTC().Format(time.RFC3339), a.ID)}
	next := "a reviewer answers by: custos approval approve " + a.ID
	if w.x.server.link != nil {
		if url := w.x.server.link(a.ID); url != "" {
			next = "a reviewer answers at " + url + " or by: custos approval approve " + a.ID
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.x.head(http.StatusOK, reportType, &custos.Refusal{Entry: a.Operation, Recorded: true})
	w.began, w.done, w.ended = true, make(chan struct{}), make(chan struct{})
	w.say(appendProgress(nil, append(lines, "hint: "+next)...))
	go w.keep(ctx, w.done)
	return ctx
}

func (w *waiting) say(b []byte) {
	w.x.w.Write(b)
	http.NewResponseController(w.x.w).Flush() // that it is gone is told by its context
}

// keep sends packets that say nothing, until the wait is over.
func (w *waiting) keep(ctx context.Context, done chan struct{}) {
	defer close(w.ended)
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			w.mu.Lock()
			w.say(appendBand(nil, bandProgress, "", maxPkt))
			w.mu.Unlock()
		}
	}
}

// stop ends the packets, and reports whether an answer has begun.
func (w *waiting) stop() bool {
	w.mu.Lock()
	began, done := w.began, w.done
	w.done = nil
	w.mu.Unlock()
	if done != nil {
		close(done)
		<-w.ended
	}
	return began
}
