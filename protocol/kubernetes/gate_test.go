package kubernetes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
)

// raw is a request as it stands on the wire, with ana's token.
func raw(line, head, body string) []byte {
	return []byte(line + " HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer " + gatetest.Token + "\r\n" + head + "\r\n" + body)
}

// inTheClear stands before the API server without TLS, so that the suite can
// hear what reaches it.
func inTheClear(t *testing.T) string {
	t.Helper()
	started = true
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: client.Transport, FlushInterval: -1, ErrorLog: nil}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestGate(t *testing.T) {
	address := inTheClear(t)
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	post := func(body string) []byte {
		return raw("POST /k8s/platform/api/v1/namespaces/prod/pods", fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body)), body)
	}
	gatetest.Run(t, gatetest.Case{
		Connection: custos.Connection{Name: "platform", Protocol: Name, Address: address, TLS: custos.TargetTLS{Mode: "disable"}},
		Credential: custos.Credential{Password: c.Token},
		Serve: func(ctx context.Context, w *gatetest.World, l net.Listener) error {
			ctx, stop := context.WithCancel(ctx)
			s := New(ctx, Options{Gate: w.Gate, Dialer: w, Logger: w.Logger(), Idle: 20 * time.Millisecond})
			front := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
			go func() {
				<-ctx.Done()
				front.Close()
			}()
			err := front.Serve(l)
			stop()
			s.Wait()
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		},
		Dial: dialClient,
		Statement: func(word string) string {
			return `POST /api/v1/namespaces/prod/configmaps?dryRun=All {"metadata":{"name":"x","labels":{"word":"` + word + `"}}}`
		},
		Begun: func() { <-begun },
		Slow:  "GET /api/v1/namespaces/prod/pods?watch=true",
		Unknown: map[string][]byte{
			"a path that leads out":   raw("GET /k8s/platform/api/v1/../../healthz", "", ""),
			"an escaped path":         raw("GET /k8s/platform/api/v1/%2e%2e/pods", "", ""),
			"an escaped slash":        raw("GET /k8s/platform/api/v1/namespaces%2fprod", "", ""),
			"an empty part":           raw("GET /k8s/platform/api//v1/pods", "", ""),
			"an unknown path":         raw("POST /k8s/platform/unheard/of", "Content-Length: 0\r\n", ""),
			"an unknown method":       raw("MOVE /k8s/platform/api/v1/pods", "", ""),
			"who somebody is":         raw("GET /k8s/platform/api/v1/pods", "Impersonate-User: root\r\n", ""),
			"what a proxy says":       raw("GET /k8s/platform/api/v1/pods", "X-Remote-User: root\r\n", ""),
			"a WebSocket elsewhere":   raw("GET /k8s/platform/api/v1/pods?watch=true", "Connection: Upgrade\r\nUpgrade: websocket\r\n", ""),
			"no JSON":                 post("slip"),
			"a field twice":           post(`{"spec":{},"spec":{}}`),
			"two values":              post(`{} {}`),
			"CBOR":                    raw("POST /k8s/platform/api/v1/namespaces/prod/pods", "Content-Type: application/cbor\r\nContent-Length: 4\r\n", "\xd9\xd9\xf7\xa0"),
			"no Protocol Buffers":     raw("POST /k8s/platform/api/v1/namespaces/prod/pods", "Content-Type: application/vnd.kubernetes.protobuf\r\nContent-Length: 4\r\n", "slip"),
			"a kind that is unknown":  raw("POST /k8s/platform/api/v1/namespaces/prod/pods", "Content-Type: application/vnd.kubernetes.protobuf\r\nContent-Length: 13\r\n", "k8s\x00\x0a\x07\x0a\x02v1\x12\x01X"),
			"a patch of unknown form": raw("PATCH /k8s/platform/api/v1/namespaces/prod/pods/web-1", "Content-Type: application/x-slip\r\nContent-Length: 2\r\n", "{}"),
			"no HTTP":                 []byte("slip slip slip\r\n\r\n"),
			"two lengths":             raw("POST /k8s/platform/api/v1/namespaces/prod/pods", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}x"),
		},
		Oversized: raw("POST /k8s/platform/api/v1/namespaces/prod/pods", "Content-Type: application/json\r\nContent-Length: 99999999999\r\n", "{"),
	})
}

// begun is told of each watch whose head a client has.
var begun = make(chan struct{}, 1)

// client speaks HTTP on one line, as gatetest sees it.
type client struct {
	conn  net.Conn
	in    *bufio.Reader
	token string
}

func dialClient(_ testing.TB, addr, token string) (gatetest.Client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	// A session is kept for a token's next request; each client here has its own.
	if token == gatetest.Token {
		token += fmt.Sprint(".", clients.Add(1))
	}
	c := &client{conn, bufio.NewReader(conn), token}
	if err := c.Do("GET "); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// clients counts them.
var clients atomic.Int64

func (c *client) Do(statement string) error {
	method, rest, _ := strings.Cut(statement, " ")
	path, body, _ := strings.Cut(rest, " ")
	r, err := http.NewRequest(method, "http://gw"+Prefix+"platform"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", typeJSON)
	if err := r.Write(c.conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if strings.Contains(path, "watch=true") {
		begun <- struct{}{}
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return nil
}

func (c *client) Conn() net.Conn { return c.conn }
func (c *client) Close() error   { return c.conn.Close() }
