// Package kubetest starts a real Kubernetes API server for tests: etcd of the
// machine's own packages, a kube-apiserver, and a stand-in for the kubelet that
// runs what is run in a container on this machine. There are no controllers
// and no scheduler: what a test wants to be there, it makes.
//
// The programs are tools of the module in tools/, which the go command builds
// once and keeps in its cache.
package kubetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cluster is a running API server.
type Cluster struct {
	// URL is the API server's, https on loopback.
	URL string
	// Dir holds the files that follow, and the audit log.
	Dir string
	// CAFile holds the certificate to trust.
	CAFile string
	// Token is an administrator's, and TokenFile holds it; ViewerToken is of
	// somebody who may do nothing.
	Token, TokenFile, ViewerToken string
	// CertFile and KeyFile are an administrator's certificate.
	CertFile, KeyFile string
	// Audit is the API server's own log of what it was asked, in JSON lines.
	Audit string

	programs []*exec.Cmd
	done     []chan struct{}
}

// startTimeout bounds the start of one program.
const startTimeout = 60 * time.Second

// node is the name of the only node.
const node = "node-1"

// Start starts a cluster. Whoever gets one calls Stop.
func Start() (c *Cluster, err error) {
	dir, err := os.MkdirTemp("", "custos-kube-")
	if err != nil {
		return nil, err
	}
	c = &Cluster{Dir: dir, CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "admin.pem"), KeyFile: filepath.Join(dir, "admin.key"),
		TokenFile: filepath.Join(dir, "token"), Audit: filepath.Join(dir, "audit.log")}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start cluster: %w", err)
			c.Stop()
		}
	}()
	if err := c.certify(); err != nil {
		return c, err
	}
	c.Token, c.ViewerToken = random(), random()
	users := fmt.Sprintf("%s,admin,admin,\"system:masters\"\n%s,viewer,viewer\n", c.Token, c.ViewerToken)
	if err := errors.Join(c.write("tokens.csv", users), c.write("token", c.Token), c.write("audit.yaml", auditPolicy)); err != nil {
		return c, err
	}
	etcd, err := c.etcd()
	if err != nil {
		return c, err
	}
	kubelet, err := c.kubelet()
	if err != nil {
		return c, err
	}
	if err := c.apiserver(etcd); err != nil {
		return c, err
	}
	return c, c.join(kubelet)
}

const auditPolicy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"

func random() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (c *Cluster) write(name, text string) error {
	return os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600)
}

// Stop ends the programs and removes what they kept.
func (c *Cluster) Stop() {
	for i := len(c.programs) - 1; i >= 0; i-- {
		c.programs[i].Process.Kill()
		<-c.done[i]
	}
	os.RemoveAll(c.Dir)
}

// tool is the path of a program of tools/, built when it is not yet.
var tool = func() func(string) (string, error) {
	var mu sync.Mutex
	return func(name string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		_, here, _, _ := runtime.Caller(0)
		cmd := exec.Command("go", "tool", "-n", name)
		cmd.Dir = filepath.Join(filepath.Dir(here), "tools")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOWORK=off")
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("build %s: %w: %s", name, err, errOut.String())
		}
		return strings.TrimSpace(out.String()), nil
	}
}()

// Kubectl is the path of kubectl, of the API server's own release.
func Kubectl() (string, error) { return tool("kubectl") }

// run starts a program that ends with the test. Its output goes to a file.
func (c *Cluster) run(name, path string, stdout io.Writer, args ...string) error {
	out, err := os.Create(filepath.Join(c.Dir, name+".log"))
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, out, out
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		defer out.Close()
		// The signal at the end of the test is tied to the thread that starts it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	c.programs, c.done = append(c.programs, cmd), append(c.done, done)
	return nil
}

// until asks again until it holds, the last program ends, or time is over.
func (c *Cluster) until(name string, holds func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); !holds(ctx); {
		select {
		case <-tick.C:
		case <-c.done[len(c.done)-1]:
			log, _ := os.ReadFile(filepath.Join(c.Dir, name+".log"))
			return fmt.Errorf("start %s: it ended: %s", name, log[max(0, len(log)-2000):])
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(c.Dir, name+".log"))
			return fmt.Errorf("start %s: it is not ready: %s", name, log[max(0, len(log)-2000):])
		}
	}
	return nil
}

// freePort is a port that nobody listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

