// Package check holds what is deployed against the tools that will read it:
// the chart against Helm and the types of the Kubernetes API, the Compose file
// against the Compose specification, the release file against goreleaser's own
// reader. It is a module of its own, so that custos depends on none of them.
package check

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/goreleaser/goreleaser/v2/pkg/config"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../helm/custos"

// whole are values that use all of the chart.
const whole = `
config:
  issuers: [{url: "https://id.example.com", audience: custos, client_id: custos}]
  roles: {admin: [platform]}
  connections:
    - name: orders
      protocol: postgres
      address: db.internal:5432
      tls: {mode: verify-full, ca_file: /secrets/orders-database/ca.pem}
      credential: {username: app, password: {file: /secrets/orders-database/password}}
      access: [{groups: [dba]}]
  policies: [{include: builtin/safe-defaults}]
secrets: [orders-database]
tls: {secretName: gateway-tls}
imagePullSecrets: [{name: registry}]
service: {type: LoadBalancer, annotations: {a: b}}
persistence: {storageClass: fast}
networkPolicy:
  from: [{namespaceSelector: {matchLabels: {team: shop}}}]
  to: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{protocol: TCP, port: 5432}]}]
metrics: {serviceMonitor: true, tokenSecret: custos-metrics}
podAnnotations: {c: d}
nodeSelector: {disk: ssd}
tolerations: [{key: only, operator: Exists}]
affinity: {nodeAffinity: {}}
`

const least = `config: {issuers: [{url: "https://id.example.com", audience: custos}]}`

func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// render renders the chart, by template name.
func render(t *testing.T, text string) (map[string]string, error) {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := chartutil.ToRenderValues(c, values(t, text), chartutil.ReleaseOptions{Name: "gw", Namespace: "custos", IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	out, err := engine.Render(c, v)
	rendered := map[string]string{}
	for name, manifest := range out {
		rendered[filepath.Base(name)] = manifest
	}
	return rendered, err
}

func TestChartLints(t *testing.T) {
	for _, text := range []string{whole, least} {
		r := action.NewLint()
		r.Strict = true
		result := r.Run([]string{chartDir}, values(t, text))
		for _, m := range result.Messages {
			if m.Severity > support.InfoSev {
				t.Error(m)
			}
		}
		for _, err := range result.Errors {
			t.Error(err)
		}
	}
}

// Every field of every manifest is one that the Kubernetes API knows.
func TestChartRenders(t *testing.T) {
	for _, text := range []string{whole, least} {
		out, err := render(t, text)
		if err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]any{
			"config.yaml": &corev1.ConfigMap{}, "service.yaml": &corev1.Service{}, "serviceaccount.yaml": &corev1.ServiceAccount{},
			"statefulset.yaml": &appsv1.StatefulSet{}, "networkpolicy.yaml": &networkingv1.NetworkPolicy{},
			"poddisruptionbudget.yaml": &policyv1.PodDisruptionBudget{},
		} {
			if err := yaml.UnmarshalStrict([]byte(out[name]), to); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out[name])
			}
		}
		pod := new(appsv1.StatefulSet)
		if err := yaml.Unmarshal([]byte(out["statefulset.yaml"]), pod); err != nil {
			t.Fatal(err)
		}
		spec := pod.Spec.Template.Spec
		c := spec.Containers[0]
		if s := c.SecurityContext; !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || !slices.Contains(s.Capabilities.Drop, "ALL") || !*spec.SecurityContext.RunAsNonRoot {
			t.Error("the container may do more than it needs")
		}
		mounted := map[string]bool{}
		for _, v := range spec.Volumes {
			mounted[v.Name] = true
		}
		for _, v := range pod.Spec.VolumeClaimTemplates {
			mounted[v.Name] = true
		}
		for _, m := range c.VolumeMounts {
			if !mounted[m.Name] {
				t.Errorf("there is no volume %s", m.Name)
			}
		}
		checked(t, out["config.yaml"])
	}
}

// checked has custos itself read the configuration that the chart makes.
func checked(t *testing.T, manifest string) {
	t.Helper()
	var m corev1.ConfigMap
	if err := yaml.Unmarshal([]byte(manifest), &m); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "custos.yaml")
	if err := os.WriteFile(path, []byte(m.Data["custos.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary(t), "config", "check", "--config", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", err, out, m.Data["custos.yaml"])
	}
}

// binary is the program, which `make custos` builds.
func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../custos")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run make custos first", err)
	}
	return path
}

func TestChartRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no issuer":         "config: {issuers: []}",
		"a key of its own":  least + "\nreplicas: 3",
		"the chart's keys":  "config: {issuers: [{url: a, audience: b}], data_dir: /tmp}",
		"a bad digest":      least + "\nimage: {digest: latest}",
		"no token to watch": least + "\nmetrics: {serviceMonitor: true}",
	} {
		if _, err := render(t, text); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestComposeFile(t *testing.T) {
	o, err := cli.NewProjectOptions([]string{"../compose/docker-compose.yaml"}, cli.WithName("custos"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(context.Background()) // checks it against the specification's schema
	if err != nil {
		t.Fatal(err)
	}
	if !p.Networks["inside"].Internal {
		t.Error("the target's network has a way out")
	}
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s listens on %q", name, port.HostIP)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != "bind" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for variable, value := range s.Environment {
			if value != nil && strings.Contains(variable, "PASSWORD") && !strings.HasSuffix(variable, "_FILE") {
				t.Errorf("%s is given a password in its environment", name)
			}
		}
	}
	if s := p.Services["target"]; len(s.Networks) != 1 || len(s.Ports) != 0 {
		t.Error("the target can be reached past the gateway")
	}
	if g := p.Services["gateway"]; !g.ReadOnly || !slices.Contains(g.CapDrop, "ALL") {
		t.Error("the gateway's container may do more than it needs")
	}
	if out, err := exec.Command(binary(t), "config", "check", "--config", "../compose/gateway/custos.yaml").CombinedOutput(); err != nil || bytes.Contains(out, []byte("warning")) {
		t.Errorf("%v: %s", err, out)
	}
}

// goreleaser's own reader takes the file; it knows no other keys.
func TestReleaseFile(t *testing.T) {
	f, err := os.Open("../../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := config.LoadReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, package_ := range p.NFPMs {
		for _, c := range package_.Contents {
			if c.Source == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join("../..", c.Source)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, b := range p.Builds {
		if !slices.Contains(b.Flags, "-trimpath") || b.ModTimestamp == "" || !slices.Contains(b.Env, "CGO_ENABLED=0") {
			t.Errorf("build %s can't be reproduced", b.ID)
		}
	}
}

// systemd reads the units without a complaint, and finds little to reproach
// the gateway's with.
func TestUnits(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	names, err := filepath.Glob("../systemd/*")
	if err != nil || len(names) < 3 {
		t.Fatalf("%v, %v", names, err)
	}
	args := []string{"verify", "--man=no"}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The program is not installed where this runs.
		b = bytes.ReplaceAll(b, []byte("/usr/bin/custos"), []byte(binary(t)))
		path := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	// Exposure in tenths: 20 is 2.0.
	if out, err := exec.Command(tool, "security", "--offline=true", "--no-pager", "--threshold=20", filepath.Join(dir, "custos.service")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
