package tunnel

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

// joins asks to join by hand, and returns the certificate.
func (r *rig) joins(token, name string) (*identity, error) {
	r.t.Helper()
	key, request, err := newRequest()
	if err != nil {
		r.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots}, DisableKeepAlives: true}}
	in, err := apply(context.Background(), client, "https://"+r.address, token, &application{Name: name, Request: request})
	if err != nil {
		return nil, err
	}
	return newIdentity(key, in.Certificate)
}

// knocks connects with a certificate, and returns the line as far as it got.
func (r *rig) knocks(id *identity, protocols ...string) (*tls.Conn, error) {
	c := &tls.Config{RootCAs: r.roots, ServerName: "127.0.0.1", NextProtos: protocols}
	if id != nil {
		c.Certificates = []tls.Certificate{id.certificate()}
	}
	conn, err := tls.Dial("tcp", r.address, c)
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn, nil
}

// admitted says whether a certificate opens the agents' door.
func (r *rig) admitted(id *identity) (*tls.Conn, error) {
	conn, err := r.knocks(id, ALPN)
	if err == nil {
		err = writeLine(conn, `{"host":"thief"}`)
	}
	if err == nil {
		_, err = readAnswer(conn)
	}
	return conn, err
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %q", err, text)
	}
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// A gateway, or whoever took it over, cannot have an agent dial what is not on
// the agent's own list.
func TestAttackTargetOutsideOfTheList(t *testing.T) {
	r := newRig(t)
	reached := make(chan struct{}, 1)
	secret := place(t, func(net.Conn) { reached <- struct{}{} })
	allowed := place(t, echo)
	r.run(r.options("vpc-a", allowed))
	for _, address := range []string{
		secret, "localhost:" + port(secret), "127.1:" + port(secret), "2130706433:" + port(secret), "0x7f000001:" + port(secret), "[::ffff:127.0.0.1]:" + port(secret),
		"169.254.169.254:80", "[fd00:ec2::254]:80", "[::ffff:169.254.169.254]:80", "metadata.google.internal:80",
		allowed + "@" + secret, allowed + "\n" + "dial " + secret, allowed + " " + secret, "127.0.0.1:" + port(allowed) + "0",
	} {
		if conn, err := r.dial("vpc-a", address); err == nil {
			conn.Close()
			t.Errorf("%q was dialled", address)
		}
	}
	select {
	case <-reached:
		t.Error("the target was reached")
	default:
	}
	says(t, r.mustDial("vpc-a", allowed), "hello")
}

// A one-time token joins one agent, once, under its name, in its time.
func TestAttackToken(t *testing.T) {
	r := newRig(t)
	token := r.token("vpc-a")
	_, err := r.joins(token, "vpc-b")
	wantError(t, err, "for another agent")
	if _, err := r.joins(token, "vpc-a"); err != nil {
		t.Fatal(err)
	}
	_, err = r.joins(token, "vpc-a")
	wantError(t, err, "was used")
	late := r.token("vpc-a")
	r.ahead.Store(int64(2 * MinTokenLife))
	_, err = r.joins(late, "vpc-a")
	wantError(t, err, "has ended")
	_, err = r.joins(tokenPrefix, "vpc-a")
	wantError(t, err, "unknown")
	_, err = r.joins("", "vpc-a")
	wantError(t, err, "")
	_, err = r.joins("eyJhbGciOiJub25lIn0.e30.", "vpc-a")
	wantError(t, err, "nobody joins by a workload's token")

	// What is kept of a token does not join anybody.
	kept, err := os.ReadFile(filepath.Join(r.dir, "agents", "agents.json"))
	if err != nil {
		t.Fatal(err)
	}
	fresh := r.token("vpc-a")
	if bytes.Contains(kept, []byte(fresh)) || strings.Contains(r.log.String(), fresh) {
		t.Error("a token is kept in the clear")
	}
	for _, n := range r.recorded(custos.EntryToken) {
		if n.By != "carol" || strings.Contains(n.Text+n.Digest, fresh) {
			t.Errorf("on record is %+v", n)
		}
		_, err := r.joins(tokenPrefix+n.Digest, "vpc-a")
		wantError(t, err, "unknown")
	}
	for _, life := range []time.Duration{-time.Hour, 0, time.Second, 48 * time.Hour} {
		_, _, err := r.hub.Token("carol", "vpc-a", life)
		wantError(t, err, "its life must be")
	}
	_, _, err = r.hub.Token("carol", "vpc-z", time.Hour)
	wantError(t, err, "there is no agent")
}

