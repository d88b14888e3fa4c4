package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Agent is a name under which processes in a target's network join: one, or
// several that stand in for each other. Taking it away ends their lines.
type Agent struct {
	// What connections call it: lower-case letters, digits, - and _, at most 63.
	Name string `yaml:"name" jsonschema:"required,example=vpc-a"`
	// The workloads that may join as it with a token of their issuer. Absent:
	// agents join with a one-time token, which custos agent token gives.
	Identities []AgentIdentity `yaml:"identities"`
	// How long an agent's certificate lives; it is renewed at half of that. An
	// agent that was away for longer has to join again.
	CertificateLife Duration `yaml:"certificate_life" jsonschema:"default=24h"`
}

// AgentIdentity is a workload that may join as an agent.
type AgentIdentity struct {
	// The issuer of its token, one of issuers.
	Issuer string `yaml:"issuer" jsonschema:"required,example=https://id.example.com"`
	// The token's sub claim, exactly.
	Subject string `yaml:"subject" jsonschema:"required,example=system:serviceaccount:custos:agent"`
}

// The bounds of certificate_life.
const (
	minCertificateLife = Duration(10 * time.Minute)
	maxCertificateLife = Duration(90 * 24 * time.Hour)
)

func (d *decoder) checkAgents(c *Config) {
	names := make(map[string]string)
	for i, a := range c.Agents {
		key := fmt.Sprintf("agents[%d]", i)
		if a.Name != "" && !connectionName.MatchString(a.Name) {
			d.fail(key+".name", "want lower-case letters, digits, - and _, at most 63, the first a letter or digit")
		}
		d.once(names, a.Name, key+".name", "an agent of this name")
		if a.CertificateLife < minCertificateLife || a.CertificateLife > maxCertificateLife {
			d.fail(key+".certificate_life", "want from %v to %v", minCertificateLife, maxCertificateLife)
		}
		for j, id := range a.Identities {
			if id.Issuer != "" && !slices.ContainsFunc(c.Issuers, func(s Issuer) bool { return s.URL == id.Issuer }) {
				d.fail(fmt.Sprintf("%s.identities[%d].issuer", key, j), "it is none of issuers: add it there, or name one of them")
			}
		}
	}
	if len(c.Agents) > 0 && c.Listen.HTTPS == "" {
		d.fail("agents", "agents connect to listen.https: add it")
	}
	for i, n := range c.Connections {
		if _, known := names[n.Agent]; n.Agent != "" && !known {
			d.fail(fmt.Sprintf("connections[%d].agent", i), "there is no agent %s: add it to agents", n.Agent)
		}
	}
}

// AgentFile is the configuration of one agent: agent.yaml.
type AgentFile struct {
	// The gateway's URL.
	Gateway string `yaml:"gateway" jsonschema:"required,example=https://gw.example.com:8443"`
	// A file of PEM certificates to trust for the gateway, in place of the
	// system's roots.
	CAFile string `yaml:"ca_file"`
	// Its name in agents of the gateway's configuration.
	Name string `yaml:"name" jsonschema:"required,example=vpc-a"`
	// The folder of its key and certificate.
	DataDir string `yaml:"data_dir" jsonschema:"default=custos-agent"`
	// Where the token lies with which it joins: one of custos agent token, or
	// one of an issuer's, such as a Kubernetes projected token.
	Join JoinToken `yaml:"join" jsonschema:"required"`
	// What it may dial, as host:port: the host a name, an IP address, or
	// *.name for all under one; the port one, or two with a - between.
	Targets []string `yaml:"targets" jsonschema:"required"`
	// The networks in which the addresses of names must lie, as 10.2.0.0/16.
	// Absent: public ones only.
	Networks []string `yaml:"networks"`
	// Sessions at one time.
	Sessions int `yaml:"sessions" jsonschema:"default=4096,minimum=1"`
	// How long sessions may go on when it is told to stop.
	Drain Duration `yaml:"drain" jsonschema:"default=30s"`
}

// JoinToken says where a token lies; it is read whenever it is needed.
type JoinToken struct {
	// A file.
	File string `yaml:"file"`
	// An environment variable.
	Env string `yaml:"env"`
}

// LoadAgent reads and checks the configuration of an agent. check says what is
// wrong with its targets and networks.
func LoadAgent(path string, check func(targets, networks []string) error) (*AgentFile, error) {
	raw, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("load agent's configuration: %w", err)
	}
	base, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("load agent's configuration: %w", err)
	}
	f := new(AgentFile)
	d := newDecoder(path, raw)
	if d.decode(raw, f) {
		d.rules(reflect.ValueOf(f).Elem(), "")
		d.checkAgentFile(f, check)
	}
	if len(d.problems) > 0 {
		d.problems.sort()
		return nil, d.problems
	}
	for _, p := range []*string{&f.CAFile, &f.DataDir, &f.Join.File} {
		*p = absolute(base, *p)
	}
	return f, nil
}

func (d *decoder) checkAgentFile(f *AgentFile, check func(targets, networks []string) error) {
	d.checkURL(f.Gateway, "gateway")
	if f.Gateway != "" && !strings.HasPrefix(f.Gateway, "https://") {
		d.fail("gateway", "want https: agents speak TLS to the gateway")
	}
	if f.Name != "" && !connectionName.MatchString(f.Name) {
		d.fail("name", "want lower-case letters, digits, - and _, at most 63, the first a letter or digit")
	}
	if (f.Join.File == "") == (f.Join.Env == "") {
		d.fail("join", "want file or env, one of the two")
	}
	for i, t := range f.Targets {
		if err := check([]string{t}, nil); err != nil {
			d.fail(fmt.Sprintf("targets[%d]", i), "%v", err)
		}
	}
	for i, n := range f.Networks {
		if err := check(nil, []string{n}); err != nil {
			d.fail(fmt.Sprintf("networks[%d]", i), "%v", err)
		}
	}
}
