package http

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
)

// sent is a request as it stands on the wire, with ana's token.
func sent(line, head, body string) []byte {
	return []byte(line + " HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer " + gatetest.Token + "\r\n" + head + "\r\n" + body)
}

// upstream answers what it is asked with what it was asked, and /slow for as long
// as anybody listens.
func upstream(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch id, secret, _ := r.BasicAuth(); {
		case r.URL.Path == "/token" && id == "gateway" && secret == targetKey:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"access_token":"`+targetToken+`","token_type":"bearer","expires_in":3600}`)
			return
		case r.Header.Get("Authorization") != "Bearer "+targetToken:
			http.Error(w, "I do not know "+r.Header.Get("Authorization"), http.StatusUnauthorized)
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.URL.Path != "/slow" {
			fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, b)
			return
		}
		for r.Context().Err() == nil {
			fmt.Fprintln(w, "still here")
			http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(time.Second):
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestGate(t *testing.T) {
	address := upstream(t)
	post := func(head, body string) []byte {
		return sent("POST /http/platform/v1/orders", head+fmt.Sprintf("Content-Length: %d\r\n", len(body)), body)
	}
	gatetest.Run(t, gatetest.Case{
		Connection: custos.Connection{Name: "platform", Protocol: Name, Address: address, TLS: custos.TargetTLS{Mode: "disable"},
			Auth: custos.Auth{Scheme: custos.AuthOAuth, TokenURL: "http://" + address + "/token"}},
		Credential: custos.Credential{Username: "gateway", Password: targetKey},
		Serve: func(ctx context.Context, w *gatetest.World, l net.Listener) error {
			ctx, stop := context.WithCancel(ctx)
			s := New(ctx, Options{Gate: w.Gate, Dialer: w, Logger: w.Logger(), Temp: t.TempDir(), Idle: 20 * time.Millisecond})
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
		Dial:      dialClient,
		Statement: func(word string) string { return `POST /v1/orders {"word":"` + word + `"}` },
		Begun:     func() { <-begun },
		Slow:      "GET /slow",
		Unknown: map[string][]byte{
			"a path that leads out":        sent("GET /http/platform/v1/../../admin", "", ""),
			"an escaped path":              sent("GET /http/platform/v1/%2e%2e/admin", "", ""),
			"a path that is escaped twice": sent("GET /http/platform/v1/%252e%252e/admin", "", ""),
			"a matrix of dots":             sent("GET /http/platform/v1/..;/admin", "", ""),
			"a backslash":                  sent("GET /http/platform/v1/%5cadmin", "", ""),
			"another host":                 sent("GET /http/platform/http://169.254.169.254/latest", "", ""),
			"an empty part":                sent("GET /http/platform//v1/orders", "", ""),
			"a NUL":                        sent("GET /http/platform/v1/%00", "", ""),
			"an unknown method":            sent("TRACE /http/platform/v1/orders", "", ""),
			"another method":               sent("POST /http/platform/v1/orders/5", "X-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n", ""),
			"another method, in the query": sent("POST /http/platform/v1/orders/5?_method=delete", "Content-Length: 0\r\n", ""),
			"another method, in a form":    post("Content-Type: application/x-www-form-urlencoded\r\n", "_method=delete"),
			"another path":                 sent("GET /http/platform/v1/orders", "X-Original-URL: /admin\r\n", ""),
			"who somebody is":              sent("GET /http/platform/v1/orders", "X-Remote-User: root\r\n", ""),
			"who somebody is, in CGI":      sent("GET /http/platform/v1/orders", "X_Remote_User: root\r\n", ""),
			"a credential of its own":      sent("GET /http/platform/v1/orders", "Proxy-Authorization: Basic eDp5\r\n", ""),
			"a change to HTTP/2":           sent("GET /http/platform/v1/orders", "Connection: Upgrade\r\nUpgrade: h2c\r\n", ""),
			"no JSON":                      post("Content-Type: application/json\r\n", "slip"),
			"a field twice":                post("Content-Type: application/json\r\n", `{"id":1,"id":2}`),
			"two values":                   post("Content-Type: application/json\r\n", `{} {}`),
			"JSON in UTF-16":               post("Content-Type: application/json; charset=utf-16\r\n", "{\x00}\x00"),
			"an encoding":                  post("Content-Type: application/json\r\nContent-Encoding: br\r\n", "slip"),
			"no gzip":                      post("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "slip"),
			"two types":                    post("Content-Type: application/json\r\nContent-Type: text/plain\r\n", `{}`),
			"no HTTP":                      []byte("slip slip slip\r\n\r\n"),
			"two lengths":                  sent("POST /http/platform/v1/orders", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}x"),
			"a field over two lines":       sent("GET /http/platform/v1/orders", "X-Slip: a\r\n\tb\rX: c\r\n", ""),
		},
		Oversized: sent("POST /http/platform/v1/orders", "Content-Type: application/json\r\nContent-Length: 99999999999\r\n", "{"),
	})
}

// What the upstream gives a token for, and the token.
const (
	targetKey   = "the-targets-own-key"
	targetToken = "the-targets-own-token"
)

// begun is told of each answer to Slow whose head a client has.
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
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if err := r.Write(c.conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if path == "/slow" {
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
