package git

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/mask"
	web "github.com/custos-gateway/custos/protocol/http"
)

// Bounds of requests and answers that are held in memory, in bytes.
const (
	maxFetch  = 32 << 20
	maxUnsaid = 64 << 10 // of an upstream's error
	// answerPiece is how much of an answer is put on record and passed on at once.
	answerPiece = 128 << 10
)

// exchange is one request of one session: from its head to the last byte of its
// answer.
type exchange struct {
	server  *Server
	session *gate.Session
	// base is the connection's address as the client knows it.
	base string
	w    http.ResponseWriter
	r    *http.Request
	e    *endpoint
	log  *slog.Logger
}

// wire is what a request asks of the upstream.
type wire struct {
	method      string
	contentType string
	accept      string
	body        io.ReadCloser
	size        int64
	lfs         *lfsCall
}

// request makes the request that goes upstream: nothing of the client's is in
// it but what is named here.
func (x *exchange) request(ctx context.Context, to *wire) (*http.Request, error) {
	g, ok := x.session.Greeting().(*greeting)
	if !ok {
		return nil, errors.New("make request: the session has no upstream")
	}
	if to.lfs != nil {
		ctx = withLFS(ctx, to.lfs)
	}
	r, err := http.NewRequestWithContext(ctx, to.method, x.e.url(g.side.base).String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if to.body != nil {
		r.Body, r.ContentLength = to.body, to.size
	}
	set := func(key, value string) {
		if value != "" {
			r.Header.Set(key, value)
		}
	}
	set("Content-Type", to.contentType)
	set("Accept", to.accept)
	set("User-Agent", oneLine(x.r.UserAgent()))
	if v := x.version(); v > 0 {
		set("Git-Protocol", fmt.Sprintf("version=%d", v))
	}
	// What the upstream packs by itself would be recorded packed.
	set("Accept-Encoding", "identity")
	return r, nil
}

// version is the protocol version that the client asks for (gitprotocol-v2(5), "HTTP
// Transport").
func (x *exchange) version() int {
	version := 0
	for word := range strings.SplitSeq(x.r.Header.Get("Git-Protocol"), ":") {
		switch word {
		case "version=1":
			version = max(version, 1)
		case "version=2":
			version = 2
		}
	}
	return version
}

// serve answers the request. It ends with the client, and with the session.
func (x *exchange) serve() {
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	defer context.AfterFunc(x.session.Context(), cancel)()
	x.r = x.r.WithContext(ctx)
	switch x.e.class {
	case classDiscover:
		x.discover()
	case classFetch:
		x.fetch()
	case classPush:
		x.push()
	case classBatch:
		x.batch()
	case classLocks:
		x.locks()
	case classObject:
		x.object()
	}
}

// submit asks leave for one operation. A refusal is answered here; the permit
// is nil then.
func (x *exchange) submit(q gate.Request, told func(*custos.Refusal)) *gate.Permit {
	permits, err := x.session.Submit(x.r.Context(), nil, []gate.Request{q})
	if err == nil {
		p := permits[0]
		if !detects(p.Masks()) {
			return p
		}
		// What is packed cannot be hidden in: git would take it for damage.
		p.Settle(gate.Outcome{State: custos.StateNotSent})
		d := refuse(ruleMask, "a rule hides values of a kind wherever they stand, and objects of git cannot be changed", "ask for a rule that leaves this connection out")
		told(&custos.Refusal{Decision: *d, Session: x.session.ID(), Entry: p.Entry(), Recorded: true})
		return nil
	}
	var refusal *custos.Refusal
	if !errors.As(err, &refusal) {
		// The client is gone.
		refusal = &custos.Refusal{Decision: custos.Decision{Rule: "session", Reason: err.Error(), Hint: "try again"}, Session: x.session.ID(), Retry: true}
	}
	told(refusal)
	return nil
}

func detects(masks []custos.Mask) bool {
	for i := range masks {
		if len(masks[i].Detect) > 0 {
			return true
		}
	}
	return false
}

// sayPlain answers with a refusal that git prints line by line: of a
// discovery it shows what is plain text.
func (x *exchange) sayPlain(r *custos.Refusal) {
	x.head(http.StatusForbidden, "text/plain; charset=utf-8", r)
	io.WriteString(x.w, strings.Join(told(r), "\n")+"\n")
}

// head writes an answer's head, with where it is on record.
func (x *exchange) head(status int, contentType string, r *custos.Refusal) {
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, no-store")
	if r != nil && r.Recorded {
		h.Set("Custos-Entry", fmt.Sprint(r.Entry))
	}
	x.w.WriteHeader(status)
}

// discover tells what a repository has.
func (x *exchange) discover() {
	q, err := x.request(x.r.Context(), &wire{method: http.MethodGet, accept: "*/*"})
	if err != nil {
		x.broken(nil, err)
		return
	}
	p := x.submit(gate.Request{Operation: discovery(x.e.name(), x.e.service), HTTP: q}, x.sayPlain)
	if p == nil {
		return
	}
	want := "application/x-" + x.e.service + "-advertisement"
	x.forward(p, want, func(body io.Reader) io.Reader {
		if x.e.service == servicePush {
			return newAdvertReader(body)
		}
		return body
	})
}

// body is the request's, decoded, of at most limit bytes.
func (x *exchange) body(contentType string, limit int64) ([]byte, error) {
	r, err := x.decoded(contentType, limit)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read request: %v: %w", err, errRequest)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("read request: it is longer than %d bytes: %w", limit, errBound)
	}
	return b, nil
}

