package http

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// answerPiece is how much of an answer is put on record and passed on at once.
const answerPiece = 64 << 10

// keptBack are fields of an answer that do not go to the client: those of one line,
// those that speak of the credential, those that would have a browser keep
// something for the gateway's own host, and those that say how long a body is
// that may become another.
var keptBack = []string{"Connection", "Keep-Alive", "Transfer-Encoding", "Trailer", "Upgrade", "Proxy-Authenticate", "Proxy-Authentication-Info", "Content-Length", "Content-Encoding",
	"Set-Cookie", "Set-Cookie2", "Www-Authenticate", "Authentication-Info", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data", "Public-Key-Pins", "Content-Security-Policy",
	"Content-Security-Policy-Report-Only", "X-Content-Type-Options", "Refresh", "Sourcemap", "X-Sourcemap", "Nel", "Report-To", "Service-Worker-Allowed"}

// answering passes an answer on: hidden, recorded, then to the client. Its end
// goes when the outcome is on record.
type answering struct {
	x      *exchange
	permit *gate.Permit
	plan   *plan
	resp   *http.Response
	veil   veil
	body   io.Reader
	// whole: the client knows how long the answer is, and so its last byte is its
	// end; else the end comes after it.
	whole bool
	out   []byte
	last  []byte // not passed on yet
	begun bool
}

// pass passes the answer on.
func (a *answering) pass() {
	x, resp := a.x, a.resp
	if resp.StatusCode == http.StatusUnauthorized && x.session.Connection().Auth.Scheme != "" {
		// What the target says of the credential, which may be a part of it, is not
		// the caller's; nor is it the caller's token that is wrong.
		x.log.Error("the target does not take the credential", "entry", a.permit.Entry())
		x.withheld(a.permit, custos.StateError, ruleCredential, "the target does not take the gateway's credential", "tell whoever runs the gateway")
		return
	}
	if location := resp.Header.Get("Location"); location != "" {
		to, ok := x.moved(location)
		if !ok {
			x.withheld(a.permit, custos.StateError, ruleMoved, "the target sends the caller to another host, where nothing is judged or recorded", "register that host as a connection of its own")
			return
		}
		resp.Header.Set("Location", to)
	}
	if reason := a.look(); reason != "" && resp.StatusCode < http.StatusMultipleChoices && !x.asked.reads() {
		// It was done: that must not look as if it was not.
		x.w.Header().Set("Custos-Withheld", reason)
		resp.Header.Del("Content-Type")
		a.body, a.veil, resp.ContentLength = http.NoBody, hidden(1), 0
	} else if reason != "" {
		x.withheld(a.permit, custos.StateError, ruleForm, "the answer is withheld, for a rule hides values in it: "+reason, "ask for it as JSON, CSV or text")
		return
	}
	err := a.head()
	if err == nil {
		err = a.rest()
	}
	a.finish(err)
}

// look decides how the answer is hidden in; a reason where it cannot be.
func (a *answering) look() (reason string) {
	resp := a.resp
	a.body = resp.Body
	a.veil = bare{}
	empty := a.x.r.Method == http.MethodHead || resp.ContentLength == 0 || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
	if empty || !a.plan.hides() {
		return ""
	}
	if resp.StatusCode == http.StatusPartialContent {
		return "it is a part of something, and a value may be cut by it"
	}
	switch encoding := strings.ToLower(resp.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return "it is no gzip, though it says so"
		}
		a.body = z
		resp.Header.Del("Content-Encoding")
	default:
		return "it is encoded as " + oneLine(encoding, 40)
	}
	v, err := a.plan.veilFor(resp.Header.Get("Content-Type"))
	if err != nil {
		return err.Error()
	}
	a.veil = v
	if a.body == io.Reader(resp.Body) && resp.ContentLength > 0 && resp.ContentLength <= maxWhole {
		return a.hide()
	}
	return ""
}

// maxWhole bounds, in bytes, an answer that is hidden in before its head goes, so
// that what cannot be can still be said.
const maxWhole = 1 << 20

// hide hides in a short answer, as a whole; a reason where it cannot be.
func (a *answering) hide() (reason string) {
	raw, err := io.ReadAll(a.body)
	if err != nil {
		return "it was cut short"
	}
	out, err := a.veil.Append(nil, raw)
	if err == nil {
		out, err = a.veil.End(out)
	}
	if err != nil {
		return strings.TrimPrefix(err.Error(), "hide answer: ")
	}
	a.body, a.veil, a.resp.ContentLength = bytes.NewReader(out), hidden(a.veil.Hidden()), int64(len(out))
	return ""
}

