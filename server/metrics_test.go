package server

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	custos "github.com/custos-gateway/custos"
)

func TestMetrics(t *testing.T) {
	s := newSite(t)
	server, _ := s.serve()
	s.said(server, "select 1")
	ana, _ := s.call(server, "ana")
	ana.say("select 2")
	s.call(server, "bob") // has no access
	for status, user := range map[int]string{http.StatusUnauthorized: "", http.StatusForbidden: "ana"} {
		if got, body := s.get(server, user, "/metrics"); got != status {
			t.Errorf("%q: %d %s", user, got, body)
		}
	}
	s.caughtUp(server)
	for _, want := range []string{
		`custos_sessions_opened_total{connection="orders",protocol="line"} 2`, `custos_sessions_turned_away_total{connection="orders",rule="access"} 1`,
		`custos_outcomes_total{connection="orders",state="ok"} 2`, `custos_operation_seconds_count{connection="orders"} 2`,
		"custos_sessions_open 1", "custos_ready 1", "custos_ledger_accepts 1", "custos_approvals_pending 0", "go_goroutines ",
	} {
		// What is counted is told right after it is indexed.
		late := time.After(20 * time.Second)
		for told := false; !told; {
			status, body := s.get(server, "carol", "/metrics")
			told = strings.Contains(body, want)
			select {
			case <-late:
				t.Fatalf("%d %s lacks %s", status, body, want)
			default:
			}
		}
	}
}

// An index that is built anew comes to every entry again; a caller's word for
// a connection that there is not becomes no label.
func TestMetricsCountOnce(t *testing.T) {
	s := newSite(t)
	server, _ := s.serve()
	m := newMetrics(server)
	e := &custos.Entry{Kind: custos.EntryTurned, Opened: &custos.Opened{Connection: "made-up", Rule: "access"}}
	for _, index := range []uint64{0, m.next, m.next, m.next + 1, m.next} {
		m.entry(index, e)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := false
	for _, f := range families {
		if f.GetName() != "custos_sessions_turned_away_total" {
			continue
		}
		counted = true
		if c := f.GetMetric(); len(c) != 1 || c[0].GetCounter().GetValue() != 2 || c[0].GetLabel()[0].GetValue() != "" {
			t.Errorf("%v", f)
		}
	}
	if !counted {
		t.Error("nothing was counted")
	}
}

var metricName = regexp.MustCompile(`custos_[a-z_]+`)

// The page and the dashboard name every metric that there is, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	s := newSite(t)
	server, _ := s.serve()
	descriptions := make(chan *prometheus.Desc)
	go func() { defer close(descriptions); server.metrics.registry.Describe(descriptions) }()
	there := map[string]bool{}
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for d := range descriptions {
		name := metricName.FindString(d.String())
		if name == "" {
			continue // Go's own
		}
		there[name] = true
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/metrics.md does not say what %s is", name)
		}
	}
	dashboard, err := os.ReadFile("../deploy/grafana/custos.json")
	if err != nil || !json.Valid(dashboard) {
		t.Fatalf("the dashboard is no JSON: %v", err)
	}
	for where, text := range map[string][]byte{"docs/metrics.md": page, "the dashboard": dashboard} {
		for _, name := range metricName.FindAllString(string(text), -1) {
			if !there[name] && !there[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s names %s, which there is not", where, name)
			}
		}
	}
}
