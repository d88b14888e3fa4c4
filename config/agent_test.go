package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func agentFile(t *testing.T, text string) (*AgentFile, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadAgent(path, func(targets, networks []string) error {
		for _, text := range append(targets, networks...) {
			if strings.Contains(text, "bad") {
				return errors.New("it is bad")
			}
		}
		return nil
	})
}

func TestAgentFile(t *testing.T) {
	f, err := agentFile(t, `
gateway: https://gw.example.com:8443
name: vpc-a
join: {file: join-token}
targets: [db.internal:5432]
networks: [10.0.0.0/8]
`)
	if err != nil {
		t.Fatal(err)
	}
	if f.Sessions != 4096 || f.Drain != Duration(30*time.Second) || !filepath.IsAbs(f.Join.File) || filepath.Base(f.DataDir) != "custos-agent" || f.CAFile != "" {
		t.Errorf("got %+v", f)
	}
}

// Everything that is wrong is said at once, with its place.
func TestAgentFileErrors(t *testing.T) {
	_, err := agentFile(t, `
gateway: http://127.0.0.1:8443
name: VPC
join: {file: a, env: B}
targets: [good:1, bad:2]
networks: [bad]
sesions: 3
`)
	for _, want := range []string{
		"agent.yaml:2:", "want https", "agent.yaml:3:", "lower-case", "one of the two", "targets[1]: it is bad", "networks[0]: it is bad", "did you mean sessions?",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if _, err := agentFile(t, "name: x\n"); err == nil || !strings.Contains(err.Error(), "targets") {
		t.Errorf("without the rest: %v", err)
	}
}

func TestAgents(t *testing.T) {
	base := `
listen: {https: 127.0.0.1:0, postgres: 127.0.0.1:0}
issuers: [{url: "https://id.example.com", audience: custos}]
`
	connection := `
connections:
  - {name: orders, protocol: postgres, address: "db.internal:5432", agent: vpc-a, credential: {username: x}, access: [{groups: [dba]}]}
`
	for text, want := range map[string]string{
		base + connection + "agents: [{name: vpc-a}]": "",
		base + connection + "agents: [{name: vpc-b}]": "there is no agent vpc-a: add it to agents",
		base + connection: "there is no agent vpc-a",
		base + "agents: [{name: vpc-a}, {name: vpc-a}]":                                   "stands already",
		base + "agents: [{name: A}]":                                                      "lower-case",
		base + "agents: [{name: a, certificate_life: 5m}]":                                "want from 10m0s to 90d",
		base + "agents: [{name: a, identities: [{issuer: 'https://other', subject: x}]}]": "it is none of issuers",
		base + "agents: [{name: a, identities: [{issuer: 'https://id.example.com'}]}]":    "subject: it is missing",
		strings.Replace(base, "https: 127.0.0.1:0, ", "", 1) + "agents: [{name: vpc-a}]":  "agents connect to listen.https",
	} {
		c, err := parse("custos.yaml", []byte(text), Options{Protocols: []string{"postgres"}})
		if want == "" {
			if err != nil {
				t.Error(err)
			} else if got := c.Targets()[0].Agent; got != "vpc-a" {
				t.Errorf("its agent is %q", got)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v of\n%s", want, err, text)
		}
	}
}
