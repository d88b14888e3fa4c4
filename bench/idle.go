package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// openTimeout bounds how long it may take to open all sessions.
const openTimeout = 5 * time.Minute

// sparing has Go collect garbage whenever it can, and give back at once what
// that frees, where by default it waits until there is as much garbage as
// there is in use: what is measured is what sessions hold, and not what
// starting and opening them left behind.
const sparing = "GOMEMLIMIT=32MiB"

// backend is about what one more session costs the target itself, in bytes.
const backend = 3 << 20

// crowd is what idle sessions cost what stands in the way.
type crowd struct {
	path     string
	sessions int
	bytes    int64 // by session
}

// idleSessions measures what sessions cost that have asked one thing and now
// ask nothing. Each program is measured alone, in a world of its own.
func (b *bench) idleSessions(ctx context.Context, _ *world) error {
	n, err := b.affordable()
	if err != nil {
		return err
	}
	for _, name := range []string{"pgbouncer", "haproxy", "custos"} {
		c, err := b.crowd(ctx, name, n)
		if err != nil {
			return err
		}
		b.out.crowds = append(b.out.crowds, c)
		say("%s: %d sessions, %.1f KiB each", name, n, float64(c.bytes)/1024)
	}
	return nil
}

// affordable is how many sessions this machine has room for.
func (b *bench) affordable() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	available, err := field("/proc/meminfo", "MemAvailable:")
	if err != nil {
		return 0, err
	}
	n := min(b.idle, int(l.Cur-200)/2, int(available/backend))
	if n < b.idle {
		b.out.note("Idle sessions: %d instead of %d, for this machine allows %d open files and has %d MiB to spare.", n, b.idle, l.Cur, available>>20)
	}
	return n, nil
}

func (b *bench) crowd(ctx context.Context, name string, n int) (_ crowd, err error) {
	settings := append([]string{"max_connections = " + strconv.Itoa(n+100)}, crowded...)
	w, err := b.start(ctx, worldOptions{sessions: n + warm, settings: settings, environ: []string{sparing}})
	if err != nil {
		return crowd{}, err
	}
	defer w.close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, w.logs())
		}
	}()
	p := w.path(name)
	// What a program makes once, at its first sessions, is not a session's cost.
	if err := w.open(ctx, p, warm); err != nil {
		return crowd{}, err
	}
	before, err := settledMemory(ctx, p)
	if err != nil {
		return crowd{}, err
	}
	if err := w.open(ctx, p, n); err != nil {
		return crowd{}, err
	}
	after, err := settledMemory(ctx, p)
	return crowd{name, n, (after - before) / int64(n)}, err
}

// warm is how many sessions are open before the first look.
const warm = 16

// open opens n sessions, each of which asks one thing. They stay until the
// world ends.
func (w *world) open(ctx context.Context, p *path, n int) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	const hands = 8
	opened, failed := make([]*pgconn.PgConn, n), make([]error, hands)
	var opening sync.WaitGroup
	for hand := range hands {
		opening.Go(func() {
			for i := hand; i < n && failed[hand] == nil; i += hands {
				if opened[i], failed[hand] = p.connect(ctx); failed[hand] == nil {
					_, failed[hand] = opened[i].Exec(ctx, "SELECT 1").ReadAll()
				}
			}
		})
	}
	opening.Wait()
	w.stop = append(w.stop, func() {
		for _, c := range opened {
			if c != nil {
				c.Conn().Close()
			}
		}
	})
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("open %d sessions: %w", n, err)
	}
	return nil
}

// settledMemory returns the memory of what stands in the way, when it has not
// grown or shrunk by more than 1 in 200 for three seconds: collectors of
// garbage take a while.
func settledMemory(ctx context.Context, p *path) (int64, error) {
	same, was := 0, int64(0)
	for range 30 {
		now, err := field(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), "VmRSS:")
		if err != nil {
			return 0, err
		}
		if same++; now-was > now/200 || was-now > now/200 {
			same, was = 0, now
		}
		if same == 3 {
			return now, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return was, nil
}

// field reads a line of kilobytes, as the files of proc(5) have them, and
// returns bytes.
func field(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read %s: it has no %s", file, name)
}
