package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// ruleTooLong is the rule by which a body that is too long is refused.
const ruleTooLong = "kubernetes/body-limit"

// maxBody bounds, in bytes, the body of a request: it is the API server's own
// limit (k8s.io/apiserver, pkg/server, MaxRequestBodyBytes).
const maxBody = 3 << 20

// exchange is one request of one session, from its head to its answer's end.
type exchange struct {
	*Server
	session *gate.Session
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	log     *slog.Logger
	target  *target
	// streams: the answer has no end of its own, such as a watch's.
	streams bool
}

// serve leads one request through: path is what follows the connection's name,
// as the client wrote it.
func (s *Server) serve(session *gate.Session, path string, w http.ResponseWriter, r *http.Request) {
	x := &exchange{Server: s, session: session, w: w, r: r, control: http.NewResponseController(w), log: s.Logger.With("session", session.ID())}
	w.Header().Set("Custos-Session", string(session.ID()))
	// The request ends with its client, and with its session.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	stop := context.AfterFunc(session.Context(), func() { cancel(context.Cause(session.Context())) })
	defer stop()
	r = r.WithContext(ctx)
	x.r = r
	var raw []byte
	var err, own error
	if r.ContentLength <= maxBody {
		if raw, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1)); err != nil {
			return // the client is gone
		}
	}
	if len(raw) > maxBody || r.ContentLength > maxBody {
		w.Header().Set("Connection", "close") // the rest is not read
		raw, own = nil, refuse(ruleTooLong, fmt.Sprintf("the body is longer than %d bytes, and the API server takes no more", maxBody), "send less at once")
	}
	op, t, err := understand(r.Method, path, r.URL.RawQuery, r.Header, raw, &s.MaskKey)
	x.target = t
	if own == nil {
		own = err
	}
	request := gate.Request{Operation: op, Held: x.held, Reads: t != nil && t.readsOnly() && own == nil}
	var refused *notFor
	if errors.As(own, &refused) {
		request.Refused = &refused.decision
	} else if request.HTTP, err = x.outgoing(t, path, raw); err != nil {
		say(w, statusOf(asRefusal(err), t))
		return
	}
	permits, err := session.Submit(r.Context(), nil, []gate.Request{request})
	if err != nil {
		x.refused(err)
		return
	}
	x.forward(permits[0])
}

// held ends a hold when the client goes away.
func (x *exchange) held(*custos.Approval) context.Context { return x.r.Context() }

func (x *exchange) refused(err error) {
	r := asRefusal(err)
	if r.Recorded {
		x.mark(r.Entry)
	}
	say(x.w, statusOf(r, x.target))
}

func (x *exchange) mark(entry uint64) { x.w.Header().Set("Custos-Entry", fmt.Sprint(entry)) }

// passed are the fields of a request that the API server is given. Who calls is
// none of them.
var passed = []string{"Content-Type", "User-Agent", "If-Match", "If-None-Match", "If-Modified-Since",
	"Kubectl-Command", "Kubectl-Session", "X-Stream-Protocol-Version", "Sec-Websocket-Key", "Sec-Websocket-Version"}

