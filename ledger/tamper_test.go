package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	custos "github.com/custos-gateway/custos"
)

// place is where damage must be named: one of the entries, if there are any,
// and one of the files, if there are any.
type place struct {
	entries []uint64
	files   []string
}

func (p place) named(r *Report) bool {
	for _, d := range r.Damage {
		if (p.entries == nil || slices.Contains(p.entries, d.Entry)) &&
			(p.files == nil || slices.ContainsFunc(p.files, func(f string) bool { return strings.Contains(d.File, f) })) {
			return true
		}
	}
	return false
}

// tampering is one thing that somebody does to a ledger's folder.
type tampering struct {
	name    string
	do      func(t testing.TB, dir string)
	want    place
	trusted []byte
}

const sampleSegment = 48 << 10

// spans are where each frame lies.
type span struct {
	file     string
	from, to int64
	frame    frame
}

func readSpans(t testing.TB, dir string) []span {
	t.Helper()
	var all []span
	firsts, err := listSegments(testFS, filepath.Join(dir, "log"))
	must(t, err)
	for _, first := range firsts {
		name := filepath.Join(dir, "log", segmentName(first))
		f, err := os.Open(name)
		must(t, err)
		for r := newFrameReader(f, headerSize); ; {
			at := r.off
			e, err := r.next()
			if errors.Is(err, errNoFrame) {
				break
			}
			must(t, err)
			e.leaf, e.attachment = bytes.Clone(e.leaf), bytes.Clone(e.attachment)
			all = append(all, span{name, at, r.off, e})
		}
		must(t, f.Close())
	}
	return all
}

// writeSpans replaces the segments by ones with these entries, each with the
// next index and a right checksum.
func writeSpans(t testing.TB, dir string, spans []span) {
	t.Helper()
	logs := filepath.Join(dir, "log")
	must(t, os.RemoveAll(logs))
	must(t, os.Mkdir(logs, 0o700))
	b := appendHeader(nil, 0, testSigner.Name())
	for i, s := range spans {
		b = appendFrame(b, &frame{index: uint64(i), durable: uint64(i), leaf: s.frame.leaf, attachment: s.frame.attachment})
	}
	must(t, os.WriteFile(filepath.Join(logs, segmentName(0)), b, 0o600))
}

func edit(t testing.TB, name string, fn func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, fn(b), 0o600))
}

func flip(name string, off int64, bit int) func(testing.TB, string) {
	return func(t testing.TB, dir string) {
		edit(t, filepath.Join(dir, name), func(b []byte) []byte { b[off] ^= 1 << bit; return b })
	}
}

// flips are single bits in every region of the segments, tiles and checkpoint.
func flips(t testing.TB, dir string) []tampering {
	var all []tampering
	add := func(region, name string, off int64, bit int, entries []uint64) {
		all = append(all, tampering{fmt.Sprintf("flip bit %d of byte %d (%s) of %s", bit, off, region, name),
			flip(name, off, bit), place{entries, []string{name}}, nil})
	}
	spans := readSpans(t, dir)
	rel := func(s span) string { r, err := filepath.Rel(dir, s.file); must(t, err); return r }
	for _, i := range []int{0, 1, 2, 3, 100, 255, 256, 511, 512, 700, len(spans) - 1} {
		s := spans[i]
		entry := []uint64{uint64(i)}
		leaf := s.from + frameHead
		for _, off := range []int64{0, 5, 8, 16, 18, 24} {
			add("frame head", rel(s), s.from+off, int(off)%8, entry)
		}
		for _, off := range []int64{leaf, leaf + int64(len(s.frame.leaf))/2, leaf + int64(len(s.frame.leaf)) - 1} {
			add("leaf", rel(s), off, 3, entry)
		}
		if n := int64(len(s.frame.attachment)); n > 0 {
			add("attachment", rel(s), s.to-n, 0, entry)
			add("attachment", rel(s), s.to-1, 7, entry)
		}
	}
	for _, off := range []int64{0, 15, 16, 24, 28, 40, 300, headerSize - 1} {
		add("segment header", rel(spans[0]), off, 2, nil)
	}
	for name, size := range filesUnder(t, dir, "tile") {
		if strings.Contains(name, ".p/") && !strings.Contains(name, "/003.p/") && !strings.HasPrefix(name, "tile/1/") {
			continue // partial tiles of earlier checkpoints are nobody's any more
		}
		if strings.Contains(name, ".p/") && !newest(t, dir, name) {
			continue
		}
		for _, off := range []int64{0, size / 2, size - 1} {
			add("tile", name, off, 5, nil)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	must(t, err)
	for off := 0; off < len(b); off += 7 {
		add("checkpoint", checkpointFile, int64(off), 0, nil)
	}
	return all
}

func filesUnder(t testing.TB, dir, sub string) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	must(t, filepath.WalkDir(filepath.Join(dir, sub), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		name, _ := filepath.Rel(dir, path)
		files[name] = info.Size()
		return err
	}))
	return files
}