// decoded is the request's body, of a type and at most limit bytes, where its
// head says how long it is.
func (x *exchange) decoded(contentType string, limit int64) (io.Reader, error) {
	if x.r.ContentLength > limit {
		return nil, fmt.Errorf("read request: it is longer than %d bytes: %w", limit, errBound)
	}
	got, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || got != contentType {
		return nil, fmt.Errorf("read request: its type is %q, want %s: %w", clip(x.r.Header.Get("Content-Type"), 80), contentType, errRequest)
	}
	switch encoding := x.r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return x.r.Body, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(x.r.Body)
		if err != nil {
			return nil, fmt.Errorf("read request: %v: %w", err, errRequest)
		}
		return z, nil
	default:
		return nil, fmt.Errorf("read request: the encoding %q is not known here: %w", clip(encoding, 80), errRequest)
	}
}

// unread refuses a request that is none, on record.
func (x *exchange) unread(class string, err error, told func(*custos.Refusal)) {
	d := refusalOf(err)
	if d == nil {
		d = refuse(ruleRequest, printable(err.Error()), "try again")
	}
	x.submit(gate.Request{Operation: &custos.Operation{Class: class, Text: class + " " + x.e.name(), Objects: []string{x.e.name()}, Writes: class != classFetch}, Refused: d}, told)
}

func ready(b []byte) (io.ReadCloser, int64) { return io.NopCloser(bytes.NewReader(b)), int64(len(b)) }

// fetch brings objects, or the list of refs.
func (x *exchange) fetch() {
	say := func(r *custos.Refusal) {
		x.head(http.StatusOK, "application/x-git-upload-pack-result", r)
		x.w.Write(errorPkt(r))
	}
	b, err := x.body("application/x-git-upload-pack-request", maxFetch)
	var f *fetchRequest
	if err == nil {
		f, err = parseFetch(bytes.NewReader(b), x.version())
	}
	if err != nil {
		x.unread(classFetch, err, say)
		return
	}
	to := &wire{method: http.MethodPost, contentType: "application/x-git-upload-pack-request", accept: "application/x-git-upload-pack-result"}
	to.body, to.size = ready(b)
	q, err := x.request(x.r.Context(), to)
	if err != nil {
		x.broken(nil, err)
		return
	}
	if p := x.submit(gate.Request{Operation: f.operation(x.e.name()), HTTP: q}, say); p != nil {
		x.forward(p, to.accept, nil)
	}
}

// forward sends a request that was let through, and passes on the answer, if
// it is of the type that it should have.
func (x *exchange) forward(p *gate.Permit, contentType string, through func(io.Reader) io.Reader) {
	resp, err := p.RoundTrip()
	if err != nil {
		x.broken(p, err)
		return
	}
	defer resp.Body.Close()
	got, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || got != contentType {
		x.unexpected(p, resp)
		return
	}
	out := &answering{x: x, permit: p}
	if err := out.begin(resp.StatusCode, contentType); err != nil {
		x.broken(p, err)
		return
	}
	body := io.Reader(resp.Body)
	if through != nil {
		body = through(body)
	}
	out.finish(io.CopyBuffer(out, struct{ io.Reader }{body}, make([]byte, answerPiece)))
}

