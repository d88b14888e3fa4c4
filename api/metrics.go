package api

import "net/http"

// metrics gives what the gateway counts to who sees every session: it tells
// how much is done on which connection.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) error {
	if !s.seesAll(caller(r.Context())) {
		return problem(http.StatusForbidden, "only administrators and auditors see metrics; docs/metrics.md says how Prometheus gets a token")
	}
	s.Metrics.ServeHTTP(w, r)
	return nil
}
