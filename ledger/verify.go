package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"filippo.io/torchwood"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

// VerifyOptions say what to verify, and whom to believe. Dir and Trust are
// required.
type VerifyOptions struct {
	Dir   string
	Trust Trust
	// Trusted is a signed checkpoint from elsewhere: an auditor's, or one that
	// a witness cosigned. The log must be an addition to it.
	Trusted []byte
	// Heartbeat is how long the log may be silent; 0 is an hour, and less
	// than 0 does not look.
	Heartbeat time.Duration
	// Each gets every entry that is whole, in order, so that others check
	// what it cites. The bytes are valid until it returns. Its error is
	// damage of that entry.
	Each func(index uint64, leaf, attachment []byte) error
	// Progress hears, now and then, how many bytes of the log were read of
	// how many.
	Progress func(done, total int64)
	// Context ends the verification early; nil is never.
	Context context.Context
}

// Report is what Verify found.
type Report struct {
	OK bool `json:"ok"`
	// Entries is how many whole entries there are, in order.
	Entries uint64 `json:"entries"`
	// Checkpoint is the latest that was found and holds.
	Checkpoint CheckpointReport `json:"checkpoint"`
	// Uncovered is how many entries came after the latest checkpoint: whoever
	// can write to the folder can have written these. A running log has some,
	// for less than a second; so has one that was killed.
	Uncovered uint64 `json:"uncovered"`
	// TornBytes is the size of what a crash may have left after the last
	// entry.
	TornBytes int64     `json:"torn_bytes"`
	FirstAt   time.Time `json:"first_at,omitzero"`
	LastAt    time.Time `json:"last_at,omitzero"`
	Damage    []Damage  `json:"damage"`
	// More is how much damage is not listed, after the first thousand places.
	More int `json:"more,omitempty"`
}

// CheckpointReport is a signed tree head.
type CheckpointReport struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"`
	// Cosigned is how many entries the latest checkpoint has that a quorum of
	// witnesses cosigned.
	Cosigned uint64 `json:"cosigned"`
}

// Damage is one place where the log is not as it was written.
type Damage struct {
	// Entry is the first entry that it concerns.
	Entry uint64 `json:"entry"`
	// File is where, relative to the log's folder.
	File string `json:"file"`
	What string `json:"what"`
}

const (
	maxDamage = 1000
	// heartbeatSlack is how much later than due a heartbeat may come.
	heartbeatSlack = 5 * time.Minute
	// maxBackward is how far an entry's time may go back behind an earlier
	// one's: clocks are set, and writers overtake each other.
	maxBackward = 5 * time.Minute
	// maxUncovered is how old an entry may be, when the next is written, and
	// have no checkpoint.
	maxUncovered = time.Minute
)

// verifier is the state of one verification.
type verifier struct {
	o      VerifyOptions
	report *Report
	tiles  tileFiles
	logDir string

	head    torchwood.Checkpoint // the largest that the log's key signed
	trusted *torchwood.Checkpoint
	rival   *torchwood.Checkpoint // the other checkpoint file's

	walk  treeWalk
	chain chain
	bad   bool // an entry was missing or not whole: the leaves' root says nothing

	// done are the bytes of the segments before, and told is how far Progress
	// heard.
	done, told, total int64
}

// Verify reads a log's folder as a stranger does: with public keys only, and
// without writing. It needs memory for what is open at a time, not for what
// there is. The error is for what kept it from reading; damage is in the
// report.
func Verify(o VerifyOptions) (*Report, error) {
	if o.Context == nil {
		o.Context = context.Background()
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = time.Hour
	}
	v := &verifier{o: o, report: &Report{Damage: []Damage{}}, tiles: tileFiles{o.Dir}, logDir: filepath.Join(o.Dir, "log")}
	err := v.run()
	if err != nil {
		return nil, fmt.Errorf("verify ledger %s: %w", o.Dir, err)
	}
	v.report.OK = len(v.report.Damage) == 0
	return v.report, nil
}

func (v *verifier) run() error {
	if _, err := v.o.Trust.policy(); err != nil {
		return err
	}
	if _, err := os.Stat(v.logDir); err != nil {
		return fmt.Errorf("%w; name the folder that has log and checkpoint in it", err)
	}
	// The checkpoint is read before the entries: a running log adds to both.
	if err := v.readHeads(); err != nil {
		return err
	}
	v.walk = treeWalk{v: v, signed: uint64(v.head.N)}
	v.chain = chain{v: v, told: v.head.Origin == "", open: map[custos.SessionID]*openSession{}, placeholders: map[uint64]bool{}}
	firsts, err := listSegments(durable.OS, v.logDir)
	if err != nil {
		return err
	}
	for _, first := range firsts {
		info, err := os.Stat(filepath.Join(v.logDir, segmentName(first)))
		if err != nil {
			return err
		}
		v.total += info.Size()
	}
	next := uint64(0)
	for i, first := range firsts {
		until, last := uint64(math.MaxUint64), i == len(firsts)-1
		if !last {
			until = firsts[i+1]
		}
		if next, err = v.segment(first, until, next, last); err != nil {
			return err
		}
	}
	v.report.Entries = next
	return v.finish(next)
}

