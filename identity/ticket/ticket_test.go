package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/internal/oidctest"
)

// log is a ledger's entries, and may fail.
type log struct {
	mu      sync.Mutex
	entries []*custos.Entry
	err     error
}

func (l *log) record(e *custos.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.entries = append(l.entries, e)
	}
	return l.err
}

// again is a book as a gateway that starts reads it.
func (l *log) again(t *testing.T, now func() time.Time) *Book {
	t.Helper()
	b := NewBook(now, l.record)
	for _, e := range l.entries {
		parsed, err := custos.ParseEntry(e.AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		b.Entry(parsed)
	}
	return b
}

func person(subject string, expires time.Time) *custos.Principal {
	return &custos.Principal{Issuer: "https://id.example.com", Subject: subject, Name: subject, Kind: custos.KindPerson, Expires: expires}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestBook follows a ticket from its first entry to its last.
func TestBook(t *testing.T) {
	now := noon
	l := &log{}
	clock := func() time.Time { return now }
	b := NewBook(clock, l.record)
	raw, as, err := b.Issue(person("ana", noon.Add(time.Minute)), "orders", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 100 || !Is(raw) || as.Ticket.Connection != "orders" || !strings.HasPrefix(l.entries[0].Issued.SHA256, as.Ticket.ID) {
		t.Fatalf("%d bytes, %+v", len(raw), as.Ticket)
	}
	if strings.Contains(string(l.entries[0].AppendJSON(nil)), raw) {
		t.Fatal("the ticket is on record")
	}
	for _, book := range []*Book{b, l.again(t, clock)} {
		got, err := book.Verify(raw)
		if err != nil || got.Subject != "ana" || *got.Ticket != *as.Ticket {
			t.Fatalf("%+v, %v", got, err)
		}
		for _, other := range []string{raw[:len(raw)-1], raw + "=", raw + "\n", strings.ToLower(raw), "custos_", "custos_" + strings.Repeat("A", 48)} {
			if _, err := book.Verify(other); err == nil {
				t.Fatalf("%q is good", other)
			}
		}
	}
	now = noon.Add(time.Minute)
	for _, book := range []*Book{b, l.again(t, clock)} {
		if _, err := book.Verify(raw); identity.CodeOf(err) != identity.Expired {
			t.Fatal(err)
		}
	}
}

// TestRevoked shows that what cannot be recorded is revoked all the same, and
// that whoever asked is told, as often as it fails.
func TestRevoked(t *testing.T) {
	l := &log{}
	b := NewBook(func() time.Time { return noon }, l.record)
	raw, _, err := b.Issue(person("ana", noon.Add(time.Minute)), "orders", "")
	if err != nil {
		t.Fatal(err)
	}
	l.err = errors.New("no space left")
	for range 2 {
		if _, err := b.Revoke(raw, "", "lost"); err == nil {
			t.Fatal("nobody is told")
		}
		if _, err := b.Verify(raw); err == nil {
			t.Fatal("it is good")
		}
	}
	if _, _, err := b.Issue(person("ana", noon.Add(time.Minute)), "orders", ""); err == nil {
		t.Fatal("a ticket was given without a record")
	}
	l.err = nil
	if p, err := b.Revoke(raw, "", "lost"); err != nil || p == nil {
		t.Fatal(p, err)
	}
	if p, err := b.Revoke(raw, "", "lost"); err != nil || p != nil {
		t.Fatal(p, err)
	}
	if _, err := l.again(t, b.now).Verify(raw); err == nil {
		t.Fatal("it is good after a restart")
	}
	if last := l.entries[len(l.entries)-1]; len(l.entries) != 2 || last.Kind != custos.EntryRevoked || last.Note.By != "https://id.example.com|ana" {
		t.Fatalf("%d entries, the last %+v", len(l.entries), last)
	}
}

// TestRevokeAll ends the tickets of one caller, and of who acts for them.
func TestRevokeAll(t *testing.T) {
	l := &log{}
	b := NewBook(func() time.Time { return noon }, l.record)
	skill := person("skill", noon.Add(time.Hour))
	skill.OnBehalfOf = person("ana", noon.Add(time.Hour))
	good := map[string]bool{}
	for _, p := range []*custos.Principal{person("ana", noon.Add(time.Hour)), skill, person("bob", noon.Add(time.Hour))} {
		raw, _, err := b.Issue(p, "orders", "")
		if err != nil {
			t.Fatal(err)
		}
		good[raw] = p.Subject == "bob"
	}
	ana := person("ana", time.Time{})
	if err := b.RevokeAll(func(p *custos.Principal) bool { return p.Same(ana) || p.OnBehalfOf.Same(ana) }, "carol", "stopped"); err != nil {
		t.Fatal(err)
	}
	for raw, want := range good {
		if _, err := b.Verify(raw); (err == nil) != want {
			t.Errorf("want %v: %v", want, err)
		}
	}
}

// TestBounds shows that a revoked ticket makes no room for another, and an
// expired one does.
func TestBounds(t *testing.T) {
	now := noon
	b := NewBook(func() time.Time { return now }, (&log{}).record)
	for range maxPerCaller {
		raw, _, err := b.Issue(person("ana", now.Add(time.Minute)), "orders", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Revoke(raw, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := b.Issue(person("ana", now.Add(time.Minute)), "orders", ""); !errors.Is(err, ErrTooMany) {
		t.Fatal(err)
	}
	if _, _, err := b.Issue(person("bob", now.Add(time.Minute)), "orders", ""); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Minute)
	if _, _, err := b.Issue(person("ana", now.Add(time.Minute)), "orders", ""); err != nil {
		t.Fatal(err)
	}
	if len(b.all) != 1 || len(b.count) != 1 {
		t.Errorf("%d tickets and %d callers are kept", len(b.all), len(b.count))
	}
}

// office is a desk over a real provider.
type office struct {
	*Client
	provider *oidctest.Provider
	desk     *Desk
	now      time.Time
	stopped  int
}

func newOffice(t *testing.T) *office {
	p, err := oidctest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	o := &office{provider: p, now: time.Now()}
	clock := func() time.Time { return o.now }
	v, err := identity.New(identity.Options{Now: clock, Issuers: []identity.Issuer{{URL: p.URL, Audiences: []string{oidctest.Audience}, GroupsClaim: "groups", Algorithms: []string{"ES256"}}}})
	if err != nil {
		t.Fatal(err)
	}
	o.desk = NewDesk(Options{
		Book: NewBook(clock, (&log{}).record), Read: v.Read, Now: clock, Logger: slog.New(slog.DiscardHandler),
		Enter: func(p *custos.Principal, connection string) bool {
			return connection == "orders" && p.InAny([]string{"dba", "skills"})
		},
		ActsFor: func(actor, subject *custos.Principal) bool { return false },
		Life:    func() time.Duration { return 15 * time.Minute },
		Stop:    func(func(*custos.Principal) bool, error) { o.stopped++ },
	})
	mux := http.NewServeMux()
	o.desk.Register(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	o.Client = &Client{URL: s.URL, HTTP: s.Client()}
	return o
}

// TestForm holds the endpoint to RFC 6749, section 5.2, and RFC 8693, section
// 2.1: what is missing, there twice, or of no use here.
func TestForm(t *testing.T) {
	o := newOffice(t)
	good := url.Values{"grant_type": {GrantType}, "subject_token": {o.provider.Mint("ana")}, "subject_token_type": {JWT}, "audience": {"orders"}}
	for _, test := range []struct {
		name, value string
		want        string
	}{
		{"requested_token_type", AccessToken, ""},
		{"resource", "urn:custos:connection:orders", ""},
		{"resource", "orders", ""},
		{"client_id", "anybody", ""},
		{"source", "::1", ""},
		{"grant_type", "", "invalid_request"},
		{"grant_type", "authorization_code", "unsupported_grant_type"},
		{"subject_token", "", "invalid_request"},
		{"subject_token", "custos_x", "invalid_request"},
		{"subject_token", `not "a" token\`, "invalid_request"},
		{"subject_token", strings.Repeat("x", maxForm), "invalid_request"},
		{"subject_token_type", "urn:ietf:params:oauth:token-type:saml2", "invalid_request"},
		{"actor_token_type", JWT, "invalid_request"},
		{"requested_token_type", IDToken, "invalid_request"},
		{"scope", "admin", "invalid_scope"},
		{"audience", "", "invalid_target"},
		{"audience", "nowhere", "invalid_target"},
		{"resource", "urn:custos:connection:billing", "invalid_target"},
		{"source", "everywhere", "invalid_request"},
		{"skill_digest", "sha256:" + strings.Repeat("g", 64), "invalid_request"},
	} {
		form := url.Values{}
		for k, v := range good {
			form[k] = v
		}
		form.Set(test.name, test.value)
		code, answer := o.ask(t, TokenPath, form.Encode())
		if got, _ := answer["error"].(string); got != test.want || (code == http.StatusOK) != (test.want == "") {
			t.Errorf("%s=%.40q: %d %v, want %q", test.name, test.value, code, answer, test.want)
		}
		if text, _ := answer["error_description"].(string); strings.ContainsAny(text, "\"\\") {
			t.Errorf("%s=%.40q: %s has characters that section 5.2 forbids", test.name, test.value, text)
		}
	}
	for _, name := range []string{"subject_token", "audience", "grant_type"} {
		if code, answer := o.ask(t, TokenPath, good.Encode()+"&"+name+"=x"); code != http.StatusBadRequest || answer["error"] != "invalid_request" {
			t.Errorf("%s twice: %d %v", name, code, answer)
		}
	}
	// In the URL a token would be logged by whoever passes it on.
	if code, answer := o.ask(t, TokenPath+"?"+good.Encode(), ""); code != http.StatusBadRequest {
		t.Errorf("in the URL: %d %v", code, answer)
	}
}

func (o *office) ask(t *testing.T, path, form string) (int, map[string]any) {
	t.Helper()
	resp, err := o.HTTP.Post(o.URL+path, "application/x-www-form-urlencoded", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer := map[string]any{}
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be kept")
	}
	return resp.StatusCode, answer
}

// TestActors shows who may act for whom, and for how long.
func TestActors(t *testing.T) {
	o := newOffice(t)
	other, err := oidctest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	skill := func(options ...oidctest.MintOption) string { return o.provider.Mint(oidctest.SkillSubject, options...) }
	mayAct := func(claim any) oidctest.MintOption { return oidctest.Claim("may_act", claim) }
	sub := map[string]any{"sub": oidctest.SkillSubject}
	for name, test := range map[string]struct {
		subject, actor string
		ok             bool
	}{
		"named":                  {o.provider.Mint("ana", mayAct(sub)), skill(), true},
		"named with its issuer":  {o.provider.Mint("ana", mayAct(map[string]any{"sub": oidctest.SkillSubject, "iss": o.provider.URL})), skill(), true},
		"not named":              {o.provider.Mint("ana"), skill(), false},
		"another is named":       {o.provider.Mint("ana", mayAct(map[string]any{"sub": "skill:other"})), skill(), false},
		"of another issuer":      {o.provider.Mint("ana", mayAct(map[string]any{"sub": oidctest.SkillSubject, "iss": "https://elsewhere"})), skill(), false},
		"no issuer at all":       {o.provider.Mint("ana", mayAct(map[string]any{"sub": oidctest.SkillSubject, "iss": 7})), skill(), false},
		"named by more":          {o.provider.Mint("ana", mayAct(map[string]any{"sub": oidctest.SkillSubject, "aud": "billing"})), skill(), false},
		"a list":                 {o.provider.Mint("ana", mayAct([]any{sub})), skill(), false},
		"swapped":                {skill(), o.provider.Mint("ana", mayAct(sub)), false},
		"oneself":                {skill(mayAct(sub)), skill(), false},
		"on behalf already":      {o.provider.Mint("ana", mayAct(sub)), skill(oidctest.OnBehalfOf("bob")), false},
		"the subject is expired": {o.provider.Mint("ana", mayAct(sub), oidctest.Lifetime(-time.Hour)), skill(), false},
		"the actor is expired":   {o.provider.Mint("ana", mayAct(sub)), skill(oidctest.Lifetime(-time.Hour)), false},
		"the actor is another's": {o.provider.Mint("ana", mayAct(sub)), other.Mint(oidctest.SkillSubject), false},
		"another's audience":     {o.provider.Mint("ana", mayAct(sub), oidctest.Claim("aud", "billing")), skill(), false},
		"the subject may not":    {o.provider.Mint("bob", mayAct(sub)), skill(), false},
	} {
		answer, err := o.Exchange(context.Background(), Wanted{Subject: test.subject, Actor: test.actor, Connection: "orders"})
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !test.ok {
			continue
		}
		got, err := o.desk.Book.Verify(answer.AccessToken)
		if err != nil || got.Subject != oidctest.SkillSubject || got.OnBehalfOf == nil || got.OnBehalfOf.Subject != "ana" || !got.InAny([]string{"skills"}) || got.InAny([]string{"dba"}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	// The ticket ends with the human's token, though the skill's goes on.
	answer, err := o.Exchange(context.Background(), Wanted{Subject: o.provider.Mint("ana", mayAct(sub), oidctest.Lifetime(time.Minute)), Actor: skill(), Connection: "orders"})
	if err != nil || answer.ExpiresIn > 60 {
		t.Fatal(answer, err)
	}
	o.now = o.now.Add(2 * time.Minute)
	if _, err := o.desk.Book.Verify(answer.AccessToken); err == nil {
		t.Error("the ticket outlives the token of whom it acts for")
	}
}

// TestGiveBack revokes over HTTP (RFC 7009).
func TestGiveBack(t *testing.T) {
	o := newOffice(t)
	answer, err := o.Exchange(context.Background(), Wanted{Subject: o.provider.Mint("ana"), Connection: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do, which is no error
		if err := o.Revoke(context.Background(), answer.AccessToken); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.desk.Book.Verify(answer.AccessToken); err == nil || o.stopped != 1 {
		t.Errorf("%v; its sessions were ended %d times", err, o.stopped)
	}
	if code, answer := o.ask(t, RevokePath, url.Values{"token": {o.provider.Mint("ana")}}.Encode()); code != http.StatusBadRequest || answer["error"] != "unsupported_token_type" {
		t.Error(code, answer)
	}
}

// TestBusy refuses what is more than is answered at one time.
func TestBusy(t *testing.T) {
	o := newOffice(t)
	for range maxAtOnce {
		o.desk.slots <- struct{}{}
	}
	if code, answer := o.ask(t, TokenPath, "grant_type=x"); code != http.StatusTooManyRequests || answer["error"] != "temporarily_unavailable" {
		t.Error(code, answer)
	}
}

func BenchmarkVerify(b *testing.B) {
	book := NewBook(time.Now, (&log{}).record)
	raw, _, err := book.Issue(person("ana", time.Now().Add(time.Hour)), "orders", "")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := book.Verify(raw); err != nil {
			b.Fatal(err)
		}
	}
}
