package git

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zlib"

	"github.com/custos-gateway/custos/internal/gittest"
)

// packer makes packs that git would not make.
type packer struct {
	body  bytes.Buffer
	count uint32
}

func deflated(b []byte) []byte {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// head appends an entry's head and returns where it begins.
func (p *packer) head(k kind, size int) int {
	at := 12 + p.body.Len()
	p.count++
	c := byte(k)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.body.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	p.body.WriteByte(c)
	return at
}

func (p *packer) add(k kind, b []byte) (at int) {
	at = p.head(k, len(b))
	p.body.Write(deflated(b))
	return at
}

// delta appends a delta on what begins at base.
func (p *packer) delta(base int, delta []byte) (at int) {
	at = p.head(kindOfsDelta, len(delta))
	back := at - base
	digits := []byte{byte(back & 0x7f)}
	for back >>= 7; back > 0; back >>= 7 {
		back--
		digits = append([]byte{byte(back&0x7f) | 0x80}, digits...)
	}
	p.body.Write(digits)
	p.body.Write(deflated(delta))
	return at
}

func (p *packer) bytes() []byte {
	b := append([]byte("PACK\x00\x00\x00\x02"), binary.BigEndian.AppendUint32(nil, p.count)...)
	b = append(b, p.body.Bytes()...)
	sum := sha1.Sum(b)
	return append(b, sum[:]...)
}

func nameOf(k kind, b []byte) id {
	h := formatSHA1.objectHash(k, int64(len(b)))
	h.Write(b)
	return formatSHA1.idOf(h)
}

// sizes begins a delta.
func sizes(from, to int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(from)), uint64(to))
}

// pushed makes a push of a new branch with a commit of a tree, and more
// objects.
func craftedPush(tree []byte, more func(*packer)) []byte {
	p := &packer{}
	t := nameOf(kindTree, tree)
	c := []byte("tree " + t.String() + "\nauthor ana <ana@example.com> 1 +0000\ncommitter ana <ana@example.com> 1 +0000\n\nmade\n")
	p.add(kindTree, tree)
	p.add(kindCommit, c)
	if more != nil {
		more(p)
	}
	wire := appendPkt(nil, strings.Repeat("0", 40)+" "+nameOf(kindCommit, c).String()+" refs/heads/agent/x\x00report-status side-band-64k")
	return append(append(wire, flushPkt...), p.bytes()...)
}

func entryOf(mode, name string, i id) []byte {
	return append([]byte(mode+" "+name+"\x00"), i.sum[:i.size]...)
}

