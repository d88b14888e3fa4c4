package server

import (
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	custos "github.com/custos-gateway/custos"
)

// metrics count what goes on record, as the index comes to it: nothing is
// counted in a caller's way, and what is counted is what the ledger says.
// Labels are names of the configuration's, never of callers, statements or
// tables.
type metrics struct {
	registry *prometheus.Registry
	known    func(connection string) bool

	sessions, turnedAway, operations, outcomes *prometheus.CounterVec
	masked, received, views, erasures          *prometheus.CounterVec
	seconds                                    *prometheus.HistogramVec

	// What follows belongs to who indexes.
	next    uint64
	open    map[custos.SessionID]string // its connection
	pending map[uint64]time.Time        // when operations were let through that have no outcome
}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), next: s.house.ledger.Size(), open: map[custos.SessionID]string{}, pending: map[uint64]time.Time{},
		known: func(name string) bool { _, ok := s.inForce.Connection(name); return ok }}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "custos_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	m.sessions = counter("sessions_opened_total", "Sessions that were opened.", "connection", "protocol")
	m.turnedAway = counter("sessions_turned_away_total", "Known callers who were not let in, by the rule that decided.", "connection", "rule")
	m.operations = counter("operations_total", "Operations by what was decided on them, and by which rule.", "connection", "effect", "rule")
	m.outcomes = counter("outcomes_total", "Operations by how they ended.", "connection", "state")
	m.masked = counter("masked_values_total", "Values that were hidden from callers.", "connection")
	m.received = counter("answer_bytes_total", "Bytes of answers, as callers saw them.", "connection")
	m.views = counter("recordings_viewed_total", "Times that somebody read a recording.")
	m.erasures = counter("recordings_erased_total", "Sessions whose recordings were erased, by the setting that said so; empty: by hand.", "rule")
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "custos_operation_seconds",
		Help:    "From when an operation was let through, on record, to when its outcome was.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60}}, []string{"connection"})
	m.registry.MustRegister(m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauges(s)
	return m
}

// gauges are read off when they are asked for.
func (m *metrics) gauges(s *Server) {
	gauge := func(name, help string, of func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "custos_" + name, Help: help}, of))
	}
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("ready", "1 while sessions can be opened.", func() float64 { return is(s.ready() == nil) })
	gauge("sessions_open", "Sessions that are open.", func() float64 { return float64(s.gate.Live()) })
	gauge("approvals_pending", "Operations and requests that wait for people.", func() float64 {
		all, _ := s.desk.List()
		n := 0
		for i := range all {
			if all[i].State == custos.ApprovalPending {
				n++
			}
		}
		return float64(n)
	})
	gauge("ledger_entries", "Entries of the ledger.", func() float64 { return float64(s.house.ledger.Health().Size) })
	gauge("ledger_published_entries", "Entries that a published checkpoint covers.", func() float64 { return float64(s.house.ledger.Health().Published) })
	gauge("ledger_accepts", "1 while the ledger takes entries; at 0 nothing is forwarded.", func() float64 { return is(s.house.ledger.Healthy() == nil) })
	gauge("witnesses_behind", "Witnesses that did not cosign the latest checkpoint they were asked for.", func() float64 {
		n := 0
		for _, w := range s.house.ledger.Health().Witnesses {
			if w.Problem != "" {
				n++
			}
		}
		return float64(n)
	})
	gauge("index_entries", "Entries that can be searched.", func() float64 {
		next, err := s.house.index.Next()
		if err != nil {
			return 0
		}
		return float64(next)
	})
	gauge("disk_free_bytes", "What is free on the disk of data_dir.", func() float64 {
		var st syscall.Statfs_t
		if syscall.Statfs(s.config.DataDir, &st) != nil {
			return 0
		}
		return float64(st.Bavail) * float64(st.Bsize)
	})
	gauge("configuration_loaded_connections", "Connections of the configuration in force.", func() float64 { return float64(len(s.inForce.Load().connections)) })
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// entry counts an entry that was made since the start, once: an index that is
// built anew comes to it again.
func (m *metrics) entry(index uint64, e *custos.Entry) {
	if index < m.next {
		return
	}
	m.next = index + 1
	switch {
	case e.Kind == custos.EntryOpened && e.Opened != nil:
		m.open[e.Session] = e.Opened.Connection
		m.sessions.WithLabelValues(e.Opened.Connection, e.Opened.Protocol).Inc()
	case e.Kind == custos.EntryTurned && e.Opened != nil:
		connection := e.Opened.Connection
		if !m.known(connection) {
			connection = "" // the name is the caller's
		}
		m.turnedAway.WithLabelValues(connection, e.Opened.Rule).Inc()
	case e.Kind == custos.EntryClosed:
		delete(m.open, e.Session)
	case e.Kind == custos.EntryViewed:
		m.views.WithLabelValues().Inc()
	case e.Kind == custos.EntryErased:
		rule := ""
		if e.Note != nil {
			rule = e.Note.Rule
		}
		m.erasures.WithLabelValues(rule).Inc()
	default:
		m.operation(index, e)
	}
}

func (m *metrics) operation(index uint64, e *custos.Entry) {
	connection, ok := m.open[e.Session]
	if !ok {
		return
	}
	switch {
	case e.Submit != nil:
		m.operations.WithLabelValues(connection, e.Submit.Effect, e.Submit.Rule).Inc()
		if e.Submit.Effect == custos.Allow.String() {
			m.pending[index] = e.At
		}
	case e.Released != nil:
		m.pending[e.Released.Operation] = e.At
	case e.Settled != nil:
		m.outcomes.WithLabelValues(connection, string(e.Settled.State)).Inc()
		m.masked.WithLabelValues(connection).Add(float64(e.Settled.Masked))
		m.received.WithLabelValues(connection).Add(float64(e.Settled.Bytes))
		if at, ok := m.pending[e.Settled.Operation]; ok {
			m.seconds.WithLabelValues(connection).Observe(e.At.Sub(at).Seconds())
			delete(m.pending, e.Settled.Operation)
		}
	}
}
