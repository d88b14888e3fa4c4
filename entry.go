package custos

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// SessionID names a session: 128 random bits in lower-case base32, 26
// characters. It is the gateway's own, never taken from a caller.
type SessionID string

var sessionEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewSessionID returns an unguessable id.
func NewSessionID() SessionID {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return SessionID(sessionEncoding.EncodeToString(b[:]))
}

// Valid reports whether id has the form that NewSessionID gives, so that it is
// safe in a file name.
func (id SessionID) Valid() bool {
	b, err := sessionEncoding.DecodeString(string(id))
	// The decoder passes over line breaks and loose bits at the end.
	return err == nil && len(b) == 16 && sessionEncoding.EncodeToString(b) == string(id)
}

// EntryKind says what a ledger entry is about.
type EntryKind string

// The kinds of entry.
const (
	EntryStarted   EntryKind = "gateway.started"     // a gateway began to serve
	EntryStopped   EntryKind = "gateway.stopped"     // it ended in order
	EntryRecovered EntryKind = "gateway.recovered"   // what a start found of a crash
	EntryConfig    EntryKind = "config.loaded"       // a configuration came into force
	EntryTested    EntryKind = "connection.tested"   // the gateway logged in to a target for an administrator
	EntrySecret    EntryKind = "connection.secret"   // a stored secret was set or removed
	EntryToken     EntryKind = "agent.token"         // a one-time token for an agent was given out
	EntryJoined    EntryKind = "agent.joined"        // an agent got its first certificate
	EntryRemoved   EntryKind = "agent.removed"       // agents are not let in any more
	EntryHeartbeat EntryKind = "ledger.heartbeat"    // nothing else was to be said for an hour
	EntryTurned    EntryKind = "session.turned-away" // a known caller was not let in
	EntryOpened    EntryKind = "session.opened"
	EntrySubmitted EntryKind = "operation.submitted" // the intent, durable before a byte is forwarded
	EntryInput     EntryKind = "operation.input"     // more of its input, durable before it is forwarded
	EntrySettled   EntryKind = "operation.settled"   // the outcome
	EntryAsked     EntryKind = "approval.requested"  // people are asked about a held operation, or about access
	EntryAnswered  EntryKind = "approval.answered"   // one of them answered
	EntryEnded     EntryKind = "approval.ended"      // it expired or was withdrawn
	EntryNotified  EntryKind = "approval.notified"   // people were told of it, or could not be
	EntryReleased  EntryKind = "operation.released"  // a held operation is let through, durable before a byte is forwarded
	EntryReceived  EntryKind = "session.received"    // the target sent something unasked
	EntryClosed    EntryKind = "session.closed"
	EntryErased    EntryKind = "recording.erased" // a session's key is destroyed, as soon as this is durable
	EntryHeld      EntryKind = "recording.held"   // a legal hold: until it is freed, a recording is not erased
	EntryFreed     EntryKind = "recording.freed"  // the legal hold is over
	EntryViewed    EntryKind = "recording.viewed" // somebody read a recording
	EntryIssued    EntryKind = "ticket.issued"    // a ticket is given for a token, as soon as this is durable
	EntryRevoked   EntryKind = "ticket.revoked"   // it is good for nothing any more
)

// Entry is one line of the ledger. Its JSON form is the leaf of the Merkle
// log; docs/formats/ledger.md specifies it. It never holds what may have to
// be erased: that is sealed, and cited by digest.
type Entry struct {
	Kind    EntryKind  `json:"kind"`
	At      time.Time  `json:"at"`
	Session SessionID  `json:"session,omitempty"`
	Opened  *Opened    `json:"opened,omitempty"`
	Submit  *Submitted `json:"submitted,omitempty"`
	Input   *Input     `json:"input,omitempty"`
	Settled *Settled   `json:"settled,omitempty"`
	Closed  *Closed    `json:"closed,omitempty"`
	// Approval is all of one that is requested; of one that is answered or
	// ended, its id, its state from then on, and the answer.
	Approval *Approval `json:"approval,omitempty"`
	Released *Released `json:"released,omitempty"`
	Notified *Notified `json:"notified,omitempty"`
	Note     *Note     `json:"note,omitempty"`
	Issued   *Issued   `json:"issued,omitempty"`
	// Attachment cites the bytes stored beside the leaf: sealed with the
	// session's key where a session is named, else in the clear.
	Attachment *Digest `json:"attachment,omitempty"`
}

