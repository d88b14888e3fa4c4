package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// bodyTimeout is how long a client may take for each piece of its body.
const bodyTimeout = time.Minute

// exchange is one request of one session, from its head to its answer's end.
type exchange struct {
	*Server
	session *gate.Session
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	log     *slog.Logger
	asked   *asked
}

// serve leads one request through: rest is what follows the connection's name,
// as the client wrote it.
func (s *Server) serve(session *gate.Session, rest string, w http.ResponseWriter, r *http.Request) {
	x := &exchange{Server: s, session: session, w: w, control: http.NewResponseController(w), log: s.Logger.With("session", session.ID())}
	// The request ends with its client, and with its session.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stop := context.AfterFunc(session.Context(), func() { cancel(context.Cause(session.Context())) })
	defer stop()
	x.r = r.WithContext(ctx)
	host := session.Connection().Address
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	in, err := x.readBody()
	defer in.close()
	var q *asked
	own := err
	if err == nil {
		q, own = take(r.Method, host, rest, r.URL.RawQuery, r.Header, in.small, in.size, in.spool != nil)
		q.sum = in.sum
	} else if asRefused(err) == nil {
		x.log.Debug("read request", "cause", err)
		return // the client is gone
	}
	x.asked = q
	request := gate.Request{Held: func(*custos.Approval) context.Context { return x.r.Context() }}
	switch {
	case own != nil:
		request.Operation = unread(r, rest)
		if request.Refused = asRefused(own); request.Refused == nil {
			x.refused(own)
			return
		}
		w.Header().Set("Connection", "close") // what follows may be misread as well
	default:
		request.Operation = q.operation()
		if request.HTTP, err = x.outgoing(in); err != nil {
			x.refused(err)
			return
		}
	}
	permits, err := session.Submit(x.r.Context(), nil, []gate.Request{request})
	if err != nil {
		x.refused(err)
		return
	}
	x.forward(permits[0])
}

// unread is the operation of a request that nobody may make.
func unread(r *http.Request, rest string) *custos.Operation {
	text := r.Method + " " + rest
	if r.URL.RawQuery != "" {
		text += "?" + r.URL.RawQuery
	}
	return &custos.Operation{Class: classRequest, Text: oneLine(text, maxText), Verbs: []string{oneLine(r.Method, 40)}, Writes: true, Facts: &custos.Facts{Effects: []string{"unknown"}}}
}

// input is a body that was read: in memory, or in a spool.
type input struct {
	small []byte
	spool *Spool
	size  int64
	sum   string // SHA-256, in hexadecimal
}

func (in *input) close() {
	if in.spool != nil {
		in.spool.Close()
	}
}

var errTooLong = refuse(ruleTooLong, fmt.Sprintf("the body is longer than %d bytes", maxBody), "send less at once")

// readBody reads the whole body before it is judged, so that what is judged, and
// approved, is what goes out.
func (x *exchange) readBody() (*input, error) {
	in := &input{}
	if x.r.Body == nil || x.r.Body == http.NoBody || x.r.Header.Get("Upgrade") != "" {
		return in, nil
	}
	if x.r.ContentLength > maxBody {
		return in, errTooLong
	}
	sum := sha256.New()
	size := int64(32 << 10)
	if n := x.r.ContentLength; n > 0 && n <= maxJudged {
		in.small, size = make([]byte, 0, n), min(n+1, size)
	}
	buf := make([]byte, size)
	for {
		// A client that sends nothing more is not waited for.
		if err := x.control.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return in, fmt.Errorf("read body: %w", err)
		}
		n, err := x.r.Body.Read(buf)
		sum.Write(buf[:n])
		if in.size += int64(n); in.size > maxBody {
			return in, errTooLong
		}
		if e := in.take(x.Temp, buf[:n]); e != nil {
			return in, e
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return in, fmt.Errorf("read body: %w", err)
		}
	}
	if err := x.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return in, fmt.Errorf("read body: %w", err)
	}
	in.sum = hex.EncodeToString(sum.Sum(nil))
	return in, nil
}

// take keeps a piece: what is more than is judged goes into a spool.
func (in *input) take(dir string, b []byte) error {
	if in.spool == nil && len(in.small)+len(b) <= maxJudged {
		in.small = append(in.small, b...)
		return nil
	}
	if in.spool == nil {
		in.spool = NewSpool(dir)
		if _, err := in.spool.Write(in.small); err != nil {
			return err
		}
		in.small = nil
	}
	_, err := in.spool.Write(b)
	return err
}

// dropped are fields that do not go to the target: those of one line (RFC 9110,
// section 7.6.1), those that are the gateway's to say, and those that would
// bring back what was said to somebody else.
var dropped = []string{"Authorization", "Cookie", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Connection", "Proxy-Authenticate", "Host", "Content-Length", "Expect",
	"Forwarded", "Via", "X-Real-Ip", "Accept-Encoding", "Content-Encoding", "Sec-Websocket-Extensions", "Origin", "Referer", "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token"}

