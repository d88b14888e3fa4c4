// Package ticket gives short secrets of the gateway's own for tokens of
// issuers, where a client's password has no room for a token: OAuth 2.0 Token
// Exchange (RFC 8693) and Token Revocation (RFC 7009).
//
// A ticket lets its caller come to one connection until it expires. It buys no
// other ticket, and opens neither console nor API. What it was given for, and
// that it was revoked, lies in the ledger, with the SHA-256 of the ticket and
// without the ticket itself: there is no other place where tickets are kept,
// and a gateway that starts reads from there which are still good.
package ticket

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/identity"
)

// prefix begins every ticket, so that who comes across one sees what it is. A
// token of an issuer's can't begin so: it is base64url of a JSON object.
const prefix = "custos_"

// The random bytes of a ticket, and those of its check.
const (
	secretBytes = 32
	checkBytes  = 4
)

// Is reports whether a token has the look of a ticket.
func Is(token string) bool { return strings.HasPrefix(token, prefix) }

// write writes a ticket: 55 bytes.
func write(secret [secretBytes]byte) string {
	return prefix + base64.RawURLEncoding.EncodeToString(append(secret[:], check(secret[:])...))
}

// check tells a ticket that was cut or mistyped from one that is not good any
// more. It keeps nobody from making one up: that there is none does.
func check(secret []byte) []byte {
	sum := sha256.Sum256(append([]byte("custos ticket\n"), secret...))
	return sum[:checkBytes]
}

// whole reports whether a ticket is as write wrote it.
func whole(raw string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimPrefix(raw, prefix))
	return err == nil && len(b) == secretBytes+checkBytes && subtle.ConstantTimeCompare(b[secretBytes:], check(b[:secretBytes])) == 1
}

// Bounds on what is good at one time. A ticket counts until it expires, also
// when it was revoked, so that they bound how fast tickets are given, too.
const (
	maxTickets   = 10_000
	maxPerCaller = 100
)

// The errors of Issue by which it is bounded.
var (
	ErrFull    = errors.New("the gateway has given as many tickets as it may; try again in a few minutes")
	ErrTooMany = errors.New("you have as many tickets as one caller may; use one of them until it expires")
)

type hash = [sha256.Size]byte

// given is a ticket that was given. Of it only the state changes.
type given struct {
	caller  *custos.Principal
	revoked bool
	// unrecorded: it is revoked, and will not be after the next start.
	unrecorded bool
}

// whose counts tickets by caller, and by whom the caller acts for.
type whose struct{ issuer, subject, forIssuer, forSubject string }

func (g *given) whose() whose {
	w := whose{issuer: g.caller.Issuer, subject: g.caller.Subject}
	if of := g.caller.OnBehalfOf; of != nil {
		w.forIssuer, w.forSubject = of.Issuer, of.Subject
	}
	return w
}

// Book knows which tickets are good. It is safe for concurrent use.
type Book struct {
	now    func() time.Time
	record func(*custos.Entry) error

	mu    sync.Mutex
	all   map[hash]*given
	count map[whose]int
	swept time.Time
}

// NewBook returns a book without tickets. record puts an entry on record, and
// returns when it is durable.
func NewBook(now func() time.Time, record func(*custos.Entry) error) *Book {
	return &Book{now: now, record: record, all: map[hash]*given{}, count: map[whose]int{}}
}

// Entry takes what the ledger has from before, in its order.
func (b *Book) Entry(e *custos.Entry) {
	if e.Issued == nil {
		return
	}
	var h hash
	if len(e.Issued.SHA256) != hex.EncodedLen(len(h)) {
		return
	}
	if _, err := hex.Decode(h[:], []byte(e.Issued.SHA256)); err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch g := b.all[h]; {
	case e.Kind == custos.EntryRevoked && g != nil:
		g.revoked = true
	case e.Kind == custos.EntryIssued && g == nil && e.Issued.Caller != nil && e.Issued.Caller.Ticket != nil && b.now().Before(e.Issued.Caller.Expires):
		b.add(h, &given{caller: e.Issued.Caller})
	}
}

func (b *Book) add(h hash, g *given) {
	b.all[h] = g
	b.count[g.whose()]++
}

func (b *Book) drop(h hash, g *given) {
	delete(b.all, h)
	w := g.whose()
	if b.count[w]--; b.count[w] <= 0 {
		delete(b.count, w)
	}
}

