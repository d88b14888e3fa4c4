package store

import (
	"testing"

	custos "github.com/custos-gateway/custos"
)

// What a skill does is found by the skill, and by what its client says of the
// conversation, the tool call and the trace that it is of, over any number of
// transactions.
func TestSearchOfAgents(t *testing.T) {
	x := open(t)
	var s story
	skill := reporter
	skill.Skill = &custos.Skill{Name: "reporter", Digest: "sha256:0a"}
	says := map[string]string{custos.AssertedConversation: "c 1", custos.AssertedToolCall: "t-1",
		custos.AssertedTrace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "user_agent": "curl"}
	first := s.opened(skill, "orders")
	s.items[0].Entry.Opened.Asserted = says
	s.ran(first, "SELECT 1", "SELECT")
	other := s.opened(ana, "orders")
	s.items[2].Entry.Opened.Asserted = map[string]string{custos.AssertedConversation: "c-2", custos.AssertedTrace: "nonsense"}
	s.ran(other, "SELECT 2", "SELECT")
	if err := x.Apply(s.items); err != nil {
		t.Fatal(err)
	}
	next := len(s.items)
	s.ran(first, "SELECT 3", "SELECT")
	if err := x.Apply(s.items[next:]); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{
		"skill:reporter": 2, "-skill:reporter": 1, `conversation:"c 1"`: 2, "conversation:c-2": 1, "conversation:c-3": 0, "tool:t-1": 2,
		"trace:4bf92f3577b34da6a3ce929d0e0e4736": 2, "trace:nonsense": 0, "conversation:c-2 skill:reporter": 0, "Skill:reporter 3": 1,
	} {
		if found, _, err := x.Search(t.Context(), Filter{Query: query}); err != nil || len(found) != want {
			t.Errorf("%s: %d, %v; want %d", query, len(found), err, want)
		}
	}
	session, err := x.Session(t.Context(), first, Filter{})
	if err != nil || session.Skill == nil || *session.Skill != *skill.Skill || session.Asserted["conversation"] != "c 1" || session.Asserted["user_agent"] != "curl" {
		t.Errorf("%+v, %v", session, err)
	}
	if session, err = x.Session(t.Context(), other, Filter{}); err != nil || session.Skill != nil {
		t.Errorf("%+v, %v", session, err)
	}
}
