package git

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/internal/gittest"
)

// house is a gateway in front of a real git server.
type house struct {
	*bench
	world *gatetest.World
	url   string // of the connection
}

func newHouse(t testing.TB, settings ...string) *house {
	h := &house{bench: newBench(t, append(settings, "uploadpack.allowFilter=true")...)}
	h.world = gatetest.New(t, connectionTo(h.server), custos.Credential{Username: h.server.Username, Password: h.server.Password})
	spools := t.TempDir()
	ctx, stop := context.WithCancel(context.Background())
	handler := New(ctx, Options{Gate: h.world.Gate, Dialer: h.world, Logger: h.world.Logger(), Temp: spools})
	front := httptest.NewServer(handler)
	t.Cleanup(func() {
		stop()
		front.Close()
		handler.Wait()
		if left, _ := os.ReadDir(spools); len(left) > 0 {
			t.Errorf("left in the folder of spools: %v", left)
		}
		if t.Failed() {
			t.Log(h.world.Log())
		}
	})
	h.url = strings.Replace(front.URL, "http://", "http://any:"+gatetest.Token+"@", 1) + "/git/platform"
	h.git("remote", "add", "gw", h.url+"/org/app.git")
	return h
}

func connectionTo(s *gittest.Server) custos.Connection {
	return custos.Connection{Name: "platform", Protocol: Name, Address: strings.TrimPrefix(s.URL, "http://"), TLS: custos.TargetTLS{Mode: "disable"}}
}

// try runs git and returns what it says.
func (h *house) try(args ...string) (string, error) { return gittest.Try(h.t, h.dir, args...) }

// refuses has policy refuse or hold operations with an effect.
func (h *house) rules(of map[string]custos.Effect) {
	h.world.SetPolicy(func(op *custos.Operation) custos.Decision {
		d := custos.Decision{Effect: custos.Allow}
		for _, e := range op.Facts.Effects {
			if effect, ok := of[e]; ok && effect < d.Effect {
				d = custos.Decision{Effect: effect, Rule: "no-" + e, Reason: "it does " + e, Hint: "leave it out", Policy: "p"}
			}
		}
		return d
	})
}

