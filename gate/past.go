package gate

import (
	"time"

	custos "github.com/custos-gateway/custos"
)

// Past counts, from the entries of the ledger, what callers have taken within
// the last day, so that a gate that is started anew goes on where the last one
// ended. The zero value has counted nothing.
type Past struct {
	// Since is from when on entries count.
	Since time.Time

	meters map[meterKey]*meter
	open   map[custos.SessionID]meterKey
	held   map[uint64]struct{} // operations that write, if they are released
}

// Entry takes the next entry of the ledger and its index.
func (p *Past) Entry(index uint64, e *custos.Entry) {
	if e.Kind == custos.EntryOpened && e.Opened != nil {
		if p.open == nil {
			p.open, p.held = map[custos.SessionID]meterKey{}, map[uint64]struct{}{}
		}
		p.open[e.Session] = meterKey{callerKey{e.Opened.Caller.Issuer, e.Opened.Caller.Subject}, e.Opened.Connection}
		return
	}
	key, ok := p.open[e.Session]
	if !ok {
		return
	}
	var taken custos.Counts
	switch {
	case e.Submit != nil:
		taken.Operations = 1
		switch e.Submit.Effect {
		case custos.Refuse.String():
			taken.Refused = 1
		case custos.Allow.String():
			taken.Writes = one(e.Submit.Writes)
		default:
			if e.Submit.Writes {
				p.held[index] = struct{}{}
			}
		}
	case e.Released != nil:
		_, writes := p.held[e.Released.Operation]
		taken.Writes = one(writes)
		delete(p.held, e.Released.Operation)
	case e.Settled != nil:
		taken.Rows, taken.Bytes = e.Settled.Rows, e.Settled.Bytes
		delete(p.held, e.Settled.Operation)
	case e.Kind == custos.EntryClosed:
		delete(p.open, e.Session)
	}
	if taken == (custos.Counts{}) || e.At.Before(p.Since) {
		return
	}
	m := p.meters[key]
	if m == nil {
		if p.meters == nil {
			p.meters = map[meterKey]*meter{}
		}
		m = newMeter()
		p.meters[key] = m
	}
	m.add(e.At, &taken)
}

func one(yes bool) int64 {
	if yes {
		return 1
	}
	return 0
}
