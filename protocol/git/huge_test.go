package git

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/custos-gateway/custos/internal/gittest"
)

// BenchmarkPush pushes a repository, the one in CUSTOS_REPOSITORY or one with 64 MiB
// in it, straight to the server and through the gateway, and says how much
// memory both took at most: the record is in memory here, with all of the push.
func BenchmarkPush(b *testing.B) {
	dir := os.Getenv("CUSTOS_REPOSITORY")
	if dir == "" {
		dir = b.TempDir()
		gittest.Git(b, dir, "init", "-q", "-b", "main")
		noise := make([]byte, 64<<20)
		for i, x := 0, uint32(1); i < len(noise); i++ {
			x ^= x << 13
			x ^= x >> 17
			x ^= x << 5
			noise[i] = byte(x)
		}
		write(b, dir, "noise", string(noise))
		gittest.Git(b, dir, "add", ".")
		gittest.Git(b, dir, "commit", "-q", "-m", "noise")
	}
	h := newHouse(b)
	h.world.Tap.Discard()
	straight := "http://" + h.server.Username + ":" + h.server.Password + "@" + h.server.URL[len("http://"):] + "/org/app.git"
	for name, url := range map[string]string{"straight": straight, "gateway": h.url + "/org/app.git"} {
		b.Run(name, func(b *testing.B) {
			var most atomic.Uint64
			done := make(chan struct{})
			go func() {
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					most.Store(max(most.Load(), m.HeapAlloc))
					select {
					case <-tick.C:
					case <-done:
						return
					}
				}
			}()
			for b.Loop() {
				gittest.Git(b, dir, "-c", "http.postBuffer=2147483648", "push", "-q", url, "HEAD:refs/heads/agent/"+name)
				b.StopTimer()
				gittest.Git(b, h.bare, "update-ref", "-d", "refs/heads/agent/"+name)
				gittest.Git(b, h.bare, "gc", "-q", "--prune=now")
				b.StartTimer()
			}
			close(done)
			b.ReportMetric(float64(most.Load())/(1<<20), "heap-MiB")
		})
	}
}
