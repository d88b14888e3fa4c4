package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export/exporttest"
)

// doers notes who changed something.
type doers map[string]bool

type (
	doneConnections struct{ doers }
	doneSkills      struct{ doers }
	doneAgents      struct{ doers }
	doneKeeping     struct{ doers }
	doneNotices     struct{ noNotices }
)

func (d doers) did(by string) error { d[by] = true; return nil }

func (doneConnections) Visible(p *custos.Principal, all bool) []api.Connection {
	if !all && !p.InAny([]string{"dba"}) {
		return nil
	}
	return []api.Connection{{Name: "orders", Protocol: "postgres"}}
}
func (d doneConnections) Test(_ context.Context, by, _ string) error         { return d.did(by) }
func (d doneConnections) Put(by, _ string, _ []byte) error                   { return d.did(by) }
func (d doneConnections) Remove(by, _ string) error                          { return d.did(by) }
func (doneConnections) Definition(string) ([]byte, error)                    { return []byte("{}"), nil }
func (d doneConnections) SetSecret(_ context.Context, by, _, _ string) error { return d.did(by) }
func (d doneConnections) RemoveSecret(by, _ string) error                    { return d.did(by) }

func (doneSkills) List() []api.RegisteredSkill        { return []api.RegisteredSkill{{Name: "orders"}} }
func (d doneSkills) Put(by, _ string, _ []byte) error { return d.did(by) }
func (d doneSkills) Remove(by, _ string) error        { return d.did(by) }
func (doneAgents) List() []api.Agent                  { return nil }
func (d doneAgents) Remove(by, _, _ string) error     { return d.did(by) }
func (d doneAgents) Token(by, _ string, _ time.Duration) (api.AgentToken, error) {
	return api.AgentToken{}, d.did(by)
}
func (d doneKeeping) Erase(by string, _ custos.SessionID, _ string) error   { return d.did(by) }
func (d doneKeeping) Hold(by string, _ custos.SessionID, _ string) error    { return d.did(by) }
func (d doneKeeping) Release(by string, _ custos.SessionID, _ string) error { return d.did(by) }
func (doneNotices) Again() int                                              { return 0 }

// bodies are what routes are asked with, besides nothing.
var bodies = map[string]string{
	"POST /api/v1/sessions/stop":            `{"caller": "ana"}`,
	"POST /api/v1/sessions/{id}/erase":      `{"reason": "r"}`,
	"POST /api/v1/sessions/{id}/hold":       `{"reason": "r"}`,
	"POST /api/v1/sessions/{id}/release":    `{"reason": "r"}`,
	"POST /api/v1/approvals":                `{"connection": "orders", "statement": "x", "reason": "r"}`,
	"POST /api/v1/approvals/{id}/approve":   `{}`,
	"POST /api/v1/approvals/{id}/deny":      `{"reason": "r"}`,
	"POST /api/v1/approvals/{id}/revoke":    `{"reason": "r"}`,
	"PUT /api/v1/connections/{name}":        `{}`,
	"PUT /api/v1/connections/{name}/secret": `s`,
	"PUT /api/v1/skills/{name}":             `{}`,
	"POST /api/v1/agents/{name}/token":      `{"life": "15m"}`,
	"POST /api/v1/policies/explain":         `{"connection": "orders", "statement": "x"}`,
	"GET /api/v1/ledger/prove":              "?entry=0",
	"GET /api/v1/evidence":                  "?session={id}",
}

// whose are those who ask, in the columns of access: nobody; one without a role;
// the session's own caller; a reviewer, who is asked about the approval; an
// auditor; an administrator; and a program that was lent an administrator's and
// an auditor's groups.
var whose = []string{"", "mallory", "ana", "reva", "rita", "root", "audit-bot"}

