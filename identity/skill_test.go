package identity

import (
	"strings"
	"testing"

	"github.com/custos-gateway/custos"
)

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"skill:reporter", "skill:reporter", true},
		{"skill:reporter", "skill:reporter2", false},
		{"skill:*", "skill:", true},
		{"skill:*", "Skill:reporter", false},
		{"*", "", true},
		{"*:ref:refs/heads/main", "repo:acme/x:ref:refs/heads/main", true},
		{"*:ref:refs/heads/main", "repo:acme/x:ref:refs/heads/main2", false},
		{"repo:acme/*:ref:*", "repo:acme/x:ref:refs/tags/v1", true},
		{"repo:acme/*:ref:*", "repo:evil/acme/x:ref:main", false},
		{"a*b*a", "aba", true},
		{"a*b*a", "aa", false},
		{"ab*ba", "aba", false}, // the ends may not be the same characters
	} {
		if got := matches(test.pattern, test.s); got != test.want {
			t.Errorf("%s %s: %v", test.pattern, test.s, got)
		}
	}
}

// TestSkills shows which tokens are a registered skill's.
func TestSkills(t *testing.T) {
	c := newClock()
	key := newEd("k1")
	a := newTestIssuer(t, key)
	v := newVerifier(t, c, a.issuer())
	digest := "sha256:" + strings.Repeat("a", 64)
	v.SetSkills([]Skill{
		{Name: "reporter", Issuer: a.URL, Subject: "skill:reporter"},
		{Name: "builder", Issuer: a.URL, Claims: map[string]string{"repository": "acme/*", "/job/protected": "true"}},
		{Name: "clash", Issuer: a.URL, Subject: "skill:reporter", Claims: map[string]string{"clash": "*"}},
		{Name: "elsewhere", Issuer: "https://elsewhere.example.com", Subject: "*"},
	})
	accept := func(token string) *custos.Principal {
		t.Helper()
		p, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	token := func(change map[string]any) string { return key.token(nil, a.claims(c.Now(), change)) }
	for _, test := range []struct {
		name   string
		claims map[string]any
		want   custos.Skill
	}{
		{"a person", nil, custos.Skill{}},
		{"by its subject", map[string]any{"sub": "skill:reporter", "preferred_username": "admin"}, custos.Skill{Name: "reporter"}},
		{"with its digest", map[string]any{"sub": "skill:reporter", "skill_digest": digest}, custos.Skill{Name: "reporter", Digest: digest}},
		{"by claims", map[string]any{"repository": "acme/x", "job": map[string]any{"protected": true}}, custos.Skill{Name: "builder"}},
		{"by some claims", map[string]any{"repository": "acme/x"}, custos.Skill{}},
		{"as an actor", map[string]any{"act": map[string]any{"sub": "skill:reporter"}}, custos.Skill{Name: "reporter"}},
		{"an actor's own claims", map[string]any{"act": map[string]any{"sub": "x", "repository": "acme/x", "job": map[string]any{"protected": true}}}, custos.Skill{Name: "builder"}},
		{"the subject's claims are not the actor's", map[string]any{"sub": "skill:reporter", "act": map[string]any{"sub": "x"}, "repository": "acme/x", "job": map[string]any{"protected": true}}, custos.Skill{}},
	} {
		p := accept(token(test.claims))
		var got custos.Skill
		if p.Skill != nil {
			got = *p.Skill
		}
		if got != test.want || (got.Name != "") != (p.Name == got.Name && p.Kind == custos.KindSkill) {
			t.Errorf("%s: %+v named %s of kind %s, want %+v", test.name, got, p.Name, p.Kind, test.want)
		}
	}
	mustRefuse(t, v, token(map[string]any{"sub": "skill:reporter", "clash": "x"}), Claims)
	mustRefuse(t, v, token(map[string]any{"sub": "skill:reporter", "skill_digest": "sha256:1"}), Claims)
	v.SetSkills(nil)
	if p := accept(token(map[string]any{"sub": "skill:reporter"})); p.Skill != nil {
		t.Errorf("it is still a skill: %+v", p.Skill)
	}
}