// hidden is the veil of what was hidden in before.
type hidden int64

func (hidden) Append(dst, b []byte) ([]byte, error) { return append(dst, b...), nil }
func (hidden) End(dst []byte) ([]byte, error)       { return dst, nil }
func (h hidden) Hidden() int64                      { return int64(h) }

// moved is where an answer sends the caller, as an address of the gateway's;
// false: to another host.
func (x *exchange) moved(location string) (string, bool) {
	u, err := url.Parse(location)
	if err != nil || u.Opaque != "" {
		return "", false
	}
	if u.Host == "" && u.Scheme == "" {
		if !strings.HasPrefix(location, "/") {
			return location, true // beside what was asked for
		}
	} else if !x.own(u) {
		return "", false
	}
	c := x.session.Connection()
	path, below := strings.CutPrefix(u.EscapedPath(), strings.TrimSuffix(c.Path, "/"))
	if !below || path != "" && path[0] != '/' {
		return "", false
	}
	to := Prefix + c.Name + path
	if u.RawQuery != "" {
		to += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		to += "#" + u.EscapedFragment()
	}
	return to, true
}

// own reports whether a URL is of the target itself.
func (x *exchange) own(u *url.URL) bool {
	c := x.session.Connection()
	host := u.Host
	if u.Port() == "" {
		port := "443"
		if u.Scheme == "http" {
			port = "80"
		}
		host += ":" + port
	}
	return strings.EqualFold(host, c.Address) && (u.Scheme == "https" || u.Scheme == "http" || u.Scheme == "")
}

// head records and sends the answer's head.
func (a *answering) head() error {
	x, resp := a.x, a.resp
	h := x.w.Header()
	connection := resp.Header.Values("Connection")
	for name, values := range resp.Header {
		if slices.Contains(keptBack, name) || oneHop(connection, name) || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "Custos-") {
			continue
		}
		for _, v := range values {
			if name != "Content-Type" && name != "Etag" {
				text, _ := a.plan.search(nil, []byte(v))
				v = string(text)
			}
			h.Add(name, v)
		}
	}
	if v := resp.Header.Get("Content-Encoding"); v != "" {
		h.Set("Content-Encoding", v)
	}
	guard(h)
	names := make([]string, 0, len(h))
	for name := range h {
		if !strings.HasPrefix(name, "Custos-") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if err := a.permit.Answer(AppendHead(nil, resp.StatusCode, h, names)); err != nil {
		return err
	}
	h.Set("Custos-Entry", strconv.FormatUint(a.permit.Entry(), 10))
	if a.exact() {
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
		a.whole = resp.ContentLength > 0
	}
	x.w.WriteHeader(resp.StatusCode)
	a.begun = true
	if resp.ContentLength < 0 {
		// Clients of streams wait for the head before there is anything to tell.
		return a.flush()
	}
	return nil
}

// exact reports whether it is known how long the answer will be.
func (a *answering) exact() bool {
	switch a.veil.(type) {
	case bare, hidden:
		return a.resp.ContentLength >= 0
	}
	return false
}

func (a *answering) flush() error {
	if err := a.x.control.Flush(); err != nil {
		return fmt.Errorf("send answer: %w", err)
	}
	return nil
}

// pieces are buffers of answers: nothing is kept of one after its answer.
var pieces = sync.Pool{New: func() any { return new([answerPiece]byte) }}

