package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/custos-gateway/custos/internal/tlsca"
)

// httpConnection is custos's connection to the upstream, and httpClients how many
// ask it at once.
const (
	httpConnection = "api"
	httpClients    = 32
)

// leastOfProxy is what of the speed of Go's own reverse proxy custos is to keep.
const leastOfProxy = 0.8

// httpLine is one sort of request, and how many of it a second went by each way.
type httpLine struct {
	name string
	ask  func(ctx context.Context, c *http.Client, base string) error
	got  map[string][]float64
}

// overHTTP asks an upstream by all ways, each with TLS towards its client and
// none towards the upstream.
func (b *bench) overHTTP(ctx context.Context, w *world) error {
	invoice := []byte(`{"id":7,"state":"open","lines":[` + strings.Repeat(`{"sku":"a-17","count":3,"cents":1999,"note":"as ordered"},`, 17) + `{"sku":"z"}]}`)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(invoice)
	}))
	defer upstream.Close()
	ways, err := w.httpWays(ctx, b.custos, strings.TrimPrefix(upstream.URL, "http://"))
	if err != nil {
		return err
	}
	order := `{"sku":"a-17","count":3}`
	b.out.http = []*httpLine{
		{name: "GET of 1 KB", ask: func(ctx context.Context, c *http.Client, base string) error {
			return ask(ctx, c, http.MethodGet, base+"/v1/invoices/7", "")
		}},
		{name: "POST of a small body", ask: func(ctx context.Context, c *http.Client, base string) error {
			return ask(ctx, c, http.MethodPost, base+"/v1/orders", order)
		}},
	}
	for _, l := range b.out.http {
		l.got = map[string][]float64{}
		for i := range b.rounds + 1 {
			for j := range ways {
				way := ways[(i+j)%len(ways)] // they take turns in going first
				n, err := l.perSecond(ctx, way, time.Duration(b.seconds)*time.Second)
				if err != nil {
					return fmt.Errorf("%s by %s: %w", l.name, way.name, err)
				}
				if i > 0 { // the first round warms up
					l.got[way.name] = append(l.got[way.name], n)
				}
			}
		}
	}
	return nil
}

// httpWay is one way to the upstream.
type httpWay struct {
	name, base string
	client     *http.Client
}

func ask(ctx context.Context, c *http.Client, method, address, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s: %.300s", resp.Status, b)
	}
	return err
}

