package git

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// run runs git in a folder, apart from whoever runs the test, and returns what
// it says, byte for byte.
func run(t testing.TB, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "HOME="+t.TempDir(), "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=ana", "GIT_AUTHOR_EMAIL=ana@example.com", "GIT_COMMITTER_NAME=ana", "GIT_COMMITTER_EMAIL=ana@example.com")
	cmd.Stdin = strings.NewReader(stdin)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	return out.String()
}

// write writes a file of a repository's folder.
func write(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// history makes a repository with a file that grows, and returns its folder.
func history(t testing.TB, format string, commits int) string {
	t.Helper()
	dir := t.TempDir()
	run(t, dir, "", "init", "-q", "-b", "main", "--object-format="+format)
	var text strings.Builder
	for i := range commits {
		for j := range 200 {
			fmt.Fprintf(&text, "line %d of commit %d\n", j, i)
		}
		write(t, dir, "src/file.txt", text.String())
		write(t, dir, fmt.Sprintf("docs/%d/readme.md", i%5), fmt.Sprintf("readme %d\n", i))
		run(t, dir, "", "add", ".")
		run(t, dir, "", "commit", "-q", "-m", fmt.Sprintf("commit %d", i))
	}
	return dir
}

// seen counts what a visitor saw.
type seen struct {
	all  map[id]kind
	kind kind
}

func (s *seen) Write(b []byte) (int, error) { return len(b), nil }
func (s *seen) done(i id) error             { s.all[i] = s.kind; return nil }

func seeing(all map[id]kind) func(kind, int64) (sink, error) {
	return func(k kind, _ int64) (sink, error) { return &seen{all: all, kind: k}, nil }
}

// objects lists what git says that a repository has.
func objects(t testing.TB, dir string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(run(t, dir, "", "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")) {
		name, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[name] = kind
	}
	return all
}

func TestPackHoldsWhatGitSays(t *testing.T) {
	for _, f := range []*format{formatSHA1, formatSHA256} {
		dir := history(t, f.name, 30)
		want := objects(t, dir)
		for name, args := range map[string][]string{
			"deltas by offset": {"--delta-base-offset"}, "deltas by id": {}, "no deltas": {"--window=0"}, "deep": {"--depth=400", "--window=400", "--delta-base-offset"},
		} {
			t.Run(f.name+" "+name, func(t *testing.T) {
				wire := run(t, dir, "", append([]string{"pack-objects", "--stdout", "--all", "-q"}, args...)...)
				all := map[id]kind{}
				p, rest, err := readPack(t.Context(), io.MultiReader(strings.NewReader(wire), strings.NewReader("behind")), f, t.TempDir(), &standardLimits, seeing(all))
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if b, _ := io.ReadAll(rest); string(b) != "behind" {
					t.Errorf("behind the pack: %q", clip(b, 100))
				}
				if err := p.resolve(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				if len(all) != len(want) {
					t.Errorf("it saw %d objects of %d", len(all), len(want))
				}
				for i, k := range all {
					if want[i.String()] != k.String() {
						t.Errorf("%s is a %s, git says %q", i, k, want[i.String()])
					}
					o, err := p.object(i)
					if err != nil || o == nil {
						t.Fatal(err)
					}
					if got := f.objectHash(o.kind, o.size); true {
						got.Write(o.mem)
						if f.idOf(got) != i {
							t.Errorf("%s is kept as something else", i)
						}
					}
				}
			})
		}
	}
}

func TestThinPack(t *testing.T) {
	dir := history(t, "sha1", 5)
	base := strings.TrimSpace(run(t, dir, "", "rev-parse", "HEAD~1"))
	wire := run(t, dir, "HEAD\n^"+base+"\n", "pack-objects", "--stdout", "--revs", "--thin", "--delta-base-offset", "-q")
	if _, rest, err := readThin(t, wire, nil); err == nil || rest != 0 {
		t.Errorf("without what it is made of: %v", err)
	}
	whole := run(t, dir, "", "pack-objects", "--stdout", "--all", "-q")
	asked := 0
	p, n, err := readThin(t, wire, func(ctx context.Context, ids []id) (*pack, error) {
		asked = len(ids)
		p, _, err := readPack(ctx, strings.NewReader(whole), formatSHA1, t.TempDir(), &standardLimits, nil)
		if err != nil {
			return nil, err
		}
		return p, p.resolve(ctx, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if asked == 0 {
		t.Error("the pack is not thin: the test proves nothing")
	}
	if n < 3 {
		t.Errorf("it saw %d objects", n)
	}
}

func readThin(t *testing.T, wire string, find func(context.Context, []id) (*pack, error)) (*pack, int, error) {
	all := map[id]kind{}
	p, _, err := readPack(t.Context(), strings.NewReader(wire), formatSHA1, t.TempDir(), &standardLimits, func(k kind, n int64) (sink, error) { return seeing(all)(k, n) })
	if err != nil {
		t.Fatal(err)
	}
	whole := len(all)
	if err := p.resolve(t.Context(), find); err != nil {
		p.Close()
		return nil, len(all) - whole, err
	}
	return p, len(all), nil
}
