package ledger

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

// The child of TestKill appends until it is killed, and says of each entry
// that it was told to be durable.
const (
	crashDir   = "CUSTOS_TEST_CRASH_DIR"
	crashTimes = "CUSTOS_TEST_CRASHES"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, appendUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func crashOptions(dir string) Options {
	o := testOptions(dir)
	o.Now, o.Interval, o.SegmentBytes = time.Now, time.Millisecond, 32<<10
	return o
}

func appendUntilKilled(dir string) error {
	l, err := Open(crashOptions(dir))
	if err != nil {
		return err
	}
	var out sync.Mutex
	failed := make(chan error)
	for w := range 4 {
		go func() {
			random := rand.New(rand.NewPCG(uint64(w), l.Size()))
			for {
				attachment := make([]byte, 1+random.IntN(3000))
				sum := sha256.Sum256(attachment)
				e := custos.Entry{Kind: custos.EntryStarted, At: time.Now(), Note: &custos.Note{Text: strconv.Itoa(random.Int())},
					Attachment: &custos.Digest{SHA256: fmt.Sprintf("%x", sum), Bytes: int64(len(attachment))}}
				leaf := e.AppendJSON(nil)
				i, err := l.Append(leaf, attachment)
				if err == nil {
					err = l.Durable(i)
				}
				if err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Printf("%d %x\n", i, sha256.Sum256(leaf))
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// Killed at any moment, a log has all that it said was durable, opens, and
// verifies.
func TestKill(t *testing.T) {
	t.Parallel()
	times := 50
	if s := os.Getenv(crashTimes); s != "" {
		var err error
		times, err = strconv.Atoi(s)
		must(t, err)
	}
	dir := filepath.Join(t.TempDir(), "ledger")
	random := rand.New(rand.NewPCG(3, 4))
	durable := map[uint64]string{}
	for round := range times {
		before := len(durable)
		killOnce(t, dir, 1+random.IntN(120), durable)
		if len(durable) == before {
			t.Fatalf("round %d: the child appended nothing", round)
		}
		if round%10 == 9 || round == times-1 {
			checkKilled(t, dir, durable)
		}
	}
}

// killOnce kills a child after it said n entries to be durable.
func killOnce(t *testing.T, dir string, n int, durable map[uint64]string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF { // what was not a whole line was not said
			break
		}
		must(t, err)
		var i uint64
		var sum string
		if _, err := fmt.Sscan(line, &i, &sum); err != nil {
			t.Fatalf("the child said %q", line)
		}
		if other, ok := durable[i]; ok {
			t.Fatalf("entry %d was given twice, for %s and %s", i, other, sum)
		}
		durable[i] = sum
		if n--; n == 0 {
			must(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); err == nil || n > 0 {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

func checkKilled(t *testing.T, dir string, durable map[uint64]string) {
	t.Helper()
	// A stranger finds nothing wrong also before the next start.
	if r := mustVerify(t, VerifyOptions{Dir: dir}); !r.OK {
		t.Fatalf("verify before the next start: %+v", r.Damage)
	}
	l := mustOpen(t, crashOptions(dir))
	found := 0
	must(t, l.Scan(0, l.Size(), func(i uint64, leaf, _ []byte) error {
		if want, ok := durable[i]; ok {
			found++
			if got := fmt.Sprintf("%x", sha256.Sum256(leaf)); got != want {
				t.Errorf("entry %d is another than was said to be durable", i)
			}
		}
		return nil
	}))
	if found != len(durable) {
		t.Errorf("%d of the %d entries that were durable are there", found, len(durable))
	}
	must(t, l.Close())
	if r := mustVerify(t, VerifyOptions{Dir: dir}); !r.OK || r.Uncovered > 0 {
		t.Errorf("verify: %+v", r)
	}
}
