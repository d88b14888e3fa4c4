package config

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
)

// Tests is a file of unit tests of policies, as custos policy test reads it.
type Tests struct {
	// The cases.
	Tests []TestCase `yaml:"tests" jsonschema:"required"`
}

// TestCase is a question, and what is wanted of it.
type TestCase struct {
	// What the case is about.
	Name string `yaml:"name"`
	// Who asks.
	Caller TestCaller `yaml:"caller" jsonschema:"required"`
	// The name of the connection.
	Connection string `yaml:"connection" jsonschema:"required"`
	// What is asked for, such as a statement of SQL.
	Statement Expression `yaml:"statement" jsonschema:"required"`
	// What was taken before. Absent: nothing.
	Usage TestUsage `yaml:"usage"`
	// When it is (RFC 3339). Absent: the first moment of 2026, in UTC.
	Now Moment `yaml:"now" jsonschema:"default=2026-01-01T00:00:00Z"`
	// What is wanted. What is absent is not looked at.
	Want TestWant `yaml:"want" jsonschema:"required"`
}

// TestCaller is a caller as a token would describe it.
type TestCaller struct {
	// Its issuer.
	Issuer string `yaml:"issuer" jsonschema:"default=https://id.example.com"`
	// Its identity there.
	Subject string `yaml:"subject" jsonschema:"default=test"`
	// What people call it.
	Name string `yaml:"name"`
	// What sort of caller it is.
	Kind string `yaml:"kind" jsonschema:"default=person,enum=person,enum=skill,enum=ci,enum=workload"`
	// Its groups.
	Groups []string `yaml:"groups"`
	// For whom it acts. Absent: for itself.
	OnBehalfOf *TestCaller `yaml:"on_behalf_of"`
}

// TestUsage is what was taken before.
type TestUsage struct {
	// By the session.
	Session TestCounts `yaml:"session"`
	// By the caller on the connection, in the last hour.
	Hour TestCounts `yaml:"hour"`
	// By the caller on the connection, in the last 24 hours.
	Day TestCounts `yaml:"day"`
	// How often the operation is among the session's last 64, itself included.
	Repeats int `yaml:"repeats" jsonschema:"default=1,minimum=1"`
}

// TestCounts are sums over operations.
type TestCounts struct {
	// Operations.
	Operations int64 `yaml:"operations"`
	// Those that may have changed the target.
	Writes int64 `yaml:"writes"`
	// Those that were refused or held.
	Refused int64 `yaml:"refused"`
	// Rows of answers.
	Rows int64 `yaml:"rows"`
	// Bytes of answers.
	Bytes int64 `yaml:"bytes"`
}

// TestWant is what is wanted of a decision.
type TestWant struct {
	// The decision.
	Effect string `yaml:"effect" jsonschema:"enum=allow,enum=approve,enum=refuse"`
	// The rule that decides.
	Rule string `yaml:"rule"`
	// The rules that mask.
	Masks []string `yaml:"masks"`
	// The rules in dry-run that would have decided otherwise.
	DryRun []string `yaml:"dry_run"`
}

// Moment is a time as RFC 3339 writes it.
type Moment time.Time

func (m *Moment) parse(text string) error {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return errors.New("want a time such as 2026-07-30T10:00:00Z")
	}
	*m = Moment(t)
	return nil
}

// LoadTests reads the unit tests of policies in the file at path. What is
// wrong in it comes as Errors.
func LoadTests(path string) ([]policy.Case, error) {
	raw, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("load policy tests: %w", err)
	}
	return parseTests(path, raw)
}

func parseTests(path string, raw []byte) ([]policy.Case, error) {
	var file Tests
	d := newDecoder(path, raw)
	if d.decode(raw, &file) {
		d.rules(reflect.ValueOf(&file).Elem(), "")
	}
	cases := make([]policy.Case, len(file.Tests))
	for i := range file.Tests {
		key := fmt.Sprintf("tests[%d]", i)
		t := &file.Tests[i]
		if w := &t.Want; w.Effect == "" && w.Rule == "" && w.Masks == nil && w.DryRun == nil && !d.failed(key+".want") {
			d.fail(key+".want", "nothing is wanted: give effect, rule, masks or dry_run")
		}
		cases[i] = policy.Case{
			Name: t.Name, At: policy.Position{File: path, Line: d.at[key].line},
			Caller: *t.Caller.principal(), Connection: t.Connection, Statement: string(t.Statement),
			Usage: custos.Usage{Session: t.Usage.Session.counts(), Hour: t.Usage.Hour.counts(), Day: t.Usage.Day.counts(), Repeats: int64(t.Usage.Repeats)},
			Now:   time.Time(t.Now),
			Want:  policy.Want{Effect: t.Want.Effect, Rule: t.Want.Rule, Masks: t.Want.Masks, DryRun: t.Want.DryRun},
		}
	}
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	return cases, nil
}

func (c *TestCaller) principal() *custos.Principal {
	if c == nil {
		return nil
	}
	return &custos.Principal{Issuer: c.Issuer, Subject: c.Subject, Name: c.Name, Kind: custos.Kind(c.Kind), Groups: c.Groups, OnBehalfOf: c.OnBehalfOf.principal()}
}

func (c *TestCounts) counts() custos.Counts {
	return custos.Counts(*c)
}
