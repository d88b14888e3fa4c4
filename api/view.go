package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/recording"
	"github.com/custos-gateway/custos/store"
)

// view turns a session's entries into lines of a stream.
type view struct {
	*server
	session *store.Session
	key     *recording.Key // nil: destroyed
	to      *stream
	live    bool                      // show operations before their outcome
	open    map[uint64]*openOperation // without an outcome so far
	reason  string                    // why the session ended
	ended   bool
}

// openOperation is an operation whose outcome was not seen yet.
type openOperation struct {
	shown     bool
	indexed   *store.Operation
	operation *custos.Operation
}

// newView opens a session's recording. A key that was destroyed leaves what
// the entries themselves say.
func (s *server) newView(session *store.Session, to *stream) (*view, error) {
	v := &view{server: s, session: session, to: to, open: map[uint64]*openOperation{}}
	var err error
	v.key, err = s.Recordings.Key(session.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	return v, err
}

// entry shows one entry.
func (v *view) entry(index uint64, leaf, attachment []byte) error {
	e, err := custos.ParseEntry(leaf)
	if err != nil || e.Session != v.session.ID {
		return err
	}
	switch e.Kind {
	case custos.EntrySubmitted:
		return v.submitted(index, e, attachment)
	case custos.EntryInput:
		return v.input(e, attachment)
	case custos.EntrySettled:
		return v.settled(e, attachment)
	case custos.EntryClosed:
		v.reason, v.ended = e.Closed.Reason, true
		return v.rest()
	}
	return nil
}

func (v *view) submitted(index uint64, e *custos.Entry, attachment []byte) error {
	o := &openOperation{operation: &custos.Operation{Class: e.Submit.Class}}
	if v.key != nil {
		var err error
		if o.operation, err = v.key.Operation(e, attachment); err != nil {
			return fmt.Errorf("read operation %d: %w", index, err)
		}
	}
	o.indexed = store.OperationOf(index, e, o.operation)
	if o.indexed.Outcome == store.OutcomeRefused {
		return v.show(o) // that was all of it
	}
	v.open[index] = o
	if v.live {
		return v.show(o)
	}
	return nil
}

// show shows an operation, once.
func (v *view) show(o *openOperation) error {
	if o.shown {
		return nil
	}
	o.shown = true
	return v.to.line(&Line{Operation: o.indexed})
}

func (v *view) input(e *custos.Entry, attachment []byte) error {
	o := v.open[e.Input.Operation]
	if o == nil || v.key == nil {
		return nil
	}
	data, err := v.key.OpenSealed(attachment)
	if err != nil {
		return fmt.Errorf("read input of operation %d: %w", e.Input.Operation, err)
	}
	if err := v.show(o); err != nil {
		return err
	}
	return v.to.line(&Line{Input: &Input{Operation: e.Input.Operation, At: e.At, Data: data}})
}

func (v *view) settled(e *custos.Entry, attachment []byte) error {
	index := e.Settled.Operation
	o := v.open[index]
	if o == nil {
		return nil // its beginning is from before this view
	}
	delete(v.open, index)
	o.indexed.Settle(e)
	if !o.shown {
		if err := v.show(o); err != nil {
			return err
		}
		return v.answer(index, o.operation, e, attachment)
	}
	if err := v.answer(index, o.operation, e, attachment); err != nil {
		return err
	}
	return v.to.line(&Line{Settled: o.indexed})
}

// answer shows what came back of an operation.
func (v *view) answer(index uint64, o *custos.Operation, e *custos.Entry, attachment []byte) error {
	records, err := v.records(e, attachment)
	if err != nil || records == nil {
		return err
	}
	defer records.Close()
	show := func(event *custos.Event) error {
		return v.to.line(&Line{Event: &Event{Operation: index, Event: *event}})
	}
	err = v.render(o, records, show)
	if e.Settled.State == custos.StateInterrupted && errors.Is(err, io.ErrUnexpectedEOF) {
		return show(&custos.Event{Notice: "the answer is recorded up to here: the session was interrupted"})
	}
	return err
}

// records opens the recorded answer that a settled entry cites, in the clear;
// nil if it cites none or its key was destroyed.
func (v *view) records(e *custos.Entry, attachment []byte) (io.ReadCloser, error) {
	switch {
	case v.key == nil:
		return nil, nil
	case e.Settled.Recording != nil:
		return v.key.OpenAnswer(e.Settled.Operation)
	case e.Attachment != nil:
		b, err := v.key.OpenSealed(attachment)
		if err != nil {
			return nil, fmt.Errorf("read answer of operation %d: %w", e.Settled.Operation, err)
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	return nil, nil
}

// rest shows the operations that have no outcome.
func (v *view) rest() error {
	for _, index := range slices.Sorted(maps.Keys(v.open)) {
		if err := v.show(v.open[index]); err != nil {
			return err
		}
	}
	return nil
}