// damage adds to the report.
func (v *verifier) damage(entry uint64, file, format string, args ...any) {
	if len(v.report.Damage) >= maxDamage {
		v.report.More++
		return
	}
	v.report.Damage = append(v.report.Damage, Damage{entry, file, fmt.Sprintf(format, args...)})
}

// readHeads reads the checkpoints: the pending one, if there is one, is the
// log's alone; the published one has the cosignatures that Trust asks for.
func (v *verifier) readHeads() error {
	own := Trust{Log: v.o.Trust.Log}
	published, err := v.readHead(checkpointFile, v.o.Trust)
	if err != nil {
		return err
	}
	pending, err := v.readHead(pendingFile, own)
	if err != nil {
		return err
	}
	switch {
	case published == nil && pending == nil:
		v.damage(0, checkpointFile, "there is no valid checkpoint: somebody removed it, or damaged it")
	case published == nil && v.o.Trust.Quorum > 0 && !v.damagedFile(checkpointFile):
		v.damage(uint64(pending.N), checkpointFile, "no checkpoint has the cosignatures of %d witnesses", v.o.Trust.Quorum)
	}
	for _, c := range []*torchwood.Checkpoint{published, pending} {
		if c != nil && (v.head.Origin == "" || c.N > v.head.N) {
			v.head = *c
		}
	}
	if published != nil && pending != nil {
		v.rival = published
		if published.N == v.head.N {
			v.rival = pending
		}
	}
	v.report.Checkpoint = CheckpointReport{Origin: v.head.Origin, Size: uint64(v.head.N), Root: v.head.Hash.String()}
	if published != nil && v.o.Trust.Quorum > 0 {
		v.report.Checkpoint.Cosigned = uint64(published.N)
	}
	if v.o.Trusted == nil {
		return nil
	}
	// One from elsewhere may be signed by the log, or by fewer witnesses.
	c, err := own.OpenCheckpoint(v.o.Trusted)
	if err != nil {
		return fmt.Errorf("read the trusted checkpoint: %w", err)
	}
	v.trusted = &c
	return nil
}

func (v *verifier) damagedFile(name string) bool {
	for _, d := range v.report.Damage {
		if d.File == name {
			return true
		}
	}
	return false
}

// readHead reads a checkpoint file; nil is none, or none that holds.
func (v *verifier) readHead(name string, trust Trust) (*torchwood.Checkpoint, error) {
	b, err := durable.ReadFile(durable.OS, filepath.Join(v.o.Dir, name), maxCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := trust.OpenCheckpoint(b)
	if err != nil {
		v.damage(0, name, "its signatures do not hold, or it was altered: %v", errors.Unwrap(err))
		return nil, nil
	}
	return &c, nil
}

// segment reads one segment, whose entries should be next and on, up to the
// first of the next segment. It returns the index after the last entry.
func (v *verifier) segment(first, until, next uint64, last bool) (uint64, error) {
	file := "log/" + segmentName(first)
	f, err := durable.OS.OpenFile(filepath.Join(v.logDir, segmentName(first)), osRead, 0)
	if err != nil {
		return next, err
	}
	defer f.Close()
	if first > next {
		v.missing(next, first, file)
	}
	next = max(next, first)
	if err := v.checkOrigin(f, first, next, file); err != nil {
		return next, err
	}
	size, err := f.Size()
	if err != nil {
		return next, err
	}
	r := newFrameReader(f, headerSize)
	for next < until {
		if err := v.o.Context.Err(); err != nil {
			return next, err
		}
		at := r.off
		e, err := r.next()
		if err == nil && e.index != next {
			if next, err = v.misplaced(&e, next, until, at, file); err != nil {
				return next, err
			}
			if e.index != next {
				continue
			}
		}
		if err != nil && !isNoFrame(err) {
			return next, err
		}
		if err != nil {
			if e, err = v.broken(r, next, until, last, file, err); err != nil {
				if isNoFrame(err) {
					break
				}
				return next, err
			}
			v.missing(next+1, e.index, file)
			next = e.index
		}
		v.entry(&e, file)
		next++
		v.progress(r.off, false)
	}
	if err := v.rest(f, r.off, next, last, file); err != nil {
		return next, err
	}
	v.progress(size, last)
	v.done += size
	if !last && next < until {
		v.missing(next, until, file)
		next = until
	}
	return next, nil
}

func (v *verifier) checkOrigin(f durable.File, first, next uint64, file string) error {
	origin := v.head.Origin
	if origin == "" {
		origin = v.o.Trust.Log[0].Name()
	}
	if err := checkHeader(f, first, origin); err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return err
		}
		v.damage(next, file, "%v", err)
	}
	return nil
}

// progress tells how far it got, once in a MiB and at the end.
func (v *verifier) progress(off int64, end bool) {
	if done := min(v.done+off, v.total); v.o.Progress != nil && (end || done-v.told >= 1<<20) {
		v.told = done
		v.o.Progress(done, v.total)
	}
}

