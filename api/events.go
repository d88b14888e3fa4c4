package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/custos-gateway/custos/ledger"
)

// How often a stream of events speaks: that it is still there, and at most
// that the ledger grew.
const (
	eventBeat  = 20 * time.Second
	eventPause = time.Second
)

// events streams, as server-sent events (HTML, section 9.2), that something is
// new: "approvals" when one was asked for or changed, "ledger" when it grew, each with
// the count of its entries. They say no more than that: what is new is asked
// for as ever. The stream ends with the caller's authority.
func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithDeadline(r.Context(), caller(r.Context()).Expires)
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	out := newPaced(w)
	say := func(event string, data uint64) error {
		if _, err := fmt.Fprintf(out, "event: %s\ndata: %d\n\n", event, data); err != nil {
			return err
		}
		return out.flush()
	}
	size := s.Ledger.Size()
	grown := grows(ctx, s.Ledger, size)
	beat := time.NewTicker(eventBeat)
	defer beat.Stop()
	_, changed := s.Approvals.List()
	// Whatever came between what the caller asked for and this stream is told of
	// at its beginning.
	err := say("approvals", size)
	if err == nil {
		err = say("ledger", size)
	}
	for err == nil {
		select {
		case <-ctx.Done():
			return errBegun
		case <-changed:
			_, changed = s.Approvals.List()
			err = say("approvals", size)
		case size = <-grown:
			err = say("ledger", size)
		case <-beat.C:
			err = say("beat", size)
		}
	}
	return errBegun // the client is gone
}

// grows tells the ledger's size whenever it has grown, now and then, until ctx
// ends.
func grows(ctx context.Context, l *ledger.Log, size uint64) <-chan uint64 {
	grown := make(chan uint64)
	go func() {
		for {
			var err error
			if size, err = l.Wait(ctx, size); err != nil {
				return
			}
			select {
			case grown <- size:
			case <-ctx.Done():
				return
			}
			select {
			case <-time.After(eventPause):
			case <-ctx.Done():
				return
			}
		}
	}()
	return grown
}