// outgoing is the request as it goes to the target.
func (x *exchange) outgoing(in *input) (*http.Request, error) {
	q, c := x.asked, x.session.Connection()
	// Its host is the target's, which the login's half puts in.
	u := &url.URL{Scheme: "https", Host: "target", RawQuery: q.address.rawQuery}
	u.RawPath = strings.TrimSuffix(c.Path, "/") + q.address.raw
	var err error
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	out, err := http.NewRequestWithContext(x.r.Context(), x.r.Method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	connection := x.r.Header.Values("Connection")
	for name, values := range x.r.Header {
		plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if slices.Contains(dropped, plain) || strings.HasPrefix(plain, "X-Forwarded-") || strings.HasPrefix(plain, "Custos-") ||
			strings.HasPrefix(plain, "Sec-Fetch-") || oneHop(connection, name) {
			continue
		}
		out.Header[name] = values
	}
	out.Header.Set("Accept-Encoding", "identity") // what is packed cannot be looked into
	out.Header["X-Forwarded-For"] = nil           // who asks is on record here, and nobody else's to know
	if q.upgrade {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", "websocket")
		return out, nil
	}
	switch {
	case in.spool != nil:
		body := NewPieces(nil, in.spool)
		out.Body, out.ContentLength = body, body.Size()
		if v := x.r.Header.Get("Content-Encoding"); v != "" {
			out.Header.Set("Content-Encoding", v)
		}
	case len(q.body.raw) > 0 && q.shown():
		out.Body, out.ContentLength = gate.NewJudged(string(q.body.raw)), int64(len(q.body.raw))
		in.sum = digest(q.body.raw)
	case len(q.body.raw) > 0:
		body := NewPieces(q.body.raw, nil)
		out.Body, out.ContentLength = body, body.Size()
		in.sum = digest(q.body.raw)
	case x.r.Method == http.MethodPost || x.r.Method == http.MethodPut || x.r.Method == http.MethodPatch:
		out.Body = http.NoBody
	}
	if c.Auth.Scheme == custos.AuthSigV4 {
		if in.sum == "" {
			in.sum = digest(nil)
		}
		out.Header.Set(payloadField, in.sum)
	}
	return out, nil
}

// oneHop reports whether a Connection field names another (RFC 9110, section 7.6.1).
func oneHop(connection []string, name string) bool {
	for _, v := range connection {
		for n := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(n), name) {
				return true
			}
		}
	}
	return false
}

// refused answers with a refusal.
func (x *exchange) refused(err error) {
	say(x.w, problemOf(asRefusal(err), x.Link))
}

// forward sends what was let through, and passes the answer on.
func (x *exchange) forward(p *gate.Permit) {
	plan, err := newPlan(x.asked, p.Masks(), &x.MaskKey)
	if err != nil {
		x.broken(p, custos.StateNotSent, err)
		return
	}
	if x.asked.upgrade && plan.hides() {
		x.withheld(p, custos.StateNotSent, ruleForm, "a rule hides values, and what goes over a WebSocket cannot be looked into", "ask for it over plain HTTP")
		return
	}
	resp, err := p.RoundTrip()
	if err != nil {
		x.broken(p, custos.StateInterrupted, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.upgrade(p, resp)
		return
	}
	a := &answering{x: x, permit: p, plan: plan, resp: resp}
	a.pass()
}

// withheld is an answer that does not go to the client, or a request that does
// not go to the target after all.
func (x *exchange) withheld(p *gate.Permit, state custos.State, rule, reason, hint string) {
	x.settle(p, gate.Outcome{State: state, Code: rule})
	x.refused(&custos.Refusal{Decision: custos.Decision{Rule: rule, Reason: reason, Hint: hint}, Session: x.session.ID(), Entry: p.Entry(), Recorded: true})
}

// broken ends an exchange that failed before anything was answered.
func (x *exchange) broken(p *gate.Permit, state custos.State, err error) {
	x.log.Warn("exchange", "entry", p.Entry(), "cause", err)
	x.settle(p, gate.Outcome{State: state})
	r := asRefusal(err)
	if !r.Recorded {
		r.Session, r.Entry, r.Recorded = x.session.ID(), p.Entry(), true
	}
	x.refused(r)
}

func (x *exchange) settle(p *gate.Permit, o gate.Outcome) {
	if err := p.Settle(o); err != nil {
		x.log.Error("settle operation", "entry", p.Entry(), "cause", err)
	}
}

// cutQuery cuts a parameter out of a query, as it is written, and returns its
// value.
func cutQuery(raw, name string) (value, rest string) {
	var kept [][]byte
	for _, pair := range bytes.Split([]byte(raw), []byte("&")) {
		k, v, _ := strings.Cut(string(pair), "=")
		if plain, err := url.QueryUnescape(k); err == nil && plain == name {
			if value == "" {
				value, _ = url.QueryUnescape(v)
			}
			continue
		}
		if len(pair) > 0 {
			kept = append(kept, pair)
		}
	}
	return value, string(bytes.Join(kept, []byte("&")))
}
