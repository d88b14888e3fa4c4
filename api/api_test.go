package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/approval/notify"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/export/exporttest"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/recording"
	"github.com/custos-gateway/custos/store"
)

// tokens verifies made-up tokens: the caller's name is the token.
type tokens map[string]custos.Principal

func (t tokens) Verify(_ context.Context, token string) (*custos.Principal, error) {
	p, ok := t[token]
	if !ok {
		return nil, errors.New("verify token: it is not one")
	}
	return &p, nil
}

func person(name string, groups ...string) custos.Principal {
	return custos.Principal{Issuer: "https://id.test", Subject: "u-" + name, Name: name, Kind: custos.KindPerson, Groups: groups}
}

var callers = tokens{
	"ana": exporttest.Ana, "bob": exporttest.Bob, "skill": exporttest.Skill,
	"mallory":    person("mallory", "support"),
	"rita":       person("rita", "audit"),
	"reva":       person("reva", "reviewers"),
	"root":       person("root", "platform"),
	"lasting":    {Issuer: "https://id.test", Subject: "u-lasting", Name: "lasting", Expires: time.Now().Add(time.Hour)},
	"audit-bot":  {Issuer: "https://id.test", Subject: "bot", Name: "bot", Groups: []string{"audit", "platform"}, OnBehalfOf: &custos.Principal{Issuer: "https://id.test", Subject: "u-x"}},
	"other-ana":  {Issuer: "https://elsewhere.test", Subject: "u-ana", Name: "ana"},
	"named-like": {Issuer: "https://id.test", Subject: "u-z", Name: "ana"},
}

// stopped notes which sessions were ended.
type stopped map[custos.SessionID]error

func (s stopped) Stop(id custos.SessionID, cause error) bool {
	s[id] = cause
	return true
}