// Digest cites bytes by their SHA-256, in hexadecimal, and their count.
type Digest struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Opened says who opened a session on what. In an entry of kind EntryTurned
// it says who was turned away, and Reason why.
type Opened struct {
	Caller     Principal         `json:"caller"`
	Connection string            `json:"connection"`
	Protocol   string            `json:"protocol"`
	Client     string            `json:"client"` // the client's address
	Asserted   map[string]string `json:"asserted,omitempty"`
	// Agent is the agent by which the target is reached; empty: the gateway
	// dials itself.
	Agent string `json:"agent,omitempty"`
	// Key is the SHA-256 of the session's recording key, in hexadecimal: it
	// commits to the key, so that sealed bytes have one reading only.
	Key    string `json:"key,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Submitted is the intent of one operation and the decision on it.
type Submitted struct {
	Class   string   `json:"class"`
	Verbs   []string `json:"verbs,omitempty"`
	Objects []string `json:"objects,omitempty"`
	Writes  bool     `json:"writes,omitempty"`
	// Digest is the SHA-256, in hexadecimal, of a 16-byte random salt and
	// the operation's AppendSealed form, which together are what the
	// attachment seals: it proves one statement without the session's key.
	Digest string `json:"digest"`
	Effect string `json:"effect"`
	Rule   string `json:"rule,omitempty"`
	Policy string `json:"policy,omitempty"`
	// Masks names the rules that hide a part of the answer, DryRun those in
	// dry-run that would have decided otherwise.
	Masks  []string `json:"masks,omitempty"`
	DryRun []string `json:"dry_run,omitempty"`
}

// Input is a further piece of an operation's input, such as rows of a COPY.
type Input struct {
	Operation uint64 `json:"operation"` // the entry of its intent
}

// State is how an operation ended.
type State string

// The states of an outcome. An operation without an outcome is unsettled.
const (
	StateOK          State = "ok"
	StateError       State = "error"       // the target answered with an error
	StateInterrupted State = "interrupted" // the line broke: the target may have done it or not
	StateSkipped     State = "skipped"     // the target skipped it after an earlier error
	StateNotSent     State = "not-sent"    // permitted, and no byte of it was forwarded
)

// Settled is the outcome of an operation.
type Settled struct {
	Operation uint64 `json:"operation"` // the entry of its intent
	State     State  `json:"state"`
	Code      string `json:"code,omitempty"` // SQLSTATE, HTTP status or the like
	Rows      int64  `json:"rows,omitempty"`
	Bytes     int64  `json:"bytes,omitempty"` // of the answer, as the caller saw it
	Masked    int64  `json:"masked,omitempty"`
	// Recording cites the file in which a large answer lies, sealed. A small
	// answer is this entry's attachment.
	Recording *Digest `json:"recording,omitempty"`
}

// Released says by which approval a held operation was let through.
type Released struct {
	Operation uint64 `json:"operation"` // the entry of its intent
	Approval  string `json:"approval"`
	// BreakGlass: nobody agreed to it.
	BreakGlass bool `json:"break_glass,omitempty"`
}

// Notified says over which channel people were told of an approval, or why
// they could not be.
type Notified struct {
	Approval string `json:"approval"`
	Channel  string `json:"channel"`
	// Event is what they were told: requested, break-glass, or a state.
	Event string `json:"event"`
	// Attempts is how often it was tried; Failed is why it was given up, or
	// empty: it was delivered.
	Attempts int    `json:"attempts"`
	Failed   string `json:"failed,omitempty"`
}

// Closed says how a session ended.
type Closed struct {
	Reason     string `json:"reason"`
	Operations int64  `json:"operations"`
}

// Issued says for whom a ticket was given. Of one that is revoked it has the
// SHA-256 only.
type Issued struct {
	// SHA256 is of the ticket, in hexadecimal. The ticket is 256 random bits: it
	// cannot be found from it.
	SHA256 string `json:"sha256"`
	// Caller is whom the ticket lets in, with what it is bound to, until Expires.
	Caller *Principal `json:"caller,omitempty"`
}

// Note is what entries of the gateway itself say.
type Note struct {
	By     string `json:"by,omitempty"`     // who, where a person did it
	Rule   string `json:"rule,omitempty"`   // by which rule or setting, where nobody did
	Text   string `json:"text,omitempty"`   // in words
	Digest string `json:"digest,omitempty"` // SHA-256 of what it is about, in hexadecimal
}

// ParseEntry reads a leaf. Unknown fields are ignored, so that an older
// reader reads a newer log.
func ParseEntry(leaf []byte) (*Entry, error) {
	e := new(Entry)
	if err := json.Unmarshal(leaf, e); err != nil {
		return nil, fmt.Errorf("parse ledger entry: %w", err)
	}
	return e, nil
}

// AppendJSON appends the leaf of e. The kinds that stand in the way of every
// operation are encoded by hand, without allocating; the others by
// encoding/json.
func (e *Entry) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"kind":`...)
	dst = appendString(dst, string(e.Kind))
	dst = append(dst, `,"at":"`...)
	dst = e.At.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000Z")
	dst = append(dst, '"')
	if e.Session != "" {
		dst = append(dst, `,"session":`...)
		dst = appendString(dst, string(e.Session))
	}
	if e.Submit != nil {
		dst = e.Submit.appendJSON(append(dst, `,"submitted":`...))
	}
	if e.Input != nil {
		dst = append(dst, `,"input":{"operation":`...)
		dst = strconv.AppendUint(dst, e.Input.Operation, 10)
		dst = append(dst, '}')
	}
	if e.Settled != nil {
		dst = e.Settled.appendJSON(append(dst, `,"settled":`...))
	}
	dst = appendRare(dst, "opened", e.Opened, e.Opened != nil)
	dst = appendRare(dst, "closed", e.Closed, e.Closed != nil)
	dst = appendRare(dst, "approval", e.Approval, e.Approval != nil)
	dst = appendRare(dst, "released", e.Released, e.Released != nil)
	dst = appendRare(dst, "notified", e.Notified, e.Notified != nil)
	dst = appendRare(dst, "note", e.Note, e.Note != nil)
	dst = appendRare(dst, "issued", e.Issued, e.Issued != nil)
	dst = appendDigest(dst, "attachment", e.Attachment)
	return append(dst, '}')
}

