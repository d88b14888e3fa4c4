package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/custos-gateway/custos"
)

// Skill is a skill, or another program that acts for people, that is known by
// name. Who matches it is held to it; who matches none comes in by groups alone.
type Skill struct {
	// What it is called: lower-case letters, digits, - and _, at most 63. Rules
	// know it as caller.skill, and records as the caller's name.
	Name string `yaml:"name" jsonschema:"required,example=reporter"`
	// Whose tokens are its own.
	Match SkillMatch `yaml:"match" jsonschema:"required"`
	// Who answers for it, in words.
	Owner string `yaml:"owner" jsonschema:"example=ana@example.com"`
	// The connections that it may use, if access of the connection lets it.
	Connections []string `yaml:"connections" jsonschema:"required"`
	// Groups of people for whom it may act with their token and its own (RFC
	// 8693), where their token does not say so itself. Absent: nobody.
	OnBehalfOf []string `yaml:"on_behalf_of"`
	// When it is let in no more: a day, which is not part of it, or a time in
	// RFC 3339. Absent: never.
	Expires Instant `yaml:"expires" jsonschema:"example=2027-01-31"`
	// What its folder must be, as custos skill digest DIR prints it. The caller
	// says what it is: it tells a changed skill, and keeps out no liar. Absent:
	// anything.
	Digest string `yaml:"digest" jsonschema:"example=sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`

	// Managed: it was added at run time.
	Managed bool `yaml:"-"`
}

// SkillMatch says by which tokens a skill is known: subject, claims, or both,
// all of which must match. In the patterns * stands for any characters, also
// for none.
type SkillMatch struct {
	// The issuer of its tokens, one of issuers.
	Issuer string `yaml:"issuer" jsonschema:"required,example=https://id.example.com"`
	// A pattern for its identity there: the sub claim, or that of act.
	Subject string `yaml:"subject" jsonschema:"example=skill:reporter"`
	// Patterns for further claims, by name or JSON pointer; of a token with an
	// act claim, those in it.
	Claims map[string]string `yaml:"claims"`
}

// Instant is a time: a day in UTC, or RFC 3339. The zero Instant is never.
type Instant struct{ at time.Time }

// Time is i as a time; the zero time is never.
func (i Instant) Time() time.Time { return i.at }

func (i *Instant) parse(text string) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			i.at = t.UTC()
			return nil
		}
	}
	return errors.New("want a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z")
}

func (d *decoder) checkSkills(c *Config) {
	names := make(map[string]string)
	known := func(name string) bool {
		return slices.ContainsFunc(c.Connections, func(n Connection) bool { return n.Name == name })
	}
	for i, s := range c.Skills {
		key := fmt.Sprintf("skills[%d]", i)
		if s.Name != "" && !connectionName.MatchString(s.Name) {
			d.fail(key+".name", "want lower-case letters, digits, - and _, at most 63, the first a letter or digit")
		}
		d.once(names, s.Name, key+".name", "a skill of this name")
		if s.Match.Issuer != "" && !slices.ContainsFunc(c.Issuers, func(is Issuer) bool { return is.URL == s.Match.Issuer }) {
			d.fail(key+".match.issuer", "it is none of issuers: add it there, or name one of them")
		}
		if s.Match.Subject == "" && len(s.Match.Claims) == 0 {
			d.fail(key+".match", "every token of the issuer would be this skill's: add subject or claims")
		}
		if s.Digest != "" && !custos.ValidDigest(s.Digest) {
			d.fail(key+".digest", "want what custos skill digest DIR prints: sha256: and 64 hexadecimal digits")
		}
		d.distinct(s.Connections, key+".connections")
		for j, name := range s.Connections {
			if !known(name) {
				d.warn(fmt.Sprintf("%s.connections[%d]", key, j), "there is no connection %s", name)
			}
		}
	}
}