// Two who present the same token at the same moment are not both let in.
func TestAttackTokenRace(t *testing.T) {
	r := newRig(t)
	token := r.token("vpc-a")
	joined := make(chan error, 8)
	for range cap(joined) {
		go func() { _, err := r.joins(token, "vpc-a"); joined <- err }()
	}
	in := 0
	for range cap(joined) {
		if <-joined == nil {
			in++
		}
	}
	if in != 1 {
		t.Errorf("%d were let in", in)
	}
}

// With the ledger failing no token is given, and nobody joins; the token is
// good afterwards.
func TestNothingUnrecorded(t *testing.T) {
	r := newRig(t)
	token := r.token("vpc-a")
	r.mu.Lock()
	r.failing = errors.New("the disk is full")
	r.mu.Unlock()
	_, err := r.joins(token, "vpc-a")
	wantError(t, err, "the disk is full")
	_, _, err = r.hub.Token("carol", "vpc-a", time.Hour)
	wantError(t, err, "the disk is full")
	r.mu.Lock()
	r.failing = nil
	r.mu.Unlock()
	if _, err := r.joins(token, "vpc-a"); err != nil {
		t.Error(err)
	}
}

// A stolen certificate is good as long as it lives, and no longer; a line that
// it opened ends with it.
func TestAttackStolenCertificate(t *testing.T) {
	r := newRig(t)
	r.life.Store("vpc-a", 2*time.Second)
	id, err := r.joins(r.token("vpc-a"), "vpc-a")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := r.admitted(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Errorf("the line did not end with the certificate: %v", err)
	}
	r.log.await(t, "its certificate ended", 1)
	if _, err := r.admitted(id); err == nil {
		t.Error("an expired certificate was let in")
	}
	// Nor does a thief with a wrong clock get in: the gateway's counts.
	r.life.Store("vpc-b", time.Hour)
	id, err = r.joins(r.token("vpc-b"), "vpc-b")
	if err != nil {
		t.Fatal(err)
	}
	r.ahead.Store(int64(2 * time.Hour))
	_, err = r.admitted(id)
	wantError(t, err, "certificate")
}

// Removing an agent ends its line, and its certificate opens none any more; a
// name that is configured again does not bring it back.
func TestRemoval(t *testing.T) {
	r := newRig(t)
	address := place(t, echo)
	o := r.options("vpc-a", address)
	g := r.run(o)
	conn := r.mustDial("vpc-a", address)
	stolen, err := loadIdentity(g.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.hub.Remove("carol", "vpc-a", r.hub.Lines()[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, ErrCut) {
		t.Errorf("its session ended with %v", err)
	}
	_, err = r.admitted(stolen)
	wantError(t, err, "removed")
	r.log.await(t, "the gateway does not take this agent's certificate: this agent was removed", 1)
	r.log.await(t, "get another with custos agent token NAME", 2)
	if notes := r.recorded(custos.EntryRemoved); len(notes) != 1 || notes[0].By != "carol" {
		t.Errorf("on record is %+v", notes)
	}
	wantError(t, r.hub.Remove("carol", "vpc-a", "x"), "there is no vpc-a x")

	o = r.options("vpc-b", address)
	g = r.run(o)
	if stolen, err = loadIdentity(g.Dir); err != nil {
		t.Fatal(err)
	}
	r.life.Delete("vpc-b")
	if err := r.hub.Reload(); err != nil {
		t.Fatal(err)
	}
	r.until(func() bool { return len(r.hub.Lines()) == 0 })
	r.life.Store("vpc-b", time.Hour)
	_, err = r.admitted(stolen)
	wantError(t, err, "removed")
}

// An agent cannot be another: its name is that which the gateway signed.
func TestAttackAnotherName(t *testing.T) {
	r := newRig(t)
	// What a request for a certificate says of names is not looked at.
	key, _, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "vpc-a"}, URIs: nameOf("vpc-a", "x")}, key)
	if err != nil {
		t.Fatal(err)
	}
	_, der, err := r.hub.authority.join(r.token("vpc-b"), "vpc-b", request)
	if err != nil {
		t.Fatal(err)
	}
	id, err := newIdentity(key, der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.admitted(id); err != nil {
		t.Fatal(err)
	}
	r.until(func() bool { return len(r.hub.Lines()) == 1 })
	if l := r.hub.Lines(); l[0].Name != "vpc-b" {
		t.Errorf("lines are %+v", l)
	}
	// A certificate that the agents' CA did not sign, or that an agent signed,
	// is none; nor is one of the gateway's other CA.
	for _, forge := range []func() *identity{
		func() *identity { return forged(t, "vpc-a", nil) },
		func() *identity { return forged(t, "vpc-a", id) },
	} {
		if _, err := r.admitted(forge()); err == nil {
			t.Error("a forged certificate was let in")
		}
	}
	// A request must be signed by the key that it is for.
	request[len(request)-1] ^= 1
	_, _, err = r.hub.authority.join(r.token("vpc-b"), "vpc-b", request)
	wantError(t, err, "certificate request")
	// Nor does an agent renew another.
	_, good, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = r.hub.authority.renew("vpc-a", r.hub.Lines()[0].ID, good); !isRefusal(err, codeUnknown) {
		t.Errorf("renewed: %v", err)
	}
}