// outgoing is the request as it goes to the API server: nothing of the
// client's is in it but what is named here.
func (x *exchange) outgoing(t *target, path string, raw []byte) (*http.Request, error) {
	// Its host is the target's, which the login's half puts in.
	u := &url.URL{Scheme: "https", Host: "kubernetes", RawQuery: x.r.URL.RawQuery}
	var err error
	if u.Path, err = url.PathUnescape(path); err != nil {
		return nil, err
	}
	u.RawPath = path
	out, err := http.NewRequestWithContext(x.r.Context(), x.r.Method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if len(raw) > 0 {
		out.Body, out.ContentLength = judged{bytes.NewReader(raw)}, int64(len(raw))
	}
	for _, name := range passed {
		if v := x.r.Header.Values(name); len(v) > 0 {
			out.Header[name] = v[:1]
		}
	}
	out.Header.Set("Accept", acceptable(t, x.r.Header))
	out.Header.Set("Accept-Encoding", "identity") // what is packed cannot be looked into
	if x.session.Connection().Impersonate {
		impersonate(out.Header, x.session)
	}
	if t.connect() && x.r.Header.Get("Upgrade") != "" {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", x.r.Header.Get("Upgrade"))
		for _, v := range x.r.Header.Values("X-Stream-Protocol-Version") {
			if !strings.Contains(strings.Join(out.Header.Values("X-Stream-Protocol-Version"), ","), v) {
				out.Header.Add("X-Stream-Protocol-Version", v)
			}
		}
		if p := subprotocols(x.r.Header); len(p) > 0 {
			out.Header.Set("Sec-Websocket-Protocol", strings.Join(p, ", "))
		}
	}
	return out, nil
}

// impersonate says for whom a request is: by issuer and subject, which are the
// caller's identity, with groups that are marked as the gateway's, so that
// none of a caller's can be one of the cluster's own.
func impersonate(header http.Header, session *gate.Session) {
	c := session.Caller()
	header.Set("Impersonate-User", "custos:"+c.Issuer+"#"+c.Subject)
	header["Impersonate-Group"] = []string{"system:authenticated"}
	for _, g := range c.Groups {
		header.Add("Impersonate-Group", "custos:"+g)
	}
	header.Set("Impersonate-Extra-Custos-Session", string(session.ID()))
}

// judged is a body that was judged, whole, with the request: it is on record
// with it.
type judged struct{ *bytes.Reader }

func (judged) Close() error { return nil }

// acceptable is what a client takes, of what can be looked into: JSON where it
// takes it, and else what it asks for.
func acceptable(t *target, header http.Header) string {
	var kept []string
	plain := false
	for part := range strings.SplitSeq(strings.Join(header.Values("Accept"), ","), ",") {
		part = strings.TrimSpace(part)
		media, _, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case typeJSON:
			plain = true
			kept = append(kept, part)
		case typeProtobuf, typeYAML, "text/yaml", "text/plain", "*/*", "application/*":
			kept = append(kept, part)
		default:
			if t != nil && (!t.resource || t.subresource == "proxy") && part != "" {
				kept = append(kept, part)
			}
		}
	}
	if plain {
		// Where it takes JSON as well, it is given that.
		var json []string
		for _, part := range kept {
			if !strings.HasPrefix(part, typeProtobuf) || !t.resource {
				json = append(json, part)
			}
		}
		kept = json
	}
	if len(kept) == 0 {
		return typeJSON
	}
	return strings.Join(kept, ", ")
}

// forward sends what was let through, and passes the answer on.
func (x *exchange) forward(p *gate.Permit) {
	plan, err := newPlan(x.target, p.Masks(), &x.MaskKey)
	if err != nil {
		x.broken(p, custos.StateNotSent, err)
		return
	}
	resp, err := p.RoundTrip()
	if err != nil {
		x.broken(p, custos.StateInterrupted, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.upgrade(p, plan, resp)
		return
	}
	// What the target says of the credential is not the caller's.
	if resp.StatusCode == http.StatusUnauthorized {
		x.log.Error("the API server does not take the credential", "entry", p.Entry())
		x.broken(p, custos.StateError, errors.New("401"))
		return
	}
	v, err := veilFor(x.target, plan, resp.Header.Get("Content-Type"))
	if err != nil && resp.ContentLength != 0 && x.r.Method != http.MethodHead {
		x.opaque(p, err)
		return
	} else if err != nil {
		v = bare{}
	}
	x.streams = x.target.verb == "watch" || x.target.subresource == "log" || x.target.subresource == "proxy"
	a := &answering{x: x, permit: p, outcome: outcome(resp.StatusCode), veil: v}
	if _, hides := v.(bare); hides && resp.ContentLength > 0 {
		x.w.Header().Set("Content-Length", fmt.Sprint(resp.ContentLength))
	}
	if err := a.head(resp); err != nil {
		x.broken(p, custos.StateInterrupted, err)
		return
	}
	a.finish(a.body(resp.Body))
}

// opaque is an answer that cannot be hidden in: it does not go to the client.
func (x *exchange) opaque(p *gate.Permit, err error) {
	x.settle(p, gate.Outcome{State: custos.StateError, Code: "406"})
	r := &custos.Refusal{Decision: custos.Decision{Rule: ruleForm, Reason: trim(err), Hint: "ask for it as JSON, YAML or text"}, Session: x.session.ID(), Entry: p.Entry(), Recorded: true}
	x.refused(r)
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
