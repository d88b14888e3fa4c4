package e2e

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/custos-gateway/custos/internal/gittest"
	"github.com/custos-gateway/custos/internal/oidctest"
)

// gitPlatform is the connection that the rows are run on.
const gitPlatform = `  - name: platform
    protocol: git
    address: UPSTREAM
    tls: disable
    labels: {env: prod}
    credential: {username: gateway, password: {file: git.password}}
    access: [{groups: [skills]}]
approvals: {hold: {skill: 0s}}
policies:
  - include: builtin/safe-defaults
    connections: {env: prod}
`

// forge is a git server with a repository for each row, and the gateway before it.
type forge struct {
	*site
	t      *testing.T
	server *gittest.Server
	model  string // a bare repository, of which each row gets a copy
	main   string // a clone of it
	client *http.Client
	token  string
	rows   int
}

// TestGitCorpus runs pushes and fetches of known verdicts as a skill, with the
// real git, through a gateway, to a real git server.
func TestGitCorpus(t *testing.T) {
	f := &forge{t: t, server: gittest.Start(t), main: t.TempDir()}
	f.makeModel()
	f.site = newSiteOf(t, strings.Replace(gitPlatform, "UPSTREAM", strings.TrimPrefix(f.server.URL, "http://"), 1), func(s *site) {
		s.write("git.password", f.server.Password)
	})
	f.token = f.provider.Mint(oidctest.SkillSubject)
	pem, err := os.ReadFile(filepath.Join(f.data(), "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	f.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	path := "testdata/corpus_git.tsv"
	if named := os.Getenv("CUSTOS_CORPUS"); named != "" {
		path = named
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	right, all := 0, 0
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		// What is asked of a forge's API is HTTP, and not git.
		if len(fields) != 4 || fields[0] != "git" || fields[1] == "api" {
			continue
		}
		all++
		got, said := f.verdict(unescape(fields[3]))
		if got == fields[2] {
			right++
			continue
		}
		t.Logf("%s: want %s, got %s: %q\n%s", fields[1], fields[2], got, fields[3], said)
		if got == "allow" {
			t.Errorf("let through: %q", fields[3])
		}
	}
	t.Logf("%d of %d right", right, all)
	if all == 0 || 100*right < 98*all {
		t.Errorf("%d of %d verdicts right, want 98 of 100", right, all)
	}
	f.verify()
}

func (f *forge) git(dir string, args ...string) string {
	f.t.Helper()
	return gittest.Git(f.t, dir, args...)
}

func (f *forge) makeModel() {
	f.model = f.server.Repository(f.t, "model.git", "uploadpack.allowFilter=true")
	f.git(f.main, "init", "-q", "-b", "main")
	for name, text := range map[string]string{"readme.md": "hello\n", "src/app.txt": "app\n", ".github/CODEOWNERS": "* @team\n"} {
		f.file(f.main, name, []byte(text))
	}
	f.commit(f.main, "first")
	f.git(f.main, "push", "-q", f.model, "main", "main:refs/heads/release/1.2", "main:refs/heads/agent/old", "main:refs/tags/v1.2.3")
}

func (f *forge) file(dir, name string, b []byte) {
	f.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// commit commits all that is in a folder, as the skill.
func (f *forge) commit(dir, message string, who ...string) {
	f.t.Helper()
	f.git(dir, "add", "-A")
	args := []string{"-c", "user.name=reporter", "-c", "user.email=reporter@example.com"}
	cmd := exec.Command("git", append(args, "commit", "-q", "--allow-empty", "-m", message)...)
	cmd.Dir = dir
	cmd.Env = append(gittest.Env(f.t.TempDir(), "reporter"), who...)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("commit: %v\n%s", err, out)
	}
}

var (
	refName   = regexp.MustCompile(`(?:receive-pack org/app )((?:refs/\S+)|HEAD)`)
	treeName  = regexp.MustCompile(`tree entry named (.*)$`)
	contains  = regexp.MustCompile(`(?s)(?:file (\S+)|new blob) contains (.*)$`)
	sized     = regexp.MustCompile(`(?:file (\S+) of|adds) (\d+) MB`)
	symlink   = regexp.MustCompile(`symlink (\S+) -> (\S+)`)
	changes   = regexp.MustCompile(`changes (\S+)`)
	removes   = regexp.MustCompile(`removes (\S+)`)
	message   = regexp.MustCompile(`message contains (.*)$`)
	request   = regexp.MustCompile(`^(GET|POST) org/app\.git(\S*)`)
	notCaller = regexp.MustCompile(`(author|committer) != authenticated identity`)
)

const (
	accessKey = "AKIAQ4B7XJ2N5RWT6KZP"
	sshKey    = "\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACBf0Cv9XWzZ1c8m9d5nN1qv0m6sYb2o3wq2O8Q1rX5N2Q\n-----END OPENSSH PRIVATE KEY-----\n"
)

// verdict does what a row's words say, and reads the gateway's answer.
func (f *forge) verdict(s string) (got, said string) {
	f.t.Helper()
	f.rows++
	name := fmt.Sprintf("row%d.git", f.rows)
	bare, dir := filepath.Join(f.server.Dir, name), filepath.Join(f.t.TempDir(), "work")
	for _, args := range [][]string{{"cp", "-r", f.model, bare}, {"cp", "-r", f.main, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			f.t.Fatalf("%v: %s", err, out)
		}
	}
	url := "https://any:" + f.token + "@" + f.https + "/git/platform/" + name
	run := func(args ...string) (string, string) {
		out, err := gittest.Try(f.t, dir, append([]string{"-c", "http.sslCAInfo=" + filepath.Join(f.data(), "tls", "ca.pem")}, args...)...)
		return judged(out, err == nil), out
	}
	switch {
	case request.MatchString(s):
		m := request.FindStringSubmatch(s)
		return f.ask(m[1], name+m[2], "", "", nil)
	case strings.HasPrefix(s, "upload-pack"):
		args := []string{"fetch", url}
		for _, option := range []string{"depth=1", "filter=blob:none"} {
			if strings.Contains(s, option) {
				args = slices.Insert(args, 1, "--"+option)
			}
		}
		return run(append(args, s[strings.LastIndexByte(s, ' ')+1:])...)
	case strings.HasPrefix(s, "ls-remote"):
		return run("ls-remote", url)
	case strings.HasPrefix(s, "git-lfs batch upload"):
		return f.ask("POST", name+"/info/lfs/objects/batch", "application/vnd.git-lfs+json", "", fmt.Appendf(nil, `{"operation":"upload","objects":[{"oid":"%064d","size":12}]}`, 1))
	case refName.MatchString(s):
		return f.push(s, dir, bare, func(args ...string) (string, string) { return run(append([]string{"push", url}, args...)...) }, name)
	}
	return f.forged(s, name, dir)
}

// judged reads the verdict off what git or the gateway says.
func judged(said string, done bool) string {
	switch {
	case strings.Contains(said, "refused by rule"):
		return "refuse"
	case strings.Contains(said, "held by rule"):
		return "approve"
	case done:
		return "allow"
	}
	return "failed"
}

// ask makes a request of its own.
func (f *forge) ask(method, path, contentType, encoding string, body []byte) (got, said string) {
	f.t.Helper()
	r, err := http.NewRequest(method, "https://"+f.https, bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	path, query, _ := strings.Cut(path, "?")
	r.URL.Opaque, r.URL.RawQuery = "//"+f.https+"/git/platform/"+path, query
	r.SetBasicAuth("any", f.token)
	r.Header.Set("Content-Type", contentType)
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	resp, err := f.client.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return judged(string(b), resp.StatusCode == http.StatusOK), string(b)
}

// push makes the commits that a row speaks of, and pushes them.
func (f *forge) push(s, dir, bare string, run func(...string) (string, string), name string) (got, said string) {
	f.t.Helper()
	ref := refName.FindStringSubmatch(s)[1]
	words := strings.Fields(s)
	deletes := slices.Contains(words, "delete") || slices.Contains(words, "new=0000000")
	if deletes {
		return run(":" + ref)
	}
	if _, err := gittest.Try(f.t, bare, "rev-parse", "-q", "--verify", ref); err != nil && strings.Contains(s, "old=a") {
		f.git(bare, "update-ref", ref, "main")
	}
	switch {
	case strings.Contains(s, "ff=false"):
		f.git(dir, "checkout", "-q", "--orphan", "other")
	case strings.Contains(s, "nothing new"):
		return run("main:" + ref)
	}
	f.make(s, dir)
	source := "HEAD"
	switch {
	case strings.Contains(s, "tree entry named"):
		source = f.crafted(dir, treeName.FindStringSubmatch(s)[1])
	case strings.Contains(s, "that the upstream has"):
		f.git(dir, "push", "-q", bare, "HEAD:refs/heads/agent/other")
	case strings.Contains(s, "secret in tag message"):
		f.git(dir, "-c", "user.name=reporter", "-c", "user.email=reporter@example.com", "tag", "-a", "-m", "the key is "+accessKey, "made")
		source = "made"
	}
	args := []string{"--force", source + ":" + ref}
	if i := slices.Index(words, "option"); i > 0 {
		f.git(bare, "config", "receive.advertisePushOptions", "true")
		args = append([]string{"-o", words[i+1]}, args...)
	}
	// git itself would not send some names: then they are sent without it.
	if checked := exec.Command("git", "check-ref-format", ref).Run(); checked != nil || ref == "HEAD" || strings.HasPrefix(ref, "refs/heads/-") {
		return f.send(name, f.wire(dir, ref, strings.Repeat("0", 40), ""))
	}
	return run(args...)
}

// make makes the commits of a push.
func (f *forge) make(s, dir string) {
	f.t.Helper()
	text := "work"
	var who []string
	if m := contains.FindStringSubmatch(s); m != nil {
		path, body := m[1], m[2]
		if path == "" {
			path = "config.txt"
		}
		if strings.HasSuffix(body, "PRIVATE KEY-----") {
			body += sshKey
		}
		f.file(dir, path, []byte(strings.TrimSuffix(body, " + secret")+"\n"))
	}
	if m := sized.FindStringSubmatch(s); m != nil {
		var n int
		fmt.Sscan(m[2], &n)
		path := "big.bin"
		if m[1] != "" {
			path = m[1]
		}
		f.file(dir, path, bytes.Repeat([]byte("some words of text, and a line end\n"), n*(1<<20)/35+1))
	}
	if m := symlink.FindStringSubmatch(s); m != nil {
		if err := os.Symlink(m[2], filepath.Join(dir, m[1])); err != nil {
			f.t.Fatal(err)
		}
	}
	if m := changes.FindStringSubmatch(s); m != nil {
		f.file(dir, m[1], []byte("[submodule \"x\"]\n\tpath = x\n\turl = https://example.com/x.git\n"))
	}
	if m := removes.FindStringSubmatch(s); m != nil {
		f.git(dir, "rm", "-q", m[1])
	}
	if m := message.FindStringSubmatch(s); m != nil {
		text = m[1]
	}
	if m := notCaller.FindStringSubmatch(s); m != nil {
		who = []string{"GIT_" + strings.ToUpper(m[1]) + "_NAME=ceo", "GIT_" + strings.ToUpper(m[1]) + "_EMAIL=ceo@example.com"}
	}
	_, rest, _ := strings.Cut(s, "secret ")
	switch rest {
	case "in commit message":
		text = "the key is " + accessKey
	case "in a commit before the last":
		f.file(dir, "key.txt", []byte(accessKey))
		f.commit(dir, "a key")
		f.git(dir, "rm", "-q", "key.txt")
	case "in UTF-16":
		var b []byte
		for _, u := range utf16.Encode([]rune("\ufeffkey " + accessKey + "\n")) {
			b = append(b, byte(u), byte(u>>8))
		}
		f.file(dir, "key.txt", b)
	case "in a file name":
		f.file(dir, "keys/"+accessKey+" .txt", nil)
	case "behind 5 MB":
		f.file(dir, "key.txt", append(bytes.Repeat([]byte("x y z\n"), 900_000), accessKey+"\n"...))
	}
	f.commit(dir, text, who...)
}

// crafted makes a commit of a tree in which a path stands as it is.
func (f *forge) crafted(dir, path string) string {
	f.t.Helper()
	write := func(kind string, b []byte) string {
		cmd := exec.Command("git", "hash-object", "-t", kind, "--literally", "-w", "--stdin")
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(b)
		out, err := cmd.Output()
		if err != nil {
			f.t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	object, mode := write("blob", []byte("#!/bin/sh\n")), "100755"
	parts := strings.Split(path, "/")
	for _, part := range slices.Backward(parts) {
		var sum [20]byte
		for i := range sum {
			fmt.Sscanf(object[2*i:2*i+2], "%02x", &sum[i])
		}
		object, mode = write("tree", append([]byte(mode+" "+part+"\x00"), sum[:]...)), "40000"
	}
	cmd := exec.Command("git", "commit-tree", object, "-p", "HEAD", "-m", "crafted")
	cmd.Dir, cmd.Env = dir, gittest.Env(f.t.TempDir(), "reporter")
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func pkt(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

// wire is a push of HEAD as git would send it, the pack changed by how.
func (f *forge) wire(dir, ref, old, how string) []byte {
	f.t.Helper()
	head := f.git(dir, "rev-parse", "HEAD")
	revs := head + "\n^" + f.git(dir, "rev-parse", "main") + "\n"
	args := []string{"pack-objects", "--revs", "--stdout", "-q"}
	if how == "thin" {
		args = append(args, "--thin")
	}
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(revs)
	pack, err := cmd.Output()
	if err != nil {
		f.t.Fatal(err)
	}
	line := old + " " + head + " " + ref
	wire := pkt(line + "\x00report-status side-band-64k")
	if how == "twice" {
		wire += pkt(line)
	}
	if how == "certificate" {
		wire = pkt("push-cert\x00report-status side-band-64k") + pkt("certificate version 0.1\n") + pkt("push-cert-end\n")
	}
	return append([]byte(wire+"0000"), pack...)
}

func (f *forge) send(name string, wire []byte) (got, said string) {
	f.t.Helper()
	return f.ask("POST", name+"/git-receive-pack", "application/x-git-receive-pack-request", "", wire)
}

// forged makes the requests that git does not make.
func (f *forge) forged(s, name, dir string) (got, said string) {
	f.t.Helper()
	zero, ref := strings.Repeat("0", 40), "refs/heads/agent/x"
	f.git(dir, "checkout", "-q", "-b", "forged")
	f.file(dir, "src/app.txt", bytes.Repeat([]byte("app\n"), 2000))
	f.commit(dir, "work")
	switch {
	case strings.Contains(s, "cannot resolve"):
		// A base that nobody has: every id in the pack that is one is another.
		return f.send(name, unresolved(f.wire(dir, ref, zero, "")))
	case strings.Contains(s, "gzip bomb"):
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(bytes.Repeat([]byte{'0'}, 200<<20))
		z.Close()
		return f.ask("POST", name+"/git-receive-pack", "application/x-git-receive-pack-request", "gzip", b.Bytes())
	case strings.Contains(s, "something behind it"):
		return f.send(name, append(f.wire(dir, ref, zero, ""), "more"...))
	case strings.Contains(s, "wrong sum"):
		w := f.wire(dir, ref, zero, "")
		w[len(w)-1] ^= 1
		return f.send(name, w)
	case strings.Contains(s, "is a lie"):
		return f.send(name, f.wire(dir, "refs/heads/main", zero, ""))
	case strings.Contains(s, "the same ref twice"):
		return f.send(name, f.wire(dir, ref, zero, "twice"))
	case strings.Contains(s, "push certificate"):
		return f.send(name, f.wire(dir, ref, zero, "certificate"))
	}
	f.t.Errorf("nobody knows what %q is", s)
	return "failed", ""
}

// unresolved puts in a pack's place one with a delta of an object that nobody
// has.
func unresolved(wire []byte) []byte {
	head := wire[:bytes.Index(wire, []byte("PACK"))]
	var delta bytes.Buffer
	z := zlib.NewWriter(&delta)
	z.Write([]byte{5, 5, 0x90, 5}) // all five bytes of its base
	z.Close()
	pack := append([]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x74"), bytes.Repeat([]byte{0xab}, 20)...)
	pack = append(pack, delta.Bytes()...)
	sum := sha1.Sum(pack)
	return append(slices.Clone(head), append(pack, sum[:]...)...)
}
