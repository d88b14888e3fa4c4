package api_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/export/exporttest"
	"github.com/custos-gateway/custos/gate"
)

// question does with leave that is asked for what a session of the gate's does.
func (g *gateway) question(q gate.Question) (custos.Approval, custos.Decision, error) {
	switch g.judged.Effect {
	case custos.Allow:
		return custos.Approval{}, g.judged, nil
	case custos.Refuse:
		return custos.Approval{}, g.judged, &custos.Refusal{Decision: g.judged, Recorded: true}
	}
	a, err := g.desk.Ask(custos.Approval{Digest: custos.BindingDigest(q.Caller, q.Connection, "", &custos.Operation{Text: q.Statement}), Caller: *q.Caller, Connection: q.Connection, Rule: g.judged.Rule, Purpose: q.Purpose,
		Estimate: &custos.Estimate{Rows: 4711}}, 0)
	return a, g.judged, err
}

func status(err error) int {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p.Status
	}
	if err != nil {
		return -1
	}
	return http.StatusOK
}

// TestAsking has leave be asked for in every way, by people who may and who may
// not.
func TestAsking(t *testing.T) {
	statement := api.Asking{Connection: "orders", Statement: "DELETE FROM t", Reason: "r"}
	for name, test := range map[string]struct {
		who    string
		judged custos.Effect
		q      api.Asking
		want   int
		state  string
	}{
		"a statement that is held":     {"ana", custos.Approve, statement, 200, "pending"},
		"one that is allowed":          {"ana", custos.Allow, statement, 200, api.StateAllowed},
		"one that is refused":          {"ana", custos.Refuse, statement, 403, ""},
		"without a reason":             {"ana", custos.Approve, api.Asking{Connection: "orders", Statement: "x"}, 400, ""},
		"no access":                    {"ana", custos.Approve, api.Asking{Connection: "hr", Statement: "x", Reason: "r"}, 403, ""},
		"a statement and access":       {"ana", custos.Approve, api.Asking{Connection: "orders", Statement: "x", For: "1h", Reason: "r"}, 400, ""},
		"access":                       {"ana", 0, api.Asking{Connection: "orders", For: "1h", Effects: []string{"ddl"}, Reason: "r"}, 200, "pending"},
		"access for too long":          {"ana", 0, api.Asking{Connection: "orders", For: "25h", Reason: "r"}, 400, ""},
		"access for no time":           {"ana", 0, api.Asking{Connection: "orders", Reason: "r"}, 400, ""},
		"an effect that is none":       {"ana", 0, api.Asking{Connection: "orders", For: "1h", Effects: []string{"magic"}, Reason: "r"}, 400, ""},
		"glass that a rule allows":     {"bob", 0, api.Asking{Connection: "orders", For: "1h", BreakGlass: true, Reason: "r"}, 200, "approved"},
		"glass for too long":           {"bob", 0, api.Asking{Connection: "orders", For: "2h", BreakGlass: true, Reason: "r"}, 400, ""},
		"glass that no rule allows":    {"ana", 0, api.Asking{Connection: "orders", For: "1h", BreakGlass: true, Reason: "r"}, 403, ""},
		"a reason that is a long text": {"ana", 0, api.Asking{Connection: "orders", For: "1h", Reason: strings.Repeat("r", 1001)}, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t)
			g.judged = custos.Decision{Effect: test.judged, Rule: "writes", Reason: "no"}
			a, err := g.client(test.who).Request(t.Context(), test.q)
			if got := status(err); got != test.want || a.State != test.state {
				t.Errorf("%d %q: %v", got, a.State, err)
			}
			all, _ := g.desk.List()
			if filed := test.state == "pending" || test.state == "approved"; filed != (len(all) == 1) {
				t.Errorf("%d are on the desk", len(all))
			}
		})
	}
}

// TestEstimateIsForReviewers shows how much a statement would change to those
// who are asked, and not to who asks: it would tell of values that are hidden
// from them.
func TestEstimateIsForReviewers(t *testing.T) {
	g := newGateway(t)
	g.judged.Effect = custos.Approve
	asked, err := g.client("skill").Request(t.Context(), api.Asking{Connection: "orders", Statement: "x", Reason: "r"})
	if err != nil || asked.Estimate != nil {
		t.Fatalf("%+v, %v", asked.Estimate, err)
	}
	for who, want := range map[string]bool{"skill": false, "ana": false, "rita": true, "root": true} {
		a, err := g.client(who).Approval(t.Context(), asked.ID, 0)
		if err != nil || (a.Estimate != nil) != want {
			t.Errorf("%s is shown %+v, %v", who, a.Estimate, err)
		}
		_, err = g.client(who).Background(t.Context(), asked.ID)
		if (err == nil) != want {
			t.Errorf("%s, of the background: %v", who, err)
		}
	}
	if _, err := g.client("mallory").Background(t.Context(), asked.ID); status(err) != 404 {
		t.Errorf("who has nothing to do with it: %v", err)
	}
}

// TestStopAll ends the sessions of a caller, and of who acts for them.
func TestStopAll(t *testing.T) {
	ana, bob := exporttest.Ana, exporttest.Bob
	id := func(p custos.Principal) custos.SessionID { return custos.SessionID(p.Issuer + p.Subject) }
	for name, test := range map[string]struct {
		who, caller string
		want        []custos.SessionID
		status      int
	}{
		"an admin, by identity":   {"root", ana.Issuer + "|" + ana.Subject, []custos.SessionID{id(ana), id(exporttest.Skill)}, 200},
		"an admin, by name":       {"root", "bob", []custos.SessionID{id(bob)}, 200},
		"one's own, by name":      {"ana", "ana", []custos.SessionID{id(ana), id(exporttest.Skill)}, 200},
		"somebody else's":         {"ana", "bob", nil, 403},
		"an auditor":              {"rita", "bob", nil, 403},
		"who acts for an admin":   {"audit-bot", "bob", nil, 403},
		"a namesake, of others'":  {"named-like", "ana", []custos.SessionID{id(callers["named-like"])}, 200},
		"nobody":                  {"root", "", nil, 400},
		"an admin, nobody's name": {"root", "zoe", nil, 200},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t)
			got, err := g.client(test.who).StopAll(t.Context(), test.caller)
			if status(err) != test.status {
				t.Fatalf("%v, want %d", err, test.status)
			}
			slices.Sort(got.Sessions)
			slices.Sort(test.want)
			if !slices.Equal(got.Sessions, test.want) || len(g.stopped) != len(test.want) {
				t.Errorf("%v, want %v", got.Sessions, test.want)
			}
			for _, cause := range g.stopped {
				if !strings.Contains(cause.Error(), callers[test.who].Subject) {
					t.Errorf("the cause does not say who: %v", cause)
				}
			}
		})
	}
}
