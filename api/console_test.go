package api_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/export/exporttest"
	"github.com/custos-gateway/custos/policy"
)

// rules are a gateway's, of which one is in dry-run.
type rules struct{}

func (rules) Rules() (string, []policy.Rule) {
	return "v7", []policy.Rule{
		{Name: "held", Then: "approve", When: "operation.writes", At: policy.Position{File: "custos.yaml", Line: 9}, Approvers: custos.Approvers{Groups: []string{"dba"}, Within: time.Minute}},
		{Name: "hide", Mask: []custos.Mask{{Columns: []string{"*.email"}, With: "partial"}}},
		{Name: "trial", Then: "refuse", DryRun: true},
	}
}

func (rules) Explain(p *custos.Principal, connection, statement string) (*custos.Operation, custos.Decision, []policy.Fired, error) {
	if connection != "orders" {
		return nil, custos.Decision{}, nil, errors.New("explain statement: there is no connection " + connection)
	}
	return &custos.Operation{Text: statement, Verbs: []string{"DELETE"}}, custos.Decision{Effect: custos.Approve, Rule: "held"},
		[]policy.Fired{{Rule: "held", Then: "approve", Matched: true, Decides: true, Why: string(p.Kind) + " " + strings.Join(p.Groups, ",")}}, nil
}

func TestPolicies(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Ana)
	s.Close()
	set, err := g.client("rita").Policies(t.Context())
	if err != nil || set.Version != "v7" || len(set.Rules) != 3 {
		t.Fatalf("%+v, %v", set, err)
	}
	if r := set.Rules[0]; r.At != "custos.yaml:9" || r.Then != "approve" || r.Approvers.Count != 1 || r.Approvers.Within != "1m0s" {
		t.Errorf("%+v", r)
	}
	if r := set.Rules[1]; r.Then != "mask" || r.Masks[0].With != "partial" || r.At != "" {
		t.Errorf("%+v", r)
	}
	if r := set.Rules[2]; !r.DryRun || r.Would != 0 {
		t.Errorf("%+v", r)
	}
	e, err := g.client("rita").Explain(t.Context(), api.Explaining{Connection: "orders", Statement: "DELETE FROM t", Groups: []string{"a", "b"}})
	if err != nil || e.Effect != "approve" || e.Rules[0].Why != "person a,b" || e.Effects == nil {
		t.Errorf("%+v, %v", e, err)
	}
	for _, q := range []api.Explaining{{Connection: "elsewhere", Statement: "x"}, {Connection: "orders", Statement: "x", Kind: "robot"}} {
		if _, err := g.client("rita").Explain(t.Context(), q); err == nil {
			t.Errorf("%+v is explained", q)
		}
	}
	// Rules say what is looked for: they are for those with a role, and for
	// nobody who acts for somebody.
	for _, who := range []string{"ana", "mallory", "audit-bot"} {
		if _, err := g.client(who).Policies(t.Context()); err == nil {
			t.Errorf("%s sees the rules", who)
		}
		if _, err := g.client(who).Explain(t.Context(), api.Explaining{Connection: "orders", Statement: "x"}); err == nil {
			t.Errorf("%s asks the rules", who)
		}
	}
}