func (c *Cluster) etcd() (string, error) {
	path, err := exec.LookPath("etcd")
	if err != nil {
		return "", fmt.Errorf("%w: install it: apt-get install etcd-server", err)
	}
	client, err := freePort()
	if err != nil {
		return "", err
	}
	peer, err := freePort()
	if err != nil {
		return "", err
	}
	url := "http://127.0.0.1:" + client
	if err := c.run("etcd", path, nil, "--data-dir", filepath.Join(c.Dir, "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", "http://127.0.0.1:"+peer, "--initial-advertise-peer-urls", "http://127.0.0.1:"+peer, "--initial-cluster", "default=http://127.0.0.1:"+peer, "--unsafe-no-fsync"); err != nil {
		return "", err
	}
	return url, c.until("etcd", func(ctx context.Context) bool {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
		if err != nil {
			return false
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// kubelet returns the port of the node's agent.
func (c *Cluster) kubelet() (string, error) {
	path, err := tool("kubelet")
	if err != nil {
		return "", err
	}
	r, w := io.Pipe()
	if err := c.run("kubelet", path, w, "--cert", filepath.Join(c.Dir, "server.pem"), "--key", filepath.Join(c.Dir, "server.key"), "--dir", c.Dir); err != nil {
		return "", err
	}
	var port string
	_, err = fmt.Fscanln(r, &port)
	go io.Copy(io.Discard, r)
	return port, err
}

func (c *Cluster) apiserver(etcd string) error {
	path, err := tool("kube-apiserver")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	c.URL = "https://127.0.0.1:" + port
	file := func(name string) string { return filepath.Join(c.Dir, name) }
	if err := c.run("kube-apiserver", path, nil, "--etcd-servers", etcd, "--secure-port", port, "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
		"--tls-cert-file", file("server.pem"), "--tls-private-key-file", file("server.key"), "--client-ca-file", c.CAFile, "--token-auth-file", file("tokens.csv"),
		"--kubelet-client-certificate", c.CertFile, "--kubelet-client-key", c.KeyFile, "--kubelet-preferred-address-types", "InternalIP",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-signing-key-file", file("server.key"), "--service-account-key-file", file("server.key"),
		"--service-cluster-ip-range", "10.96.0.0/16", "--endpoint-reconciler-type", "none", "--authorization-mode", "RBAC", "--allow-privileged",
		"--disable-admission-plugins", "ServiceAccount", "--audit-log-path", c.Audit, "--audit-policy-file", file("audit.yaml"), "--audit-log-mode", "blocking"); err != nil {
		return err
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	return c.until("kube-apiserver", func(ctx context.Context) bool {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/readyz", nil)
		if err != nil {
			return false
		}
		r.Header.Set("Authorization", "Bearer "+c.Token)
		resp, err := client.Do(r)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// Client trusts the cluster, and says nothing of who it is.
func (c *Cluster) Client() (*http.Client, error) {
	pool, pemBytes := x509.NewCertPool(), []byte(nil)
	pemBytes, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	pool.AppendCertsFromPEM(pemBytes)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}, nil
}

// Do asks the API server as its administrator, in JSON, and fails where the
// server does.
func (c *Cluster) Do(method, path, body string) ([]byte, error) {
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	r, err := http.NewRequest(method, c.URL+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	return b, err
}

// join makes the node, where the kubelet is.
func (c *Cluster) join(port string) error {
	if _, err := c.Do(http.MethodPost, "/api/v1/nodes", `{"metadata":{"name":"`+node+`"}}`); err != nil {
		return err
	}
	_, err := c.Do(http.MethodPatch, "/api/v1/nodes/"+node+"/status", `{"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],"daemonEndpoints":{"kubeletEndpoint":{"Port":`+port+`}},
		"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady","message":"it is a stand-in"}]}}`)
	return err
}

// Run makes a pod that runs: it is on the node, and its container, "main", is
// up. lines are what it logged.
func (c *Cluster) Run(namespace, name, lines string) error {
	if err := c.write(namespace+"_"+name+".log", lines); err != nil {
		return err
	}
	if _, err := c.Do(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", `{"metadata":{"name":"`+name+`","labels":{"app":"`+name+`"}},
		"spec":{"nodeName":"`+node+`","containers":[{"name":"main","image":"registry.example/main:1","stdin":true,"tty":false}]}}`); err != nil {
		return err
	}
	_, err := c.Do(http.MethodPatch, "/api/v1/namespaces/"+namespace+"/pods/"+name+"/status", `{"status":{"phase":"Running","podIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"}],
		"containerStatuses":[{"name":"main","ready":true,"started":true,"restartCount":0,"image":"registry.example/main:1","imageID":"x","state":{"running":{"startedAt":"2026-01-01T00:00:00Z"}}}]}}`)
	return err
}

// certify makes a CA, the API server's and the kubelet's certificate, and an
// administrator's.
func (c *Cluster) certify() error {
	now := time.Now()
	make1 := func(name string, t, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		t.SerialNumber, t.NotBefore, t.NotAfter = big.NewInt(now.UnixNano()), now.Add(-time.Hour), now.Add(24*time.Hour)
		if parent == nil {
			parent, signer = t, key
		}
		der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
		if err != nil {
			return nil, nil, err
		}
		private, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, nil, err
		}
		cert, err := x509.ParseCertificate(der)
		return cert, key, errors.Join(err, c.write(name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
			c.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))))
	}
	ca, key, err := make1("ca", &x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	if err != nil {
		return err
	}
	if _, _, err := make1("server", &x509.Certificate{Subject: pkix.Name{CommonName: "kubernetes"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key); err != nil {
		return err
	}
	_, _, err = make1("admin", &x509.Certificate{Subject: pkix.Name{CommonName: "root", Organization: []string{"system:masters"}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca, key)
	return err
}