// unexpected answers where the upstream did with something else.
func (x *exchange) unexpected(p *gate.Permit, resp *http.Response) {
	status, text := http.StatusBadGateway, fmt.Sprintf("the upstream answers %s", resp.Status)
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		status = http.StatusNotFound
		text = "the upstream has no such repository, or not for the gateway"
	case http.StatusForbidden, http.StatusUnauthorized:
		text = "the upstream does not let the gateway do this"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		status = resp.StatusCode
	case http.StatusOK:
		text = "the upstream answers as no git server does"
	}
	// What it says is for whoever runs the gateway.
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxUnsaid))
	x.log.Warn("upstream's answer", "session", x.session.ID(), "status", resp.Status, "said", printable(string(clip(said, 500))))
	out := &answering{x: x, permit: p, outcome: gate.Outcome{State: custos.StateError, Code: fmt.Sprint(resp.StatusCode)}}
	if err := out.begin(status, "text/plain; charset=utf-8"); err != nil {
		x.broken(p, err)
		return
	}
	out.finish(io.WriteString(out, text+"\n"))
}

// broken ends an exchange that failed before anything was answered.
func (x *exchange) broken(p *gate.Permit, err error) {
	x.log.Warn("exchange", "session", x.session.ID(), "class", x.e.class, "cause", err)
	if p != nil {
		if e := p.Settle(gate.Outcome{State: custos.StateInterrupted}); e != nil {
			x.log.Error("settle", "session", x.session.ID(), "entry", p.Entry(), "cause", e)
		}
	}
	var refusal *custos.Refusal
	if errors.As(err, &refusal) {
		x.sayPlain(refusal)
		return
	}
	x.head(http.StatusBadGateway, "text/plain; charset=utf-8", nil)
	io.WriteString(x.w, "the gateway could not reach the upstream, or lost it: look before you repeat a push\n")
}

// answering passes an answer on: recorded, then to the client, and the last
// byte only when the outcome is on record.
type answering struct {
	x       *exchange
	permit  *gate.Permit
	outcome gate.Outcome
	last    []byte // not passed on yet
	began   bool   // the head is with the client
}

// begin records and sends the answer's head.
func (a *answering) begin(status int, contentType string) error {
	if a.outcome.State == "" {
		a.outcome = gate.Outcome{State: custos.StateOK, Code: fmt.Sprint(status)}
	}
	if err := a.permit.Answer(web.AppendHead(nil, status, http.Header{"Content-Type": {contentType}}, []string{"Content-Type"})); err != nil {
		return err
	}
	if !a.began {
		a.x.w.Header().Set("Custos-Entry", fmt.Sprint(a.permit.Entry()))
		a.x.head(status, contentType, nil)
		a.began = true
	}
	return nil
}

func (a *answering) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := a.permit.Answer(b); err != nil {
		return 0, err
	}
	if _, err := a.x.w.Write(a.last); err != nil {
		return 0, err
	}
	if _, err := a.x.w.Write(b[:len(b)-1]); err != nil {
		return 0, err
	}
	a.last = append(a.last[:0], b[len(b)-1])
	if err := http.NewResponseController(a.x.w).Flush(); err != nil {
		return 0, fmt.Errorf("send answer: %w", err)
	}
	return len(b), nil
}

// finish puts the outcome on record, then lets the last byte go. An answer
// that did not come to its end is cut, for the client to see.
func (a *answering) finish(_ any, err error) {
	if err != nil {
		a.outcome.State = custos.StateInterrupted
	}
	if e := a.permit.Settle(a.outcome); err == nil {
		err = e
	}
	if err != nil {
		a.x.log.Warn("answer", "session", a.x.session.ID(), "entry", a.permit.Entry(), "cause", err)
		panic(http.ErrAbortHandler)
	}
	a.x.w.Write(a.last)
}

// Server is what all exchanges have in common.
type Server struct {
	masker *mask.Masker
	dir    string
	limits *Limits
	turns  chan struct{}
	link   func(approval string) string

	mu     sync.Mutex // guards grants
	grants grants
}

// maxTurns bounds how many pushes are looked through at once.
const maxTurns = 16

func newServer(dir string, link func(string) string) *Server {
	return &Server{masker: newMasker(), dir: dir, limits: &standardLimits, turns: make(chan struct{}, maxTurns), link: link}
}
