package git

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/gittest"
)

// basic is the way to a server with its password.
type basic struct{ s *gittest.Server }

func (b basic) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth(b.s.Username, b.s.Password)
	return http.DefaultTransport.RoundTrip(r)
}

// bench is a server with a repository, a clone of it, and a judge between.
type bench struct {
	t      testing.TB
	server *gittest.Server
	bare   string
	dir    string
}

func newBench(t testing.TB, settings ...string) *bench {
	b := &bench{t: t, server: gittest.Start(t), dir: t.TempDir()}
	b.bare = b.server.Repository(t, "org/app.git", settings...)
	b.git("init", "-q", "-b", "main")
	b.commit("first", "readme.md", "hello\n", ".github/workflows/ci.yml", "on: push\n", "src/a.go", "package a\n", "config.txt", "key = AKIAIOSFODNN7EXAMPL3\n")
	b.git("push", "-q", b.bare, "main")
	return b
}

func (b *bench) git(args ...string) string { b.t.Helper(); return gittest.Git(b.t, b.dir, args...) }

// commit writes files, by name and text, and commits them.
func (b *bench) commit(message string, files ...string) string {
	b.t.Helper()
	for i := 0; i+1 < len(files); i += 2 {
		write(b.t, b.dir, files[i], files[i+1])
	}
	b.git("add", "-A")
	b.git("commit", "-q", "--allow-empty", "-m", message)
	return b.git("rev-parse", "HEAD")
}

// push makes the request of a push of refs, as "new:ref", and the pack that git
// would send with it.
func (b *bench) push(refspecs ...string) []byte {
	b.t.Helper()
	refs := map[string]string{}
	for line := range strings.Lines(gittest.Git(b.t, b.bare, "for-each-ref", "--format=%(objectname) %(refname)")) {
		name, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs[ref] = name
	}
	zero := strings.Repeat("0", 40)
	var wire []byte
	var revs strings.Builder
	caps := "\x00report-status side-band-64k object-format=sha1"
	packs := false
	for _, spec := range refspecs {
		from, ref, _ := strings.Cut(spec, ":")
		old, new := refs[ref], zero
		if old == "" {
			old = zero
		}
		if from != "" {
			new = b.git("rev-parse", from)
			packs = true
			fmt.Fprintln(&revs, new)
		}
		wire = appendPkt(wire, old+" "+new+" "+ref+caps)
		caps = ""
	}
	wire = append(wire, flushPkt...)
	if !packs {
		return wire
	}
	for _, name := range refs {
		if _, err := gittest.Try(b.t, b.dir, "cat-file", "-e", name); err == nil {
			fmt.Fprintln(&revs, "^"+name)
		}
	}
	return append(wire, run(b.t, b.dir, revs.String(), "pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")...)
}

// judge judges a push as ana's.
func (b *bench) judge(wire []byte) (*custos.Operation, error) {
	b.t.Helper()
	return b.judgeAs(wire, &custos.Principal{Subject: "ana", Name: "ana"})
}

func (b *bench) judgeAs(wire []byte, caller *custos.Principal) (*custos.Operation, error) {
	b.t.Helper()
	r := newPktReader(bytes.NewReader(wire))
	req, err := parsePush(r)
	if err != nil {
		return nil, err
	}
	m := newMasker()
	dir := b.t.TempDir()
	up := &upstream{rt: basic{b.server}, url: b.server.URL + "/org/app.git", dir: dir, agent: "custos"}
	j := &judgement{upstream: up, repository: "org/app", caller: caller, masker: m, limits: &standardLimits, dir: dir}
	p, err := j.judge(context.Background(), req, r.r)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		b.t.Errorf("left in the folder: %v", left)
	}
	if err != nil {
		return nil, err
	}
	defer p.close()
	return p.op, nil
}

// expect judges and compares the effects.
func (b *bench) expect(what string, wire []byte, effects ...string) *custos.Operation {
	b.t.Helper()
	o, err := b.judge(wire)
	if err != nil {
		b.t.Errorf("%s: %v", what, err)
		return nil
	}
	slices.Sort(effects)
	got := slices.DeleteFunc(slices.Clone(o.Facts.Effects), func(e string) bool { return e == "unsigned" })
	if !slices.Equal(got, effects) {
		b.t.Errorf("%s: it has the effects %q, want %q\n%s", what, got, effects, o.Text)
	}
	return o
}

func TestJudge(t *testing.T) {
	for _, filter := range []string{"true", "false"} {
		t.Run("filter "+filter, func(t *testing.T) { testJudge(t, newBench(t, "uploadpack.allowFilter="+filter)) })
	}
}