func (s *Submitted) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"class":`...)
	dst = appendString(dst, s.Class)
	dst = appendStrings(dst, "verbs", s.Verbs)
	dst = appendStrings(dst, "objects", s.Objects)
	if s.Writes {
		dst = append(dst, `,"writes":true`...)
	}
	dst = appendField(dst, "digest", s.Digest)
	dst = appendField(dst, "effect", s.Effect)
	dst = appendField(dst, "rule", s.Rule)
	dst = appendField(dst, "policy", s.Policy)
	dst = appendStrings(dst, "masks", s.Masks)
	dst = appendStrings(dst, "dry_run", s.DryRun)
	return append(dst, '}')
}

func (s *Settled) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"operation":`...)
	dst = strconv.AppendUint(dst, s.Operation, 10)
	dst = appendField(dst, "state", string(s.State))
	dst = appendField(dst, "code", s.Code)
	dst = appendCount(dst, "rows", s.Rows)
	dst = appendCount(dst, "bytes", s.Bytes)
	dst = appendCount(dst, "masked", s.Masked)
	dst = appendDigest(dst, "recording", s.Recording)
	return append(dst, '}')
}

func appendField(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return appendString(dst, value)
}

func appendCount(dst []byte, name string, n int64) []byte {
	if n == 0 {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return strconv.AppendInt(dst, n, 10)
}

func appendDigest(dst []byte, name string, d *Digest) []byte {
	if d == nil {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":{"sha256":`...)
	dst = appendString(dst, d.SHA256)
	dst = append(dst, `,"bytes":`...)
	dst = strconv.AppendInt(dst, d.Bytes, 10)
	return append(dst, '}')
}

func appendStrings(dst []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":[`...)
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, v)
	}
	return append(dst, ']')
}

// appendRare appends a field that is not worth encoding by hand.
func appendRare(dst []byte, name string, v any, present bool) []byte {
	if !present {
		return dst
	}
	b, err := json.Marshal(v)
	if err != nil {
		// Every type here is plain data: only a programming error gets here,
		// and an entry that cannot be written must not pass for written.
		panic(fmt.Sprintf("encode ledger entry field %s: %v", name, err))
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return append(dst, b...)
}

// appendString appends s as a JSON string (RFC 8259, section 7); bytes that
// are not UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			if c == '"' || c == '\\' {
				dst = append(dst, '\\', c)
			} else {
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\uFFFD"...)
			i++
			start = i
			continue
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