// newest reports that no partial tile of the same place is wider.
func newest(t testing.TB, dir, name string) bool {
	t.Helper()
	names, err := listNames(filepath.Dir(filepath.Join(dir, name)))
	must(t, err)
	var mine, widest int
	fmt.Sscan(filepath.Base(name), &mine)
	for _, n := range names {
		var w int
		fmt.Sscan(n, &w)
		widest = max(widest, w)
	}
	return mine == widest
}

// resign makes the checkpoint that the log's key would have signed of other
// entries: a second history.
func resign(t testing.TB, spans []span) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	l := mustOpen(t, testOptions(dir))
	for _, s := range spans {
		_, err := l.Append(s.frame.leaf, s.frame.attachment)
		must(t, err)
	}
	must(t, l.Close())
	b, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	must(t, err)
	return b
}

func tamperings(t testing.TB, dir string) []tampering {
	spans := readSpans(t, dir)
	checkpoint, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	must(t, err)
	base := func(i int) string { return filepath.Base(spans[i].file) }
	seg := func(i int) []string { return []string{base(i)} }
	cut := func(i int, fn func(b []byte, s span) []byte) func(testing.TB, string) {
		return func(t testing.TB, dir string) {
			edit(t, filepath.Join(dir, "log", base(i)), func(b []byte) []byte { return fn(b, spans[i]) })
		}
	}
	without := func(drop func(i int, s span) bool) func(testing.TB, string) {
		return func(t testing.TB, dir string) {
			var kept []span
			for i, s := range spans {
				if !drop(i, s) {
					kept = append(kept, s)
				}
			}
			writeSpans(t, dir, kept)
		}
	}
	victim := sampleSession(40)
	firstOfVictim := uint64(slices.IndexFunc(spans, func(s span) bool { return bytes.Contains(s.frame.leaf, []byte(victim)) }))
	changed := slices.Clone(spans)
	changed[300].frame.leaf = bytes.Replace(spans[300].frame.leaf, []byte("2026"), []byte("2027"), 1)
	remove := func(name string) func(testing.TB, string) {
		return func(t testing.TB, dir string) { must(t, os.RemoveAll(filepath.Join(dir, name))) }
	}
	second := resign(t, changed)
	all := []tampering{
		{"delete a frame", cut(300, func(b []byte, s span) []byte {
			return slices.Concat(b[:s.from], b[s.to:], make([]byte, s.to-s.from))
		}), place{[]uint64{300}, seg(300)}, nil},
		{"zero a frame", cut(300, func(b []byte, s span) []byte { clear(b[s.from:s.to]); return b }), place{[]uint64{300}, seg(300)}, nil},
		{"swap two frames", cut(300, func(b []byte, s span) []byte {
			n := spans[301]
			return slices.Concat(b[:s.from], b[n.from:n.to], b[s.from:s.to], b[n.to:])
		}), place{[]uint64{300}, seg(300)}, nil},
		{"swap two entries, with right checksums", func(t testing.TB, dir string) {
			other := slices.Clone(spans)
			other[300], other[301] = other[301], other[300]
			writeSpans(t, dir, other)
		}, place{[]uint64{300}, nil}, nil},
		{"duplicate a frame", cut(300, func(b []byte, s span) []byte {
			return slices.Concat(b[:s.to], b[s.from:])
		}), place{[]uint64{300}, seg(300)}, nil},
		{"duplicate an entry, with right checksums", func(t testing.TB, dir string) {
			writeSpans(t, dir, slices.Insert(slices.Clone(spans), 300, spans[300]))
		}, place{[]uint64{301}, nil}, nil},
		{"truncate the last segment", cut(len(spans)-1, func(b []byte, s span) []byte { return b[:s.from] }), place{[]uint64{uint64(len(spans) - 1)}, seg(len(spans) - 1)}, nil},
		{"truncate the last segment in an entry", cut(len(spans)-1, func(b []byte, s span) []byte { return b[:s.to-1] }), place{[]uint64{uint64(len(spans) - 1)}, seg(len(spans) - 1)}, nil},
		{"truncate the first segment", cut(10, func(b []byte, s span) []byte { return b[:s.from] }), place{[]uint64{10}, seg(10)}, nil},
		{"write after the entries of a segment", cut(0, func(b []byte, _ span) []byte { return append(b, "more"...) }), place{nil, seg(0)}, nil},
		{"delete a segment", remove("log/" + base(300)), place{[]uint64{spanFirst(spans, 300)}, nil}, nil},
		{"delete the last segment", remove("log/" + base(len(spans)-1)), place{[]uint64{spanFirst(spans, len(spans)-1)}, nil}, nil},
		{"delete a tile", remove("tile/0/001"), place{[]uint64{256}, []string{"tile/0/001"}}, nil},
		{"truncate a tile", func(t testing.TB, dir string) {
			edit(t, filepath.Join(dir, "tile/0/001"), func(b []byte) []byte { return b[:100] })
		}, place{[]uint64{256}, []string{"tile/0/001"}}, nil},
		{"delete an entry bundle", remove("tile/entries/002"), place{[]uint64{512}, []string{"tile/entries/002"}}, nil},
		{"delete all tiles", remove("tile"), place{[]uint64{0}, []string{"tile/0/000"}}, nil},
		{"delete the checkpoint", remove(checkpointFile), place{nil, []string{checkpointFile}}, nil},
		{"drop a session, with right checksums", without(func(_ int, s span) bool { return bytes.Contains(s.frame.leaf, []byte(victim)) }),
			place{[]uint64{firstOfVictim}, nil}, nil},
		{"drop the newest hour", without(func(i int, _ span) bool { return i >= 500 }), place{[]uint64{500}, nil}, nil},
		{"alter an entry, with a right checksum", func(t testing.TB, dir string) { writeSpans(t, dir, changed) }, place{[]uint64{300}, nil}, nil},
		{"alter an entry, its bundle and its tile", func(t testing.TB, dir string) {
			alterWithTiles(t, dir, changed)
		}, place{nil, nil}, nil},
		{"roll back to an older state", func(t testing.TB, dir string) { rollBack(t, dir, spans[:500]) }, place{[]uint64{500}, nil}, checkpoint},
		{"fork the history with the log's own key", func(t testing.TB, dir string) { rollBack(t, dir, changed) }, place{nil, []string{checkpointFile}}, checkpoint},
		{"fork the history and go on", func(t testing.TB, dir string) {
			rollBack(t, dir, append(slices.Clone(changed), spans[:50]...))
		}, place{nil, []string{checkpointFile}}, checkpoint},
		{"another history's checkpoint", func(t testing.TB, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, checkpointFile), second, 0o600))
		}, place{nil, []string{checkpointFile}}, nil},
		{"sign with another key", func(t testing.TB, dir string) {
			skey, _, err := note.GenerateKey(strings.NewReader(strings.Repeat("another ", 8)), testSigner.Name())
			must(t, err)
			s, err := note.NewSigner(skey)
			must(t, err)
			text, _, _ := splitNote(checkpoint)
			b, err := note.Sign(&note.Note{Text: string(text)}, s)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, checkpointFile), b, 0o600))
		}, place{nil, []string{checkpointFile}}, nil},
	}
	return append(all, flips(t, dir)...)
}