func testJudge(t *testing.T, b *bench) {
	first := b.git("rev-parse", "HEAD")
	b.git("checkout", "-q", "-b", "agent/x")
	b.commit("work", "src/b.go", "package b\n", "readme.md", "hello\nyou\n")
	o := b.expect("a new branch", b.push("HEAD:refs/heads/agent/x"), "ref.create")
	for _, want := range []string{"+you", "added src/b.go", "changed readme.md", "ana <ana@example.com>: work", "--- a/readme.md"} {
		if !strings.Contains(o.Text, want) {
			t.Errorf("the text does not say %q:\n%s", want, o.Text)
		}
	}
	if got := o.Facts.Attributes["file"]; !slices.Equal(got, []string{"readme.md", "src/b.go"}) {
		t.Errorf("files: %q", got)
	}
	b.expect("main", b.push("HEAD:refs/heads/main"), "ref.forward", "ref.protected")
	b.expect("a release", b.push("HEAD:refs/heads/release/1.2"), "ref.create", "ref.protected")
	b.git("push", "-q", b.bare, "agent/x")
	b.expect("main to what the upstream has", b.push("HEAD:refs/heads/main"), "ref.forward", "ref.protected")
	b.expect("deletion", b.push(":refs/heads/agent/x"), "ref.delete")
	b.expect("deletion of main", b.push(":refs/heads/main"), "ref.delete", "ref.protected", "destroy")
	b.expect("a tag", b.push("HEAD:refs/tags/v1"), "ref.create")

	b.git("checkout", "-q", "-b", "side", first)
	b.commit("other", "other.txt", "x\n")
	b.expect("forced", b.push("HEAD:refs/heads/agent/x"), "ref.force")
	b.expect("back", b.push(first+":refs/heads/agent/x"), "ref.force")
	b.git("merge", "-q", "-m", "merge", "agent/x")
	b.expect("merged", b.push("HEAD:refs/heads/agent/x"), "ref.forward")
	b.git("tag", "v1", "agent/x")
	b.git("push", "-q", b.bare, "v1")
	b.expect("a tag that moves", b.push("HEAD:refs/tags/v1"), "ref.force")
	b.expect("a tag by the name of a branch", b.push("HEAD:refs/tags/agent/x"), "ref.create", "ref.reserved")
	b.expect("case", b.push("HEAD:refs/heads/Main"), "ref.create", "ref.protected", "ref.reserved")
	b.expect("case of a folder", b.push("HEAD:refs/heads/Agent/y"), "ref.create", "ref.reserved")
	b.expect("replace", b.push("HEAD:refs/replace/"+first), "ref.create", "ref.reserved")

	b.commit("workflow", ".github/workflows/ci.yml", "on: [push, pull_request]\n")
	b.expect("workflow", b.push("HEAD:refs/heads/agent/w"), "ref.create", "workflow")
	b.git("reset", "-q", "--hard", "HEAD~1")
	// What a commit changes and a later one changes back ran in between.
	b.commit("there", "CODEOWNERS", "* @me\n")
	b.git("rm", "-q", "CODEOWNERS")
	b.commit("and back")
	b.expect("there and back", b.push("HEAD:refs/heads/agent/w"), "ref.create", "workflow")
	b.git("reset", "-q", "--hard", "HEAD~2")

	b.commit("AKIAIOSFODNN7EXAMPLX is the key")
	o = b.expect("a secret in a message", b.push("HEAD:refs/heads/agent/s"), "ref.create", "secret.added")
	if strings.Contains(o.Text, "AKIAIOSFODNN7EXAMPLX") {
		t.Errorf("the text shows the secret:\n%s", o.Text)
	}
	b.git("reset", "-q", "--hard", "HEAD~1")
	b.commit("a key", "id_ed25519", privateKey)
	b.git("rm", "-q", "id_ed25519")
	b.commit("no key")
	b.expect("a key that is taken out again", b.push("HEAD:refs/heads/agent/s"), "ref.create", "secret.added")
	b.git("reset", "-q", "--hard", "HEAD~2")
	b.commit("config", "config.txt", "# more\nkey = AKIAIOSFODNN7EXAMPL3\n")
	b.expect("a secret that stood there", b.push("HEAD:refs/heads/agent/s"), "ref.create")
	b.git("reset", "-q", "--hard", "HEAD~1")

	b.git("-c", "user.name=bob", "commit", "-q", "--allow-empty", "--author=bob <bob@example.com>", "-m", "by bob")
	b.expect("an author", b.push("HEAD:refs/heads/agent/a"), "ref.create", "author")
	b.git("reset", "-q", "--hard", "HEAD~1")

	os.Symlink("/etc/passwd", filepath.Join(b.dir, "passwd"))
	b.commit("a link")
	b.expect("a link", b.push("HEAD:refs/heads/agent/l"), "ref.create", "escape")
	b.git("reset", "-q", "--hard", "HEAD~1")
	os.Symlink("src/a.go", filepath.Join(b.dir, "a"))
	b.commit("a link inside")
	b.expect("a link inside", b.push("HEAD:refs/heads/agent/l"), "ref.create")
	b.git("reset", "-q", "--hard", "HEAD~1")
	b.commit("modules", ".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = https://example.com/x\n")
	b.expect("a submodule", b.push("HEAD:refs/heads/agent/m"), "ref.create", "workflow")
	b.git("reset", "-q", "--hard", "HEAD~1")
	b.expect("a pack with what the upstream has", b.push("HEAD:refs/heads/agent/z", "agent/x:refs/heads/agent/z2"), "ref.create")
}

const privateKey = `-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACBf0Cv9XWzZ1c8m9d5nN1qv0m6sYb2o3wq2O8Q1rX5N2QAAAJjK3m8Cyt5v
-----END OPENSSH PRIVATE KEY-----
`
