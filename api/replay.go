package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/recording"
	"github.com/custos-gateway/custos/store"
)

// Line is one line of a stream: one of its fields is set. A session comes
// first; each operation comes before its input, events and outcome; the end
// comes last.
type Line struct {
	Session   *store.Session   `json:"session,omitempty"`
	Operation *store.Operation `json:"operation,omitempty"`
	Input     *Input           `json:"input,omitempty"`
	Event     *Event           `json:"event,omitempty"`
	// Settled is an operation once more, now with its outcome; only in a tail.
	Settled *store.Operation `json:"settled,omitempty"`
	End     *End             `json:"end,omitempty"`
}

// Input is a further piece of an operation's input, as it was on the wire.
type Input struct {
	Operation uint64    `json:"operation"`
	At        time.Time `json:"at"`
	Data      []byte    `json:"data"`
}

// Event is a part of an operation's answer.
type Event struct {
	Operation uint64 `json:"operation"`
	custos.Event
}

// End is a stream's last line.
type End struct {
	// Reason is why the session ended; empty while it is open.
	Reason string `json:"reason,omitempty"`
	// Error is why the stream ended before its time.
	Error string `json:"error,omitempty"`
}

// viewed puts on record that the caller reads a session's recording. It
// returns when the entry is durable: before a byte of the recording leaves.
func (s *server) viewed(p *custos.Principal, id custos.SessionID, what string) error {
	e := custos.Entry{Kind: custos.EntryViewed, At: s.Now(), Session: id, Note: &custos.Note{By: identity(p), Text: what}}
	i, err := s.Ledger.Append(e.AppendJSON(nil), nil)
	if err == nil {
		err = s.Ledger.Durable(i)
	}
	if err != nil {
		s.Logger.Error("record view", "session", id, "cause", err)
		return problem(http.StatusServiceUnavailable, "that you look can't be put on record, so nothing is shown; tell whoever runs the gateway")
	}
	return nil
}

// stream writes lines.
type stream struct {
	w   *paced
	buf *bufio.Writer
	enc *json.Encoder
	err error
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	s := &stream{w: newPaced(w)}
	s.buf = bufio.NewWriterSize(s.w, 32<<10)
	s.enc = json.NewEncoder(s.buf)
	s.enc.SetEscapeHTML(false)
	return s
}

func (s *stream) line(l *Line) error {
	if s.err == nil {
		s.err = s.enc.Encode(l)
	}
	return s.err
}

func (s *stream) flush() error {
	if s.err == nil {
		if s.err = s.buf.Flush(); s.err == nil {
			s.err = s.w.flush()
		}
	}
	return s.err
}

// end writes the last line. The cause of an error stays in the gateway's log.
func (s *server) end(st *stream, reason string, err error) error {
	end := &End{Reason: reason}
	if err != nil && st.err == nil {
		s.Logger.Error("replay session", "cause", err)
		end.Error = "a part of the record can't be read; custos ledger verify says what is wrong"
	}
	st.line(&Line{End: end})
	if st.flush() != nil || err != nil {
		return errBegun
	}
	return nil
}

// replay streams a whole session.
func (s *server) replay(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	if err := s.viewed(caller(r.Context()), session.ID, "replay"); err != nil {
		return err
	}
	st := newStream(w)
	v, err := s.newView(session, st)
	if err != nil {
		return err
	}
	st.line(&Line{Session: session})
	err = v.all(r.Context())
	return s.end(st, v.reason, err)
}