var access = map[string]string{
	"GET /.well-known/custos":                             "200 200 200 200 200 200 200",
	"GET /api/v1/activity":                                "401 200 200 200 200 200 200",
	"GET /api/v1/agents":                                  "401 403 403 403 403 200 403",
	"DELETE /api/v1/agents/{name}":                        "401 403 403 403 403 200 403",
	"POST /api/v1/agents/{name}/token":                    "401 403 403 403 403 200 403",
	"GET /api/v1/approvals":                               "401 200 200 200 200 200 200",
	"POST /api/v1/approvals":                              "401 200 200 200 200 200 200",
	"GET /api/v1/approvals/undelivered":                   "401 403 403 403 200 200 403",
	"POST /api/v1/approvals/undelivered/again":            "401 403 403 403 403 200 403",
	"GET /api/v1/approvals/{id}":                          "401 404 200 200 200 200 404",
	"POST /api/v1/approvals/{id}/approve":                 "401 404 403 200 403 403 404",
	"GET /api/v1/approvals/{id}/background":               "401 404 403 200 200 200 404",
	"POST /api/v1/approvals/{id}/deny":                    "401 404 403 200 403 403 404",
	"POST /api/v1/approvals/{id}/revoke":                  "401 404 409 409 403 403 404",
	"GET /api/v1/connections":                             "401 200 200 200 200 200 200",
	"DELETE /api/v1/connections/{name}":                   "401 403 403 403 403 200 403",
	"GET /api/v1/connections/{name}":                      "401 404 200 404 404 200 404",
	"PUT /api/v1/connections/{name}":                      "401 403 403 403 403 200 403",
	"GET /api/v1/connections/{name}/definition":           "401 403 403 403 403 200 403",
	"DELETE /api/v1/connections/{name}/secret":            "401 403 403 403 403 200 403",
	"PUT /api/v1/connections/{name}/secret":               "401 403 403 403 403 200 403",
	"POST /api/v1/connections/{name}/test":                "401 403 403 403 403 200 403",
	"GET /api/v1/events":                                  "401 200 200 200 200 200 200",
	"GET /api/v1/evidence":                                "401 404 200 404 200 200 404",
	"GET /api/v1/ledger":                                  "401 200 200 200 200 200 200",
	"GET /api/v1/ledger/checkpoint":                       "401 200 200 200 200 200 200",
	"GET /api/v1/ledger/entries":                          "401 404 404 404 200 200 404",
	"GET /api/v1/ledger/prove":                            "401 404 200 404 200 200 404",
	"GET /api/v1/ledger/tile/{path}":                      "401 404 404 404 200 200 404",
	"POST /api/v1/notify/slack":                           "401 401 401 401 401 401 401",
	"GET /api/v1/openapi.json":                            "200 200 200 200 200 200 200",
	"GET /api/v1/policies":                                "401 403 403 200 200 200 403",
	"POST /api/v1/policies/explain":                       "401 403 403 200 200 200 403",
	"GET /api/v1/search":                                  "401 200 200 200 200 200 200",
	"GET /api/v1/sessions":                                "401 200 200 200 200 200 200",
	"POST /api/v1/sessions/stop":                          "401 403 200 403 403 200 403",
	"GET /api/v1/sessions/{id}":                           "401 404 200 404 200 200 404",
	"POST /api/v1/sessions/{id}/erase":                    "401 403 403 403 403 200 403",
	"POST /api/v1/sessions/{id}/hold":                     "401 403 403 403 403 200 403",
	"GET /api/v1/sessions/{id}/operations":                "401 404 200 404 200 200 404",
	"GET /api/v1/sessions/{id}/operations/{entry}/answer": "401 404 200 404 200 200 404",
	"POST /api/v1/sessions/{id}/release":                  "401 403 403 403 403 200 403",
	"GET /api/v1/sessions/{id}/replay":                    "401 404 200 404 200 200 404",
	"POST /api/v1/sessions/{id}/stop":                     "401 404 200 404 403 200 404",
	"GET /api/v1/sessions/{id}/tail":                      "401 404 409 404 409 409 404",
	"GET /api/v1/skills":                                  "401 403 403 403 403 200 403",
	"DELETE /api/v1/skills/{name}":                        "401 403 403 403 403 200 403",
	"GET /api/v1/skills/{name}":                           "401 403 403 403 403 200 403",
	"PUT /api/v1/skills/{name}":                           "401 403 403 403 403 200 403",
	"GET /api/v1/whoami":                                  "401 200 200 200 200 200 200",
	"GET /healthz":                                        "200 200 200 200 200 200 200",
	"GET /metrics":                                        "401 403 403 403 200 200 403",
	"GET /readyz":                                         "200 200 200 200 200 200 200",
}

// TestAccess asks every route that the document knows, as everybody. A session
// is ana's and has ended; an approval is hers and pending. 404 hides that there
// is something, and 409 says to those who may that its state does not allow it.
func TestAccess(t *testing.T) {
	done := doers{}
	g := newGateway(t, func(c *api.Config) {
		c.Connections, c.Skills, c.Agents, c.Keeping, c.Notices = doneConnections{done}, doneSkills{done}, doneAgents{done}, doneKeeping{done}, doneNotices{}
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") })
	})
	g.judged.Effect = custos.Approve
	s := g.Session(exporttest.Ana)
	entry := s.Run("SELECT 1", "one")
	s.Close()
	g.indexed()
	if err := g.Ledger.Publish(); err != nil {
		t.Fatal(err)
	}
	in := []string{"{id}", string(s.ID), "{entry}", itoa(entry), "{name}", "orders", "{path}", "entries/000.p/" + itoa(g.Ledger.Size())}
	_, _, text := g.ask("GET", "/api/v1/openapi.json", "")
	var document struct {
		Paths map[string]map[string]struct{}
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	served := 0
	for path, methods := range document.Paths {
		for method := range methods {
			pattern := strings.ToUpper(method) + " " + path
			served++
			want, ok := access[pattern]
			if !ok {
				t.Errorf("%s is not in access: say what each of %q gets of it", pattern, whose)
			}
			var got []string
			for _, token := range whose {
				got = append(got, g.request(pattern, token, in))
			}
			if g := strings.Join(got, " "); g != want {
				t.Errorf("%q: %q, // want %q", pattern, g, want)
			}
		}
	}
	if served != len(access) {
		t.Errorf("%d routes are served, and %d are in access", served, len(access))
	}
	if len(done) != 1 || !done["https://id.test|u-root"] {
		t.Errorf("something was changed by %v; only root may", done)
	}
	for _, by := range g.views(s.ID) {
		if by != "https://id.test|u-ana" && by != "https://id.test|u-rita" && by != "https://id.test|u-root" {
			t.Errorf("%s is on record as a viewer", by)
		}
	}
}

// request asks one route with in for its placeholders, as one caller, and returns
// the status.
func (g *gateway) request(pattern, token string, in []string) string {
	g.t.Helper()
	method, path, _ := strings.Cut(pattern, " ")
	body := bodies[pattern]
	if strings.HasPrefix(body, "?") {
		path, body = path+body, ""
	}
	if strings.Contains(path, "/approvals/{id}") {
		a, err := g.desk.Ask(custos.Approval{Digest: rand.Text(), Caller: exporttest.Ana, Connection: "orders", Rule: "r", Groups: []string{"reviewers"}}, 0)
		if err != nil {
			g.t.Fatal(err)
		}
		in = append([]string{"{id}", a.ID}, in...)
	}
	path = strings.NewReplacer(in...).Replace(path)
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.server.URL+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := g.server.Client().Do(r)
	if err != nil {
		g.t.Fatalf("%s as %q: %v", pattern, token, err)
	}
	resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}