func (s stopped) StopAll(match func(*custos.Principal) bool, _ string, cause error) (ids []custos.SessionID, err error) {
	for _, p := range callers { // each has one
		if match(&p) {
			id := custos.SessionID(p.Issuer + p.Subject)
			s[id] = cause
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// gateway is the API over a real record.
type gateway struct {
	*exporttest.House
	t       *testing.T
	server  *httptest.Server
	index   *store.Index
	indexer *export.Indexer
	desk    *approval.Desk
	judged  custos.Decision // what is decided on what leave is asked for
	stopped stopped
	log     *bytes.Buffer
}

// renderText shows an answer's records as text.
func renderText(_ *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	for r, err := range recording.Records(records) {
		if err != nil {
			return err
		}
		if err := emit(&custos.Event{At: r.After.Microseconds(), Text: string(r.Bytes)}); err != nil {
			return err
		}
	}
	return nil
}

// noAgents is a gateway's without any.
type noAgents struct{ api.Agents }

// nothingKept keeps nobody's recordings: tests of what does are in server.
type nothingKept struct{ api.Keeping }

// noConnections is a gateway's without any.
type (
	noConnections struct{ api.Connections }
	noSkills      struct{ api.Skills }
)

// newGateway has nothing but a record, unless it is changed.
func newGateway(t *testing.T, change ...func(*api.Config)) *gateway {
	t.Helper()
	g := &gateway{House: exporttest.New(t), t: t, stopped: stopped{}, log: new(bytes.Buffer)}
	index, err := store.Open(filepath.Join(g.Dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(g.log, nil))
	g.index = index
	g.indexer = &export.Indexer{Ledger: g.Ledger, Recordings: g.Recordings, Index: index, Logger: logger}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.indexer.Run(ctx) }()
	bundles := &export.Evidence{Ledger: g.Ledger, Recordings: g.Recordings, Tiles: g.tiles(), PublicKey: g.PublicKey, TempDir: t.TempDir(), Now: g.Now}
	g.desk = approval.New(approval.Options{Ledger: g.Ledger, Now: g.Now, Reviewers: func() []string { return []string{"reviewers"} }}, nil)
	c := api.Config{
		Identifier: callers, Ledger: g.Ledger, Recordings: g.Recordings, Index: index, Tiles: g.tiles(), Sessions: g.stopped,
		Approvals: g.desk, Connections: noConnections{}, Skills: noSkills{}, Keeping: nothingKept{}, Agents: noAgents{}, Policies: rules{}, Browsers: browsers{}, PublicKey: g.PublicKey, Metrics: http.NotFoundHandler(),
		Enter: func(p *custos.Principal, connection string) custos.Decision {
			if connection != "orders" {
				return custos.Decision{Rule: "access", Reason: "no"}
			}
			return custos.Decision{Effect: custos.Allow}
		},
		Ask: func(_ context.Context, q gate.Question) (custos.Approval, custos.Decision, error) {
			return g.question(q)
		},
		Notices:    noNotices{},
		BreakGlass: func(p *custos.Principal, connection string) bool { return p.Subject == exporttest.Bob.Subject },
		Roles: func() config.Roles {
			return config.Roles{Reviewer: []string{"reviewers"}, Admin: []string{"platform"}, Auditor: []string{"audit"}}
		},
		Renderers: map[string]custos.Renderer{"postgres": renderText},
		Evidence: func(ctx context.Context, w io.Writer, by string, sessions []custos.SessionID, sealed bool) error {
			return bundles.Write(ctx, w, export.Selection{By: by, Sessions: sessions, Sealed: sealed})
		},
		Login:  func() api.Login { return api.Login{Issuer: "https://id.test", ClientID: "custos"} },
		Logger: logger, Now: g.Now,
	}
	for _, f := range change {
		f(&c)
	}
	h, err := api.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g.server = httptest.NewTLSServer(h)
	t.Cleanup(func() {
		g.server.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		index.Close()
	})
	return g
}

func (g *gateway) tiles() fs.FS { return os.DirFS(filepath.Join(g.Dir, "ledger")) }

// indexed waits until everything is indexed.
func (g *gateway) indexed() {
	g.t.Helper()
	if err := g.indexer.CaughtUp(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
}

// ask makes a request with a token; empty: none.
func (g *gateway) ask(method, path, token string) (int, http.Header, string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.server.URL+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := g.server.Client().Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func (g *gateway) client(token string) *api.Client {
	return &api.Client{URL: g.server.URL, HTTP: g.server.Client(), Token: func(context.Context) (string, error) { return token, nil }}
}

// views counts the entries that say who looked at a session.
func (g *gateway) views(id custos.SessionID) (by []string) {
	g.t.Helper()
	if err := g.Ledger.Scan(0, g.Ledger.Size(), func(_ uint64, leaf, _ []byte) error {
		e, err := custos.ParseEntry(leaf)
		if err == nil && e.Kind == custos.EntryViewed && e.Session == id {
			by = append(by, e.Note.By)
		}
		return err
	}); err != nil {
		g.t.Fatal(err)
	}
	return by
}

// Nobody without a valid token gets anything but the three public pages.
func TestEverythingButThreePagesNeedsAToken(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Ana)
	g.indexed()
	id := string(s.ID)
	for _, path := range []string{"/api/v1/whoami", "/api/v1/sessions", "/api/v1/sessions/" + id, "/api/v1/sessions/" + id + "/operations",
		"/api/v1/sessions/" + id + "/operations/1/answer", "/api/v1/sessions/" + id + "/replay", "/api/v1/sessions/" + id + "/tail",
		"/api/v1/search", "/api/v1/evidence?session=" + id, "/api/v1/ledger/checkpoint", "/api/v1/ledger/prove?entry=0",
		"/api/v1/ledger/entries", "/api/v1/ledger/tile/0/000"} {
		for _, token := range []string{"", "wrong", strings.Repeat("x", 17<<10)} {
			status, head, body := g.ask("GET", path, token)
			if status != http.StatusUnauthorized || !strings.HasPrefix(head.Get("WWW-Authenticate"), "Bearer") ||
				head.Get("Content-Type") != "application/problem+json" || strings.Contains(body, id) {
				t.Errorf("%s with a token of %d bytes: %d %q", path, len(token), status, body)
			}
		}
		if status, _, _ := g.ask("GET", path+"?access_token=ana", ""); status != http.StatusUnauthorized {
			t.Errorf("%s takes a token from its URL", path)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/.well-known/custos"} {
		if status, head, _ := g.ask("GET", path, ""); status != http.StatusOK || head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, status, head)
		}
	}
	if len(g.views(s.ID)) > 0 {
		t.Error("somebody without a token is on record as a viewer")
	}
}

// Who may see a session sees all of it; to all others it looks as if it were
// not there, word for word.
func TestOthersSessionsLookAbsent(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Skill) // on behalf of ana
	entry := s.Run("SELECT 1", "one")
	s.Close()
	g.indexed()
	absent := custos.NewSessionID()
	paths := func(id custos.SessionID) []string {
		base := "/api/v1/sessions/" + string(id)
		return []string{base, base + "/operations", base + "/operations/" + itoa(entry) + "/answer", base + "/operations/" + itoa(entry) + "/answer?raw=1",
			base + "/replay", base + "/tail", "/api/v1/evidence?session=" + string(id)}
	}
	may := map[string]bool{"skill": true, "ana": true, "rita": true, "root": true}
	for token := range callers {
		for i, path := range paths(s.ID) {
			status, _, body := g.ask("GET", path, token)
			if may[token] {
				// A session that has ended has no tail.
				if want := map[bool]int{true: http.StatusConflict, false: http.StatusOK}[strings.HasSuffix(path, "/tail")]; status != want {
					t.Errorf("%s %s: %d %s", token, path, status, body)
				}
				continue
			}
			otherStatus, _, otherBody := g.ask("GET", paths(absent)[i], token)
			if status != http.StatusNotFound || status != otherStatus || body != otherBody {
				t.Errorf("%s %s: %d %q; of one that is not there: %d %q", token, path, status, body, otherStatus, otherBody)
			}
		}
		for _, path := range []string{"/api/v1/sessions", "/api/v1/search?q=SELECT"} {
			_, _, body := g.ask("GET", path, token)
			if strings.Contains(body, string(s.ID)) != may[token] {
				t.Errorf("%s %s: %s", token, path, body)
			}
		}
		if status, _, _ := g.ask("GET", "/api/v1/ledger/prove?entry="+itoa(entry), token); (status == http.StatusOK) != may[token] {
			t.Errorf("%s proves: %d", token, status)
		}
		status, _, _ := g.ask("GET", "/api/v1/ledger/entries", token)
		if all := token == "rita" || token == "root"; (status == http.StatusOK) != all {
			t.Errorf("%s lists entries: %d", token, status)
		}
	}
	for _, by := range g.views(s.ID) {
		if by == "https://id.test|u-mallory" || by == "https://id.test|bot" {
			t.Errorf("%s is on record as a viewer", by)
		}
	}
}

func itoa(n uint64) string {
	return strings.TrimSpace(strings.Trim(string(must(json.Marshal(n))), `"`))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A replay gives everything in order, and who looked is on record before.
func TestReplayIsOnRecord(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Bob)
	first := s.Run("SELECT 1", "one", "two")
	refused := s.Submit("DROP TABLE t", custos.Refuse)
	copied := s.Submit("COPY t FROM STDIN", custos.Allow)
	s.Input(copied, "row\n")
	s.Settle(copied, nil)
	lost := s.Submit("SELECT lost", custos.Allow)
	s.Close()
	g.Session(exporttest.Ana).Run("SELECT other", "not bob's")
	g.indexed()

	var got []string
	for l, err := range g.client("bob").Replay(t.Context(), string(s.ID)) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case l.Session != nil:
			got = append(got, "session "+l.Session.Caller)
		case l.Operation != nil:
			got = append(got, itoa(l.Operation.Entry)+" "+l.Operation.Text+" "+l.Operation.Outcome)
		case l.Event != nil:
			got = append(got, itoa(l.Event.Operation)+" "+l.Event.Text)
		case l.Input != nil:
			got = append(got, itoa(l.Input.Operation)+" < "+string(l.Input.Data))
		case l.Settled != nil:
			got = append(got, itoa(l.Settled.Entry)+" "+l.Settled.Outcome)
		case l.End != nil:
			got = append(got, "end "+l.End.Reason)
		}
	}
	want := []string{"session bob", itoa(first) + " SELECT 1 ok", itoa(first) + " one", itoa(first) + " two",
		itoa(refused) + " DROP TABLE t refused",
		itoa(copied) + " COPY t FROM STDIN unsettled", itoa(copied) + " < row\n", itoa(copied) + " ok", itoa(lost) + " SELECT lost unsettled", "end closed"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if by := g.views(s.ID); len(by) != 1 || by[0] != "https://id.test|u-bob" {
		t.Errorf("viewers on record: %v", by)
	}
	if status, _, body := g.ask("GET", "/api/v1/sessions/"+string(s.ID)+"/operations/"+itoa(first)+"/answer?raw=1", "rita"); status != 200 || body != "onetwo" {
		t.Errorf("raw answer: %d %q", status, body)
	}
	if by := g.views(s.ID); len(by) != 2 || by[1] != "https://id.test|u-rita" {
		t.Errorf("viewers on record: %v", by)
	}
}

// With the ledger refusing, nobody is shown anything of a recording.
func TestNothingIsShownThatIsNotOnRecord(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Bob)
	entry := s.Run("SELECT 1", "the-answer")
	s.Close()
	g.indexed()
	g.House.Close()
	base := "/api/v1/sessions/" + string(s.ID)
	for _, path := range []string{base + "/replay", base + "/operations/" + itoa(entry) + "/answer", base + "/operations/" + itoa(entry) + "/answer?raw=1",
		"/api/v1/evidence?session=" + string(s.ID)} {
		status, _, body := g.ask("GET", path, "bob")
		if status < 500 || strings.Contains(body, "the-answer") || strings.Contains(body, "SELECT 1") {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
}

// A tail shows what happens while it happens, to the session's end.
func TestTailFollows(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Bob)
	g.indexed()
	var got []string
	step := 0
	for l, err := range g.client("bob").Tail(t.Context(), string(s.ID)) {
		if err != nil {
			t.Fatal(err)
		}
		// Each line that arrives makes the next thing happen.
		switch {
		case l.Session != nil:
			s.Run("SELECT 1", "one")
		case l.Operation != nil:
			got = append(got, l.Operation.Text)
		case l.Event != nil:
			got = append(got, l.Event.Text)
		case l.Settled != nil:
			got = append(got, l.Settled.Outcome)
			if step++; step == 1 {
				s.Run("SELECT 2", "two")
			} else {
				s.Close()
			}
		case l.End != nil:
			got = append(got, l.End.Reason)
		}
	}
	if want := "SELECT 1,one,ok,SELECT 2,two,ok,closed"; strings.Join(got, ",") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// One's own session, or as an admin anybody's; an auditor only looks.
func TestStop(t *testing.T) {
	for token, want := range map[string]int{"bob": 200, "root": 200, "rita": 403, "mallory": 404, "audit-bot": 404} {
		g := newGateway(t)
		s := g.Session(exporttest.Bob)
		g.indexed()
		status, _, body := g.ask("POST", "/api/v1/sessions/"+string(s.ID)+"/stop", token)
		if status != want {
			t.Errorf("%s: %d %s", token, status, body)
		}
		cause, ended := g.stopped[s.ID]
		if ended != (want == 200) {
			t.Errorf("%s: ended %v", token, ended)
		}
		if ended && !strings.Contains(cause.Error(), callers[token].Subject) {
			t.Errorf("%s: the cause does not say who: %v", token, cause)
		}
	}
}

func TestListsGoPageByPage(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Bob)
	for range 5 {
		s.Run("SELECT 1")
	}
	for range 4 {
		g.Session(exporttest.Bob).Close()
	}
	g.indexed()
	seen := map[custos.SessionID]bool{}
	pages := 0
	for cursor := ""; ; pages++ {
		status, _, body := g.ask("GET", "/api/v1/sessions?limit=2&cursor="+cursor, "bob")
		var page api.Page[store.Session]
		if err := json.Unmarshal([]byte(body), &page); err != nil || status != 200 || len(page.Items) > 2 {
			t.Fatalf("%d %s %v", status, body, err)
		}
		for _, item := range page.Items {
			seen[item.ID] = true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(seen) != 5 || pages != 2 {
		t.Errorf("%d sessions, %d further pages", len(seen), pages)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=x", "since=yesterday", "cursor=x"} {
		if status, _, body := g.ask("GET", "/api/v1/sessions?"+query, "bob"); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, _, body := g.ask("GET", "/api/v1/search?q=nofield:x", "bob"); status != http.StatusBadRequest || !strings.Contains(body, "nofield") {
		t.Errorf("a wrong query: %d %s", status, body)
	}
}

// Tiles hold hashes, and are everybody's; bundles of entries say who did
// what, and are the auditors'.
func TestTiles(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Bob)
	s.Run("SELECT 1", "one")
	if err := g.Ledger.Publish(); err != nil {
		t.Fatal(err)
	}
	size := itoa(g.Ledger.Size())
	for path, want := range map[string]map[string]int{
		"0/000.p/" + size:                    {"bob": 200, "rita": 200},
		"entries/000.p/" + size:              {"bob": 404, "rita": 200},
		"%2e%2e/checkpoint":                  {"bob": 404, "rita": 404},
		"..%2f..%2fkeys%2fledger.key":        {"bob": 404, "rita": 404},
		"./entries/000.p/" + size:            {"bob": 404},
		"0/../entries/000.p/" + size:         {"bob": 404},
		"0%2f..%2fentries%2f000.p%2f" + size: {"bob": 404, "rita": 404},
		"0":                                  {"bob": 404, "rita": 404},
	} {
		for token, status := range want {
			if got, _, body := g.ask("GET", "/api/v1/ledger/tile/"+path, token); got != status {
				t.Errorf("%s %s: %d, want %d (%d bytes)", token, path, got, status, len(body))
			}
		}
	}
	if status, _, body := g.ask("GET", "/api/v1/ledger/checkpoint", "bob"); status != 200 || !strings.HasPrefix(body, exporttest.Origin+"\n"+size+"\n") {
		t.Errorf("checkpoint: %d %q", status, body)
	}
}

// Of an erased session what the ledger says is shown, and nothing else.
func TestReplayOfAnErasedSession(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Bob)
	s.Run("SELECT secret-text", "secret-answer")
	s.Run("SELECT more", exporttest.Large())
	s.Close()
	if err := g.Recordings.Erase(s.ID); err != nil {
		t.Fatal(err)
	}
	g.Keep(&custos.Entry{Kind: custos.EntryErased, Session: s.ID}, nil)
	g.indexed()
	status, _, body := g.ask("GET", "/api/v1/sessions/"+string(s.ID)+"/replay", "bob")
	if status != 200 || strings.Contains(body, "secret") || strings.Count(body, `"operation":{`) != 2 || !strings.Contains(body, `"end":{"reason":"closed"}`) {
		t.Errorf("%d %s", status, body)
	}
}

// A recording that was changed ends the replay with an error, not with a part
// that passes for the whole.
func TestReplayOfADamagedRecording(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Bob)
	entry := s.Run("SELECT 1", exporttest.Large())
	s.Close()
	g.indexed()
	if err := os.Truncate(g.Recordings.Path(s.ID, entry), 100<<10); err != nil {
		t.Fatal(err)
	}
	var failed error
	for _, err := range g.client("bob").Replay(t.Context(), string(s.ID)) {
		failed = err
	}
	if failed == nil || !strings.Contains(failed.Error(), "ledger verify") {
		t.Errorf("the replay ended with %v", failed)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", g.server.URL+"/api/v1/sessions/"+string(s.ID)+"/operations/"+itoa(entry)+"/answer?raw=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer bob")
	resp, err := g.server.Client().Do(r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if err == nil && resp.StatusCode == http.StatusOK {
		t.Error("a part of the raw answer passed for the whole")
	}
}

// noNotices: nobody is told of anything.
type noNotices struct{ api.Notices }

func (noNotices) Undelivered() []notify.Undelivered { return nil }

func (noNotices) VerifySlack(context.Context, http.Header, []byte) error { return notify.ErrForged }
