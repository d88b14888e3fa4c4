// Package exporttest makes a small gateway's record for tests: a real ledger
// and real recordings, with sessions as the gate would have left them.
package exporttest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
)

// Origin is the name of the ledger.
const Origin = "custos.test/ledger"

// House is a data folder with its ledger and recordings open.
type House struct {
	t          testing.TB
	Dir        string
	Ledger     *ledger.Log
	Recordings *recording.Store
	PublicKey  string

	witnesses []ledger.Witness
	mu        sync.Mutex
	now       time.Time
}

// New makes a house, which the end of the test closes. All of the witnesses
// must cosign its checkpoints.
func New(t testing.TB, witnesses ...ledger.Witness) *House {
	t.Helper()
	h := &House{t: t, witnesses: witnesses, Dir: t.TempDir(), now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	h.Open()
	return h
}

// Open opens the house's data folder, again after Close.
func (h *House) Open() {
	h.t.Helper()
	signer, public, err := ledger.LoadOrCreateKey(filepath.Join(h.Dir, "keys", "ledger.key"), Origin)
	h.must(err)
	h.PublicKey = public
	h.Ledger, err = ledger.Open(ledger.Options{Dir: filepath.Join(h.Dir, "ledger"), Signer: signer, Now: h.Now,
		SegmentBytes: 1 << 20, Interval: time.Hour, Heartbeat: 24 * 365 * time.Hour,
		Witnesses: h.witnesses, Quorum: len(h.witnesses)})
	h.must(err)
	h.Recordings, err = recording.Open(filepath.Join(h.Dir, "recordings"), filepath.Join(h.Dir, "keys", "recording.key"))
	h.must(err)
	log := h.Ledger
	h.t.Cleanup(func() { log.Close() }) // again, where the test closed it
}

// Close closes the ledger.
func (h *House) Close() {
	h.t.Helper()
	h.must(h.Ledger.Close())
}

func (h *House) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// Now is the house's clock: a second later each time.
func (h *House) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(time.Second)
	return h.now
}

// Keep appends an entry, durably, and returns its index.
func (h *House) Keep(e *custos.Entry, attachment []byte) uint64 {
	h.t.Helper()
	e.At = h.Now()
	if attachment != nil {
		sum := sha256.Sum256(attachment)
		e.Attachment = &custos.Digest{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(attachment))}
	}
	i, err := h.Ledger.Append(e.AppendJSON(nil), attachment)
	h.must(err)
	h.must(h.Ledger.Durable(i))
	return i
}

// Config puts a configuration on record.
func (h *House) Config(yaml string) uint64 {
	return h.Keep(&custos.Entry{Kind: custos.EntryConfig, Note: &custos.Note{Text: "custos.yaml"}}, []byte(yaml))
}

// Ana, Bob and Skill are callers; Skill acts for Ana.
var (
	Ana   = custos.Principal{Issuer: "https://id.test", Subject: "u-ana", Name: "ana", Kind: custos.KindPerson, Groups: []string{"dba"}}
	Bob   = custos.Principal{Issuer: "https://id.test", Subject: "u-bob", Name: "bob", Kind: custos.KindPerson, Groups: []string{"support"}}
	Skill = custos.Principal{Issuer: "https://id.test", Subject: "s-reporter", Name: "skill:reporter", Kind: custos.KindSkill,
		Groups: []string{"skills"}, OnBehalfOf: &custos.Principal{Issuer: "https://id.test", Subject: "u-ana", Name: "ana", Kind: custos.KindPerson}}
)

// Session is a session being recorded.
type Session struct {
	h          *House
	ID         custos.SessionID
	Opened     uint64
	recording  *recording.Recording
	operations int64
}

// Session opens a session on the connection "orders".
func (h *House) Session(caller custos.Principal) *Session {
	h.t.Helper()
	s := &Session{h: h, ID: custos.NewSessionID()}
	var err error
	s.recording, err = h.Recordings.Start(s.ID)
	h.must(err)
	s.Opened = h.Keep(&custos.Entry{Kind: custos.EntryOpened, Session: s.ID, Opened: &custos.Opened{
		Caller: caller, Connection: "orders", Protocol: "postgres", Client: "127.0.0.1:5", Key: s.recording.KeyDigest()}}, nil)
	return s
}

// Submit puts an operation on record, with an effect, and returns its entry.
func (s *Session) Submit(text string, effect custos.Effect) uint64 {
	s.h.t.Helper()
	plain := make([]byte, 16)
	rand.Read(plain)
	verb, _, _ := strings.Cut(text, " ")
	o := custos.Operation{Class: "Query", Text: text, Verbs: []string{strings.ToUpper(verb)}, Objects: []string{"public.customers"}}
	plain = o.AppendSealed(plain)
	sum := sha256.Sum256(plain)
	s.operations++
	return s.h.Keep(&custos.Entry{Kind: custos.EntrySubmitted, Session: s.ID, Submit: &custos.Submitted{Class: o.Class, Verbs: o.Verbs,
		Objects: o.Objects, Digest: hex.EncodeToString(sum[:]), Effect: effect.String(), Rule: "access"}}, s.recording.Seal(nil, plain))
}

// Input puts more of an operation's input on record.
func (s *Session) Input(entry uint64, data string) uint64 {
	return s.h.Keep(&custos.Entry{Kind: custos.EntryInput, Session: s.ID, Input: &custos.Input{Operation: entry}}, s.recording.Seal(nil, []byte(data)))
}

// Answer is an answer being recorded.
func (s *Session) Answer(entry uint64, pieces ...string) *recording.Answer {
	s.h.t.Helper()
	at := s.h.Now()
	a := s.recording.Answer(entry, at)
	for _, p := range pieces {
		at = at.Add(time.Millisecond)
		s.h.must(a.Write(at, []byte(p)))
	}
	return a
}

// Settle puts the outcome of an operation on record.
func (s *Session) Settle(entry uint64, a *recording.Answer) uint64 {
	s.h.t.Helper()
	settled := &custos.Settled{Operation: entry, State: custos.StateOK, Rows: 1}
	var sealed []byte
	if a != nil {
		var err error
		settled.Bytes = a.Bytes()
		sealed, settled.Recording, err = a.Finish()
		s.h.must(err)
	}
	return s.h.Keep(&custos.Entry{Kind: custos.EntrySettled, Session: s.ID, Settled: settled}, sealed)
}

// Run records an operation from its intent to its outcome.
func (s *Session) Run(text string, pieces ...string) uint64 {
	s.h.t.Helper()
	entry := s.Submit(text, custos.Allow)
	s.Settle(entry, s.Answer(entry, pieces...))
	return entry
}

// Large is a piece of an answer that goes to a file of its own: it does not
// compress.
func Large() string {
	b := make([]byte, 300<<10)
	rand.Read(b)
	return string(b)
}

// Close ends the session.
func (s *Session) Close() uint64 {
	return s.h.Keep(&custos.Entry{Kind: custos.EntryClosed, Session: s.ID, Closed: &custos.Closed{Reason: "closed", Operations: s.operations}}, nil)
}