func TestTreeTricks(t *testing.T) {
	b := newBench(t)
	blob := nameOf(kindBlob, []byte("x"))
	withBlob := func(p *packer) { p.add(kindBlob, []byte("x")) }
	if _, err := b.judge(craftedPush(entryOf("100644", "fine", blob), withBlob)); err != nil {
		t.Fatalf("a tree without a trick: %v", err)
	}
	for _, name := range []string{".git", ".GIT", ".Git", "git~1", "GIT~1", ".git ", ".git.", ".git. .", ".git::$INDEX_ALLOCATION", ".g\u200cit", "\ufeff.git", ".gİt",
		"..", ".", "a/b", "a\\b", "a\nb", "", "\x1b[2J"} {
		for _, mode := range []string{"100644", "40000", "120000", "160000"} {
			_, err := b.judge(craftedPush(entryOf(mode, name, blob), withBlob))
			if !errors.Is(err, errObject) {
				t.Errorf("%s %q: %v", mode, name, err)
			}
		}
	}
	for name, tree := range map[string][]byte{
		"twice":               append(entryOf("100644", "a", blob), entryOf("100644", "a", blob)...),
		"out of order":        append(entryOf("100644", "b", blob), entryOf("100644", "a", blob)...),
		"a file and a folder": bytes.Join([][]byte{entryOf("100644", "a", blob), entryOf("100644", "a.b", blob), entryOf("40000", "a", blob)}, nil),
		"a link and a folder": append(entryOf("120000", "A", blob), entryOf("40000", "a", blob)...),
		"modules as a link":   entryOf("120000", ".gitmodules", blob),
		"modules, short":      entryOf("120000", "GITMOD~1", blob),
		"an odd mode":         entryOf("100755755", "a", blob),
		"a device":            entryOf("60000", "a", blob),
		"a mode with a zero":  entryOf("0100644", "a", blob),
		"cut":                 entryOf("100644", "a", blob)[:12],
	} {
		if _, err := b.judge(craftedPush(tree, withBlob)); !errors.Is(err, errObject) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"[submodule \"x\"]\n\turl = --upload-pack=touch /tmp/x\n", "[submodule \"x\"]\n\turl = ext::sh -c id\n", "[submodule \"../../x\"]\n",
		"[submodule \"x\"]\n\tpath = .git/hooks\n", "[submodule \"x\"]\nupdate = !id\n", "[submodule \"x\"]\n\tpath = \"-x\"\n"} {
		tree := entryOf("100644", ".gitmodules", nameOf(kindBlob, []byte(text)))
		if _, err := b.judge(craftedPush(tree, func(p *packer) { p.add(kindBlob, []byte(text)) })); !errors.Is(err, errObject) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCommitsThatGitWouldNotMake(t *testing.T) {
	tree := strings.Repeat("1", 40)
	for name, text := range map[string]string{
		"two trees":    "tree " + tree + "\ntree " + tree + "\nauthor a <a> 1 +0\ncommitter a <a> 1 +0\n\n",
		"no author":    "tree " + tree + "\ncommitter a <a> 1 +0\n\n",
		"two authors":  "tree " + tree + "\nauthor a <a> 1 +0\nauthor b <b> 1 +0\ncommitter a <a> 1 +0\n\n",
		"a NUL":        "tree " + tree + "\nauthor a <a> 1 +0\ncommitter a <a> 1 +0\n\nfine\x00hidden\n",
		"no end":       "tree " + tree,
		"a short tree": "tree 12\nauthor a <a> 1 +0\ncommitter a <a> 1 +0\n\n",
	} {
		if _, err := formatSHA1.parseCommit([]byte(text)); !errors.Is(err, errObject) && err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	signed := "tree " + tree + "\nauthor a <a> 1 +0\ncommitter a <a> 1 +0\ngpgsig -----BEGIN SSH SIGNATURE-----\n U1NI\n -----END SSH SIGNATURE-----\n\nx\n"
	if c, err := formatSHA1.parseCommit([]byte(signed)); err != nil || !c.signed {
		t.Errorf("a signed commit: %v, %v", c, err)
	}
	if c, err := formatSHA1.parseCommit([]byte(strings.Replace(signed, "gpgsig ---", "gpgsig x---", 1))); err != nil || c.signed {
		t.Errorf("what is no signature: %v, %v", c, err)
	}
}

// tight are limits under which a test is quick.
var tight = Limits{Pack: 1 << 20, Objects: 1000, Object: 64 << 20, WorkBase: 128 << 20, WorkRatio: 200}

func tryPack(t *testing.T, wire []byte) error {
	t.Helper()
	p, _, err := readPack(t.Context(), bytes.NewReader(wire), formatSHA1, t.TempDir(), &tight, nil)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.resolve(t.Context(), nil)
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, 32<<20)
	many := &packer{}
	for range 8 {
		many.add(kindBlob, zeros)
	}
	// Each copies what it is of many times over.
	copies := &packer{}
	at, size := copies.add(kindBlob, zeros[:1<<20]), 1<<20
	for range 6 {
		d := sizes(size, 64<<20)
		for n := 0; n < 64<<20; n += 1 << 20 {
			d = append(d, 0x80|0x40, 0x10) // 1 MiB from 0 on
		}
		at, size = copies.delta(at, d), 64<<20
	}
	// One after another, each a little longer.
	chain := &packer{}
	at, size = chain.add(kindBlob, zeros[:1<<20]), 1<<20
	for range 900 {
		d := append(sizes(size, size+1), 0x80|0x40, 0x10, 1, 'x')
		at = chain.delta(at, d)
		size++
	}
	for name, p := range map[string]*packer{"zeros": many, "copies": copies, "a chain": chain} {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := tryPack(t, p.bytes())
		runtime.ReadMemStats(&after)
		if !errors.Is(err, errBound) && !errors.Is(err, errDelta) {
			t.Errorf("%s: %v", name, err)
		}
		if held := int64(after.HeapSys) - int64(before.HeapSys); held > 256<<20 {
			t.Errorf("%s: the heap grew by %d bytes", name, held)
		}
	}
}

func TestPacksThatGitWouldNotMake(t *testing.T) {
	good := func() *packer { p := &packer{}; p.add(kindBlob, []byte("hello")); return p }
	longer := &packer{}
	longer.head(kindBlob, 3)
	longer.body.Write(deflated([]byte("hello")))
	shorter := &packer{}
	shorter.head(kindBlob, 30)
	shorter.body.Write(deflated([]byte("hello")))
	noBase := good()
	noBase.delta(11, sizes(5, 5))
	inside := good()
	inside.delta(13, append(sizes(5, 5), 0x90, 5))
	beyond := good()
	beyond.delta(12, append(sizes(5, 9), 0x90, 9))
	wrongSize := good()
	wrongSize.delta(12, append(sizes(4, 4), 0x90, 4))
	tooFew := good()
	tooFew.delta(12, append(sizes(5, 9), 0x90, 5))
	reserved := good()
	reserved.delta(12, append(sizes(5, 5), 0))
	five := &packer{}
	five.add(kind(5), []byte("x"))
	huge := &packer{}
	huge.head(kindBlob, 1<<40)
	fewer := good()
	fewer.count = 7
	mutual := &packer{} // two that are deltas of each other
	for _, other := range []byte{1, 2} {
		d := append(sizes(5, 5), 0x90, 5)
		mutual.head(kindRefDelta, len(d))
		mutual.body.Write(bytes.Repeat([]byte{other}, 20))
		mutual.body.Write(deflated(d))
	}
	for name, wire := range map[string][]byte{
		"longer than it says": longer.bytes(), "shorter than it says": shorter.bytes(), "no base": noBase.bytes(), "a base inside an object": inside.bytes(),
		"a copy from beyond": beyond.bytes(), "a wrong base": wrongSize.bytes(), "too little": tooFew.bytes(), "an unknown instruction": reserved.bytes(),
		"an unknown type": five.bytes(), "a huge object": huge.bytes(), "fewer objects": fewer.bytes(), "bases that nobody has": mutual.bytes(),
		"empty": {}, "no pack": []byte("PUCK\x00\x00\x00\x02\x00\x00\x00\x00"), "a version": append([]byte("PACK\x00\x00\x00\x04"), good().bytes()[8:]...),
		"a wrong sum": append(good().bytes()[:len(good().bytes())-1], 'x'), "cut": good().bytes()[:20],
		"too many objects": append([]byte("PACK\x00\x00\x00\x02\x00\xff\xff\xff"), good().bytes()[12:]...),
	} {
		err := tryPack(t, wire)
		if !errors.Is(err, errPack) && !errors.Is(err, errBound) && !errors.Is(err, errDelta) {
			t.Errorf("%s: %v", name, err)
		}
		if refusalOf(err) == nil {
			t.Errorf("%s is not taken for the push's fault: %v", name, err)
		}
	}
}

func TestPushesThatGitWouldNotMake(t *testing.T) {
	zero, one := strings.Repeat("0", 40), strings.Repeat("1", 40)
	line := func(s string) []byte { return appendPkt(nil, s) }
	caps := "\x00report-status side-band-64k"
	good := zero + " " + one + " refs/heads/x"
	for name, wire := range map[string][]byte{
		"a ref that leads out": append(line(zero+" "+one+" refs/heads/../heads/main"+caps), flushPkt...),
		"no refs/":             append(line(zero+" "+one+" HEAD"+caps), flushPkt...),
		"a control character":  append(line(zero+" "+one+" refs/heads/a\x1bb"+caps), flushPkt...),
		"a space":              append(line(zero+" "+one+" refs/heads/a b"+caps), flushPkt...),
		"a hyphen":             append(line(zero+" "+one+" refs/heads/-x"+caps), flushPkt...),
		"a lock":               append(line(zero+" "+one+" refs/heads/x.LOCK"+caps), flushPkt...),
		"nothing to nothing":   append(line(zero+" "+zero+" refs/heads/x"+caps), flushPkt...),
		"twice":                append(append(line(good+caps), line(good)...), flushPkt...),
		"an unknown wish":      append(line(good+caps+" push-cert=x"), flushPkt...),
		"a short id":           append(line(zero+" 11 refs/heads/x"+caps), flushPkt...),
		"capitals":             append(line(zero+" "+strings.Repeat("A", 40)+" refs/heads/x"+caps), flushPkt...),
		"a certificate":        append(line("push-cert"+caps), flushPkt...),
		"no end":               line(good + caps),
		"another version":      append(line(good+caps), delimPkt...),
		"no pkt-line":          []byte("zzzz"),
		"only shallow":         append(line("shallow "+one), flushPkt...),
		"other formats":        append(line(good+caps+" object-format=sha256"), flushPkt...),
	} {
		p, err := parsePush(newPktReader(bytes.NewReader(wire)))
		if err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p, err := parsePush(newPktReader(strings.NewReader(flushPkt))); p != nil || err != nil {
		t.Errorf("a probe: %v, %v", p, err)
	}
	b := newBench(t)
	b.commit("more", "x", "y")
	wire := b.push("HEAD:refs/heads/agent/x")
	if _, err := b.judge(append(wire, "more"...)); !errors.Is(err, errRequest) {
		t.Errorf("something behind the pack: %v", err)
	}
	if _, err := b.judge(append(b.push(":refs/heads/main"), "more"...)); !errors.Is(err, errRequest) {
		t.Errorf("something behind a deletion: %v", err)
	}
	// The client says what the ref was; it is the upstream that knows.
	old := gittest.Git(t, b.bare, "rev-parse", "main")
	lie := bytes.Replace(b.push("HEAD:refs/heads/main"), []byte(old), []byte(strings.Repeat("0", 40)), 1)
	if _, err := b.judge(lie); !errors.Is(err, errStale) {
		t.Errorf("a lie about the old value: %v", err)
	}
}