// sweep drops what expired. The caller holds mu.
func (b *Book) sweep(now time.Time) {
	if now.Sub(b.swept) < time.Minute {
		return
	}
	b.swept = now
	for h, g := range b.all {
		if !now.Before(g.caller.Expires) {
			b.drop(h, g)
		}
	}
}

// Issue gives a ticket that lets caller come to a connection until
// caller.Expires, from one address, or from any if source is empty. That it is
// given is on record before it is: a crash in between leaves a ticket that
// nobody has. It fails with ErrFull or ErrTooMany, or if it can't be recorded.
func (b *Book) Issue(caller *custos.Principal, connection, source string) (raw string, as *custos.Principal, err error) {
	var secret [secretBytes]byte
	rand.Read(secret[:]) // never fails: crypto/rand ends the process instead
	raw = write(secret)
	h := sha256.Sum256([]byte(raw))
	digest := hex.EncodeToString(h[:])
	p := *caller
	p.Ticket = &custos.Ticket{ID: digest[:16], Connection: connection, Source: source}
	g := &given{caller: &p, revoked: true} // until it is on record
	if err := b.reserve(h, g); err != nil {
		return "", nil, err
	}
	err = b.record(&custos.Entry{Kind: custos.EntryIssued, Issued: &custos.Issued{SHA256: digest, Caller: &p}})
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.drop(h, g)
		return "", nil, err
	}
	g.revoked = false
	return raw, &p, nil
}

func (b *Book) reserve(h hash, g *given) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweep(b.now())
	switch {
	case len(b.all) >= maxTickets:
		return ErrFull
	case b.count[g.whose()] >= maxPerCaller:
		return ErrTooMany
	}
	b.add(h, g)
	return nil
}

// Verify returns whom a ticket lets in. It is looked up by its SHA-256: what
// time that takes says nothing of the tickets that there are. Every error is
// an *identity.Error.
func (b *Book) Verify(raw string) (*custos.Principal, error) {
	if !whole(raw) {
		return nil, &identity.Error{Code: identity.Malformed, Reason: "the ticket is not whole", Hint: "pass it exactly as the gateway gave it"}
	}
	h := sha256.Sum256([]byte(raw))
	b.mu.Lock()
	g := b.all[h]
	good := g != nil && !g.revoked && b.now().Before(g.caller.Expires)
	b.mu.Unlock()
	if !good {
		return nil, &identity.Error{Code: identity.Expired, Reason: "the ticket has expired, or was revoked",
			Hint: "get a new one, for example with: custos token --ticket --connection NAME"}
	}
	return g.caller, nil
}

// Revoke ends one ticket, and returns whom it let in, or nil if it was not
// good. by and why go on record.
func (b *Book) Revoke(raw, by, why string) (*custos.Principal, error) {
	h := sha256.Sum256([]byte(raw))
	b.mu.Lock()
	g := b.all[h]
	if g == nil || g.revoked && !g.unrecorded {
		b.mu.Unlock()
		return nil, nil
	}
	if by == "" {
		by = g.caller.Issuer + "|" + g.caller.Subject
	}
	b.mu.Unlock()
	return g.caller, b.revoke(h, g, by, why)
}

// RevokeAll ends the tickets of the callers that match. by and why go on
// record.
func (b *Book) RevokeAll(match func(*custos.Principal) bool, by, why string) error {
	found := map[hash]*given{}
	b.mu.Lock()
	for h, g := range b.all {
		if (!g.revoked || g.unrecorded) && match(g.caller) {
			found[h] = g
		}
	}
	b.mu.Unlock()
	var errs []error
	for h, g := range found {
		errs = append(errs, b.revoke(h, g, by, why))
	}
	return errors.Join(errs...)
}

// revoke ends a ticket at once, and for good when it is on record. A crash in
// between leaves the ticket good, and whoever asked without an answer.
func (b *Book) revoke(h hash, g *given, by, why string) error {
	b.mu.Lock()
	g.revoked = true
	b.mu.Unlock()
	err := b.record(&custos.Entry{Kind: custos.EntryRevoked, Issued: &custos.Issued{SHA256: hex.EncodeToString(h[:])}, Note: &custos.Note{By: by, Text: why}})
	b.mu.Lock()
	g.unrecorded = err != nil
	b.mu.Unlock()
	return err
}