// rest passes the body on until it ends.
func (a *answering) rest() error {
	if a.x.r.Method == http.MethodHead {
		return nil
	}
	buf := pieces.Get().(*[answerPiece]byte)
	defer pieces.Put(buf)
	for {
		n, err := a.body.Read(buf[:])
		if n > 0 {
			e := a.through(buf[:n])
			if e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
	}
	var err error
	if a.out, err = a.veil.End(a.out[:0]); err != nil {
		return err
	}
	return a.piece(a.out)
}

// through hides in a piece and passes it on.
func (a *answering) through(b []byte) error {
	switch a.veil.(type) {
	case bare, hidden:
		return a.piece(b)
	}
	var err error
	if a.out, err = a.veil.Append(a.out[:0], b); err != nil {
		return err
	}
	return a.piece(a.out)
}

// piece records a piece and sends it; of an answer that is as long as its head
// said, but for the last byte.
func (a *answering) piece(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := a.permit.Answer(b); err != nil {
		return err
	}
	send := [][]byte{b}
	if a.whole {
		send = [][]byte{a.last, b[:len(b)-1]}
	}
	for _, piece := range send {
		if _, err := a.x.w.Write(piece); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
	}
	if a.whole {
		a.last = append(a.last[:0], b[len(b)-1])
		return nil
	}
	if a.resp.ContentLength < 0 {
		return a.flush()
	}
	return nil
}

// finish puts the outcome on record, and then lets the answer end. One that did
// not come to its end is cut off, for the client to see.
func (a *answering) finish(err error) {
	o := gate.Outcome{State: custos.StateOK, Code: strconv.Itoa(a.resp.StatusCode), Masked: a.veil.Hidden()}
	if a.resp.StatusCode >= http.StatusBadRequest {
		o.State = custos.StateError
	}
	if v := a.resp.Trailer.Get("Grpc-Status"); v != "" && v != "0" {
		o.State, o.Code = custos.StateError, "grpc "+oneLine(v, 8)
	}
	if err != nil {
		o.State = custos.StateInterrupted
	}
	if e := a.permit.Settle(o); err == nil {
		err = e
	}
	if err != nil {
		a.x.log.Warn("answer", "entry", a.permit.Entry(), "cause", err)
		if !a.begun {
			a.x.refused(err)
			return
		}
		panic(http.ErrAbortHandler)
	}
	for _, name := range []string{"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"} {
		if v := a.resp.Trailer.Get(name); v != "" {
			a.x.w.Header().Set(http.TrailerPrefix+name, v)
		}
	}
	a.x.w.Write(a.last)
}

// upgrade carries a WebSocket: everything on it is on record before it goes on.
func (x *exchange) upgrade(p *gate.Permit, resp *http.Response) {
	target, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") || resp.Header.Get("Sec-Websocket-Extensions") != "" {
		x.broken(p, custos.StateInterrupted, errors.New("the target changed to another protocol than was asked for"))
		return
	}
	defer target.Close()
	head := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	for _, name := range []string{"Sec-Websocket-Accept", "Sec-Websocket-Protocol"} {
		if v := resp.Header.Get(name); v != "" {
			head.Set(name, v)
		}
	}
	names := []string{"Connection", "Upgrade", "Sec-Websocket-Accept", "Sec-Websocket-Protocol"}
	if err := p.Answer(AppendHead(nil, resp.StatusCode, head, names)); err != nil {
		x.broken(p, custos.StateInterrupted, err)
		return
	}
	client, rw, err := x.control.Hijack()
	if err != nil {
		x.broken(p, custos.StateInterrupted, err)
		return
	}
	defer client.Close()
	head.Set("Custos-Session", string(x.session.ID()))
	head.Set("Custos-Entry", strconv.FormatUint(p.Entry(), 10))
	if _, err := client.Write(AppendHead(nil, resp.StatusCode, head, append(names, "Custos-Session", "Custos-Entry"))); err != nil {
		x.settle(p, gate.Outcome{State: custos.StateInterrupted})
		return
	}
	// The request's own context ends when its line is taken over: the session's does not.
	ctx := x.session.Context()
	stop := context.AfterFunc(ctx, func() { client.Close(); target.Close() })
	defer stop()
	in, out := make(chan error, 1), make(chan error, 1)
	go func() { in <- carry(rw.Reader, func(b []byte) error { _, err := target.Write(b); return err }) }()
	go func() {
		out <- carry(bufio.NewReader(target), func(b []byte) error {
			if err := p.Answer(b); err != nil {
				return err
			}
			_, err := client.Write(b)
			return err
		})
	}()
	select {
	case err = <-out:
		client.Close()
		<-in
	case err = <-in:
		target.Close()
		<-out
	}
	o := gate.Outcome{State: custos.StateOK, Code: "101"}
	var refused *custos.Refusal
	if errors.As(err, &refused) || ctx.Err() != nil {
		o.State = custos.StateInterrupted
	}
	x.settle(p, o)
}

func carry(r io.Reader, pass func([]byte) error) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if e := pass(buf[:n]); e != nil {
				return e
			}
		}
		if err != nil {
			return err
		}
	}
}