// missing reports that entries from one index up to another are not there.
func (v *verifier) missing(from, to uint64, file string) {
	if from >= to {
		return
	}
	v.bad = true
	v.walk.skip(to)
	if to == from+1 {
		v.damage(from, file, "entry %d is missing", from)
	} else {
		v.damage(from, file, "entries %d to %d are missing", from, to-1)
	}
}

// misplaced handles a whole frame that is not the next entry's. It returns
// the index that should come now: the frame's, if what lies between is
// missing, or else next, and the frame is passed over.
func (v *verifier) misplaced(e *frame, next, until uint64, at int64, file string) (uint64, error) {
	switch {
	case e.index < next:
		v.bad = true
		v.damage(e.index, file, "at byte %d entry %d comes again or out of order, where entry %d should be", at, e.index, next)
		return next, nil
	case e.index >= until:
		v.bad = true
		v.damage(next, file, "at byte %d is entry %d, where entry %d should be", at, e.index, next)
		return next, nil
	}
	v.missing(next, e.index, file)
	return e.index, nil
}

// broken handles bytes that are no frame. It returns the next whole frame of
// the segment, or errNoFrame; cause is why the bytes are none.
func (v *verifier) broken(r *frameReader, next, until uint64, last bool, file string, cause error) (frame, error) {
	at := r.off
	covered := next < uint64(v.head.N)
	if errors.Is(cause, errNoFrame) && !covered {
		return frame{}, errNoFrame
	}
	e, err := r.resync(next + 1)
	for err == nil && e.index >= until {
		e, err = r.resync(next + 1)
	}
	if err != nil && !errors.Is(err, errNoFrame) {
		return frame{}, err
	}
	found := err == nil
	if !covered && !(found && e.durable > next) && last {
		// What was never durable: a torn tail.
		r.off = at
		return frame{}, errNoFrame
	}
	v.bad = true
	v.walk.skip(next + 1)
	v.damage(next, file, "entry %d is not whole: %v, at byte %d", next, cause, at)
	if !found {
		return frame{}, errNoFrame
	}
	return e, nil
}

// rest looks at what follows the last entry of a segment.
func (v *verifier) rest(f durable.File, off int64, next uint64, last bool, file string) error {
	end, err := lastByte(f, off)
	if err != nil || end == off {
		return err
	}
	// A crash while a failed disk was being healed leaves, before the next
	// start, entries in two segments: none of them is under a checkpoint.
	if next >= uint64(v.head.N) {
		v.report.TornBytes += end - off
	} else if !v.damagedAt(next, file) {
		v.damage(next, file, "from byte %d on there are bytes that belong to no entry", off)
	}
	return nil
}

func (v *verifier) damagedAt(entry uint64, file string) bool {
	n := len(v.report.Damage)
	return n > 0 && v.report.Damage[n-1].File == file && v.report.Damage[n-1].Entry <= entry
}

// entry checks one whole entry in its place.
func (v *verifier) entry(e *frame, file string) {
	if v.trusted != nil && v.walk.leaves.n == uint64(v.trusted.N) {
		v.checkEarlier(v.trusted, "the trusted checkpoint")
	}
	if v.rival != nil && v.walk.leaves.n == uint64(v.rival.N) {
		v.checkEarlier(v.rival, "the earlier checkpoint")
	}
	v.walk.add(e.index, e.leaf, file)
	v.chain.add(e.index, e.leaf, e.attachment, file)
	if v.o.Each != nil {
		if err := v.o.Each(e.index, e.leaf, e.attachment); err != nil {
			v.damage(e.index, file, "%v", err)
		}
	}
}

// checkEarlier compares the leaves so far with a checkpoint of as many.
func (v *verifier) checkEarlier(c *torchwood.Checkpoint, name string) {
	if !v.bad && v.walk.leaves.root() != c.Hash {
		v.damage(0, checkpointFile, "these are not the first %d entries that %s is about: the log has two histories (a fork)", c.N, name)
	}
	if c == v.trusted {
		v.trusted = nil
	} else {
		v.rival = nil
	}
}

// finish compares what was read with the checkpoints.
func (v *verifier) finish(entries uint64) error {
	if c := v.trusted; c != nil {
		if uint64(c.N) > entries {
			v.damage(entries, checkpointFile, "the trusted checkpoint covers %d entries, and there are %d: the log was rolled back", c.N, entries)
		} else {
			v.checkEarlier(c, "the trusted checkpoint")
		}
	}
	if v.rival != nil && uint64(v.rival.N) == entries {
		v.checkEarlier(v.rival, "the earlier checkpoint")
	}
	if signed := uint64(v.head.N); signed > entries {
		v.bad = true
		v.damage(entries, v.lastFile(), "the checkpoint covers %d entries: those from %d to %d are missing at the end", signed, entries, signed-1)
	} else {
		v.report.Uncovered = entries - signed
	}
	return v.walk.finish()
}