func TestActivityAndLedgerState(t *testing.T) {
	g := newGateway(t)
	s := g.Session(exporttest.Ana)
	s.Run("SELECT 1", "one")
	s.Submit("DROP TABLE t", custos.Refuse)
	s.Close()
	g.Session(exporttest.Bob).Run("SELECT 2", "two")
	g.indexed()
	for who, want := range map[string][3]int{"rita": {2, 2, 1}, "ana": {1, 1, 1}, "bob": {1, 1, 0}, "mallory": {0, 0, 0}} {
		a, err := g.client(who).Activity(t.Context(), 24)
		if err != nil {
			t.Fatal(err)
		}
		var allowed, refused int64
		for _, s := range a.Spans {
			allowed, refused = allowed+s.Allowed, refused+s.Refused
		}
		if got := [3]int{len(a.Callers), int(allowed), int(refused)}; got != want || len(a.Spans) != 48 {
			t.Errorf("%s: %v, want %v, in %d parts", who, got, want, len(a.Spans))
		}
	}
	for _, hours := range []string{"0", "-1", "745", "x"} {
		if status, _, _ := g.ask("GET", "/api/v1/activity?hours="+hours, "rita"); status != http.StatusBadRequest {
			t.Errorf("%s hours: %d", hours, status)
		}
	}
	l, err := g.client("mallory").LedgerState(t.Context())
	if err != nil || l.PublicKey != g.PublicKey || l.Size == 0 || l.WitnessKeys == nil {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestEvents: who listens is told that there is something new, and not what.
func TestEvents(t *testing.T) {
	g := newGateway(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", g.server.URL+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer lasting")
	resp, err := g.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	next := func() (event, data string) {
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); {
			case name == "event":
				event = value
			case name == "data":
				data = value
			case event != "":
				return event, data
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return "", ""
	}
	// What came just before the stream was there is told of at its beginning.
	for _, want := range []string{"approvals", "ledger"} {
		if event, _ := next(); event != want {
			t.Errorf("at the beginning: %s, want %s", event, want)
		}
	}
	if _, err := g.desk.Ask(custos.Approval{Digest: "d", Caller: exporttest.Ana, Connection: "orders", Rule: "secret-rule"}, 0); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for len(seen) < 2 {
		event, data := next()
		seen[event] = data
	}
	if seen["approvals"] == "" || seen["ledger"] == "" || strings.Trim(seen["approvals"], "0123456789") != "" {
		t.Errorf("%v", seen)
	}
	// It ends with the caller's authority.
	if status, _, body := g.ask("GET", "/api/v1/events", "ana"); status != http.StatusOK || strings.Count(body, "event: ") > 2 {
		t.Errorf("of one whose token has expired: %d %q", status, body)
	}
}

// browsers knows one, who signed in.
type browsers struct{}

func (browsers) Caller(r *http.Request) (*custos.Principal, error) {
	if c, err := r.Cookie("session"); err != nil || c.Value != "rita" {
		return nil, errors.New("you are not signed in")
	}
	p := callers["rita"]
	return &p, nil
}

// TestBrowsers: a cookie is as good as a token, one of the two, and a token goes
// before it.
func TestBrowsers(t *testing.T) {
	g := newGateway(t)
	for _, c := range []struct{ cookie, token, name string }{
		{"session=rita", "", `"name":"rita"`},
		{"session=rita", "bob", `"name":"bob"`},
		{"session=rita", "wrong", ""},
		{"session=other", "", ""},
		{"other=rita", "", ""},
		{"", "", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", g.server.URL+"/api/v1/whoami", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.cookie != "" {
			r.Header.Set("Cookie", c.cookie)
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		resp, err := g.server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b := new(strings.Builder)
		bufio.NewReader(resp.Body).WriteTo(b)
		resp.Body.Close()
		if c.name == "" && resp.StatusCode != http.StatusUnauthorized || c.name != "" && !strings.Contains(b.String(), c.name) {
			t.Errorf("%+v: %d %s", c, resp.StatusCode, b)
		}
	}
}

// TestOwnApproval: who asked is told that it is theirs, and cannot answer it.
func TestOwnApproval(t *testing.T) {
	g := newGateway(t)
	a, err := g.desk.Ask(custos.Approval{Digest: "d", Caller: callers["root"], Connection: "orders", Rule: "r", Groups: []string{"platform", "audit"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	own, err := g.client("root").Approval(t.Context(), a.ID, 0)
	if err != nil || !own.Own || own.Answerable {
		t.Errorf("%+v, %v", own, err)
	}
	others, err := g.client("rita").Approval(t.Context(), a.ID, 0)
	if err != nil || others.Own || !others.Answerable {
		t.Errorf("%+v, %v", others, err)
	}
	if _, err := g.client("root").Answer(t.Context(), a.ID, true, ""); err == nil || !strings.Contains(err.Error(), approval.ErrOwn.Error()) {
		t.Errorf("%v", err)
	}
}
