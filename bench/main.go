// Command bench measures custos beside direct access, pgbouncer and haproxy,
// all on this machine and in one run, and prints ratios as Markdown tables:
//
//	make bench
//	make bench ARGS=-quick
//
// It starts the built ./custos as another process, as people run it. Neither
// side of custos has TLS, nor have the others; its records are durable and its
// recording is on, for nothing turns them off. No figure makes the program
// fail: it exits with 1 only when something could not be measured.
// docs/performance.md says what the figures mean.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// bench is one run: how it is to be made, and what it found.
type bench struct {
	custos  string
	seconds int
	rounds  int
	sweeps  int // of 1M rows
	idle    int
	dir     string
	out     report
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	b := &bench{}
	var quick bool
	var only string
	flag.StringVar(&b.custos, "custos", "./custos", "the built program")
	flag.IntVar(&b.seconds, "T", 2, "seconds of one pgbench run; twice as many with 64 clients")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds over all paths; figures are medians of rounds")
	flag.IntVar(&b.idle, "idle", 5000, "idle sessions whose memory is measured")
	flag.BoolVar(&quick, "quick", false, "one round of one second each and 500 idle sessions, in under two minutes")
	flag.StringVar(&only, "only", "", "comma-separated parts: wal,pgbench,tpcb,rows,http,agent,idle,held; empty is all")
	flag.Parse()
	if *proxyAt != "" {
		return proxy(*proxyAt, *proxyTo, *proxyTLS)
	}
	if quick {
		b.seconds, b.rounds, b.idle = 1, 1, 500
	}
	b.sweeps = 2*b.rounds - 1
	if b.seconds < 1 || b.rounds < 1 || b.idle < 1 || flag.NArg() > 0 {
		return fmt.Errorf("read arguments: -T, -rounds and -idle are 1 or more, and nothing follows the flags; see -help")
	}
	// The provider's library logs there.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := raiseFiles(); err != nil {
		return err
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "custos-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	return b.measure(ctx, only)
}

// parts are what is measured, in order. Those that need servers share them.
var parts = []struct {
	name string
	run  func(*bench, context.Context, *world) error
}{
	{"wal", (*bench).wal},
	{"pgbench", (*bench).selects},
	{"tpcb", (*bench).tpcb},
	{"rows", (*bench).rows},
	{"http", (*bench).overHTTP},
	{"agent", (*bench).byAgent},
	{"idle", (*bench).idleSessions},
	{"held", (*bench).held},
}

func (b *bench) measure(ctx context.Context, only string) error {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(only, ",") {
		wanted[name] = true
	}
	begun := time.Now()
	say("starting PostgreSQL, pgbouncer, haproxy and custos")
	w, err := b.start(ctx, worldOptions{sessions: 100, settings: busy, fill: true})
	if err != nil {
		return err
	}
	defer w.close()
	b.out.begin(w)
	for _, p := range parts {
		if only != "" && !wanted[p.name] {
			continue
		}
		say("%s (%v since the start)", p.name, time.Since(begun).Round(time.Second))
		if err := p.run(b, ctx, w); err != nil {
			return fmt.Errorf("measure %s: %w\n%s", p.name, err, w.logs())
		}
	}
	say("done in %v", time.Since(begun).Round(time.Second))
	_, err = io.WriteString(os.Stdout, b.out.String())
	return err
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// raiseFiles lets this process and those that it starts hold as many files as
// the machine allows.
func raiseFiles() error {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	if err == nil {
		l.Cur = l.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	if err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}