func TestCloneFetchPush(t *testing.T) {
	h := newHouse(t)
	for _, version := range []string{"0", "1", "2"} {
		dir := filepath.Join(t.TempDir(), "clone")
		if out, err := h.try("-c", "protocol.version="+version, "clone", "-q", h.url+"/org/app.git", dir); err != nil {
			t.Fatalf("clone by version %s: %v\n%s", version, err, out)
		}
		if got, want := gittest.Git(t, dir, "rev-parse", "HEAD"), h.git("rev-parse", "main"); got != want {
			t.Errorf("version %s: cloned %s, want %s", version, got, want)
		}
		if out := gittest.Git(t, dir, "fsck", "--strict"); strings.Contains(out, "error") {
			t.Error(out)
		}
		write(t, dir, "from-"+version+".txt", "x\n")
		gittest.Git(t, dir, "add", ".")
		gittest.Git(t, dir, "commit", "-q", "-m", "by version "+version)
		if out, err := gittest.Try(t, dir, "-c", "protocol.version="+version, "push", "origin", "HEAD:refs/heads/agent/"+version); err != nil {
			t.Fatalf("push by version %s: %v\n%s", version, err, out)
		}
		if got, want := gittest.Git(t, h.bare, "rev-parse", "agent/"+version), gittest.Git(t, dir, "rev-parse", "HEAD"); got != want {
			t.Errorf("version %s: pushed %s, want %s", version, got, want)
		}
	}
	for _, args := range [][]string{
		{"clone", "-q", "--depth=1", h.url + "/org/app.git", filepath.Join(t.TempDir(), "shallow")},
		{"clone", "-q", "--filter=blob:none", h.url + "/org/app.git", filepath.Join(t.TempDir(), "partial")},
		{"clone", "-q", "--bare", h.url + "/org/app", filepath.Join(t.TempDir(), "bare")},
		{"ls-remote", h.url + "/org/app.git"},
		{"fetch", "-q", "gw"},
		{"push", "gw", "main:refs/heads/agent/x", "main:refs/tags/v1"},
		{"push", "gw", "--delete", "agent/x"},
		{"push", "--atomic", "gw", "main:refs/heads/agent/y", "main:refs/heads/agent/z"},
	} {
		if out, err := h.try(args...); err != nil && !strings.HasSuffix(args[len(args)-1], "bare") {
			t.Errorf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if gittest.Git(t, h.bare, "for-each-ref", "--format=%(refname)", "refs/heads/agent/x") != "" {
		t.Error("the deleted branch is there")
	}
}

// TestBigPush pushes more than git sends at once, after it has asked whether it
// may.
func TestBigPush(t *testing.T) {
	h := newHouse(t)
	big := make([]byte, 24<<20)
	for i, x := 0, uint32(1); i < len(big); i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		big[i] = byte(x)
	}
	h.commit("big", "big.bin", string(big))
	if out, err := h.try("push", "gw", "HEAD:refs/heads/agent/big"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := gittest.Git(t, h.bare, "rev-parse", "agent/big"), h.git("rev-parse", "HEAD"); got != want {
		t.Errorf("pushed %s, want %s", got, want)
	}
	var recorded int
	var probes int
	for _, e := range h.world.Ledger.Entries() {
		switch {
		case e.Kind == custos.EntryInput:
			recorded += len(h.world.Open(t, e))
		case e.Submit != nil && e.Submit.Class == classProbe:
			probes++
		}
	}
	if recorded < len(big) || probes == 0 {
		t.Errorf("%d bytes of the push are on record, %d probes", recorded, probes)
	}
}

func TestRefusedPush(t *testing.T) {
	h := newHouse(t)
	h.rules(map[string]custos.Effect{"secret.added": custos.Refuse, "ref.force": custos.Refuse})
	before := gittest.Git(t, h.bare, "for-each-ref")
	h.commit("a key", "id_ed25519", privateKey)
	h.world.Tap.Sent()
	out, err := h.try("push", "gw", "HEAD:refs/heads/agent/s", "HEAD~1:refs/heads/agent/t")
	if err == nil {
		t.Fatalf("it was pushed:\n%s", out)
	}
	for _, want := range []string{"! [remote rejected] HEAD -> agent/s (refused by rule no-secret.added: it does secret.added)", "remote: hint: leave it out", `remote: {"rule":"no-secret.added","session":"`, "HEAD~1 -> agent/t"} {
		if !strings.Contains(out, want) {
			t.Errorf("git does not say %q:\n%s", want, out)
		}
	}
	if after := gittest.Git(t, h.bare, "for-each-ref"); after != before {
		t.Errorf("the upstream has changed: %s", after)
	}
	if out, err := gittest.Try(t, h.bare, "cat-file", "-e", h.git("rev-parse", "HEAD:id_ed25519")); err == nil {
		t.Errorf("the upstream has the key: %s", out)
	}
	// The session lives on.
	h.git("reset", "-q", "--hard", "HEAD~1")
	if out, err := h.try("push", "gw", "HEAD:refs/heads/agent/s"); err != nil {
		t.Errorf("after the refusal: %v\n%s", err, out)
	}
	if out, err := h.try("push", "gw", "HEAD:refs/heads/.lock"); err == nil {
		t.Errorf("a ref of a bad name was pushed: %s", out)
	}
}

// TestSHA256 is for repositories that name their objects by SHA-256.
func TestSHA256(t *testing.T) {
	h := newHouse(t)
	h.rules(map[string]custos.Effect{"secret.added": custos.Refuse})
	bare, dir := filepath.Join(h.server.Dir, "new.git"), filepath.Join(t.TempDir(), "new")
	gittest.Git(t, h.server.Dir, "init", "-q", "--bare", "--object-format=sha256", "-b", "main", bare)
	gittest.Git(t, bare, "config", "http.receivepack", "true")
	gittest.Git(t, t.TempDir(), "init", "-q", "--object-format=sha256", "-b", "main", dir)
	for n, name := range []string{"a.txt", "b.txt"} {
		write(t, dir, name, strings.Repeat("a line\n", 100+n))
		gittest.Git(t, dir, "add", ".")
		gittest.Git(t, dir, "commit", "-q", "-m", name)
		if out, err := gittest.Try(t, dir, "push", h.url+"/new.git", "main"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	write(t, dir, "key", privateKey)
	gittest.Git(t, dir, "add", ".")
	gittest.Git(t, dir, "commit", "-q", "-m", "a key")
	if out, err := gittest.Try(t, dir, "push", h.url+"/new.git", "main"); err == nil || !strings.Contains(out, "no-secret.added") {
		t.Errorf("%v\n%s", err, out)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	if out, err := h.try("clone", "-q", h.url+"/new.git", clone); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestUpstreamsOwnRefusal(t *testing.T) {
	h := newHouse(t, "receive.denyDeletes=true")
	out, err := h.try("push", "gw", ":refs/heads/main")
	if err == nil || !strings.Contains(out, "deletion prohibited") {
		t.Errorf("%v\n%s", err, out)
	}
	settled := h.world.Ledger.Await(func(e gatetest.Kept) bool { return e.Settled != nil && e.Settled.Code == "ng" })
	if settled.Settled.State != custos.StateError {
		t.Errorf("the outcome on record: %+v", settled.Settled)
	}
	if out, err := h.try("fetch", h.url+"/org/none.git"); err == nil || !strings.Contains(out, "no such repository") {
		t.Errorf("a repository that is not there: %v\n%s", err, out)
	}
}

// people answer all that is asked of them.
type people struct {
	mu     sync.Mutex
	asked  []custos.Approval
	answer chan custos.ApprovalState
}

func (p *people) Ask(a custos.Approval, _ time.Duration) (custos.Approval, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.ID, a.State, a.Expires = "ask1", custos.ApprovalPending, time.Now().Add(time.Hour)
	p.asked = append(p.asked, a)
	return a, nil
}

func (p *people) Granted(*custos.Principal, string, []string, bool) string { return "" }

func (p *people) Await(ctx context.Context, id string) (custos.Approval, error) {
	p.mu.Lock()
	a := p.asked[len(p.asked)-1]
	p.mu.Unlock()
	select {
	case a.State = <-p.answer:
		return a, nil
	case <-ctx.Done():
		return a, ctx.Err()
	}
}

func (p *people) Use(string, string, custos.SessionID, uint64) error { return nil }
func (p *people) Withdraw(string) error                              { return nil }

func TestHeldPush(t *testing.T) {
	h := newHouse(t)
	p := &people{answer: make(chan custos.ApprovalState)}
	h.world.Gate.Approver = p
	h.rules(map[string]custos.Effect{"ref.protected": custos.Approve})
	h.commit("for main", "new.txt", "the line that a reviewer sees\n")
	push := func() (*exec.Cmd, *strings.Builder) {
		cmd := exec.CommandContext(t.Context(), "git", "push", "gw", "HEAD:refs/heads/main")
		cmd.Dir, cmd.Env = h.dir, gittest.Env(t.TempDir(), "ana")
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	cmd, out := push()
	p.answer <- custos.ApprovalDenied
	if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "held by rule no-ref.protected") || !strings.Contains(out.String(), "[remote rejected]") {
		t.Errorf("denied: %v\n%s", err, out)
	}
	cmd, out = push()
	p.answer <- custos.ApprovalApproved
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "custos approval approve ask1") {
		t.Errorf("approved: %v\n%s", err, out)
	}
	if got, want := gittest.Git(t, h.bare, "rev-parse", "main"), h.git("rev-parse", "HEAD"); got != want {
		t.Errorf("pushed %s, want %s", got, want)
	}
	// The same push asks under the same digest, and shows the same.
	if len(p.asked) != 2 || p.asked[0].Digest != p.asked[1].Digest {
		t.Errorf("asked: %+v", p.asked)
	}
	shown := false
	for _, e := range h.world.Ledger.Entries() {
		if e.Submit != nil && e.Submit.Class == classPush {
			shown = strings.Contains(h.world.Operation(t, e).Text, "+the line that a reviewer sees")
		}
	}
	if !shown {
		t.Error("the reviewer does not see what is different")
	}
}
