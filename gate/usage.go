package gate

import (
	"hash/maphash"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
)

// window sums counts over the last so many slots of time.
type window struct {
	slot  time.Duration
	ring  []custos.Counts
	at    int64 // the newest slot's number
	total custos.Counts
}

func newWindow(slot time.Duration, slots int) window {
	return window{slot: slot, ring: make([]custos.Counts, slots)}
}

// advance lets go of the slots that are too old by now.
func (w *window) advance(now time.Time) {
	at := now.UnixNano() / int64(w.slot)
	if at <= w.at {
		return
	}
	if at-w.at >= int64(len(w.ring)) {
		clear(w.ring)
		w.total, w.at = custos.Counts{}, at
		return
	}
	for w.at < at {
		w.at++
		old := &w.ring[w.at%int64(len(w.ring))]
		subtract(&w.total, old)
		*old = custos.Counts{}
	}
}

func (w *window) add(now time.Time, c *custos.Counts) {
	w.advance(now)
	add(&w.ring[w.at%int64(len(w.ring))], c)
	add(&w.total, c)
}

func add(sum, c *custos.Counts) {
	sum.Operations += c.Operations
	sum.Writes += c.Writes
	sum.Refused += c.Refused
	sum.Rows += c.Rows
	sum.Bytes += c.Bytes
}

func subtract(sum, c *custos.Counts) {
	sum.Operations -= c.Operations
	sum.Writes -= c.Writes
	sum.Refused -= c.Refused
	sum.Rows -= c.Rows
	sum.Bytes -= c.Bytes
}

// meter counts what one caller takes on one connection, across sessions. It
// is kept in memory, and made again of the ledger at the next start: see Past.
type meter struct {
	mu        sync.Mutex
	hour, day window
	sessions  int // that hold it; guarded by the gate
}

func newMeter() *meter {
	return &meter{hour: newWindow(time.Minute, 60), day: newWindow(15*time.Minute, 96)}
}

func (m *meter) add(now time.Time, c *custos.Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hour.add(now, c)
	m.day.add(now, c)
}

func (m *meter) sums(now time.Time) (hour, day custos.Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hour.advance(now)
	m.day.advance(now)
	return m.hour.total, m.day.total
}

type meterKey struct {
	caller     callerKey
	connection string
}

// maxMeters is how many meters without a session are kept before those that
// have run out are looked for.
const maxMeters = 10_000

// meter returns that of the session's caller on its connection. The caller
// holds g.mu.
func (g *Gate) meter(s *Session) *meter {
	key := meterKey{callerKey{s.caller.Issuer, s.caller.Subject}, s.conn.Name}
	m := g.meters[key]
	if m == nil {
		if len(g.meters) >= maxMeters {
			g.dropMeters()
		}
		m = newMeter()
		g.meters[key] = m
	}
	m.sessions++
	return m
}

// dropMeters lets go of meters that count nothing any more.
func (g *Gate) dropMeters() {
	now := g.Now()
	for key, m := range g.meters {
		if _, day := m.sums(now); m.sessions == 0 && day == (custos.Counts{}) {
			delete(g.meters, key)
		}
	}
}

// recent is how many operations back a repetition is looked for.
const recent = 64

// repeats remembers the last operations of a session by their hashes.
type repeats struct {
	ring [recent]uint64
	n    int
}

var repeatSeed = maphash.MakeSeed()

// note remembers op and returns how often it was among the last, itself
// included.
func (r *repeats) note(op *custos.Operation) int64 {
	var h maphash.Hash
	h.SetSeed(repeatSeed)
	h.WriteString(op.Class)
	h.WriteByte(0)
	h.WriteString(op.Text)
	for i := range op.Params {
		h.WriteByte(0)
		h.Write(op.Params[i].Value)
	}
	sum := h.Sum64()
	r.ring[r.n%recent] = sum
	r.n++
	times := int64(0)
	for _, other := range r.ring[:min(r.n, recent)] {
		if other == sum {
			times++
		}
	}
	return times
}

// usage is what policy may know of what was taken so far. The caller holds mu.
func (s *Session) usage(op *custos.Operation, now time.Time) *custos.Usage {
	s.used.Session = s.counts
	s.used.Hour, s.used.Day = s.meter.sums(now)
	s.used.Repeats = s.repeats.note(op)
	return &s.used
}

// count adds to what was taken. The caller holds mu.
func (s *Session) count(now time.Time, c custos.Counts) {
	add(&s.counts, &c)
	s.meter.add(now, &c)
}
