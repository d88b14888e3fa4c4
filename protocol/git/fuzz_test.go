package git

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
)

// FuzzPush reads pushes, packs and all: no panic, bounded memory, and what is
// written anew for the upstream reads as the same.
func FuzzPush(f *testing.F) {
	one := strings.Repeat("1", 40)
	f.Add([]byte(flushPkt))
	f.Add(append(appendPkt(nil, strings.Repeat("0", 40)+" "+one+" refs/heads/x\x00report-status side-band-64k agent=git/2"), flushPkt...))
	f.Add(append(append(appendPkt(appendPkt(nil, "shallow "+one), one+" "+one+" refs/tags/v1\x00push-options"), flushPkt...), append(appendPkt(nil, "ci.skip"), flushPkt...)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePush(newPktReader(bytes.NewReader(b)))
		if err != nil || p == nil {
			return
		}
		again, err := parsePush(newPktReader(bytes.NewReader(p.wire)))
		if err != nil {
			t.Fatalf("what was written anew is refused: %v\n%q\n%q", err, b, p.wire)
		}
		if !bytes.Equal(again.wire, p.wire) || len(again.commands) != len(p.commands) {
			t.Errorf("it reads as something else: %q, %q", p.wire, again.wire)
		}
		for _, c := range p.commands {
			if strings.ContainsAny(c.ref, "\x00\n ") || strings.Contains(c.ref, "..") {
				t.Errorf("the ref %q", c.ref)
			}
		}
	})
}

func FuzzFetch(f *testing.F) {
	one := strings.Repeat("1", 40)
	f.Add(appendPkt(nil, "want "+one+" multi_ack_detailed side-band-64k\n"), 0)
	f.Add(append(append(appendPkt(nil, "command=ls-refs"), delimPkt...), append(appendPkt(nil, "peel"), flushPkt...)...), 2)
	f.Add(append(append(appendPkt(nil, "command=fetch"), delimPkt...), append(appendPkt(nil, "want "+one), flushPkt...)...), 2)
	f.Fuzz(func(t *testing.T, b []byte, version int) {
		r, err := parseFetch(bytes.NewReader(b), version)
		if err != nil {
			return
		}
		if o := r.operation("x"); o.Writes || o.Class == "" {
			t.Errorf("a request to read is taken for %+v", o)
		}
	})
}

func FuzzPack(f *testing.F) {
	p := &packer{}
	at := p.add(kindBlob, []byte("hello"))
	p.delta(at, append(sizes(5, 5), 0x90, 5))
	p.add(kindTree, entryOf("100644", "a", nameOf(kindBlob, []byte("hello"))))
	p.add(kindCommit, []byte("tree "+strings.Repeat("1", 40)+"\nauthor a <a> 1 +0\ncommitter a <a> 1 +0\n\nx\n"))
	f.Add(p.bytes())
	limits := Limits{Pack: 1 << 20, Objects: 1000, Object: 1 << 20, WorkBase: 4 << 20, WorkRatio: 10}
	m := newMasker()
	f.Fuzz(func(t *testing.T, b []byte) {
		p, rest, err := readPack(t.Context(), bytes.NewReader(b), formatSHA1, "/nowhere", &limits, newInspection(formatSHA1, m).visit)
		if err != nil {
			return
		}
		defer p.Close()
		io.Copy(io.Discard, rest)
		if err := p.resolve(t.Context(), nil); err != nil {
			return
		}
		for n := range p.entries {
			if _, err := p.content(int32(n)); err != nil && !errors.Is(err, errBound) {
				t.Errorf("object %d was there and is not: %v", n, err)
			}
		}
	})
}

func FuzzObjects(f *testing.F) {
	f.Add([]byte("tree "+strings.Repeat("1", 40)+"\nauthor a <a> 1 +0\ncommitter a <a> 1 +0\n\nx\n"), []byte("a\nb\n"))
	f.Add(entryOf("100644", "a", nameOf(kindBlob, nil)), []byte("[submodule \"x\"]\nurl = x"))
	f.Fuzz(func(t *testing.T, b, other []byte) {
		formatSHA1.parseCommit(b)
		formatSHA256.parseTag(b)
		if tree, err := formatSHA1.parseTree(b); err == nil {
			treeTrick(tree)
		}
		moduleTrick(string(other))
		leaves("a/b", string(other))
		if checkRef("refs/heads/"+string(other)) == nil {
			n := newRefNames()
			n.add("refs/heads/main")
			n.reserved("refs/heads/" + string(other))
		}
		x, y := splitLines(b), splitLines(other)
		edits := compareLines(x, y)
		if got := patched(x, y, edits); got != string(other) {
			t.Errorf("the edits of %q and %q make %q", b, other, got)
		}
		appendDiff(new(strings.Builder), x, y, edits)
	})
}

func FuzzLFS(f *testing.F) {
	oid := strings.Repeat("1", 64)
	f.Add([]byte(`{"operation":"upload","objects":[{"oid":"`+oid+`","size":1}]}`), []byte(`{"objects":[{"oid":"`+oid+`","size":1,"actions":{"upload":{"href":"https://s3.example/x?sig=secret","header":{"Authorization":"Bearer secret"}}}}]}`))
	upstream, _ := url.Parse("https://git.example/org/app.git")
	f.Fuzz(func(t *testing.T, request, reply []byte) {
		if b, err := parseBatch(request); err == nil {
			b.operation("x")
		}
		out, err := rewriteReply(bytes.NewReader(reply), "x", "https://gw/git/app/x", upstream, func(string, action) {})
		if err == nil && bytes.Contains(out, []byte("s3.example")) && !bytes.Contains(reply, []byte(`"message"`)) {
			t.Errorf("the client is told where the upstream keeps it: %q", out)
		}
	})
}
