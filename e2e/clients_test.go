package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// runTimeout is when a client counts as stuck.
const runTimeout = 5 * time.Minute

// run runs a program with the environment of a client, and returns what it
// printed. What it says on stderr counts when it fails: psycopg warns there of
// errors that come sooner or later than it expects.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTimeout+maxHolds*holdFor())
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, stderr.Bytes())
	}
	return string(out)
}

// same runs a program directly and through custos: it must print the same.
func (s *site) same(t *testing.T, name string, args ...string) {
	t.Helper()
	direct := run(t, s.directEnv("orders"), name, args...)
	through := run(t, s.throughEnv(), name, args...)
	a, b := strings.Split(direct, "\n"), strings.Split(through, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("line %d\ndirect:         %s\nthrough custos: %s", i+1, a[i], b[i])
		}
	}
	if len(a) != len(b) {
		t.Errorf("%d lines direct, %d through custos:\n%s", len(a), len(b), through)
	}
	if len(direct) < 100 {
		t.Errorf("the program printed little: %s", direct)
	}
}

func need(t *testing.T, test string, args ...string) {
	t.Helper()
	if err := exec.Command(test, args...).Run(); err != nil {
		t.Skipf("%s %s does not run: .ci/install test installs it", test, strings.Join(args, " "))
	}
}

func TestPsycopg(t *testing.T) {
	need(t, "/usr/bin/python3", "-c", "import psycopg")
	newSite(t).same(t, "/usr/bin/python3", "testdata/client.py")
}

func TestJDBC(t *testing.T) {
	const driver = "/usr/share/java/postgresql.jar"
	if _, err := os.Stat(driver); err != nil {
		t.Skip(driver + " is not there: .ci/install test installs it")
	}
	need(t, "javac", "-version")
	dir := t.TempDir()
	run(t, nil, "javac", "-cp", driver, "-d", dir, "testdata/Client.java")
	newSite(t).same(t, "java", "-cp", dir+":"+driver, "Client")
}

// TestPgbench runs pgbench in its three modes: no transaction may fail.
func TestPgbench(t *testing.T) {
	s := newSite(t)
	run(t, s.directEnv("orders"), "pgbench", "-i", "-q", "-s", "1")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		for _, script := range [][]string{{"-S"}, nil} {
			out := run(t, s.throughEnv(), "pgbench", append(script, "-n", "-M", mode, "-c", "4", "-t", "50")...)
			if !strings.Contains(out, "200/200") || !strings.Contains(out, "number of failed transactions: 0 ") {
				t.Errorf("%s %v:\n%s", mode, script, out)
			}
		}
	}
	s.stop(15)
	s.verify()
}

// sampleData fills the target's database with the demonstration's.
func (s *site) sampleData(t *testing.T) {
	t.Helper()
	sql, err := os.ReadFile("../cmd/custos/sample/orders.sql")
	if err != nil {
		t.Fatal(err)
	}
	s.direct("orders", string(sql))
}

// TestDumpAndRestore dumps the sample database through custos, restores that
// through custos, and dumps again: byte for byte the same as direct.
func TestDumpAndRestore(t *testing.T) {
	s := newSiteWith(t, `
  - {name: copy, protocol: postgres, address: "TARGET", database: copy, tls: disable, credential: {username: app, password: {file: orders.password}}, access: [{groups: [dba]}]}
`)
	s.sampleData(t)
	s.direct("postgres", "CREATE DATABASE copy")
	dir := t.TempDir()
	dump := func(env []string, name string, args ...string) string {
		path := filepath.Join(dir, name)
		run(t, env, "pg_dump", append(args, "-f", path)...)
		return path
	}
	digest := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// Newer versions of pg_dump guard a script with a word chosen at random.
		b = regexp.MustCompile(`(?m)^\\(un)?restrict .*\n`).ReplaceAll(b, nil)
		if len(b) < 1<<20 {
			t.Fatalf("the dump has %d bytes", len(b))
		}
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	direct := digest(dump(s.directEnv("orders"), "direct.sql"))
	if through := digest(dump(s.throughEnv(), "through.sql")); through != direct {
		t.Error("the dump through custos is not the direct one")
	}
	archive := dump(s.throughEnv(), "through.dump", "-Fc")
	run(t, append(s.throughEnv(), "PGDATABASE=copy"), "pg_restore", "-d", "copy", "--exit-on-error", archive)
	if restored := digest(dump(s.directEnv("copy"), "restored.sql")); restored != direct {
		t.Error("what was restored through custos dumps otherwise")
	}
}

// resident is the memory of the gateway's process, in bytes.
func (s *site) resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.gateway.Process.Pid))
	if err != nil {
		t.Skip("memory is measured on Linux only")
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestCopyOfMuchData copies a file in and out again, unchanged, in bounded
// memory: 64 MiB, or a gigabyte with CUSTOS_LONG=1.
func TestCopyOfMuchData(t *testing.T) {
	if testing.Short() {
		t.Skip("it copies 64 MiB in and out")
	}
	size := int64(64 << 20)
	if os.Getenv("CUSTOS_LONG") == "1" {
		size = 1 << 30
	}
	s := newSite(t)
	s.direct("orders", "CREATE UNLOGGED TABLE much (n bigint, t text)")
	in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
	f, err := os.Create(in)
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	for n, written := 0, int64(0); written < size; n++ {
		line.Reset()
		fmt.Fprintf(&line, "%d\t%x\n", n, sha256.Sum256([]byte(strconv.Itoa(n))))
		written += int64(line.Len())
		if _, err := f.Write(line.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, s.throughEnv(), "psql", "-X", "-q", "-c", "SELECT 1")
	before := s.resident(t)
	run(t, s.throughEnv(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", `\copy much from '`+in+`'`)
	run(t, s.throughEnv(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", `\copy (select * from much order by n) to '`+out+`'`)
	if grown := s.resident(t) - before; grown > 200<<20 {
		t.Errorf("the gateway's memory grew by %d MiB", grown>>20)
	}
	if a, b := fileDigest(t, in), fileDigest(t, out); a != b {
		t.Error("what came out is not what went in")
	}
	s.stop(15)
	s.verify()
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
