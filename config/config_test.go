package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/policy"
	"github.com/google/go-cmp/cmp"
)

var spoken = Options{Protocols: []string{"http", "postgres"}, Addressed: []string{"http"}, Detectors: []string{"email", "iban"}}

func TestLoad(t *testing.T) {
	c, err := Load("testdata/custos.yaml", spoken)
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(base, name) }
	want := &Config{
		Listen:  Listen{HTTPS: "127.0.0.1:8443", Postgres: "127.0.0.1:15432"},
		TLS:     &ServerTLS{Certificate: at("gw.pem"), Key: at("gw.key")},
		DataDir: at("custos-data"),
		Issuers: []Issuer{
			{URL: "https://id.example.com", Audience: "custos", GroupsClaim: "groups", NameClaim: "preferred_username",
				Kind: "person", Algorithms: []string{"RS256", "ES256"}, ClientID: "custos-cli"},
			{URL: "https://ci.example.com", Audience: "custos", GroupsClaim: "groups", NameClaim: "preferred_username",
				Kind: "ci", KindClaim: "custos_kind", Algorithms: []string{"ES256"}},
		},
		Roles: Roles{Admin: []string{"platform"}, Reviewer: []string{"dba"}, Auditor: []string{"audit"}},
		Connections: []Connection{
			{Name: "orders", Protocol: "postgres", Address: "db.internal:5432", Database: "orders", TLS: TargetTLS{Mode: "verify-full"},
				Credential: Credential{Username: "app", Password: Secret{Env: "ORDERS_PASSWORD"}}, Labels: map[string]string{"env": "prod"},
				Access:  []Access{{Groups: []string{"support", "skills"}}},
				Columns: []ColumnTags{{Match: []string{"*.customers.phone", "*.staff.*"}, Tags: []string{"pii", "staff"}}}, Retention: Duration(400 * 24 * time.Hour)},
			{Name: "billing", Protocol: "postgres", Address: "10.0.0.7:5432", Database: "billing",
				TLS:        TargetTLS{Mode: "verify-ca", CAFile: at("billing-ca.pem")},
				Credential: Credential{Username: "app", Password: Secret{File: at("secrets/billing")}},
				Access:     []Access{{Groups: []string{"dba"}}}},
		},
		Policies: []PolicyItem{
			{Include: "builtin/safe-defaults", Without: []string{"hold-notify"}, Connections: map[string]string{"env": "prod"}, Mode: "enforce",
				Approvers: &Approvers{Groups: []string{"dba"}, Count: 1, Within: Duration(15 * time.Minute), Rows: "estimate", Messages: "summary"}},
			{Rule: "writes-need-a-person", Connections: map[string]string{"env": "prod"}, Callers: Callers{Kinds: []string{"skill"}},
				When: `operation.writes && "hr" in caller.groups`, Then: "approve", Mode: "enforce",
				Approvers: &Approvers{Groups: []string{"dba"}, Count: 2, Within: Duration(15 * time.Minute), Rows: "estimate", Messages: "summary"}},
			{Rule: "a-million-rows-a-day", Why: "Nobody needs more, and whoever leaves with a table takes more.", Mode: "enforce",
				When: "usage.day.rows > 1000000 ||\nusage.hour.rows > 200000\n", Then: "refuse", Reason: "more rows than a day's work needs"},
			{Rule: "runaway", When: "usage.repeats > 32", Then: "refuse", Mode: "dry-run"},
			{Rule: "hide-customers", Callers: Callers{Kinds: []string{"skill", "ci"}}, Mode: "enforce", Mask: []Mask{
				{Columns: []string{"*.customers.email"}, With: "partial"}, {Tags: []string{"pii"}, With: "null"}, {Detect: []string{"iban"}, With: "redact"}}},
		},
		Approvals: Approvals{Life: Duration(time.Hour), Hold: Hold{Person: Duration(15 * time.Minute), Skill: Duration(time.Minute),
			CI: Duration(10 * time.Minute), Workload: Duration(time.Minute)}},
		Limits: Limits{Sessions: 10000, SessionsPerCaller: 200, PreAuthTimeout: Duration(10 * time.Second),
			IdleTimeout: Duration(12 * time.Hour), TicketLife: Duration(15 * time.Minute), FreeSpace: FreeSpace{Sessions: Space{percent: 10}, Operations: Space{bytes: 2 << 30}}},
		Ledger: Ledger{Origin: "custos.example.com/ledger", Heartbeat: Duration(time.Hour)},
		Raw:    c.Raw,
	}
	if c.Policy == nil || c.Policy.Version() != c.Digest()[:12] {
		t.Errorf("policy %+v", c.Policy)
	}
	want.Policy, want.Rules = c.Policy, c.Rules
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(Space{}), cmp.Comparer(func(a, b *policy.Policy) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	target := &custos.Connection{Name: "billing", Protocol: "postgres", Address: "10.0.0.7:5432", Database: "billing",
		TLS: custos.TargetTLS{Mode: "verify-ca", CAFile: at("billing-ca.pem")}, Auth: custos.Auth{Scheme: "basic"},
		Access: []custos.Access{{Groups: []string{"dba"}}}}
	if diff := cmp.Diff(target, c.Targets()[1]); diff != "" {
		t.Error(diff)
	}
	tags := []custos.ColumnTag{{Columns: []string{"*.customers.phone", "*.staff.*"}, Tag: "pii"}, {Columns: []string{"*.customers.phone", "*.staff.*"}, Tag: "staff"}}
	if diff := cmp.Diff(tags, c.Targets()[0].Tags); diff != "" {
		t.Error(diff)
	}
	if len(c.Digest()) != 64 {
		t.Errorf("digest %q", c.Digest())
	}
}

