package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kept is what the test knows of entries: by index, the leaf, of those that
// were said to be durable.
type kept map[uint64][]byte

// check opens a copy of a log as after a crash: what was durable is there,
// what was signed is too, and nothing of it is damaged.
func (k kept) check(t testing.TB, what, dir string) {
	t.Helper()
	o := testOptions(dir)
	l, err := Open(o)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for i, want := range k {
		leaf, _, err := l.Read(i)
		if err != nil || !bytes.Equal(leaf, want) {
			t.Errorf("%s: entry %d is %q, %v; want %q", what, i, leaf, err, want)
		}
	}
	if err := l.Close(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if r := mustVerify(t, VerifyOptions{Dir: dir}); !r.OK || r.Uncovered > 0 || r.TornBytes > 0 {
		t.Errorf("%s: verify: %+v", what, r)
	}
}

// Each operation on files of one append, its sync and its checkpoint is made
// to fail in turn, in each way. The entry is then not said to be durable;
// those before stay; the log heals, and goes on.
func TestEachFaultOfAnAppend(t *testing.T) {
	for name, size := range map[string]int{"in a segment": 300, "over to the next segment": 70 << 10} {
		for _, mode := range []faultMode{didNot, did, half, lose} {
			for _, lasts := range []int{1, 4} {
				errno := error(syscall.EIO)
				if mode == didNot {
					errno = syscall.ENOSPC
				} else if lasts > 1 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, mode, lasts), func(t *testing.T) {
					t.Parallel()
					at := 0
					for faultOnce(t, name, size, at, lasts, mode, errno) {
						at++
					}
					if at < 15 {
						t.Errorf("only %d operations; the test wants to break more", at)
					}
				})
			}
		}
	}
}

// faultOnce makes the operation number at fail, and reports that there was
// such an operation.
func faultOnce(t *testing.T, name string, size, at, lasts int, mode faultMode, errno error) bool {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	faulty, c := newFaultyFS(), newClock()
	o := testOptions(dir)
	o.FS, o.Now = faulty, c.now
	l := mustOpen(t, o)
	known := kept{}
	add := func(n, size int) (index uint64, err error) {
		leaf := fmt.Appendf(nil, `{"kind":"gateway.started","at":%q,"note":{"text":"%d"},"attachment":{"sha256":%q,"bytes":%d}}`,
			c.now().Format(time.RFC3339Nano), n, zerosSum(size), size)
		if index, err = l.Append(leaf, make([]byte, size)); err == nil {
			if err = l.Durable(index); err == nil {
				known[index] = leaf
			}
		}
		return index, err
	}
	for n := range 20 {
		_, err := add(n, 100)
		must(t, err)
	}
	must(t, l.Publish())
	late, err := l.Append([]byte(`{"kind":"gateway.started","at":"2026-03-01T12:00:00Z"}`), nil) // not durable yet
	must(t, err)

	faulty.arm(at, lasts, mode, errno)
	_, err = add(20, size)
	hit := faulty.first()
	what := fmt.Sprintf("%s: operation %d, %q, %s, %d times", name, at, hit, mode, lasts)
	if hit != "" && err == nil && !ofSpare(hit) {
		t.Errorf("%s: the entry was said to be durable", what)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		t.Errorf("%s: %v is not ErrUnavailable", what, err)
	}
	if hit == "" {
		must(t, err)
		err := l.Publish()
		if hit = faulty.first(); hit == "" {
			must(t, err)
			return false
		}
		what = fmt.Sprintf("%s: operation %d, %q, %s, %d times", name, at, hit, mode, lasts)
		if err == nil && !ofSpare(hit) {
			t.Errorf("%s: the checkpoint was said to be made", what)
		}
	}
	faulty.disarm()
	crashed := copyDir(t, dir)
	known.check(t, what+": crash", crashed)

	for n := 21; n < 24; n++ {
		c.add(time.Minute)
		if _, err := add(n, 200); err != nil {
			t.Errorf("%s: it does not heal: %v", what, err)
		}
	}
	if leaf, _, err := l.Read(late); err != nil || !bytes.Contains(leaf, []byte("gateway.started")) && !bytes.Contains(leaf, []byte("lost")) {
		t.Errorf("%s: entry %d came to be %q, %v", what, late, leaf, err)
	}
	if err := l.Healthy(); err != nil {
		t.Errorf("%s: healed and not healthy: %v", what, err)
	}
	must(t, l.Close())
	known.check(t, what+": healed", dir)
	return true
}

// Healing is broken at each of its operations, in turn, and the machine
// crashes there: what was durable stays, and the next try heals.
func TestEachFaultOfHealing(t *testing.T) {
	for _, mode := range []faultMode{didNot, did, half, lose} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			at := 0
			for healOnce(t, at, mode) {
				at++
			}
			if at < 8 {
				t.Errorf("only %d operations; the test wants to break more", at)
			}
		})
	}
}

