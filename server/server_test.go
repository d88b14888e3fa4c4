package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/internal/oidctest"
)

// line is a protocol for tests of the wiring: a client sends its token, a
// newline, and then lines, which are forwarded by permits as they are.
func line() Protocol {
	return Protocol{Name: "line", Address: func(c *config.Config) string { return c.Listen.Postgres }, New: func(f Front) Service { return lineService{f} }}
}

type lineService struct{ Front }

func (s lineService) Serve(ctx context.Context, l net.Listener) error {
	context.AfterFunc(ctx, func() { l.Close() })
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return nil
		}
		clients.Go(func() { s.client(ctx, c) })
	}
}

func (s lineService) client(ctx context.Context, c net.Conn) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	n, _ := c.Read(buf)
	session, err := s.Gate.Open(ctx, gate.Knock{Protocol: "line", Connection: "orders", Token: strings.TrimSpace(string(buf[:n])), Client: c.RemoteAddr().String(),
		Login: func(_ context.Context, conn net.Conn, _ *custos.Connection, _ custos.Credential, _ any) (*gate.Target, error) {
			return &gate.Target{Conn: conn}, nil
		}})
	if err != nil {
		io.WriteString(c, err.Error()+"\n")
		return
	}
	defer session.Close("")
	context.AfterFunc(session.Context(), func() { c.Close() })
	io.WriteString(c, "welcome\n")
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		permits, err := session.Submit(ctx, nil, []gate.Request{{Operation: &custos.Operation{Class: "line", Text: string(buf[:n])}, Frame: buf[:n]}})
		if err != nil {
			io.WriteString(c, err.Error()+"\n")
			continue
		}
		session.Send(permits)
		permits[0].Settle(gate.Outcome{State: custos.StateOK})
		io.WriteString(c, "done\n")
	}
}

// site is a gateway with an OpenID provider and a target that listens.
type site struct {
	t        *testing.T
	provider *oidctest.Provider
	target   net.Listener
	path     string
	log      *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, log: new(logBuffer)}
	var err error
	if s.provider, err = oidctest.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.provider.Close() })
	if s.target, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.target.Close() })
	go func() {
		for {
			c, err := s.target.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, c)
		}
	}()
	s.path = filepath.Join(t.TempDir(), "custos.yaml")
	s.configure("dba", "")
	return s
}

func (s *site) configure(group, more string) {
	s.t.Helper()
	text := `
listen: {https: "127.0.0.1:0", postgres: "127.0.0.1:0"}
data_dir: data
issuers: [{url: "` + s.provider.URL + `", audience: custos, groups_claim: groups, client_id: custos}]
roles: {auditor: [audit]}
connections:
  - name: orders
    protocol: line
    address: ` + s.target.Addr().String() + `
    tls: disable
    credential: {username: app}
    access: [{groups: [` + group + `]}]
` + more
	if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) open() (*Server, error) {
	return Open(Options{ConfigPath: s.path, Protocols: []Protocol{line()}, Logger: slog.New(slog.NewTextHandler(s.log, nil)), Now: time.Now})
}

