package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// report is what a run found.
type report struct {
	where   []string
	notes   []string
	wal     []walSpeed
	syncs   []time.Duration // median of a bare sync, one a round
	selects []*series
	tpcb    []*series
	answers []*answer
	http    []*httpLine
	agents  []*answer // direct is the gateway itself
	crowds  []crowd
	holds   []holds
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// begin says where the run was made.
func (r *report) begin(w *world) {
	version := func(name string, args ...string) string {
		out, _ := exec.Command(name, args...).Output()
		line, _, _ := strings.Cut(string(out), "\n")
		return strings.TrimSpace(line)
	}
	r.where = append(r.where, fmt.Sprintf("%d cores", runtime.NumCPU()), version("uname", "-sr"), runtime.Version(),
		version(filepath.Join(w.target.Bin, "postgres"), "--version"))
	for _, p := range [][2]string{{"pgbouncer", "--version"}, {"haproxy", "-v"}} {
		if bin, err := program(p[0]); err == nil {
			r.where = append(r.where, version(bin, p[1]))
		}
	}
	const tmpfs = 0x01021994 // statfs(2)
	var fs syscall.Statfs_t
	if err := syscall.Statfs(w.dir, &fs); err == nil && fs.Type == tmpfs {
		r.note("The folder for temporary files lies in memory, so that nothing here was durable. Set TMPDIR to a folder on a disk.")
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.note("Load of the machine (proc_loadavg(5)) before the run: %s.", strings.TrimSpace(string(load)))
	}
}

// median sorts v and returns its middle; of nothing, zero.
func median[T cmp.Ordered](v []T) T {
	if len(v) == 0 {
		return *new(T)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// spread is how much the least of v falls short of the greatest, which is
// above zero unless nothing was measured.
func spread(v []float64) float64 { return 1 - slices.Min(v)/max(slices.Max(v), 1e-9) }

// String is the report in Markdown.
func (r *report) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s.\n", strings.Join(r.where, "; "))
	if len(r.selects)+len(r.tpcb)+len(r.answers) > 0 {
		r.throughput(&s)
	}
	if len(r.selects) > 0 {
		r.latency(&s)
	}
	if len(r.http) > 0 {
		r.httpTable(&s)
	}
	if len(r.agents) > 0 {
		r.agentsTable(&s)
	}
	if len(r.wal) > 0 {
		r.records(&s)
	}
	if len(r.crowds) > 0 {
		fmt.Fprintf(&s, "\nMemory that idle sessions add to what stands in the way (custos with %s):\n", sparing)
		s.WriteString("\n| memory | sessions | KiB a session |\n|---|---|---|\n")
		for _, c := range r.crowds {
			fmt.Fprintf(&s, "| %s | %d | %.1f |\n", c.path, c.sessions, float64(c.bytes)/1024)
		}
	}
	if len(r.holds) > 0 {
		r.holding(&s)
	}
	s.WriteString("\n| aim | reached | |\n|---|---|---|\n")
	for _, a := range r.aims() {
		word := "missed"
		if a.reached {
			word = "reached"
		}
		fmt.Fprintf(&s, "| %s | %s | **%s** |\n", a.aim, a.found, word)
	}
	if len(r.notes) > 0 {
		fmt.Fprintf(&s, "\n- %s\n", strings.Join(r.notes, "\n- "))
	}
	return s.String()
}

func (r *report) throughput(s *strings.Builder) {
	s.WriteString("\n| throughput, direct = 1 | pgbouncer | haproxy | custos | custos / pgbouncer | direct, and how far its worst round falls short of its best |\n|---|---|---|---|---|---|\n")
	for _, l := range slices.Concat(r.selects, r.tpcb) {
		fmt.Fprintf(s, "| %s |", l.name)
		for _, name := range []string{"pgbouncer", "haproxy", "custos"} {
			fmt.Fprintf(s, " %.2f |", median(l.ratios(name, "direct")))
		}
		tps := l.tps("direct")
		fmt.Fprintf(s, " %.2f | %.0f/s, %.0f%% |\n", median(l.ratios("custos", "pgbouncer")), median(tps), 100*spread(tps))
	}
	for _, a := range r.answers {
		fmt.Fprintf(s, "| %s |", a.name)
		for _, name := range []string{"pgbouncer", "haproxy", "custos"} {
			fmt.Fprintf(s, " %.2f |", median(a.ratios(name)))
		}
		custos, bouncer := median(a.ratios("custos")), median(a.ratios("pgbouncer"))
		var took []float64
		for _, d := range a.took["direct"] {
			took = append(took, d.Seconds())
		}
		fmt.Fprintf(s, " %.2f | %.2f s, %.0f%% |\n", custos/bouncer, median(took), 100*spread(took))
	}
}

func (r *report) latency(s *strings.Builder) {
	fmt.Fprintf(s, "\n| median of a transaction, c=1 | direct | pgbouncer adds | haproxy adds | custos adds |\n|---|---|---|---|---|\n")
	for _, l := range r.selects {
		if l.clients > 1 {
			continue
		}
		var direct []time.Duration
		for _, at := range l.samples["direct"] {
			direct = append(direct, at.p50)
		}
		fmt.Fprintf(s, "| %s | %d µs |", l.name, median(direct).Microseconds())
		for _, name := range []string{"pgbouncer", "haproxy", "custos"} {
			fmt.Fprintf(s, " %d µs |", median(l.added(name)).Microseconds())
		}
		s.WriteString("\n")
	}
	fmt.Fprintf(s, "\nOne bare write and fdatasync of a record takes %d µs (median, measured in every round).\n", median(r.syncs).Microseconds())
}

func (r *report) records(s *strings.Builder) {
	s.WriteString("\n| the write-ahead log alone | durable records/s over bare syncs/s | median of one record over one bare sync |\n|---|---|---|\n")
	for _, l := range r.wal {
		fmt.Fprintf(s, "| %d writers | %.2f | %.2f |\n", l.writers, l.keeps.perSecond/l.alone.perSecond, float64(l.keeps.p50)/float64(l.alone.p50))
	}
}

// The aims.
const (
	leastOfPgbouncer = 0.9
	leastOfDirect    = 0.9
	leastMasked      = 0.85 // with two columns masked
	mostAboveSync    = 60 * time.Microsecond
	mostIdle         = 64 << 10 // bytes a session
)

type aim struct {
	aim, found string
	reached    bool
}

// aims judges what was measured.
func (r *report) aims() []aim {
	var aims []aim
	for _, l := range r.selects {
		switch l.clients {
		case 64:
			got := median(l.ratios("custos", "pgbouncer"))
			aims = append(aims, aim{fmt.Sprintf("%s: at least %.1f of pgbouncer's transactions", l.name, leastOfPgbouncer),
				fmt.Sprintf("%.2f", got), got >= leastOfPgbouncer})
		case 1:
			got, most := median(l.added("custos")), median(r.syncs)+mostAboveSync
			aims = append(aims, aim{fmt.Sprintf("%s: at most one fdatasync + %v added to the median, here %d µs", l.name, mostAboveSync, most.Microseconds()),
				fmt.Sprintf("%d µs", got.Microseconds()), got <= most})
		}
	}
	for _, a := range r.answers {
		got, least := median(a.ratios("custos")), leastOfDirect
		if a.connection != "" {
			least = leastMasked
		}
		aims = append(aims, aim{fmt.Sprintf("%s: at least %.2f of direct", a.name, least), fmt.Sprintf("%.2f", got), got >= least})
	}
	for _, l := range r.http {
		got := median(l.ratios("custos"))
		aims = append(aims, aim{fmt.Sprintf("%s over HTTP: at least %.1f of Go's bare ReverseProxy", l.name, leastOfProxy), fmt.Sprintf("%.2f", got), got >= leastOfProxy})
	}
	for _, a := range r.agents {
		got := median(a.ratios("agent"))
		aims = append(aims, aim{fmt.Sprintf("%s by an agent: at least %.2f of the gateway itself", a.name, leastOfGateway), fmt.Sprintf("%.2f", got), got >= leastOfGateway})
	}
	for _, c := range r.crowds {
		if c.path == "custos" {
			aims = append(aims, aim{fmt.Sprintf("%d idle sessions: under %d KiB each", c.sessions, mostIdle>>10),
				fmt.Sprintf("%.1f KiB", float64(c.bytes)/1024), c.bytes < mostIdle})
		}
	}
	return aims
}
