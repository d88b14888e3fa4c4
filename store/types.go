package store

import (
	"encoding/hex"
	"time"
	"unicode/utf8"

	custos "github.com/custos-gateway/custos"
)

// Session is one line of the list of sessions.
type Session struct {
	ID         custos.SessionID `json:"id"`
	Caller     string           `json:"caller"` // the name; the subject where there is none
	OnBehalfOf string           `json:"on_behalf_of,omitempty"`
	Issuer     string           `json:"issuer"`
	Subject    string           `json:"subject"`
	Kind       custos.Kind      `json:"kind"`
	Groups     []string         `json:"groups,omitempty"`
	Connection string           `json:"connection"`
	Protocol   string           `json:"protocol"`
	Client     string           `json:"client"`
	StartedAt  time.Time        `json:"started_at"`
	EndedAt    *time.Time       `json:"ended_at" jsonschema:"nullable"`
	State      string           `json:"state"` // open, closed, turned-away
	Reason     string           `json:"reason,omitempty"`
	Rule       string           `json:"rule,omitempty"`
	Operations int64            `json:"operations"`
	Opened     uint64           `json:"entry"` // the entry that opened it
	// Erased is set once the recording is erased, Held while a legal hold is on
	// it.
	Erased *Mark `json:"erased,omitempty"`
	Held   *Mark `json:"held,omitempty"`
	// Skill is the registered skill that the caller is.
	Skill *custos.Skill `json:"skill,omitempty"`
	// Asserted is what the client said of itself. Nobody checked it.
	Asserted map[string]string `json:"asserted,omitempty"`
}

// Mark says who did something to a recording, and why.
type Mark struct {
	Entry  uint64    `json:"entry"`
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
	Rule   string    `json:"rule,omitempty"` // by which setting, where nobody did
	Reason string    `json:"reason,omitempty"`
}

// The states of a session.
const (
	SessionOpen       = "open"
	SessionClosed     = "closed"
	SessionTurnedAway = "turned-away"
)

// Outcomes that an operation may have besides those of custos.State.
const (
	OutcomeUnsettled = "unsettled" // permitted, and no outcome is on record
	OutcomeRefused   = "refused"
	OutcomeHeld      = "held" // it waits for people
)

// Operation is one operation with its outcome.
type Operation struct {
	Session  custos.SessionID `json:"session"`
	Entry    uint64           `json:"entry"`
	At       time.Time        `json:"at"`
	Class    string           `json:"class"`
	Text     string           `json:"text"` // empty once the session is erased
	Params   []string         `json:"params,omitempty"`
	Verbs    []string         `json:"verbs,omitempty"`
	Objects  []string         `json:"objects,omitempty"`
	Writes   bool             `json:"writes"`
	Effect   string           `json:"effect"`
	Rule     string           `json:"rule,omitempty"`
	Policy   string           `json:"policy,omitempty"`
	Approval string           `json:"approval,omitempty"` // by which it was let through
	Masks    []string         `json:"masks,omitempty"`    // rules that hid a part of the answer
	DryRun   []string         `json:"dry_run,omitempty"`  // rules that would have decided otherwise
	Outcome  string           `json:"outcome"`
	Code     string           `json:"code,omitempty"`
	Rows     int64            `json:"rows"`
	Bytes    int64            `json:"bytes"`
	Masked   int64            `json:"masked"`
	Settled  uint64           `json:"settled_entry,omitempty"` // 0: none
	// Caller, OnBehalfOf and Connection are the session's.
	Caller     string `json:"caller,omitempty"`
	OnBehalfOf string `json:"on_behalf_of,omitempty"`
	Connection string `json:"connection,omitempty"`
}

// OperationOf is the operation that an entry submitted; op is what it sealed,
// or nil where that cannot be read.
func OperationOf(index uint64, e *custos.Entry, op *custos.Operation) *Operation {
	s := e.Submit
	o := &Operation{Session: e.Session, Entry: index, At: e.At, Class: s.Class, Verbs: s.Verbs, Objects: s.Objects,
		Writes: s.Writes, Effect: s.Effect, Rule: s.Rule, Policy: s.Policy, Masks: s.Masks, DryRun: s.DryRun, Outcome: OutcomeUnsettled}
	switch s.Effect {
	case custos.Allow.String():
	case custos.Approve.String():
		o.Outcome = OutcomeHeld
	default:
		o.Outcome = OutcomeRefused
	}
	if op != nil {
		o.Text = op.Text
		for _, p := range op.Params {
			o.Params = append(o.Params, paramText(p))
		}
	}
	return o
}

// Settle puts the outcome of a settled entry into o.
func (o *Operation) Settle(e *custos.Entry) {
	s := e.Settled
	o.Outcome, o.Code, o.Rows, o.Bytes, o.Masked = string(s.State), s.Code, s.Rows, s.Bytes, s.Masked
}

// paramText shows a bound value: text as it is, bytes as PostgreSQL's hex.
func paramText(p custos.Param) string {
	switch {
	case p.Null:
		return "NULL"
	case p.Binary || !utf8.Valid(p.Value):
		return `\x` + hex.EncodeToString(p.Value)
	}
	return string(p.Value)
}

// Item is one entry of the ledger to index.
type Item struct {
	Index     uint64
	Entry     *custos.Entry
	Operation *custos.Operation // of a submitted entry; nil: it cannot be read
}

// Viewer narrows what is found to a caller's own sessions and those that
// others held on his behalf.
type Viewer struct{ Issuer, Subject string }

// Filter narrows a list.
type Filter struct {
	Viewer       *Viewer // nil: all
	Caller       string  // exact name or subject
	Connection   string
	State        string // of the session
	Since, Until time.Time
	Query        string // of Search
	Limit        int    // items in a page; 0: 100
	Cursor       string // the next of the page before
}
