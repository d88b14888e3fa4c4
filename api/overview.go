package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/store"
)

// How far back activity is counted, and in how many parts.
const (
	maxActivity   = 31 * 24 * time.Hour
	activityParts = 48
)

// activity counts what was done in the last hours, ?hours=24: of everybody, or
// of the caller's own sessions.
func (s *server) activity(w http.ResponseWriter, r *http.Request) error {
	hours := 24
	if v := r.URL.Query().Get("hours"); v != "" {
		var err error
		if hours, err = strconv.Atoi(v); err != nil || hours < 1 || time.Duration(hours)*time.Hour > maxActivity {
			return problem(http.StatusBadRequest, "hours must be a number from 1 to 744")
		}
	}
	span := time.Duration(hours) * time.Hour
	part := span / activityParts
	// Whole parts, so that one that is looked at twice stays where it was.
	until := s.Now().Truncate(part).Add(part)
	f := store.Filter{Since: until.Add(-span), Until: until}
	if p := caller(r.Context()); !s.seesAll(p) {
		f.Viewer = &store.Viewer{Issuer: p.Issuer, Subject: p.Subject}
	}
	s.catchUp(r)
	ctx, cancel := context.WithTimeout(r.Context(), searchTimeout)
	defer cancel()
	a, err := s.Index.Activity(ctx, f, part)
	if ctx.Err() != nil && r.Context().Err() == nil {
		return problem(http.StatusGatewayTimeout, "it took too long to count; ask for fewer hours")
	}
	if err != nil {
		return listError(err)
	}
	return writeJSON(w, a)
}

// LedgerState is how it stands with the ledger, and what its checkpoints are
// checked with.
type LedgerState struct {
	ledger.Health
	// PublicKey is the ledger's, and WitnessKeys those of its witnesses, as C2SP
	// signed-note writes them. Who believes them because the gateway says so
	// believes the gateway: they are for comparing with what one was given.
	PublicKey   string   `json:"public_key"`
	WitnessKeys []string `json:"witness_keys"`
}

func (s *server) ledgerState(w http.ResponseWriter, r *http.Request) error {
	state := LedgerState{Health: s.Ledger.Health(), PublicKey: s.PublicKey, WitnessKeys: s.WitnessKeys}
	if state.WitnessKeys == nil {
		state.WitnessKeys = []string{}
	}
	if !s.seesAll(caller(r.Context())) {
		// What is wrong names addresses and files: it is for who can mend it.
		if state.Problem != "" {
			state.Problem = "the gateway's log says what"
		}
		for i := range state.Witnesses {
			state.Witnesses[i].Problem = ""
		}
	}
	return writeJSON(w, state)
}