const minimal = `listen: {https: "127.0.0.1:0"}
issuers: [{url: "https://id.example.com", audience: custos}]
`

func TestDefaults(t *testing.T) {
	c, err := parse("/etc/custos/custos.yaml", []byte(minimal), spoken)
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != "/etc/custos/custos-data" || c.Limits.Sessions != 10000 || c.Limits.SessionsPerCaller != 1000 ||
		time.Duration(c.Limits.PreAuthTimeout) != 10*time.Second || c.Limits.IdleTimeout != 0 || c.Limits.TokenGrace != 0 ||
		c.Limits.FreeSpace.Sessions.Of(1000) != 50 || c.Limits.FreeSpace.Operations.Of(1000) != 1<<30 ||
		time.Duration(c.Ledger.Heartbeat) != time.Hour || c.Ledger.Origin != "custos" || c.TLS != nil || c.Issuers[0].Kind != "person" {
		t.Errorf("%+v", c)
	}
	if len(c.Warnings) > 0 {
		t.Error(c.Warnings)
	}
	// A connection's and a pointer's defaults are set too.
	visitDefaults(t, reflect.TypeFor[Config]())
}

// visitDefaults shows that every default of a tag can be set: setDefault
// panics otherwise.
func visitDefaults(t *testing.T, typ reflect.Type) {
	for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return
	}
	for _, f := range fieldsOf(typ) {
		v := reflect.New(typ).Elem().FieldByIndex(f.index)
		if f.name == "" {
			t.Errorf("a field of %v has no key", typ)
		}
		if f.fallback != "" {
			setDefault(v, f.fallback)
		}
		visitDefaults(t, v.Type())
	}
}

// Each file under testdata/wrong ends with what is said of it, so that people
// can read both together.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text, _, _ := strings.Cut(string(raw), "#= ")
			got := said(text)
			if *update {
				out := text + "#= " + strings.ReplaceAll(strings.TrimSuffix(got, "\n"), "\n", "\n#= ") + "\n"
				if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := ""
			for line := range strings.Lines(string(raw)) {
				if after, found := strings.CutPrefix(line, "#= "); found {
					want += after
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("the errors hold a secret")
			}
		})
	}
}

// said returns the errors and warnings of a file, a line each.
func said(text string) string {
	c, err := parse("custos.yaml", []byte(text), spoken)
	if err != nil {
		return err.Error() + "\n"
	}
	return "valid\n" + c.Warnings.Error() + "\n"
}

func TestLoadAbsentAndTooLong(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), spoken); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "--config") {
		t.Errorf("got %v", err)
	}
	long := filepath.Join(t.TempDir(), "long.yaml")
	if err := os.WriteFile(long, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(long, spoken); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"400d": 400 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "90s": 90 * time.Second, "1.5h": 90 * time.Minute, "0": 0,
	} {
		var d Duration
		if err := d.parse(text); err != nil || time.Duration(d) != want {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "5", "d", "-1d", "-1s", "1.5d", "1d-2h", "200000d", "106751d24h", "1h1d", "99999999999d"} {
		var d Duration
		if err := d.parse(text); err == nil {
			t.Errorf("%q became %v", text, d)
		}
	}
	if got := Duration(400*24*time.Hour).String() + " " + Duration(90*time.Second).String(); got != "400d 1m30s" {
		t.Error(got)
	}
}

func TestSpace(t *testing.T) {
	for text, want := range map[string]uint64{
		"5%": 50, "0.5%": 5, "2GiB": 2 << 30, "500MB": 500e6, "7B": 7, "1 KiB": 1024, "0%": 0,
	} {
		var s, again Space
		if err := s.parse(text); err != nil || s.Of(1000) != want {
			t.Errorf("%q: %v, %v", text, s, err)
		}
		if err := again.parse(s.String()); err != nil || again != s {
			t.Errorf("%q: %v read again is %v, %v", text, s, again, err)
		}
	}
	for _, text := range []string{"", "5", "%", "-5%", "NaN%", "100%", "1e3%%", "-1B", "9999999999999GiB", "1.5GiB", "GiB"} {
		var s Space
		if err := s.parse(text); err == nil {
			t.Errorf("%q became %v", text, s)
		}
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "custos.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(minimal)
	c, err := Load(path, spoken)
	if err != nil {
		t.Fatal(err)
	}
	tick := make(chan time.Time)
	done := make(chan struct{})
	changes := 0
	go func() {
		defer close(done)
		Watch(context.Background(), path, c, tick, func() { changes++ })
	}()
	// A tick is taken only when the look before it has ended: of four, the
	// first may have met a file half written, and the next two see it whole.
	look := func() {
		for range 4 {
			tick <- time.Time{}
		}
	}
	look()
	put(minimal + "data_dir: other\n")
	look()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look()
	put(minimal)
	look()
	close(tick)
	<-done
	if changes != 2 {
		t.Errorf("%d changes, want 2", changes)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	Watch(ctx, "none", &Config{}, nil, func() { t.Error("changed") })
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "testdata/wrong/*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, path := range files {
			raw, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parse("custos.yaml", raw, spoken)
		var problems Errors
		if err != nil && (!errors.As(err, &problems) || len(problems) == 0) {
			t.Fatalf("an error that is no list of problems: %v", err)
		}
		if err == nil {
			c.Targets()
		}
	})
}