// forged is a certificate for an agent that by signed, or itself.
func forged(t *testing.T, name string, by *identity) *identity {
	t.Helper()
	key, _, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), URIs: nameOf(name, "x"), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	signer, parent := key, template
	if by != nil {
		signer, parent = by.key, by.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{key: key, cert: cert}
}

// Callers find no way in at the agents' door, and agents none at the callers'.
func TestAttackAgentsDoor(t *testing.T) {
	r := newRig(t)
	id, err := r.joins(r.token("vpc-a"), "vpc-a")
	if err != nil {
		t.Fatal(err)
	}
	// Without a certificate there is no line, whatever else is offered.
	for _, protocols := range [][]string{{ALPN}, {"h2", ALPN}, {ALPN, "http/1.1"}} {
		conn, err := r.knocks(nil, protocols...)
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells a client late
		}
		wantError(t, err, "certificate required")
	}
	// With one, only the agents' protocol is spoken.
	conn, err := r.knocks(id, "h2", ALPN)
	if err != nil {
		t.Fatal(err)
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != ALPN {
		t.Errorf("with a certificate, %q was negotiated", p)
	}
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\n\r\n")
	if said, _ := io.ReadAll(conn); len(said) != 0 {
		t.Errorf("it answered %q", said)
	}
	// A line of words has an end.
	if conn, err = r.knocks(id, ALPN); err != nil {
		t.Fatal(err)
	}
	conn.Write(bytes.Repeat([]byte("x"), 1<<20))
	if said, _ := io.ReadAll(conn); len(said) != 0 {
		t.Errorf("it answered %q", said)
	}
	// The callers' door neither wants nor heeds a certificate.
	for _, id := range []*identity{nil, id} {
		for _, h2 := range []bool{false, true} {
			c := &tls.Config{RootCAs: r.roots}
			if id != nil {
				c.Certificates = []tls.Certificate{id.certificate()}
			}
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: h2, DisableKeepAlives: true}}
			res, err := client.Get("https://" + r.address + "/")
			if err != nil {
				t.Fatal(err)
			}
			said, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if want := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]; string(said) != want {
				t.Errorf("it answered %q, want %q", said, want)
			}
		}
	}
}

// What is sent to the place where agents join is bounded, and refused if it is
// nothing.
func TestAttackJoin(t *testing.T) {
	r := newRig(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots}, DisableKeepAlives: true}}
	good, err := json.Marshal(application{Name: "vpc-a", Request: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, token, body string
		status              int
	}{
		{"GET", "Bearer x", "", 404}, {"POST", "", string(good), 400}, {"POST", "Basic x", string(good), 400}, {"POST", "Bearer x", "", 400},
		{"POST", "Bearer x", "[]", 400}, {"POST", "Bearer x", strings.Repeat(" ", 1<<20), 400}, {"POST", "Bearer " + tokenPrefix + "x", string(good), 403},
	} {
		q, err := http.NewRequest(c.method, "https://"+r.address+JoinPath, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", c.token)
		res, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || !json.Valid(said) {
			t.Errorf("%s %q %.40q: %d %s, want %d", c.method, c.token, c.body, res.StatusCode, said, c.status)
		}
	}
}

// The key of the CA, the list of agents and an agent's key are their owner's
// alone, and are not replaced when they are damaged.
func TestFilesOfTheAuthority(t *testing.T) {
	r := newRig(t)
	r.token("vpc-a")
	dir := filepath.Join(r.dir, "agents")
	for _, name := range []string{".", "ca.key", "agents.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v, %v", name, info, err)
		}
	}
	open := func() error { _, err := OpenAuthority(r.hub.authority.AuthorityOptions); return err }
	for _, name := range []string{"agents.json", "ca.key", "ca.pem"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantError(t, open(), "restore")
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(); err != nil {
		t.Error(err)
	}
	other, _, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	text, err := encodeKey(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, open(), "not the key of")
}