// serve runs a gateway until the function that it returns is called.
func (s *site) serve() (*Server, func()) {
	s.t.Helper()
	server, err := s.open()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error)
	go func() { done <- server.Serve(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return server, stop
}

type caller struct {
	t *testing.T
	net.Conn
}

func (s *site) call(server *Server, user string) (*caller, string) {
	s.t.Helper()
	c, err := net.Dial("tcp", server.Addresses()[0].String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	k := &caller{s.t, c}
	return k, k.say(s.provider.Mint(user))
}

func (c *caller) say(text string) string {
	c.t.Helper()
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		return err.Error()
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(buf[:n]))
}

func (s *site) get(server *Server, user, path string) (int, string) {
	s.t.Helper()
	pem, err := os.ReadFile(filepath.Join(filepath.Dir(s.path), "data", "tls", "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(s.t.Context(), "GET", "https://"+server.Addresses()[1].String()+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+s.provider.Mint(user))
	}
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// sessions lists what a caller sees, once the index has caught up.
func (s *site) sessions(server *Server, user string) []map[string]any {
	s.t.Helper()
	if err := server.house.index.Wait(s.t.Context(), server.house.ledger.Size()); err != nil {
		s.t.Fatal(err)
	}
	status, body := s.get(server, user, "/api/v1/sessions")
	if status != http.StatusOK {
		s.t.Fatalf("%d: %s", status, body)
	}
	var page struct{ Items []map[string]any }
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		s.t.Fatal(err)
	}
	return page.Items
}

func TestServe(t *testing.T) {
	s := newSite(t)
	server, stop := s.serve()
	ana, greeting := s.call(server, "ana")
	if greeting != "welcome" || ana.say("select 1") != "done" {
		t.Fatalf("ana: %s", greeting)
	}
	if _, greeting := s.call(server, "bob"); !strings.Contains(greeting, "access") {
		t.Errorf("bob: %s", greeting)
	}
	if seen := s.sessions(server, "ana"); len(seen) != 1 || seen[0]["state"] != "open" {
		t.Errorf("ana sees %v", seen)
	}
	if seen := s.sessions(server, "carol"); len(seen) != 2 {
		t.Errorf("the auditor sees %v", seen)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/.well-known/custos": 200, "/api/v1/sessions": 401, "/": 200, "/nothing/here": 404} {
		if status, body := s.get(server, "", path); status != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	stop()
	// Its session was ended with it, on record.
	again, _ := s.serve()
	if seen := s.sessions(again, "ana"); len(seen) != 1 || seen[0]["state"] != "closed" {
		t.Errorf("after the stop ana sees %v", seen)
	}
}

func TestOneGatewayForAFolder(t *testing.T) {
	s := newSite(t)
	s.serve()
	if _, err := s.open(); err == nil || !strings.Contains(err.Error(), "another gateway") {
		t.Errorf("a second gateway: %v", err)
	}
}

func TestReload(t *testing.T) {
	s := newSite(t)
	server, _ := s.serve()
	ana, _ := s.call(server, "ana")
	s.configure("support", "")
	server.reload()
	if answer := ana.say("select 1"); !strings.Contains(answer, "access") {
		t.Errorf("ana, no longer admitted: %s", answer)
	}
	if _, greeting := s.call(server, "bob"); greeting != "welcome" {
		t.Errorf("bob, now admitted: %s", greeting)
	}
	if err := os.WriteFile(s.path, []byte("nonsense: true"), 0o600); err != nil {
		t.Fatal(err)
	}
	server.reload()
	if _, greeting := s.call(server, "bob"); greeting != "welcome" {
		t.Errorf("bob, after a broken file: %s", greeting)
	}
	configs := 0
	server.house.ledger.Scan(0, server.house.ledger.Size(), func(_ uint64, leaf, attachment []byte) error {
		if e, err := custos.ParseEntry(leaf); err == nil && e.Kind == custos.EntryConfig {
			configs++
			if !bytes.Contains(attachment, []byte("issuers")) {
				t.Errorf("the configuration on record: %s", attachment)
			}
		}
		return nil
	})
	if configs != 2 {
		t.Errorf("%d configurations are on record, want 2", configs)
	}
}

// Below the first floor no session is opened; below the second the open ones
// are refused too.
func TestFullDisk(t *testing.T) {
	s := newSite(t)
	server, _ := s.serve()
	ana, _ := s.call(server, "ana")
	s.configure("dba", "limits: {free_space: {sessions: 1000TiB, operations: 1MiB}}")
	server.reload()
	server.space.look()
	if _, greeting := s.call(server, "ana"); !strings.Contains(greeting, "floor") {
		t.Errorf("a new session: %s", greeting)
	}
	if status, _ := s.get(server, "", "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d", status)
	}
	if answer := ana.say("select 1"); answer != "done" {
		t.Errorf("an open session above its floor: %s", answer)
	}
	s.configure("dba", "limits: {free_space: {sessions: 1000TiB, operations: 1000TiB}}")
	server.reload()
	server.space.look()
	if answer := ana.say("select 1"); !strings.Contains(answer, "floor") {
		t.Errorf("an open session under its floor: %s", answer)
	}
}