// perSecond is how many requests a second are answered, of clients that each ask
// again when they are.
func (l *httpLine) perSecond(ctx context.Context, way *httpWay, during time.Duration) (float64, error) {
	var all sync.WaitGroup
	counts, failed := make([]int, httpClients), make([]error, httpClients)
	begun := time.Now()
	for i := range httpClients {
		all.Go(func() {
			for time.Since(begun) < during && failed[i] == nil {
				failed[i] = l.ask(ctx, way.client, way.base)
				counts[i]++
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return float64(sum) / time.Since(begun).Seconds(), errors.Join(failed...)
}

// withToken puts a token into every request.
type withToken struct {
	http.RoundTripper
	token string
}

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Authorization", "Bearer "+t.token)
	return t.RoundTripper.RoundTrip(r)
}

// httpWays starts the proxies. Each speaks HTTP/1.1, and keeps its lines.
func (w *world) httpWays(ctx context.Context, custos, upstream string) ([]*httpWay, error) {
	ca, err := tlsca.Load(filepath.Join(w.dir, "tls"), []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return nil, err
	}
	pair, err := w.certificate(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	var ways []*httpWay
	for _, p := range []struct {
		name string
		cmd  func(address string) (*exec.Cmd, error)
	}{
		{"ReverseProxy", func(address string) (*exec.Cmd, error) {
			self, err := os.Executable()
			if err != nil {
				return nil, err
			}
			return exec.CommandContext(ctx, self, "-proxy", address, "-upstream", upstream, "-pair", pair), nil
		}},
		{"haproxy", func(address string) (*exec.Cmd, error) {
			bin, err := program("haproxy")
			if err != nil {
				return nil, err
			}
			cfg, err := w.file("haproxy-http.cfg", fmt.Sprintf("global\n  maxconn 200\ndefaults\n  mode http\n  timeout connect 30s\n  timeout client 1h\n  timeout server 1h\nlisten http\n  bind %s ssl crt %s\n  server target %s\n", address, pair, upstream))
			return exec.CommandContext(ctx, bin, "-db", "-f", cfg), err
		}},
		{"nginx", func(address string) (*exec.Cmd, error) {
			bin, err := program("nginx")
			if err != nil {
				return nil, errAbsent
			}
			cfg, err := w.file("nginx.conf", fmt.Sprintf(`daemon off; worker_processes 2; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp; keepalive_requests 100000000;
  upstream target { server %s; keepalive 64; keepalive_requests 100000000; }
  server { listen %s ssl; ssl_certificate %s; ssl_certificate_key %[3]s; location / { proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
`, upstream, address, pair))
			return exec.CommandContext(ctx, bin, "-p", w.dir, "-c", cfg, "-e", "stderr"), err
		}},
	} {
		address, _, err := free()
		if err != nil {
			return nil, err
		}
		cmd, err := p.cmd(address)
		if errors.Is(err, errAbsent) {
			say("%s is not installed, and left out", p.name)
			continue
		}
		if err == nil {
			err = w.run(ctx, cmd, address)
		}
		if err != nil {
			return nil, err
		}
		ways = append(ways, &httpWay{p.name, "https://" + address, secure(roots, "")})
	}
	if err := w.register(ctx, custos, upstream); err != nil {
		return nil, err
	}
	own, err := os.ReadFile(filepath.Join(w.dir, "custos-data", "tls", "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(own)
	return append(ways, &httpWay{"custos", "https://" + w.https + "/http/" + httpConnection, secure(roots, w.path("custos").password)}), nil
}

// certificate writes a certificate for loopback, with its key, into a file.
func (w *world) certificate(ca *tlsca.CA) (file string, err error) {
	pair, err := ca.GetCertificate(&tls.ClientHelloInfo{ServerName: "127.0.0.1"})
	if err != nil {
		return "", err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return "", err
	}
	var b []byte
	for _, c := range pair.Certificate {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return w.file("pair.pem", string(append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)))
}

var errAbsent = errors.New("it is not installed")

// secure is a client over TLS, of HTTP/1.1.
func secure(roots *x509.CertPool, token string) *http.Client {
	var t http.RoundTripper = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: httpClients, DisableCompression: true}
	if token != "" {
		t = withToken{t, token}
	}
	return &http.Client{Transport: t}
}

// register has custos reach the upstream.
func (w *world) register(ctx context.Context, custos, upstream string) error {
	file, err := w.file("api.yaml", "protocol: http\naddress: http://"+upstream+"\ncredential: {none: true}\naccess: [{groups: [dba]}]\n")
	if err != nil {
		return err
	}
	bin, err := filepath.Abs(custos)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, bin, "connection", "add", httpConnection, "--file", file, "--url", "https://"+w.https, "--ca", filepath.Join(w.dir, "custos-data", "tls", "ca.pem"))
	cmd.Env = append(os.Environ(), "CUSTOS_TOKEN="+w.path("custos").password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("register the upstream: %w: %s", err, out)
	}
	return nil
}

// proxy is Go's own reverse proxy, bare: `bench -proxy ADDRESS -upstream ADDRESS
// -pair FILE`.
func proxy(address, upstream, pair string) error {
	p := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: upstream}) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 2 * httpClients, DisableCompression: true},
	}
	server := &http.Server{Addr: address, Handler: p, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServeTLS(pair, pair)
}

var (
	proxyAt  = flag.String("proxy", "", "be a bare reverse proxy at this `address`, and nothing else")
	proxyTo  = flag.String("upstream", "", "of -proxy: where it leads")
	proxyTLS = flag.String("pair", "", "of -proxy: a `file` with its certificate and key")
)

// httpTable is what each way keeps of the bare proxy's speed.
func (r *report) httpTable(s *strings.Builder) {
	fmt.Fprintf(s, "\n| requests/s over TLS, c=%d, Go's bare ReverseProxy = 1 | haproxy | nginx | custos | ReverseProxy |\n|---|---|---|---|---|\n", httpClients)
	for _, l := range r.http {
		fmt.Fprintf(s, "| %s |", l.name)
		for _, name := range []string{"haproxy", "nginx", "custos"} {
			if len(l.got[name]) == 0 {
				s.WriteString(" not installed |")
				continue
			}
			fmt.Fprintf(s, " %.2f |", median(l.ratios(name)))
		}
		fmt.Fprintf(s, " %.0f/s |\n", median(slices.Clone(l.got["ReverseProxy"])))
	}
}

// ratios are of each round.
func (l *httpLine) ratios(name string) []float64 {
	var all []float64
	for i, n := range l.got[name] {
		all = append(all, n/l.got["ReverseProxy"][i])
	}
	return all
}
