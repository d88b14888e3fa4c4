package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseTPS(t *testing.T) {
	out := "latency average = 0.052 ms\ninitial connection time = 3.1 ms\ntps = 19012.5 (without initial connection time)\n"
	if tps, err := parseTPS([]byte(out)); tps != 19012.5 || err != nil {
		t.Errorf("%v, %v", tps, err)
	}
	if tps, err := parseTPS([]byte("number of transactions actually processed: 0\nnumber of failed transactions: 0 (NaN%)\n")); tps != 0 || err != nil {
		t.Errorf("%v, %v", tps, err)
	}
	for _, out := range []string{"", "tps = fast (without initial connection time)\n"} {
		if tps, err := parseTPS([]byte(out)); err == nil {
			t.Errorf("%q was read as %v", out, tps)
		}
	}
}

func TestParseMedian(t *testing.T) {
	if p50, err := parseMedian([]byte("0 1 300 0 1 2\n0 2 100 0 1 2\n0 3 200 0 1 2\n")); p50 != 200*time.Microsecond || err != nil {
		t.Errorf("%v, %v", p50, err)
	}
	for _, log := range []string{"", "0 1\n", "0 1 soon 0 1 2\n"} {
		if p50, err := parseMedian([]byte(log)); err == nil {
			t.Errorf("%q was read as %v", log, p50)
		}
	}
}

// found is a report in which custos has factor of pgbouncer's transactions and
// of direct's rows, adds as much to the median, and takes memory for a session.
func found(factor float64, adds time.Duration, memory int64) *report {
	all := func(tps float64, p50 time.Duration) []sample {
		return []sample{{tps, p50}, {2 * tps, p50}, {3 * tps, p50}}
	}
	of := func(name string, clients int) *series {
		return &series{load{name, nil, clients}, map[string][]sample{
			"direct": all(2000, 50*time.Microsecond), "pgbouncer": all(1000, 70*time.Microsecond),
			"haproxy": all(1500, 60*time.Microsecond), "custos": all(1000*factor, 50*time.Microsecond+adds)}}
	}
	took := map[string][]time.Duration{}
	for _, name := range []string{"direct", "pgbouncer", "haproxy"} {
		took[name] = []time.Duration{time.Second, time.Second, time.Second}
	}
	slow := time.Duration(float64(time.Second) / factor)
	took["custos"] = []time.Duration{slow, slow, slow}
	return &report{
		syncs:   []time.Duration{100 * time.Microsecond},
		selects: []*series{of("one", 1), of("eight", 8), of("many", 64)},
		answers: []*answer{{name: "rows", took: took}},
		crowds:  []crowd{{"custos", 5000, memory}, {"haproxy", 5000, 1 << 20}},
	}
}

func TestAims(t *testing.T) {
	for name, c := range map[string]struct {
		r      *report
		missed string
	}{
		"all":            {found(0.95, 160*time.Microsecond, 64<<10-1), ""},
		"latency":        {found(0.95, 161*time.Microsecond, 100), "one"},
		"speed":          {found(0.85, time.Microsecond, 100), "many rows"},
		"memory":         {found(1, 0, 64<<10), "5000"},
		"nothing at all": {&report{}, ""},
	} {
		var missed []string
		aims := c.r.aims()
		for _, a := range aims {
			if !a.reached {
				missed = append(missed, strings.Trim(strings.Fields(a.aim)[0], ":"))
			}
		}
		if got := strings.Join(missed, " "); got != c.missed || (len(aims) != 4 && len(c.r.selects) > 0) {
			t.Errorf("%s: missed %q, want %q, of %v", name, got, c.missed, aims)
		}
	}
}

// TestIdleRound: a round in which nothing moved direct is no ratio.
func TestIdleRound(t *testing.T) {
	s := &series{samples: map[string][]sample{"direct": {{tps: 0}, {tps: 10}}, "custos": {{tps: 5}, {tps: 5}}}}
	if r := s.ratios("custos", "direct"); len(r) != 1 || median(r) != 0.5 {
		t.Errorf("%v", r)
	}
	s.samples["direct"][1].tps = 0
	if r := s.ratios("custos", "direct"); median(r) != 0 {
		t.Errorf("%v", r)
	}
}

func TestReport(t *testing.T) {
	text := found(0.95, 160*time.Microsecond, 61<<10).String()
	for _, line := range []string{
		"| many | 0.50 | 0.75 | 0.47 | 0.95 | 4000/s, 67% |",
		"| rows | 1.00 | 1.00 | 0.95 | 0.95 | 1.00 s, 0% |",
		"| one | 50 µs | 20 µs | 10 µs | 160 µs |",
		"| custos | 5000 | 61.0 |",
		"| 5000 idle sessions: under 64 KiB each | 61.0 KiB | **reached** |",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("it lacks %s:\n%s", line, text)
		}
	}
}

// TestKeep makes real entries durable, and real syncs.
func TestKeep(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	keeps, err := b.keep(t.Context(), 4, 50*time.Millisecond)
	if err != nil || keeps.perSecond <= 0 || keeps.p50 <= 0 {
		t.Errorf("%+v, %v", keeps, err)
	}
	alone, err := syncAlone(b.dir, 50*time.Millisecond)
	if err != nil || alone.perSecond <= 0 || alone.p50 <= 0 {
		t.Errorf("%+v, %v", alone, err)
	}
}