func spanFirst(spans []span, i int) uint64 {
	first, _ := parseSegmentName(filepath.Base(spans[i].file))
	return first
}

// rollBack puts in dir's place a ledger of these entries that is right in
// itself, as somebody with the log's key can make one.
func rollBack(t testing.TB, dir string, spans []span) {
	t.Helper()
	must(t, os.RemoveAll(dir))
	l := mustOpen(t, testOptions(dir))
	for _, s := range spans {
		_, err := l.Append(s.frame.leaf, s.frame.attachment)
		must(t, err)
	}
	must(t, l.Close())
}

// alterWithTiles rewrites entries and all tiles alike, and leaves the
// checkpoint, for which the key is missing.
func alterWithTiles(t testing.TB, dir string, spans []span) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	must(t, err)
	rollBack(t, dir, spans)
	must(t, os.WriteFile(filepath.Join(dir, checkpointFile), b, 0o600))
}

func TestTamperingIsFoundAndPlaced(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger")
	writeSample(t, dir, 125, sampleSegment)
	r := mustVerify(t, VerifyOptions{Dir: dir})
	if !r.OK || r.Entries != 1003 || r.Uncovered != 0 || r.Checkpoint.Size != 1003 {
		b, _ := json.Marshal(r)
		t.Fatalf("untouched: %s", b)
	}
	if n := len(filesUnder(t, dir, "log")); n < 4 {
		t.Fatalf("%d segments; the test wants several", n)
	}
	cases := tamperings(t, dir)
	for _, c := range cases {
		touched := copyDir(t, dir)
		c.do(t, touched)
		r, err := Verify(VerifyOptions{Dir: touched, Trust: testTrust, Trusted: c.trusted})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		b, _ := json.Marshal(r.Damage[:min(len(r.Damage), 5)])
		switch {
		case r.OK:
			t.Errorf("%s: not found", c.name)
		case !c.want.named(r):
			t.Errorf("%s: want %+v named, got %s", c.name, c.want, b)
		case testing.Verbose():
			t.Logf("%s: %s", c.name, b)
		}
	}
	t.Logf("%d tamperings", len(cases))
}

