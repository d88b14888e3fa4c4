package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/internal/kubetest"
	"github.com/custos-gateway/custos/internal/tlsca"
)

// cluster is the real API server that the tests share.
var cluster = sync.OnceValues(func() (*kubetest.Cluster, error) {
	c, err := kubetest.Start()
	if err != nil {
		return nil, err
	}
	for _, o := range []struct{ path, body string }{
		{"/api/v1/namespaces", `{"metadata":{"name":"prod","labels":{"pod-security.kubernetes.io/warn":"baseline"}}}`},
		{"/api/v1/namespaces/prod/secrets", `{"metadata":{"name":"db"},"type":"Opaque","stringData":{"password":"` + clear + `","user":"app"}}`},
		{"/api/v1/namespaces/prod/configmaps", `{"metadata":{"name":"app"},"data":{"mode":"fast","owner":"ana@example.com"}}`},
		{"/apis/apps/v1/namespaces/prod/deployments", `{"metadata":{"name":"web","labels":{"app":"web"}},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},
			"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"main","image":"registry.example/web:1"}]}}}}`},
		{"/api/v1/namespaces/prod/services", `{"metadata":{"name":"web"},"spec":{"ports":[{"port":80}],"selector":{"app":"web"}}}`},
		{"/api/v1/namespaces/prod/serviceaccounts", `{"metadata":{"name":"robot"}}`},
		{"/apis/rbac.authorization.k8s.io/v1/namespaces/prod/roles", `{"metadata":{"name":"dev"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`},
	} {
		if _, err := c.Do(http.MethodPost, o.path, o.body); err != nil {
			c.Stop()
			return nil, err
		}
	}
	if err := c.Run("prod", "web-1", "the first line\nmail from bob@example.com\n"); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if started {
		if c, err := cluster(); err == nil {
			c.Stop()
		}
	}
	os.Exit(code)
}

var started bool // the cluster was asked for

// gateway is a gate in front of the cluster.
type gateway struct {
	*gatetest.World
	cluster *kubetest.Cluster
	url     string // of the connection
	ca      string
	addr    string
}

func start(t testing.TB) *gateway {
	t.Helper()
	started = true
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	w := gatetest.New(t, connection(c), custos.Credential{Password: c.Token})
	dir := t.TempDir()
	ca, err := tlsca.Load(dir, []string{"127.0.0.1"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := New(ctx, Options{Gate: w.Gate, Dialer: w, Logger: w.Logger(), Idle: time.Minute})
	front := &http.Server{Handler: s, TLSConfig: &tls.Config{GetCertificate: ca.GetCertificate}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		front.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() {
		stop()
		front.Close()
		<-done
		s.Wait()
		if t.Failed() {
			t.Log(w.Log())
		}
	})
	return &gateway{w, c, "https://" + l.Addr().String() + Prefix + "platform", filepath.Join(dir, "ca.pem"), l.Addr().String()}
}

func connection(c *kubetest.Cluster) custos.Connection {
	return custos.Connection{Name: "platform", Protocol: Name, Address: strings.TrimPrefix(c.URL, "https://"), TLS: custos.TargetTLS{CAFile: c.CAFile}}
}

// kubectl runs the real one, through the gateway or, direct, at the API server.
func (g *gateway) kubectl(t testing.TB, direct bool, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := kubetest.Kubectl()
	if err != nil {
		t.Fatal(err)
	}
	where := []string{"--server", g.url, "--certificate-authority", g.ca, "--token", gatetest.Token}
	if direct {
		where = []string{"--server", g.cluster.URL, "--certificate-authority", g.cluster.CAFile, "--token", g.cluster.Token}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append(where, args...)...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "KUBECONFIG=/dev/null", "PATH=" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

func TestKubectl(t *testing.T) {
	g := start(t)
	for _, test := range []struct{ args, stdin, want string }{
		{"get pods -n prod", "", "web-1"},
		{"logs -n prod web-1", "", "the first line"},
		{"get secret db -n prod -o yaml", "", "KioqTUFTS0VEKioq"},
		{"exec -n prod web-1 -- echo hello", "", "hello"},
		{"exec -i -n prod web-1 -- sh", "echo one\necho two", "one\ntwo"},
		{"exec -i -n prod web-1 -- cat", "some text", "some text"},
	} {
		t.Run(test.args, func(t *testing.T) {
			out, errOut, err := g.kubectl(t, false, test.stdin, strings.Fields(test.args)...)
			if err != nil || !strings.Contains(out, test.want) {
				t.Errorf("%v\n%s%s", err, out, errOut)
			}
			hidden(t, []byte(out))
		})
	}
}

// A rule may let the values of Secrets be seen; one that hides them wins.
func TestSecretsThatARuleShows(t *testing.T) {
	g := start(t)
	shows := custos.Mask{Columns: []string{"*.secrets.data"}, With: custos.Clear}
	for _, test := range []struct {
		masks []custos.Mask
		seen  bool
	}{
		{nil, false},
		{[]custos.Mask{shows}, true},
		{[]custos.Mask{shows, {Columns: []string{"prod.secrets.*"}, With: "redact"}}, false},
	} {
		g.SetPolicy(func(*custos.Operation) custos.Decision {
			return custos.Decision{Effect: custos.Allow, Masks: test.masks}
		})
		out, errOut, err := g.kubectl(t, false, "", "get", "secret", "db", "-n", "prod", "-o", "jsonpath={.data.password}")
		if want := base64.StdEncoding.EncodeToString([]byte(clear)); err != nil || (out == want) != test.seen {
			t.Errorf("%v: %q %s %v", test.masks, out, errOut, err)
		}
	}
}
