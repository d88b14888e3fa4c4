package gate

import (
	"errors"
	"strings"
	"testing"

	custos "github.com/custos-gateway/custos"
)

// TestTicketOpensItsConnection turns a ticket away that is for another
// connection or address, on record, before the credential is lent.
func TestTicketOpensItsConnection(t *testing.T) {
	w, g := newWorld(t)
	caller := func(ticket custos.Ticket) *custos.Principal {
		return &custos.Principal{Issuer: "i", Subject: "ana", Groups: []string{"dba"}, Expires: w.expires, Ticket: &ticket}
	}
	for _, bad := range []custos.Ticket{{ID: "a", Connection: "billing"}, {ID: "b", Connection: "orders", Source: "192.0.2.1"}, {ID: "c"}} {
		_, err := g.OpenFor(t.Context(), caller(bad), w.knock())
		refusal, ok := errors.AsType[*custos.Refusal](err)
		if !ok || refusal.Rule != "ticket" || !refusal.Recorded {
			t.Fatalf("%+v: %v", bad, err)
		}
		if turned := w.book.entries[refusal.Entry].Opened; turned.Caller.Ticket == nil || turned.Caller.Ticket.ID != bad.ID {
			t.Errorf("the record does not name the ticket: %+v", turned)
		}
	}
	if w.lent != 0 {
		t.Errorf("the credential was lent %d times", w.lent)
	}
	s, err := g.OpenFor(t.Context(), caller(custos.Ticket{ID: "d", Connection: "orders", Source: "127.0.0.1"}), w.knock())
	if err != nil {
		t.Fatal(err)
	}
	s.Close("")
	if got := w.book.entries[3].Opened.Caller.Ticket; got == nil || got.ID != "d" {
		t.Errorf("%+v", got)
	}
}

// TestSkillSaysWhatItIs puts on record, and before policy, what a skill says of
// its folder, where its token did not.
func TestSkillSaysWhatItIs(t *testing.T) {
	w, g := newWorld(t)
	digest := "sha256:" + strings.Repeat("0a", 32)
	skill := &custos.Principal{Issuer: "i", Subject: "ana", Groups: []string{"dba"}, Expires: w.expires, Skill: &custos.Skill{Name: "reporter"}}
	k := w.knock()
	k.Asserted = map[string]string{custos.AssertedSkill: digest}
	s, err := g.OpenFor(t.Context(), skill, k)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close("")
	if s.Caller().Skill.Digest != digest || w.book.entries[0].Opened.Caller.Skill.Digest != digest {
		t.Errorf("%+v", s.Caller().Skill)
	}
	if skill.Skill.Digest != "" {
		t.Error("what one client says is said of all")
	}
}
