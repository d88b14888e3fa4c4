package server

import (
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/api"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/identity"
	"github.com/custos-gateway/custos/internal/durable"
)

// bound holds a registered skill to what the configuration in force says of
// it: ok, or the refusal.
func (r *rules) bound(p *custos.Principal, connection string, now time.Time) (d custos.Decision, ok bool) {
	if p.Skill == nil {
		return d, true
	}
	s := r.skills[p.Skill.Name]
	refused := func(reason, hint string) (custos.Decision, bool) {
		return custos.Decision{Effect: custos.Refuse, Rule: "skill", Policy: r.digest, Reason: "skill " + p.Skill.Name + " " + reason, Hint: hint}, false
	}
	switch {
	case s == nil:
		return refused("is not registered any more", "ask an administrator to register it again")
	case !s.Expires.Time().IsZero() && !now.Before(s.Expires.Time()):
		return refused("has expired", "ask "+owner(s)+" to have its expiry moved")
	case !slices.Contains(s.Connections, connection):
		return refused("may not use this connection", "it may use "+strings.Join(s.Connections, ", "))
	case s.Digest != "" && p.Skill.Digest == "":
		return refused("has to say what its folder is", "send the digest that custos skill digest DIR prints, as Custos-Skill-Digest or custos.skill_digest, or get a ticket with --skill-dir DIR")
	case s.Digest != "" && s.Digest != p.Skill.Digest:
		return refused("is not as it was registered: its folder was changed", "ask "+owner(s)+" to look at the change and register its digest")
	}
	return d, true
}

func owner(s *config.Skill) string {
	if s.Owner != "" {
		return s.Owner
	}
	return "an administrator"
}

// skillsOf are the skills by which tokens are told.
func skillsOf(c *config.Config) []identity.Skill {
	var all []identity.Skill
	for _, s := range c.Skills {
		all = append(all, identity.Skill{Name: s.Name, Issuer: s.Match.Issuer, Subject: s.Match.Subject, Claims: s.Match.Claims})
	}
	return all
}

// actsFor reports whether the configuration lets a skill act for somebody who
// is a person of a group that it is registered for.
func (s *Server) actsFor(actor, subject *custos.Principal) bool {
	if actor.Skill == nil || subject.Kind != custos.KindPerson {
		return false
	}
	skill := s.inForce.Load().skills[actor.Skill.Name]
	return skill != nil && subject.InAny(skill.OnBehalfOf)
}

// skills is the API's view of the registered skills.
type skills struct{ *Server }

// List is of api.Skills.
func (s skills) List() []api.RegisteredSkill {
	all := []api.RegisteredSkill{}
	for _, k := range s.inForce.Load().config.Skills {
		one := api.RegisteredSkill{Name: k.Name, Issuer: k.Match.Issuer, Subject: k.Match.Subject, Claims: k.Match.Claims, Owner: k.Owner,
			Connections: k.Connections, OnBehalfOf: k.OnBehalfOf, Digest: k.Digest, Managed: k.Managed}
		if at := k.Expires.Time(); !at.IsZero() {
			one.Expires = &at
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b api.RegisteredSkill) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Put is of api.Skills. A crash after the change is on record, and before it
// is in the file, leaves the file as it was, as of connections.
func (s skills) Put(by, name string, definition []byte) error {
	what := "skill " + name + " changed"
	if s.inForce.Load().skills[name] == nil {
		what = "skill " + name + " added"
	}
	return s.change(by, name, what, definition)
}

// Remove is of api.Skills. Its sessions find each further operation refused.
func (s skills) Remove(by, name string) error {
	return s.change(by, name, "skill "+name+" removed", nil)
}

func (s skills) change(by, name, what string, definition []byte) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	next, file, err := config.WithSkill(s.ConfigPath, name, definition, s.checks())
	if err != nil {
		return err
	}
	if next.ManagedFile() != s.inForce.Load().config.ManagedFile() {
		return errOtherFolder
	}
	return s.adopt(next, by, what, func() error { return durable.WriteFile(durable.OS, next.ManagedFile(), file, 0o600) })
}
