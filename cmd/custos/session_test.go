package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

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

// callersByToken takes a caller's name for a token.
type callersByToken map[string]custos.Principal

func (c callersByToken) Verify(_ context.Context, token string) (*custos.Principal, error) {
	p, ok := c[token]
	if !ok {
		return nil, errors.New("verify token: it is not one; get a new one with: custos login")
	}
	return &p, nil
}

type nothingOpen struct{}

func (nothingOpen) Stop(custos.SessionID, error) bool { return false }

func (nothingOpen) StopAll(func(*custos.Principal) bool, string, error) ([]custos.SessionID, error) {
	return nil, nil
}

// desk is a person's desk: a gateway's API to ask, and the command line.
type desk struct {
	*exporttest.House
	t     *testing.T
	url   string
	ca    string
	token string
	index *export.Indexer
}

func answerAsText(_ *custos.Operation, records io.Reader, emit func(*custos.Event) error) error {
	for r, err := range recording.Records(records) {
		if err != nil {
			return err
		}
		text := string(r.Bytes)
		if err := emit(&custos.Event{At: r.After.Microseconds(), Row: []*string{&text, nil}}); err != nil {
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
	noPolicies    struct{ api.Policies }
)

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{House: exporttest.New(t), t: t, token: "ana"}
	index, err := store.Open(filepath.Join(d.Dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	d.index = &export.Indexer{Ledger: d.Ledger, Recordings: d.Recordings, Index: index, Logger: logger}
	tiles := os.DirFS(filepath.Join(d.Dir, "ledger"))
	bundles := &export.Evidence{Ledger: d.Ledger, Recordings: d.Recordings, Tiles: tiles, PublicKey: d.PublicKey, TempDir: t.TempDir(), Now: d.Now}
	desk := approval.New(approval.Options{Ledger: d.Ledger, Now: d.Now}, nil)
	h, err := api.New(api.Config{
		PublicKey: d.PublicKey, Policies: noPolicies{}, Approvals: desk, Connections: noConnections{}, Skills: noSkills{}, Keeping: nothingKept{}, Agents: noAgents{}, Metrics: http.NotFoundHandler(), Enter: func(*custos.Principal, string) custos.Decision { return custos.Decision{} },
		Ask:        func(context.Context, gate.Question) (custos.Approval, custos.Decision, error) { panic("nobody asks") },
		Notices:    noNotices{},
		BreakGlass: func(*custos.Principal, string) bool { return false },
		Identifier: callersByToken{"ana": exporttest.Ana, "bob": exporttest.Bob}, Ledger: d.Ledger, Recordings: d.Recordings, Index: index,
		Tiles: tiles, Sessions: nothingOpen{}, Roles: func() config.Roles { return config.Roles{} },
		Renderers: map[string]custos.Renderer{"postgres": answerAsText},
		Evidence: func(ctx context.Context, w io.Writer, by string, sessions []custos.SessionID, sealed bool) error {
			return bundles.Write(ctx, w, export.Selection{By: by, Sessions: sessions, Sealed: sealed})
		},
		Login: func() api.Login { return api.Login{} }, Logger: logger, Now: d.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(h)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.index.Run(ctx); close(done) }()
	t.Cleanup(func() {
		server.Close()
		cancel()
		<-done
		index.Close()
	})
	d.url = server.URL
	d.ca = d.file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return d
}

func (d *desk) file(name string, content []byte) string {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// custos runs a command line.
func (d *desk) custos(args ...string) (code int, stdout, stderr string) {
	d.t.Helper()
	if err := d.index.CaughtUp(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	var out, errs bytes.Buffer
	d.t.Setenv("CUSTOS_TOKEN", d.token)
	d.t.Setenv("CUSTOS_URL", d.url)
	d.t.Setenv("CUSTOS_CA", d.ca)
	code = run(d.t.Context(), &globals{stdin: strings.NewReader(""), stdout: &out, stderr: &errs}, args)
	return code, out.String(), errs.String()
}

// done runs a command line that must succeed, and returns what it printed.
func (d *desk) done(args ...string) string {
	d.t.Helper()
	code, out, errs := d.custos(args...)
	if code != 0 {
		d.t.Fatalf("custos %s: status %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// masked puts names in the place of what differs from run to run.
func masked(s *exporttest.Session, out string) string {
	out = strings.ReplaceAll(out, string(s.ID), "SESSION")
	return regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`).ReplaceAllString(out, "TIME")
}

const nasty = "SELECT '\x1b[2J\x1b]0;owned\x07\u202e'\n  FROM t"

func TestSessionCommandsShowWhatWasRun(t *testing.T) {
	d := newDesk(t)
	s := d.Session(exporttest.Skill)
	s.Run(nasty, "one\x1b[31m", "two")
	s.Submit("DROP TABLE t", custos.Refuse)
	s.Close()
	d.Session(exporttest.Bob).Run("SELECT not ana's", "x")
	id := string(s.ID)

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"session", "list"},
			"ID                          STARTED              CALLER                  CONNECTION  STATE   OPERATIONS\n" +
				id + "  TIME  skill:reporter for ana  orders      closed  2\n"},
		{[]string{"session", "show", id},
			"session     SESSION\ncaller      skill:reporter for ana\nconnection  orders (postgres)\nstarted     TIME\nended       TIME\nstate       closed\nbecause     closed\n\n" +
				"ENTRY  AT                   DECISION          OUTCOME  ROWS  BYTES  STATEMENT\n" +
				"1      TIME  allow             ok       1     11 B   SELECT '\\x1b[2J\\x1b]0;owned\\x07\\u202e'\\n  FROM t\n" +
				"3      TIME  refuse by access  refused  0     0 B    DROP TABLE t\n"},
		{[]string{"session", "replay", "--no-wait", id},
			"session     SESSION\ncaller      skill:reporter for ana\nconnection  orders (postgres)\nstarted     TIME\nended       TIME\nstate       closed\nbecause     closed\n\n" +
				"TIME  entry 1  allow by access\n=> SELECT '\\x1b[2J\\x1b]0;owned\\x07\\u202e'\n     FROM t\n" +
				"  one\\x1b[31m | null\n  two | null\n-- ok\n\n" +
				"TIME  entry 3  refuse by access\n=> DROP TABLE t\n-- refused\n\n-- the session ended: closed\n"},
		{[]string{"search", "drop"},
			"ENTRY  AT                   CALLER                  CONNECTION  OUTCOME  SESSION                     STATEMENT\n" +
				"3      TIME  skill:reporter for ana  orders      refused  " + id + "  DROP TABLE t\n"},
	} {
		want := strings.ReplaceAll(c.want, id, "SESSION")
		if got := masked(s, d.done(c.args...)); got != want {
			t.Errorf("custos %s:\n%s\nwant\n%s", strings.Join(c.args, " "), got, want)
		}
	}
	for _, args := range [][]string{{"session", "list"}, {"session", "show", id}, {"session", "replay", id}, {"session", "export", id},
		{"search", "select"}, {"session", "export", id, "--format", "csv"}, {"session", "export", id, "--format", "html"}} {
		if args[1] != "export" {
			args = append(args, "--json")
		}
		out := d.done(args...)
		csv := len(args) > 4 && args[4] == "csv" // a file for programs: it is not changed
		if !csv && strings.ContainsAny(out, "\x1b\x07\u202e") {
			t.Errorf("custos %s prints what a terminal acts upon", strings.Join(args, " "))
		}
		if strings.Contains(out, "not ana's") {
			t.Errorf("custos %s shows bob's session to ana", strings.Join(args, " "))
		}
	}
}

func TestSessionCommandsGiveJSON(t *testing.T) {
	d := newDesk(t)
	s := d.Session(exporttest.Ana)
	s.Run(nasty, "one")
	var list []store.Session
	if err := json.Unmarshal([]byte(d.done("session", "list", "--json")), &list); err != nil || len(list) != 1 || list[0].ID != s.ID {
		t.Errorf("session list: %v, %v", list, err)
	}
	var show struct {
		ID         custos.SessionID
		Operations []store.Operation
	}
	if err := json.Unmarshal([]byte(d.done("session", "show", string(s.ID), "--json")), &show); err != nil || len(show.Operations) != 1 || show.Operations[0].Text != nasty {
		t.Errorf("session show: %+v, %v", show, err)
	}
	var found []store.Operation
	if err := json.Unmarshal([]byte(d.done("search", "--json", "verb:select", "table:customers")), &found); err != nil || len(found) != 1 || found[0].Session != s.ID {
		t.Errorf("search: %+v, %v", found, err)
	}
	if out := d.done("search", "--json", "nothing-of-it"); strings.TrimSpace(out) != "[]" {
		t.Errorf("an empty search gives %q", out)
	}
}

func TestLedgerAndEvidenceCommands(t *testing.T) {
	d := newDesk(t)
	s := d.Session(exporttest.Ana)
	entry := s.Run("SELECT 1", exporttest.Large())
	s.Close()
	key := d.file("ledger.pub", []byte(d.PublicKey+"\n"))
	bundle := filepath.Join(t.TempDir(), "case.tar.gz")

	d.done("evidence", "export", "--session", string(s.ID), "--out", bundle)
	if out := d.done("evidence", "verify", bundle, "--key", key); !strings.Contains(out, "complete: all 1 operations") {
		t.Errorf("evidence verify: %s", out)
	}
	b, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if code, _, errs := d.custos("evidence", "verify", d.file("bad.tar.gz", b), "--key", key); code != exitDamage || !strings.Contains(errs, "does not hold") {
		t.Errorf("a changed bundle: status %d, %s", code, errs)
	}
	if code, _, _ := d.custos("evidence", "verify", bundle); code != exitUsage {
		t.Errorf("without a key: status %d", code)
	}
	if out := d.done("ledger", "checkpoint"); !strings.HasPrefix(out, exporttest.Origin+"\n") {
		t.Errorf("ledger checkpoint: %s", out)
	}
	proof := d.done("ledger", "prove", strconv.FormatUint(entry, 10))
	if offline := d.done("ledger", "prove", "--data-dir", d.Dir, strconv.FormatUint(entry, 10)); offline != proof {
		t.Errorf("offline:\n%s\nasked:\n%s", offline, proof)
	}
	d.House.Close()
	if out := d.done("ledger", "verify", "--data-dir", d.Dir, "--key", key, "--heartbeat", "20000h"); !strings.Contains(out, "1 recordings are as they were written") {
		t.Errorf("ledger verify: %s", out)
	}
	if err := os.Truncate(d.Recordings.Path(s.ID, entry), 100); err != nil {
		t.Fatal(err)
	}
	code, out, _ := d.custos("ledger", "verify", "--data-dir", d.Dir, "--json")
	var report export.StoreReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitDamage || report.OK || len(report.Damage) != 1 {
		t.Errorf("after a cut: status %d, %s, %v", code, out, err)
	}
}

func TestWrongUseSaysWhatToDo(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"session", "show"}, exitUsage, "session list"},
		{[]string{"session", "show", "../../etc"}, exitUsage, "session list"},
		{[]string{"session", "show", string(custos.NewSessionID())}, exitFailed, "session list"},
		{[]string{"session", "list", "--since", "soon"}, exitUsage, "24h"},
		{[]string{"session", "replay", "--speed", "0", string(custos.NewSessionID())}, exitUsage, "--speed"},
		{[]string{"search"}, exitUsage, "--help"},
		{[]string{"search", "nofield:x"}, exitFailed, "fields are"},
		{[]string{"ledger", "verify"}, exitUsage, "--data-dir"},
		{[]string{"ledger", "prove", "x"}, exitUsage, "number"},
		{[]string{"evidence", "export", "--out", "x"}, exitUsage, "--session"},
		{[]string{"--url", "http://127.0.0.1:1", "session", "list"}, exitUsage, "https://"},
		{[]string{"ledger", "witness"}, exitUsage, "--name"},
		{[]string{"ledger", "witness", "--name", "w", "--log-vkey", d.PublicKey, "--listen", ":0"}, exitUsage, "--tls-cert"},
	} {
		code, _, errs := d.custos(c.args...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("custos %s: status %d, %s", strings.Join(c.args, " "), code, errs)
		}
	}
	d.token = "mallory"
	if code, _, errs := d.custos("session", "list"); code != exitRefused || !strings.Contains(errs, "custos login") {
		t.Errorf("a wrong token: status %d, %s", code, errs)
	}
	d.token, d.ca = "ana", ""
	if code, _, errs := d.custos("session", "list"); code != exitFailed || !strings.Contains(errs, "--ca") {
		t.Errorf("an unknown CA: status %d, %s", code, errs)
	}
}

// noNotices: nobody is told of anything.
type noNotices struct{ api.Notices }

func (noNotices) Undelivered() []notify.Undelivered { return nil }

func (noNotices) VerifySlack(context.Context, http.Header, []byte) error { return notify.ErrForged }