func healOnce(t *testing.T, at int, mode faultMode) bool {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	faulty, c := newFaultyFS(), newClock()
	o := testOptions(dir)
	o.FS, o.Now = faulty, c.now
	l := mustOpen(t, o)
	known := kept{}
	leaf := []byte(`{"kind":"gateway.started","at":"2026-03-01T12:00:00Z"}`)
	for range 5 {
		i, err := l.Append(leaf, nil)
		must(t, err)
		must(t, l.Durable(i))
		known[i] = leaf
	}
	for range 3 {
		_, err := l.Append(leaf, nil)
		must(t, err)
	}
	faulty.arm(0, 1, didNot, syscall.EIO)
	if err := l.Durable(7); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("durable: %v", err)
	}
	faulty.arm(at, 1, mode, syscall.EIO)
	_, err := l.Append(leaf, nil)
	hit := faulty.first()
	faulty.disarm()
	if strings.HasPrefix(hit, "write 0") { // the new entry's own frame
		hit = ""
	}
	if hit != "" && err == nil && !ofSpare(hit) {
		t.Errorf("operation %d, %q, %s: it is said to be healed", at, hit, mode)
	}
	known.check(t, fmt.Sprintf("operation %d of healing, %q, %s", at, hit, mode), copyDir(t, dir))
	c.add(time.Minute)
	i, err := l.Append(leaf, nil)
	must(t, err)
	must(t, l.Durable(i))
	known[i] = leaf
	for i := uint64(5); i < 8; i++ { // they were whole, and are durable now
		known[i] = leaf
	}
	must(t, l.Close())
	known.check(t, fmt.Sprintf("operation %d of healing, %q, %s, then healed", at, hit, mode), dir)
	return hit != ""
}

// While writers write over segments and faults, readers read what was
// written, and a stranger who verifies the folder finds nothing wrong.
func TestReadersBesideWritersAndFaults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	faulty, c := newFaultyFS(), newClock()
	o := testOptions(dir)
	o.FS, o.Now, o.SegmentBytes, o.Interval = faulty, c.now, 16<<10, time.Millisecond
	l := mustOpen(t, o)
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		writers.Go(func() {
			for n := range 300 {
				c.add(20 * time.Millisecond)
				leaf, attachment := leafOf(n)
				if i, err := l.Append(leaf, attachment); err == nil && n%10 == 0 {
					l.Durable(i) // may fail: faults come
				}
				if n%60 == 59 {
					faulty.arm(3, 1, did, syscall.EIO)
				}
			}
		})
	}
	readers.Go(func() {
		next := uint64(0)
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := l.Scan(next, l.Size(), func(i uint64, leaf, _ []byte) error {
				if i != next || len(leaf) == 0 {
					t.Errorf("entry %d came for %d", i, next)
				}
				next++
				return nil
			}); err != nil {
				t.Errorf("scan from %d: %v", next, err)
				return
			}
		}
	})
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if r, err := Verify(VerifyOptions{Dir: dir, Trust: testTrust, Heartbeat: -1}); err != nil || !r.OK {
				t.Errorf("verify beside the writers: %+v, %v", r, err)
				return
			}
		}
	})
	writers.Wait()
	close(done)
	readers.Wait()
	faulty.disarm()
	c.add(time.Minute)
	_, err := l.Append([]byte(`{"kind":"gateway.stopped","at":"2026-03-01T12:00:00Z"}`), nil)
	must(t, err)
	must(t, l.Close())
	if r := mustVerify(t, VerifyOptions{Dir: dir, Heartbeat: -1}); !r.OK {
		t.Errorf("verify: %+v", r)
	}
}

// An idle log says, each time of the heartbeat, that there was nothing to say.
func TestHeartbeat(t *testing.T) {
	c := newClock()
	o := testOptions(filepath.Join(t.TempDir(), "ledger"))
	o.Now = c.now
	l := mustOpen(t, o)
	appendMany(t, l, 0, 1)
	for n := uint64(1); n < 4; n++ {
		l.tick()
		if l.Size() != n {
			t.Fatalf("size %d before a heartbeat is due, want %d", l.Size(), n)
		}
		c.add(time.Hour)
		l.tick()
		leaf, _, err := l.Read(n)
		if err != nil || !bytes.Contains(leaf, []byte(`"ledger.heartbeat"`)) {
			t.Fatalf("entry %d is %s, %v", n, leaf, err)
		}
		if h := l.Health(); h.Published != n+1 || h.Problem != "" {
			t.Fatalf("health %+v, want %d entries published", h, n+1)
		}
	}
	must(t, l.Close())
	if r := mustVerify(t, VerifyOptions{Dir: o.Dir}); !r.OK {
		t.Errorf("verify: %+v", r.Damage)
	}
}