// What a sound ledger holds against itself: entries that a broken gateway, or
// one that was tampered with, would have signed.
func TestEntriesThatContradictEachOther(t *testing.T) {
	id, other := sampleSession(1), sampleSession(2)
	open := func(w *sampleWriter, id custos.SessionID) {
		w.add(custos.Entry{Kind: custos.EntryOpened, Session: id, Opened: &custos.Opened{}}, nil)
	}
	for name, c := range map[string]struct {
		do    func(w *sampleWriter, c *clock)
		entry uint64
		ok    bool
	}{
		"settled of another session": {do: func(w *sampleWriter, _ *clock) {
			open(w, id)
			open(w, other)
			w.add(custos.Entry{Kind: custos.EntrySubmitted, Session: id, Submit: &custos.Submitted{}}, nil)
			w.add(custos.Entry{Kind: custos.EntrySettled, Session: other, Settled: &custos.Settled{Operation: 2}}, nil)
		}, entry: 3},
		"settled twice": {do: func(w *sampleWriter, _ *clock) {
			open(w, id)
			w.add(custos.Entry{Kind: custos.EntrySubmitted, Session: id, Submit: &custos.Submitted{}}, nil)
			w.add(custos.Entry{Kind: custos.EntrySettled, Session: id, Settled: &custos.Settled{Operation: 1}}, nil)
			w.add(custos.Entry{Kind: custos.EntrySettled, Session: id, Settled: &custos.Settled{Operation: 1}}, nil)
		}, entry: 3},
		"input before its operation": {do: func(w *sampleWriter, _ *clock) {
			open(w, id)
			w.add(custos.Entry{Kind: custos.EntryInput, Session: id, Input: &custos.Input{Operation: 2}}, nil)
			w.add(custos.Entry{Kind: custos.EntrySubmitted, Session: id, Submit: &custos.Submitted{}}, nil)
		}, entry: 1},
		"before opened": {do: func(w *sampleWriter, _ *clock) {
			w.add(custos.Entry{Kind: custos.EntryReceived, Session: id}, nil)
			open(w, id)
		}, entry: 0},
		"after closed": {do: func(w *sampleWriter, _ *clock) {
			open(w, id)
			w.add(custos.Entry{Kind: custos.EntryClosed, Session: id, Closed: &custos.Closed{}}, nil)
			w.add(custos.Entry{Kind: custos.EntryReceived, Session: id}, nil)
		}, entry: 2},
		"erased after closed": {do: func(w *sampleWriter, _ *clock) {
			open(w, id)
			w.add(custos.Entry{Kind: custos.EntryClosed, Session: id, Closed: &custos.Closed{}}, nil)
			w.add(custos.Entry{Kind: custos.EntryErased, Session: id}, nil)
			w.add(custos.Entry{Kind: custos.EntryTurned, Session: other, Opened: &custos.Opened{}}, nil)
		}, ok: true},
		"silence": {do: func(w *sampleWriter, c *clock) {
			open(w, id)
			c.t = c.t.Add(2 * 60 * 60e9)
			w.add(custos.Entry{Kind: custos.EntryReceived, Session: id}, nil)
		}, entry: 1},
		"silence while stopped": {do: func(w *sampleWriter, c *clock) {
			w.add(custos.Entry{Kind: custos.EntryStopped}, nil)
			c.t = c.t.Add(24 * 60 * 60e9)
			open(w, id)
		}, ok: true},
		"silence after a crash": {do: func(w *sampleWriter, c *clock) {
			open(w, id)
			c.t = c.t.Add(24 * 60 * 60e9)
			w.add(custos.Entry{Kind: custos.EntryStarted}, nil)
		}, ok: true},
		"time goes back": {do: func(w *sampleWriter, c *clock) {
			open(w, id)
			c.t = c.t.Add(-10 * 60e9)
			w.add(custos.Entry{Kind: custos.EntryReceived, Session: id}, nil)
		}, entry: 1},
		"an attachment that is not cited": {do: func(w *sampleWriter, _ *clock) {
			_, err := w.log.Append([]byte(`{"kind":"gateway.started","at":"2026-03-01T12:00:00Z"}`), []byte("x"))
			must(w.t, err)
		}, entry: 0},
		"no entry": {do: func(w *sampleWriter, _ *clock) {
			_, err := w.log.Append([]byte(`not JSON`), nil)
			must(w.t, err)
		}, entry: 0},
	} {
		dir := filepath.Join(t.TempDir(), "ledger")
		clock := newClock()
		o := testOptions(dir)
		o.Now = clock.now
		l := mustOpen(t, o)
		c.do(&sampleWriter{t, l, clock.now}, clock)
		must(t, l.Close())
		r := mustVerify(t, VerifyOptions{Dir: dir})
		if c.ok != r.OK || !c.ok && (len(r.Damage) != 1 || r.Damage[0].Entry != c.entry) {
			t.Errorf("%s: %+v, want entry %d", name, r.Damage, c.entry)
		}
	}
}
