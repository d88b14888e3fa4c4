package identity

import (
	"slices"
	"strings"

	"github.com/custos-gateway/custos"
)

// Skill tells by which tokens a registered skill is known. In the patterns *
// stands for any characters, also for none.
type Skill struct {
	Name   string
	Issuer string
	// Subject is a pattern; empty: any.
	Subject string
	// Claims are patterns for further claims, by name or JSON pointer.
	Claims map[string]string
}

// skillDigest is the claim in which a token may say what its skill's folder is.
const skillDigest = "skill_digest"

// SetSkills replaces the skills that are known.
func (v *Verifier) SetSkills(skills []Skill) {
	skills = slices.Clone(skills)
	v.skills.Store(&skills)
}

// recognise makes of a caller the registered skill that it is. claims are its
// own: of a delegation those of the actor. A token that two of them match is
// refused: which of their bounds held would be a matter of chance.
func (v *Verifier) recognise(p *custos.Principal, claims map[string]any) *Error {
	known := v.skills.Load()
	if known == nil {
		return nil
	}
	for i := range *known {
		s := &(*known)[i]
		if !s.is(p, claims) {
			continue
		}
		if p.Skill != nil {
			return refuse(Claims, "have the gateway's administrator make the match of one of them narrower", "it is that of two registered skills, %s and %s", p.Skill.Name, s.Name)
		}
		p.Skill = &custos.Skill{Name: s.Name}
	}
	if p.Skill == nil {
		return nil
	}
	p.Name, p.Kind = p.Skill.Name, custos.KindSkill
	if v := lookup(claims, skillDigest); v != nil {
		if p.Skill.Digest, _ = v.(string); !custos.ValidDigest(p.Skill.Digest) {
			return refuse(Claims, "", "its claim %s is not sha256: and 64 hexadecimal digits", skillDigest)
		}
	}
	return nil
}

func (s *Skill) is(p *custos.Principal, claims map[string]any) bool {
	if s.Issuer != p.Issuer || s.Subject != "" && !matches(s.Subject, p.Subject) {
		return false
	}
	for name, pattern := range s.Claims {
		if v, ok := text(lookup(claims, name)); !ok || !matches(pattern, v) {
			return false
		}
	}
	return s.Subject != "" || len(s.Claims) > 0
}

// matches reports whether the whole of s is as a pattern has it.
func matches(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		if _, s, ok = strings.Cut(s, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(s, parts[last])
}