// With a disk that stays broken nothing is taken, and everything from before
// is there.
func TestBrokenDiskRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	faulty, c := newFaultyFS(), newClock()
	o := testOptions(dir)
	o.FS, o.Now = faulty, c.now
	l := mustOpen(t, o)
	appendMany(t, l, 0, 20)
	faulty.arm(0, 1<<30, didNot, syscall.ENOSPC)
	for range 5 {
		c.add(time.Minute)
		if _, err := l.Append([]byte("{}"), nil); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%v, want ErrUnavailable for ENOSPC", err)
		}
		if l.Healthy() == nil || l.Health().Refuses == "" {
			t.Fatal("it is said to be healthy")
		}
	}
	if l.Size() != 20 {
		t.Fatalf("size %d, want 20", l.Size())
	}
	checkMany(t, l, 0, 20)
	faulty.disarm()
	c.add(time.Minute)
	i, err := l.Append([]byte(`{"kind":"gateway.started","at":"2026-03-01T12:00:00Z"}`), nil)
	must(t, err)
	must(t, l.Durable(i))
	if leaf, _, err := l.Read(20); err != nil || !bytes.Contains(leaf, []byte("gateway.recovered")) {
		t.Errorf("entry 20 is %s, %v; want one that says that the log was healed", leaf, err)
	}
}

// A loss of power takes any part of what was not synced, in any order. What
// was durable is there, and what is left over is set aside, not damage.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	torn := 0
	for range 60 {
		dir := filepath.Join(t.TempDir(), "ledger")
		faulty := newFaultyFS()
		o := testOptions(dir)
		o.FS, o.SegmentBytes = faulty, 8<<10
		l := mustOpen(t, o)
		known := kept{}
		for n := range 5 + random.IntN(60) {
			leaf, attachment := leafOf(n)
			i, err := l.Append(leaf, attachment)
			must(t, err)
			if random.IntN(6) == 0 {
				must(t, l.Durable(i))
				for ; ; i-- {
					if _, ok := known[i]; ok {
						break
					}
					known[i], _, err = l.Read(i)
					must(t, err)
					if i == 0 {
						break
					}
				}
			}
			if random.IntN(20) == 0 {
				must(t, l.Publish())
			}
		}
		copied := copyDir(t, dir)
		faulty.powerLoss(t, dir, copied, random)
		again, err := Open(testOptions(copied))
		must(t, err)
		if again.Recovery().TornBytes > 0 {
			torn++
		}
		must(t, again.Close())
		known.check(t, "after power loss", copied)
	}
	if torn < 10 {
		t.Errorf("only %d of the losses left a torn tail; the test wants more", torn)
	}
}

// A frame that was durable, or under a checkpoint, and is wrong, is damage:
// Open refuses, and says where.
func TestDamageIsNotTakenForATornTail(t *testing.T) {
	for name, c := range map[string]struct {
		entry  int
		break_ func(b []byte, s span)
	}{
		"under a checkpoint":   {5, func(b []byte, s span) { b[s.to-1] ^= 1 }},
		"durable, then others": {25, func(b []byte, s span) { b[s.from+frameHead] ^= 1 }},
		"zeroed":               {25, func(b []byte, s span) { clear(b[s.from:s.to]) }},
		"its head":             {25, func(b []byte, s span) { b[s.from+16] ^= 0xff }},
	} {
		dir := filepath.Join(t.TempDir(), "ledger")
		l := mustOpen(t, testOptions(dir))
		appendMany(t, l, 0, 20)
		must(t, l.Publish())
		appendMany(t, l, 20, 28)
		appendMany(t, l, 28, 30)
		copied := copyDir(t, dir)
		s := readSpans(t, copied)[c.entry]
		edit(t, s.file, func(b []byte) []byte { c.break_(b, s); return b })
		_, err := Open(testOptions(copied))
		if c.entry < 20 {
			// The tail is read from the checkpoint on; what lies before is
			// compared with the last tile.
			if err == nil {
				t.Errorf("%s: opened", name)
			}
			continue
		}
		if !errors.Is(err, ErrDamaged) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("byte %d: entry %d", s.from, c.entry)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRefusesARollback(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	writeSample(t, dir, 20, sampleSegment)
	for name, do := range map[string]func(dir string){
		"no entries":    func(dir string) { must(t, os.RemoveAll(filepath.Join(dir, "log"))) },
		"no checkpoint": func(dir string) { must(t, os.Remove(filepath.Join(dir, checkpointFile))) },
		"fewer entries": func(dir string) { writeSpans(t, dir, readSpans(t, dir)[:100]) },
		"other entries": func(dir string) {
			spans := readSpans(t, dir)
			spans[3], spans[4] = spans[4], spans[3]
			writeSpans(t, dir, spans)
			must(t, os.RemoveAll(filepath.Join(dir, "tile")))
		},
	} {
		copied := copyDir(t, dir)
		do(copied)
		if _, err := Open(testOptions(copied)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want damage", name, err)
		}
	}
	// Tiles alone are made again.
	copied := copyDir(t, dir)
	must(t, os.RemoveAll(filepath.Join(copied, "tile")))
	l := mustOpen(t, testOptions(copied))
	if !l.Recovery().Rebuilt {
		t.Error("the tiles were not made again")
	}
	must(t, l.Close())
	if r := mustVerify(t, VerifyOptions{Dir: copied}); !r.OK {
		t.Errorf("with tiles made again: %+v", r.Damage)
	}
}
