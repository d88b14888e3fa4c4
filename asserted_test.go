package custos

import (
	"net/http"
	"strings"
	"testing"
)

func TestAsserted(t *testing.T) {
	h := http.Header{}
	for name, value := range map[string]string{"Custos-Conversation": "c-1", "Custos-Tool-Call": "a\x00b\xff", "traceparent": strings.Repeat("é", 200), "Custos-Skill-Digest": "", "Authorization": "Bearer secret"} {
		h.Set(name, value)
	}
	says := AssertedBy(h.Get)
	if len(says) != 3 || says[AssertedConversation] != "c-1" || says[AssertedToolCall] != "a?b?" || says[AssertedTrace] != strings.Repeat("é", 128) {
		t.Errorf("%q", says)
	}
}

func TestSaying(t *testing.T) {
	digest, other := "sha256:"+strings.Repeat("0a", 32), "sha256:"+strings.Repeat("1b", 32)
	person, skill := &Principal{Name: "ana"}, &Principal{Name: "reporter", Skill: &Skill{Name: "reporter"}}
	if person.Saying(digest) != person {
		t.Error("a person has a folder")
	}
	for _, bad := range []string{"", "sha256:", "sha256:" + strings.Repeat("0A", 32), digest[7:], digest + "0"} {
		if skill.Saying(bad) != skill {
			t.Errorf("%q is taken", bad)
		}
	}
	said := skill.Saying(digest)
	if said.Skill.Digest != digest || skill.Skill.Digest != "" {
		t.Errorf("%+v of %+v", said.Skill, skill.Skill)
	}
	if said.Saying(other) != said {
		t.Error("what its token says can be said otherwise")
	}
}

func TestTicketOpens(t *testing.T) {
	for _, test := range []struct {
		ticket             *Ticket
		connection, client string
		want               bool
	}{
		{nil, "orders", "192.0.2.1:5", true},
		{&Ticket{Connection: "orders"}, "orders", "192.0.2.1:5", true},
		{&Ticket{Connection: "orders"}, "billing", "192.0.2.1:5", false},
		{&Ticket{Connection: "orders", Source: "192.0.2.1"}, "orders", "192.0.2.1:5", true},
		{&Ticket{Connection: "orders", Source: "192.0.2.1"}, "orders", "192.0.2.1", true},
		{&Ticket{Connection: "orders", Source: "192.0.2.1"}, "orders", "192.0.2.11:5", false},
		{&Ticket{Connection: "orders", Source: "2001:db8::1"}, "orders", "[2001:db8::1]:5", true},
	} {
		if got := test.ticket.Opens(test.connection, test.client); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