// tail follows an open session from now on, until it ends or the client goes.
func (s *server) tail(w http.ResponseWriter, r *http.Request) error {
	next := s.Ledger.Size()
	if err := s.Index.Wait(r.Context(), next); err != nil {
		return err
	}
	session, err := s.session(r)
	if err != nil {
		return err
	}
	if session.EndedAt != nil { // if it ends from now on, that is an entry from next on
		return problem(http.StatusConflict, "the session has ended; custos session replay shows it")
	}
	if err := s.viewed(caller(r.Context()), session.ID, "tail"); err != nil {
		return err
	}
	st := newStream(w)
	v, err := s.newView(session, st)
	if err != nil {
		return err
	}
	v.live = true
	st.line(&Line{Session: session})
	for st.flush() == nil && !v.ended && err == nil {
		var size uint64
		if size, err = s.Ledger.Wait(r.Context(), next); err != nil {
			break
		}
		err = s.Ledger.Scan(next, size, v.entry)
		next = size
	}
	return s.end(st, v.reason, err)
}

// answer streams what came back of one operation: events, or with ?raw=1 the
// bytes that the caller got, as they were on the wire.
func (s *server) answer(w http.ResponseWriter, r *http.Request) error {
	session, err := s.session(r)
	if err != nil {
		return err
	}
	index, err := strconv.ParseUint(r.PathValue("entry"), 10, 64)
	if err != nil {
		return notFound()
	}
	o, err := s.Index.Operation(r.Context(), session.ID, index)
	if errors.Is(err, store.ErrNotFound) {
		return notFound()
	}
	if err != nil {
		return err
	}
	if o.Settled == 0 {
		return problem(http.StatusNotFound, "the operation has no outcome on record")
	}
	if err := s.viewed(caller(r.Context()), session.ID, fmt.Sprintf("answer of entry %d", index)); err != nil {
		return err
	}
	st := newStream(w)
	v, err := s.newView(session, st)
	if err != nil {
		return err
	}
	e, attachment, err := s.read(o.Settled)
	if err != nil {
		return err
	}
	if r.URL.Query().Get("raw") != "" {
		return v.raw(w, e, attachment)
	}
	return s.end(st, "", v.answer(index, &custos.Operation{Class: o.Class, Text: o.Text}, e, attachment))
}

// read reads one entry with its attachment.
func (s *server) read(index uint64) (*custos.Entry, []byte, error) {
	leaf, attachment, err := s.Ledger.Read(index)
	if err != nil {
		return nil, nil, err
	}
	e, err := custos.ParseEntry(leaf)
	return e, attachment, err
}

// raw copies an answer's bytes without their times.
func (v *view) raw(w http.ResponseWriter, e *custos.Entry, attachment []byte) error {
	records, err := v.records(e, attachment)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if records == nil {
		return nil
	}
	defer records.Close()
	out := newPaced(w)
	for record, err := range recording.Records(records) {
		if err == nil {
			_, err = out.Write(record.Bytes)
		}
		if err != nil && out.begun {
			v.Logger.Error("read answer", "session", v.session.ID, "entry", e.Settled.Operation, "cause", err)
			panic(http.ErrAbortHandler) // the client must not take a part for the whole
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// render turns an answer into events. Without a renderer of the protocol's,
// it is shown as text.
func (v *view) render(o *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	if render := v.Renderers[v.session.Protocol]; render != nil {
		return render(o, records, emit)
	}
	var at time.Duration
	for record, err := range recording.Records(records) {
		if err != nil {
			return err
		}
		at += record.After
		if err := emit(&custos.Event{At: at.Microseconds(), Text: string(record.Bytes)}); err != nil {
			return err
		}
	}
	return nil
}

// errEnded stops a scan at the session's last entry.
var errEnded = errors.New("the session has ended")

// all shows the session's entries from its first to its last.
func (v *view) all(ctx context.Context) error {
	err := v.Ledger.Scan(v.session.Opened, v.Ledger.Size(), func(index uint64, leaf, attachment []byte) error {
		if err := errors.Join(ctx.Err(), v.entry(index, leaf, attachment)); err != nil {
			return err
		}
		if v.ended {
			return errEnded
		}
		return nil
	})
	if errors.Is(err, errEnded) {
		return nil
	}
	return errors.Join(err, v.rest())
}
