package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	custos "github.com/custos-gateway/custos"
)

// chain checks what entries say of each other: that their time goes on, that
// silence was proven, that attachments are those cited, and that each session
// is opened, does what it does, and is closed, in that order.
type chain struct {
	v *verifier
	// open are the sessions that are open at this entry.
	open map[custos.SessionID]*openSession
	// placeholders are entries that say that another was lost in their place.
	placeholders map[uint64]bool

	latest    time.Time // the latest time of an entry so far
	stopped   bool      // the last entry says that the gateway stopped
	uncovered time.Time // of the first entry without a checkpoint
	told      bool      // that there are too many of those, or no checkpoint at all
}

// openSession holds the entries of the operations without an outcome.
type openSession struct{ operations map[uint64]struct{} }

func (c *chain) add(index uint64, leaf, attachment []byte, file string) {
	e, err := custos.ParseEntry(leaf)
	if err != nil || e.Kind == "" || e.At.IsZero() {
		c.v.damage(index, file, "its leaf is not an entry: it has no kind or no time, or is not JSON")
		return
	}
	c.attachment(index, e, attachment, file)
	c.time(index, e, file)
	// What is missing was said; what follows from that need not be.
	if e.Session != "" && !c.v.bad {
		c.session(index, e, file)
	}
	if e.Kind == custos.EntryRecovered {
		c.placeholders[index] = true
	}
}

func (c *chain) attachment(index uint64, e *custos.Entry, attachment []byte, file string) {
	switch sum := sha256.Sum256(attachment); {
	case e.Attachment == nil && len(attachment) > 0:
		c.v.damage(index, file, "entry %d has an attachment that it does not cite", index)
	case e.Attachment == nil:
	case e.Attachment.Bytes != int64(len(attachment)) || e.Attachment.SHA256 != hex.EncodeToString(sum[:]):
		c.v.damage(index, file, "the attachment of entry %d was altered: it is not the one that the entry cites", index)
	}
}

func (c *chain) time(index uint64, e *custos.Entry, file string) {
	r := c.v.report
	if c.latest.IsZero() {
		r.FirstAt, c.latest = e.At, e.At
	}
	gap := e.At.Sub(c.latest)
	began := e.Kind == custos.EntryStarted || e.Kind == custos.EntryRecovered || e.Kind == custos.EntryConfig
	switch {
	case gap < -maxBackward:
		c.v.damage(index, file, "the time of entry %d, %s, is %v before that of an earlier one", index, e.At.Format(time.RFC3339), -gap.Round(time.Second))
	case c.v.o.Heartbeat > 0 && gap > c.v.o.Heartbeat+heartbeatSlack && !c.stopped && !began:
		c.v.damage(index, file, "the ledger was silent for %v before entry %d, and should have said every %v that there was nothing to say",
			gap.Round(time.Second), index, c.v.o.Heartbeat)
	}
	if gap > 0 {
		c.latest = e.At
	}
	c.stopped = e.Kind == custos.EntryStopped
	r.LastAt = c.latest
	if index < uint64(c.v.head.N) {
		return
	}
	if c.uncovered.IsZero() {
		c.uncovered = e.At
	}
	if since := e.At.Sub(c.uncovered); since > maxUncovered && !c.told {
		c.told = true
		c.v.damage(uint64(c.v.head.N), checkpointFile, "no checkpoint covers the entries from %d on, which go on for %v", c.v.head.N, since.Round(time.Second))
	}
}

// session checks an entry that names a session.
func (c *chain) session(index uint64, e *custos.Entry, file string) {
	s := c.open[e.Session]
	switch e.Kind {
	case custos.EntryTurned, custos.EntryErased, custos.EntryHeld, custos.EntryFreed, custos.EntryViewed, custos.EntryAsked, custos.EntryAnswered, custos.EntryEnded, custos.EntryNotified:
		return
	case custos.EntryOpened:
		if s != nil {
			c.v.damage(index, file, "session %s is opened again while it is open", e.Session)
		}
		c.open[e.Session] = &openSession{map[uint64]struct{}{}}
		return
	}
	if s == nil {
		c.v.damage(index, file, "entry %d is of session %s, which is not open there", index, e.Session)
		return
	}
	switch {
	case e.Kind == custos.EntryClosed:
		delete(c.open, e.Session)
	case e.Kind == custos.EntrySubmitted && e.Submit != nil:
		s.operations[index] = struct{}{}
	case e.Kind == custos.EntrySettled && e.Settled != nil:
		c.refers(index, e.Settled.Operation, s, file)
		delete(s.operations, e.Settled.Operation)
	case e.Kind == custos.EntryInput && e.Input != nil:
		c.refers(index, e.Input.Operation, s, file)
	case e.Kind == custos.EntryReleased && e.Released != nil:
		c.refers(index, e.Released.Operation, s, file)
	case e.Kind == custos.EntrySubmitted || e.Kind == custos.EntrySettled || e.Kind == custos.EntryInput || e.Kind == custos.EntryReleased:
		c.v.damage(index, file, "entry %d does not say what entries of its kind say", index)
	}
}

func (c *chain) refers(index, operation uint64, s *openSession, file string) {
	if _, ok := s.operations[operation]; !ok && !c.placeholders[operation] {
		c.v.damage(index, file, "entry %d is about entry %d, which is no operation of that session without an outcome", index, operation)
	}
}
