package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/custos-gateway/custos/internal/kubetest"
	"github.com/custos-gateway/custos/internal/oidctest"
)

// platform is the connection that the corpus of Kubernetes is run on.
const platform = `  - name: platform
    protocol: kubernetes
    address: %s
    tls: {mode: verify-full, ca_file: %s}
    credential: {bearer: {file: %s}}
    labels: {env: prod}
    access: [{groups: [skills, dba]}]
approvals: {hold: {skill: 0s}}
policies:
  - include: builtin/safe-defaults
    connections: {env: prod}
  - rule: hide-personal-data
    connections: {name: platform}
    mask: [{detect: [email], with: redact}]
`

// logged is what the pod of the corpus has logged; the address is masked.
const logged = "a line\nmail from bob.smith@example.com came\n"

// TestKubernetesCorpus sends requests of known verdicts as a skill on a
// production connection, to a real API server: at least 98 of 100 come out as
// they should, none that should be refused or held is let through.
func TestKubernetesCorpus(t *testing.T) {
	c, err := kubetest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	for _, o := range []struct{ path, body string }{
		{"/api/v1/namespaces", `{"metadata":{"name":"prod"}}`},
		{"/api/v1/namespaces/prod/secrets", `{"metadata":{"name":"db"},"stringData":{"password":"s3cr3t-of-db"}}`},
		{"/api/v1/namespaces/prod/configmaps", `{"metadata":{"name":"app"},"data":{"a":"b"}}`},
		{"/apis/apps/v1/namespaces/prod/deployments", `{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"web","image":"a"}]}}}}`},
	} {
		if _, err := c.Do(http.MethodPost, o.path, o.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Run("prod", "web-1", logged); err != nil {
		t.Fatal(err)
	}
	s := newSiteOf(t, fmt.Sprintf(platform, strings.TrimPrefix(c.URL, "https://"), c.CAFile, c.TokenFile), func(*site) {})
	path := "testdata/corpus_kubernetes.tsv"
	if given := os.Getenv("CUSTOS_CORPUS"); given != "" {
		path = given
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, right := 0, 0
	for line := range strings.Lines(string(b)) {
		r := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		if len(r) != 4 || r[0] != "k8s" {
			continue
		}
		rows++
		got, answer := s.kubernetes(r[3])
		if got == r[2] {
			right++
		} else {
			t.Logf("%s: want %s, got %s: %s\n\t%.300s", r[1], r[2], got, r[3], answer)
		}
		if got == "allow" && r[2] != "allow" {
			t.Errorf("let through: %s", r[3])
		}
		for _, secret := range []string{"s3cr3t-of-db", "czNjcjN0LW9mLWRi", "bob.smith@"} {
			if bytes.Contains(answer, []byte(secret)) {
				t.Errorf("%s shows %s", r[3], secret)
			}
		}
	}
	t.Logf("%d of %d right", right, rows)
	if rows == 0 || 100*right < 98*rows {
		t.Errorf("%d of %d verdicts right, want 98 of 100", right, rows)
	}
	s.verify()
}

// kubernetes sends a request in words, byte for byte, and says what the gateway
// made of it.
func (s *site) kubernetes(statement string) (string, []byte) {
	s.t.Helper()
	method, rest, _ := strings.Cut(statement, " ")
	address, rest, _ := strings.Cut(rest, " ")
	head := ""
	media := "application/json"
	if method == http.MethodPatch {
		media = "application/merge-patch+json"
	}
	for strings.HasPrefix(strings.TrimSpace(rest), "(") {
		note, after, _ := strings.Cut(strings.TrimSpace(rest)[1:], ")")
		if h, ok := strings.CutPrefix(note, "header "); ok {
			head += h + "\r\n"
		} else if m, ok := strings.CutPrefix(note, "Content-Type "); ok {
			media = m
		}
		rest = after
	}
	body := strings.TrimSpace(rest)
	if strings.HasPrefix(body, "[") {
		media = "application/json-patch+json"
	}
	if body != "" {
		head += "Content-Type: " + media + "\r\n"
	}
	pem, err := os.ReadFile(filepath.Join(s.data(), "tls", "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", s.https, &tls.Config{RootCAs: pool, NextProtos: []string{"http/1.1"}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "%s /k8s/platform%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n%s\r\n%s",
		method, address, s.https, s.provider.Mint(oidctest.SkillSubject), len(body), head, body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", statement, err, s.log)
	}
	defer resp.Body.Close()
	conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // a watch, or a log that is followed, has no end
	answer, err := io.ReadAll(resp.Body)
	var timeout net.Error
	if err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
		s.t.Errorf("%s: %v", statement, err)
	}
	return verdictOf(resp, answer), answer
}

// verdictOf tells the gateway's own answers from the API server's.
func verdictOf(resp *http.Response, answer []byte) string {
	var said struct {
		Message string
		Details struct{ Causes []struct{ Reason string } }
	}
	json.Unmarshal(answer, &said) // what is no Status is the API server's
	switch {
	case resp.Header.Get("Audit-Id") != "":
		return "allow" // the API server answered
	case resp.Request.Method == http.MethodHead && resp.StatusCode == http.StatusForbidden:
		return "refuse"
	case resp.StatusCode == http.StatusBadRequest && len(said.Details.Causes) == 0 && !json.Valid(answer):
		return "refuse" // no HTTP request that anybody takes
	case len(said.Details.Causes) == 0 || said.Details.Causes[len(said.Details.Causes)-1].Reason != "retry":
		return "allow"
	case strings.HasPrefix(said.Message, "held "):
		return "approve"
	}
	return "refuse"
}
