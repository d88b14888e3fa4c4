package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is what one pgbench run found.
type sample struct {
	tps float64
	p50 time.Duration // of one transaction; measured with one client only
}

// load is one kind of work.
type load struct {
	name    string
	args    []string
	clients int
}

// series are the samples of one load: by path, one a round.
type series struct {
	load
	samples map[string][]sample
}

// ratios are a path's transactions over another's, round by round: what slows
// the whole machine for a while slows both. A round in which no transaction of
// the other's ended tells nothing.
func (s *series) ratios(name, base string) []float64 {
	var r []float64
	for i, at := range s.samples[name] {
		if b := s.samples[base][i].tps; b > 0 {
			r = append(r, at.tps/b)
		}
	}
	return r
}

func (s *series) tps(name string) []float64 {
	var r []float64
	for _, at := range s.samples[name] {
		r = append(r, at.tps)
	}
	return r
}

// added is how much longer the median transaction takes by a path than
// direct, by round.
func (s *series) added(name string) []time.Duration {
	var r []time.Duration
	for i, at := range s.samples[name] {
		r = append(r, at.p50-s.samples["direct"][i].p50)
	}
	return r
}

var modes = []string{"simple", "extended", "prepared"}

// selects runs pgbench's one-row SELECT, and beside it, every round, the sync
// that added latency is compared with.
func (b *bench) selects(ctx context.Context, w *world) error {
	var loads []load
	for _, m := range modes {
		for _, c := range []int{1, 8, 64} {
			loads = append(loads, load{fmt.Sprintf("-S %s, c=%d", m, c), []string{"-S", "-M", m}, c})
		}
	}
	return b.repeat(ctx, w, loads, &b.out.selects, func() error {
		s, err := syncAlone(b.dir, time.Second)
		b.out.syncs = append(b.out.syncs, s.p50)
		return err
	})
}

// tpcb runs pgbench's own mix, which writes: seven statements a transaction,
// five of which custos makes durable before it forwards them.
func (b *bench) tpcb(ctx context.Context, w *world) error {
	return b.repeat(ctx, w, []load{{"TPC-B, c=8", []string{"-b", "tpcb-like"}, 8}}, &b.out.tpcb, func() error { return nil })
}

// repeat runs every load by every path, and all of that again.
func (b *bench) repeat(ctx context.Context, w *world, loads []load, to *[]*series, beside func() error) error {
	for _, l := range loads {
		*to = append(*to, &series{l, map[string][]sample{}})
	}
	for round := range b.rounds {
		if err := beside(); err != nil {
			return err
		}
		for _, s := range *to {
			// Nobody is always the one who comes after somebody.
			paths := slices.Concat(w.paths[round%len(w.paths):], w.paths[:round%len(w.paths)])
			var said strings.Builder
			for _, p := range paths {
				at, err := b.pgbench(ctx, w, p, s.load)
				if err != nil {
					return err
				}
				s.samples[p.name] = append(s.samples[p.name], at)
				fmt.Fprintf(&said, " %s %.0f", p.name, at.tps)
			}
			say("round %d, %s:%s tps", round+1, s.name, said.String())
		}
	}
	return nil
}

// pgbench runs it once.
func (b *bench) pgbench(ctx context.Context, w *world, p *path, l load) (sample, error) {
	seconds := b.seconds
	if l.clients > 8 {
		seconds *= 2 // the time it takes them to connect counts
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+startTimeout)
	defer cancel()
	args := append(p.args(), "-n", "-T", strconv.Itoa(seconds), "-c", strconv.Itoa(l.clients), "-j", strconv.Itoa(min(2, l.clients)))
	args = append(args, l.args...)
	logs := filepath.Join(w.dir, "transactions")
	if l.clients == 1 {
		args = append(args, "-l", "--log-prefix="+logs)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(w.target.Bin, "pgbench"), append(args, database)...)
	cmd.Env = p.environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("run pgbench %s by %s: %w\n%s", l.name, p.name, errors.Join(err, context.Cause(ctx)), out)
	}
	s := sample{}
	if s.tps, err = parseTPS(out); err != nil {
		return s, fmt.Errorf("%s by %s: %w", l.name, p.name, err)
	}
	if l.clients > 1 {
		return s, nil
	}
	files, err := filepath.Glob(logs + ".*")
	if err != nil || len(files) != 1 {
		return s, fmt.Errorf("find pgbench's log of transactions: %d files: %w", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return s, err
	}
	s.p50, err = parseMedian(text)
	return s, errors.Join(err, os.Remove(files[0]))
}

var (
	tpsLine  = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)$`)
	noneLine = regexp.MustCompile(`(?m)^number of transactions actually processed: 0$`)
)

// parseTPS reads pgbench's report, which has no tps when no transaction ended.
func parseTPS(out []byte) (float64, error) {
	if noneLine.Match(out) {
		return 0, nil
	}
	m := tpsLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("read pgbench's report: it has no tps:\n%s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// parseMedian reads pgbench's log of transactions, whose third column is how
// long each took, in microseconds.
func parseMedian(log []byte) (time.Duration, error) {
	var took []time.Duration
	for lines := bufio.NewScanner(bytes.NewReader(log)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			return 0, fmt.Errorf("read pgbench's log of transactions: %q", lines.Text())
		}
		µs, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read pgbench's log of transactions: %w", err)
		}
		took = append(took, time.Duration(µs)*time.Microsecond)
	}
	if len(took) == 0 {
		return 0, errors.New("read pgbench's log of transactions: it is empty")
	}
	return median(took), nil
}
