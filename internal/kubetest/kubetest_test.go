package kubetest

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestCluster(t *testing.T) {
	c, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	if _, err := c.Do(http.MethodPost, "/api/v1/namespaces", `{"metadata":{"name":"prod"}}`); err != nil {
		t.Fatal(err)
	}
	if err := c.Run("prod", "web-1", "a line of its log\n"); err != nil {
		t.Fatal(err)
	}
	kubectl, err := Kubectl()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ want, args string }{
		{"web-1", "get pods -n prod"},
		{"a line of its log", "logs -n prod web-1"},
		{"hello", "exec -n prod web-1 -- echo hello"},
	} {
		cmd := exec.Command(kubectl, append([]string{"--server", c.URL, "--certificate-authority", c.CAFile, "--token", c.Token}, strings.Fields(test.args)...)...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "KUBECONFIG=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), test.want) {
			t.Errorf("kubectl %s: %v: %s", test.args, err, out)
		}
	}
}
