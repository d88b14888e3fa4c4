package e2e

import (
	"bufio"
	"context"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/custos-gateway/custos/internal/oidctest"
)

// image is the last stage of the Dockerfile, as far as it says what is run.
type image struct {
	copies     [][2]string // from where in the build stage, to where
	entrypoint []string
	cmd        []string
	user       string
	env        []string
}

var quoted = regexp.MustCompile(`"([^"]*)"`)

func readDockerfile(t *testing.T) *image {
	t.Helper()
	b, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, stage, found := strings.Cut(string(b), "\nFROM scratch\n")
	if !found {
		t.Fatal("the image is not built on scratch")
	}
	words := func(s string) (all []string) {
		for _, m := range quoted.FindAllStringSubmatch(s, -1) {
			all = append(all, m[1])
		}
		return all
	}
	i := new(image)
	for line := range strings.Lines(stage) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		f := strings.Fields(rest)
		switch verb {
		case "COPY":
			i.copies = append(i.copies, [2]string{f[len(f)-2], f[len(f)-1]})
		case "ENTRYPOINT":
			i.entrypoint = words(rest)
		case "CMD":
			i.cmd = words(rest)
		case "USER":
			i.user = rest
		case "ENV":
			i.env = append(i.env, rest)
		case "VOLUME", "EXPOSE", "":
		default:
			t.Fatalf("this test does not know %s", verb)
		}
	}
	return i
}

// root makes the image's root file system.
func (i *image) root(t *testing.T) string {
	t.Helper()
	self, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range i.copies {
		to := filepath.Join(root, c[1])
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		from := c[0]
		if from == "/out/custos" {
			from = self
		}
		if c[0] == "/out/data" {
			err = os.Mkdir(to, 0o755)
			if err == nil && os.Geteuid() == 0 {
				err = os.Chown(to, imageUser, imageUser)
			}
		} else {
			var b []byte
			if b, err = os.ReadFile(from); err == nil {
				err = os.WriteFile(to, b, 0o755)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const imageUser = 65532

// inside is a command that runs in a root file system of its own, as the
// image's user: as a container engine would, without one.
func (i *image) inside(ctx context.Context, root string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Dir = i.env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: imageUser, Gid: imageUser}
	} else {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: imageUser, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// files lists what is under root and not in the volume.
func files(t *testing.T, root string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		if name == "/data" {
			return fs.SkipDir
		}
		all = append(all, name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// The image's root file system is all that the gateway needs, and it writes
// nowhere but to its volume.
func TestImage(t *testing.T) {
	i := readDockerfile(t)
	root := i.root(t)
	f, err := elf.Open(filepath.Join(root, i.entrypoint[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary is not static")
		}
	}
	if i.user != "65532:65532" {
		t.Errorf("it runs as %s", i.user)
	}
	provider, err := oidctest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Close()
	https := "127.0.0.1:" + freePort(t)
	if err := os.MkdirAll(filepath.Join(root, "etc/custos"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/custos/custos.yaml"), []byte(`
listen: {https: "`+https+`", postgres: "127.0.0.1:0"}
data_dir: /data/custos
issuers: [{url: "`+provider.URL+`", audience: custos}]
limits: {free_space: {sessions: 200MiB, operations: 100MiB}}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	before := files(t, root)
	gateway := i.inside(context.Background(), root, append(i.entrypoint, i.cmd...)...)
	gateway.Env = append(gateway.Env, "ORDERS_PASSWORD=canary")
	stderr, err := gateway.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	defer gateway.Process.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	defer context.AfterFunc(ctx, func() { gateway.Process.Kill() })()
	// Its log ends with it, so that this does not wait for ever.
	log := bufio.NewScanner(stderr)
	for log.Scan() && !strings.Contains(log.Text(), https) {
	}
	said := make(chan string, 1)
	go func() {
		var rest strings.Builder
		for log.Scan() {
			rest.WriteString(log.Text() + "\n")
		}
		said <- rest.String()
	}()
	health := i.inside(ctx, root, i.entrypoint[0], "health", "--url", "https://"+https, "--ca", "/data/custos/tls/ca.pem")
	if out, err := health.CombinedOutput(); err != nil || string(out) != "ready\n" {
		t.Errorf("%v: %s", err, out)
	}
	unreadable(t, gateway.Process.Pid)
	gateway.Process.Signal(syscall.SIGTERM)
	rest := <-said
	if err := gateway.Wait(); err != nil {
		t.Errorf("%v: %s", err, rest)
	}
	if after := files(t, root); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("it wrote outside of its volume: %v", after)
	}
	verify := i.inside(ctx, root, i.entrypoint[0], "ledger", "verify", "--data-dir", "/data/custos")
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// unreadable checks that another process of the gateway's own user reads
// nothing of its environment and memory.
func unreadable(t *testing.T, pid int) {
	t.Helper()
	for _, name := range []string{"environ", "mem", "maps"} {
		cmd := exec.Command("head", "-c", "1", "/proc/"+strconv.Itoa(pid)+"/"+name)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}}
		}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("%s of the gateway: %v: %q", name, err, out)
		}
	}
}
