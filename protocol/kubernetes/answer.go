package kubernetes

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// veil passes an answer's bytes on, hidden, as they come.
type veil interface {
	Append(dst, b []byte) ([]byte, error)
	// End appends what was kept back, or says that the answer was cut off.
	End(dst []byte) ([]byte, error)
	// Hidden is how many values were.
	Hidden() int64
}

// bare hides nothing.
type bare struct{}

func (bare) Append(dst, b []byte) ([]byte, error) { return append(dst, b...), nil }
func (bare) End(dst []byte) ([]byte, error)       { return dst, nil }
func (bare) Hidden() int64                        { return 0 }

// whole holds an answer that can only be hidden in when all of it is there.
type whole struct {
	change func([]byte) ([]byte, int64, error)
	held   []byte
	hidden int64
}

// maxWhole bounds, in bytes, what whole holds.
const maxWhole = 32 << 20

var errTooLong = errors.New("hide answer: it is too long to be looked through in this form")

func (w *whole) Append(dst, b []byte) ([]byte, error) {
	if len(w.held)+len(b) > maxWhole {
		return dst, errTooLong
	}
	w.held = append(w.held, b...)
	return dst, nil
}

func (w *whole) End(dst []byte) ([]byte, error) {
	if len(w.held) == 0 {
		return dst, nil
	}
	out, n, err := w.change(w.held)
	w.hidden = n
	if err != nil {
		return dst, err
	}
	return append(dst, out...), nil
}

func (w *whole) Hidden() int64 { return w.hidden }

// veilFor is what hides in an answer, by what was asked and what it is; an
// error where there is no way to.
func veilFor(t *target, plan *plan, contentType string) (veil, error) {
	keys := hiddenKeys(t, plan)
	if keys == nil && plan.find == nil && len(plan.fields) == 0 {
		return bare{}, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, errors.New("hide answer: it does not say what it is")
	}
	h := &hider{hide: plan.secret, keys: keys, find: plan.find, fields: plan.fields}
	switch media {
	case typeJSON:
		return h, nil
	case typeYAML, "text/yaml":
		return &whole{change: h.yaml}, nil
	case typeProtobuf:
		w := &wire{hide: plan.secret, find: plan.find}
		if params["stream"] == "watch" {
			return &frames{wire: w, secrets: keys != nil}, nil
		}
		return &whole{change: func(b []byte) ([]byte, int64, error) { return w.object(b, keys != nil) }}, nil
	case "text/plain", "text/plain; charset=utf-8":
		if keys == nil {
			return &lines{find: plan.find}, nil
		}
	}
	if keys == nil && !t.resource && strings.HasPrefix(media, "application/com.github.") {
		return bare{}, nil // the API's own description
	}
	return nil, fmt.Errorf("hide answer: %s cannot be looked into", media)
}

// hiddenKeys are the names under which an answer has values of Secrets, or a
// token; nil: it has none.
func hiddenKeys(t *target, plan *plan) map[string]encoding {
	switch {
	case !t.resource || plan.shown:
		return nil
	case t.of("", "secrets"):
		return secretKeys
	case t.is("", "serviceaccounts/token"), t.is("authentication.k8s.io", "tokenreviews"):
		return tokenKeys
	}
	return nil
}

func (h *hider) yaml(b []byte) ([]byte, int64, error) {
	j, err := yaml.YAMLToJSON(b)
	if err != nil {
		return nil, 0, errors.New("hide answer: it is not YAML")
	}
	out, err := h.Append(nil, j)
	if err == nil {
		out, err = h.End(out)
	}
	if err != nil {
		return nil, 0, err
	}
	out, err = yaml.JSONToYAML(out)
	return out, h.hidden, err
}

// answering passes an answer on: hidden, recorded, then to the client, its last
// byte only when the outcome is on record.
type answering struct {
	x       *exchange
	permit  *gate.Permit
	outcome gate.Outcome
	veil    veil
	out     []byte
	last    []byte // not passed on yet
}

// head records and sends an answer's head.
func (a *answering) head(resp *http.Response) error {
	h := a.x.w.Header()
	for _, name := range answerHeader {
		for _, v := range resp.Header.Values(name) {
			h.Add(name, v)
		}
	}
	if err := a.permit.Answer(web.AppendHead(nil, resp.StatusCode, h, recordedHeader)); err != nil {
		return err
	}
	a.x.mark(a.permit.Entry())
	a.x.w.WriteHeader(resp.StatusCode)
	if a.x.streams {
		// Clients wait for the head before there is anything to tell.
		if err := a.x.control.Flush(); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
	}
	return nil
}

// answerHeader are the fields of an answer that clients are given.
var answerHeader = []string{"Content-Type", "Cache-Control", "Etag", "Last-Modified", "Warning", "Retry-After", "Allow", "Vary",
	"X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid", "Audit-Id", "X-From-Cache"}

// recordedHeader are the fields of an answer that are on record, and those of a
// change of protocols.
var recordedHeader = append([]string{"Upgrade", "Sec-Websocket-Protocol", "X-Stream-Protocol-Version"}, answerHeader...)

// body passes the body on until it ends.
func (a *answering) body(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			var e error
			if a.out, e = a.veil.Append(a.out[:0], buf[:n]); e == nil {
				e = a.pass(a.out)
			}
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
	return a.pass(a.out)
}

// pass records a piece and sends it, but for its last byte.
func (a *answering) pass(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := a.permit.Answer(b); err != nil {
		return err
	}
	for _, piece := range [][]byte{a.last, b[:len(b)-1]} {
		if _, err := a.x.w.Write(piece); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
	}
	a.last = append(a.last[:0], b[len(b)-1])
	// A newline at the end is an event of a watch, or a line of a log, that is
	// whole: it must not wait for the next.
	if b[len(b)-1] == '\n' || a.x.streams {
		if _, err := a.x.w.Write(a.last); err != nil {
			return fmt.Errorf("send answer: %w", err)
		}
		a.last = a.last[:0]
	}
	if err := a.x.control.Flush(); err != nil {
		return fmt.Errorf("send answer: %w", err)
	}
	return nil
}

// finish puts the outcome on record, and then lets the answer end. One that did
// not come to its end is cut off, for the client to see.
func (a *answering) finish(err error) {
	a.outcome.Masked = a.veil.Hidden()
	if err != nil {
		a.outcome.State = custos.StateInterrupted
	}
	if e := a.permit.Settle(a.outcome); err == nil {
		err = e
	}
	if err != nil {
		a.x.log.Warn("answer", "entry", a.permit.Entry(), "cause", err)
		panic(http.ErrAbortHandler)
	}
	a.x.w.Write(a.last)
}

func outcome(status int) gate.Outcome {
	o := gate.Outcome{State: custos.StateOK, Code: strconv.Itoa(status)}
	if status >= http.StatusBadRequest {
		o.State = custos.StateError
	}
	return o
}
