package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/tlsca"
)

// service is a server that keeps what it is sent.
type service struct {
	*httptest.Server
	status int
	header http.Header
	body   []byte
	path   string
	hits   int
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{status: http.StatusAccepted}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits++
		s.path, s.header = r.URL.Path, r.Header.Clone()
		s.body, _ = io.ReadAll(r.Body)
		if s.status == http.StatusFound {
			w.Header().Set("Location", "http://"+r.Host+"/elsewhere")
		}
		w.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

func fixed(text string) Secret {
	return func(context.Context) (string, error) { return text, nil }
}

const whsec = "whsec_c2VjcmV0LW9mLXRoZS13ZWJob29rLTAxMjM0NTY3ODk="

// over makes each channel that speaks HTTP, to a service.
func over(to string) map[string]Sender {
	return map[string]Sender{
		"slack":     &Slack{Client: NewHTTP(), Webhook: fixed(to + "/services/T0/B0/slack-secret")},
		"teams":     &Teams{Client: NewHTTP(), Webhook: fixed(to + "/workflows/teams-secret")},
		"pagerduty": &PagerDuty{Client: NewHTTP(), URL: to + "/v2/enqueue", Routing: fixed("pagerduty-secret")},
		"webhook":   &Webhook{Client: NewHTTP(), URL: to + "/custos", Secret: fixed(whsec), Now: time.Now},
	}
}

func message(event string) *Message {
	n := New(Options{Now: func() time.Time { return at }, Channels: func() []Channel { return nil }, Link: func(id string) string { return "https://gw.test/approvals/" + id }})
	a := asked()
	a.Purpose = "<!channel> <https://evil.test|Approve> [Approve](https://evil.test)"
	a.Statement = "DELETE FROM customers -- <!here>"
	if event == Answered {
		a.State = custos.ApprovalDenied
	}
	m := n.message(&a, event)
	return &m
}

// dig walks into decoded JSON: keys, and indices of lists.
func dig(v any, path ...any) any {
	for _, p := range path {
		switch key := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[key]
		case int:
			l, _ := v.([]any)
			if key >= len(l) {
				return nil
			}
			v = l[key]
		}
	}
	return v
}

// TestEachServiceIsSpokenTo sends a message over each, and looks at it as the
// service's documentation has it.
func TestEachServiceIsSpokenTo(t *testing.T) {
	s := newService(t)
	send := func(name, event string) any {
		t.Helper()
		if err := over(s.URL)[name].Send(t.Context(), message(event)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var v any
		if err := json.Unmarshal(s.body, &v); err != nil || s.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: %v: %s", name, err, s.body)
		}
		if !bytes.Contains(s.body, []byte("https://gw.test/approvals/abc")) && event != Answered {
			t.Errorf("%s: there is no link in it: %s", name, s.body)
		}
		return v
	}
	is := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}

	slack := send("slack", Requested)
	is("slack's path", s.path, "/services/T0/B0/slack-secret")
	is("slack's header", dig(slack, "blocks", 0, "type"), "header")
	is("slack's button", dig(slack, "blocks", 3, "elements", 0, "url"), "https://gw.test/approvals/abc")
	is("slack's statement", dig(slack, "blocks", 2, "text", "type"), "plain_text")
	for i := range 8 {
		is("slack's field", dig(slack, "blocks", 1, "fields", i, "type"), "plain_text")
	}
	if text := fmt.Sprint(dig(slack, "text")); !strings.Contains(text, "DELETE on public.customers at orders") {
		t.Errorf("slack's text: %s", text)
	}

	teams := send("teams", Requested)
	is("teams' card", dig(teams, "attachments", 0, "contentType"), "application/vnd.microsoft.card.adaptive")
	is("teams' action", dig(teams, "attachments", 0, "content", "actions", 0, "type"), "Action.OpenUrl")
	for i := range 9 {
		is("teams' block", dig(teams, "attachments", 0, "content", "body", i, "type"), "RichTextBlock")
		is("teams' run", dig(teams, "attachments", 0, "content", "body", i, "inlines", 0, "type"), "TextRun")
	}

	for event, want := range map[string][2]any{Requested: {"trigger", "warning"}, BreakGlass: {"trigger", "critical"}, Answered: {"resolve", nil}} {
		pager := send("pagerduty", event)
		is("pagerduty's key", dig(pager, "routing_key"), "pagerduty-secret")
		is("pagerduty's action", dig(pager, "event_action"), want[0])
		is("pagerduty's severity", dig(pager, "payload", "severity"), want[1])
		is("pagerduty's dedup_key", dig(pager, "dedup_key"), "custos-approval-abc")
	}

	hook := send("webhook", Requested)
	is("webhook's type", dig(hook, "type"), "approval.requested")
	is("webhook's approval", dig(hook, "data", "approval"), "abc")
	verifier, err := standardwebhooks.NewWebhook(whsec)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(s.body, s.header); err != nil {
		t.Errorf("webhook's signature: %v", err)
	}
	// The same by hand, as the specification has it.
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(whsec, "whsec_"))
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", s.header.Get("webhook-id"), s.header.Get("webhook-timestamp"), s.body)
	is("webhook's signature", s.header.Get("webhook-signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	if verifier.Verify(append(s.body, ' '), s.header) == nil {
		t.Error("an altered body verifies")
	}
}

// TestWhatIsAnswered has a service answer with each kind of status, or lead
// elsewhere, or not be there: who is refused for good is not tried again, no
// redirect is followed, and no error holds a secret.
func TestWhatIsAnswered(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		fails   bool
		refused bool
	}{
		"done": {200, false, false}, "taken": {202, false, false}, "a redirect": {302, true, true}, "unknown": {404, true, true}, "gone": {410, true, true},
		"too many": {429, true, false}, "broken": {500, true, false}, "busy": {503, true, false}, "not there": {0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			if s.status = test.status; s.status == 0 {
				s.Close()
			}
			for name, sender := range over(s.URL) {
				s.hits = 0
				err := sender.Send(t.Context(), message(Requested))
				if (err != nil) != test.fails || errors.Is(err, ErrRefused) != test.refused {
					t.Errorf("%s: %v", name, err)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("%s: a secret is in: %v", name, err)
				}
				if s.hits > 1 {
					t.Errorf("%s: it went on to %s", name, s.path)
				}
			}
		})
	}
}

// TestWhereNothingIsSent has secrets that are no address to send to.
func TestWhereNothingIsSent(t *testing.T) {
	for _, to := range []string{"", "http://example.com/x-secret", "file:///etc/passwd", "https://user:pw@example.com/", "ftp://127.0.0.1/", "\x00secret"} {
		for _, sender := range []Sender{&Slack{Client: NewHTTP(), Webhook: fixed(to)}, &Teams{Client: NewHTTP(), Webhook: fixed(to)}} {
			if err := sender.Send(t.Context(), message(Requested)); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v", to, err)
			}
		}
	}
}

// TestVerifySlack has requests come that say that they are Slack's.
func TestVerifySlack(t *testing.T) {
	const secret = "8f742231b10e8888abcd99yyyzzz85a5"
	body := []byte("payload=%7B%22type%22%3A%22block_actions%22%7D")
	sign := func(secret string, at time.Time, body []byte) http.Header {
		stamp := strconv.FormatInt(at.Unix(), 10)
		mac := hmac.New(sha256.New, []byte(secret))
		fmt.Fprintf(mac, "v0:%s:%s", stamp, body)
		return http.Header{"X-Slack-Signature": {"v0=" + hex.EncodeToString(mac.Sum(nil))}, "X-Slack-Request-Timestamp": {stamp}}
	}
	now := time.Now()
	moved := sign(secret, now, body)
	moved.Set("X-Slack-Request-Timestamp", strconv.FormatInt(now.Unix()+1, 10))
	for name, test := range map[string]struct {
		header http.Header
		body   []byte
		signer Secret
		want   error
	}{
		"genuine":           {sign(secret, now, body), body, fixed(secret), nil},
		"by another key":    {sign("x"+secret, now, body), body, fixed(secret), ErrForged},
		"altered":           {sign(secret, now, body), append([]byte("x"), body...), fixed(secret), ErrForged},
		"with another time": {moved, body, fixed(secret), ErrForged},
		"old":               {sign(secret, now.Add(-6*time.Minute), body), body, fixed(secret), ErrForged},
		"from the future":   {sign(secret, now.Add(6*time.Minute), body), body, fixed(secret), ErrForged},
		"unsigned":          {http.Header{}, body, fixed(secret), ErrForged},
		"by an empty key":   {sign("", now, body), body, nil, ErrForged},
	} {
		n := New(Options{Now: time.Now, Channels: func() []Channel { return []Channel{{Name: "a", Sender: &Slack{Signing: test.signer}}} }})
		if err := n.VerifySlack(t.Context(), test.header, test.body); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// postOffice is an SMTP server that takes one mail (RFC 5321), with STARTTLS
// (RFC 3207) and AUTH PLAIN (RFC 4954).
type postOffice struct {
	address string
	said    chan string // all that the client said, then the mail
}

func openPostOffice(t *testing.T, secure *tls.Config, starttls, implicit bool, refuse string) *postOffice {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &postOffice{address: l.Addr().String(), said: make(chan string, 1)}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if implicit {
			conn = tls.Server(conn, secure)
		}
		defer func() { conn.Close() }()
		var all strings.Builder
		defer func() { p.said <- all.String() }()
		in := bufio.NewReader(conn)
		fmt.Fprint(conn, "220 mx.test ESMTP\r\n")
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			all.WriteString(line)
			switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
			case "EHLO":
				more := "250-AUTH PLAIN\r\n"
				if starttls {
					more = "250-STARTTLS\r\n"
				}
				fmt.Fprintf(conn, "250-mx.test\r\n%s250 8BITMIME\r\n", more)
			case "STARTTLS":
				fmt.Fprint(conn, "220 go\r\n")
				conn = tls.Server(conn, secure)
				in = bufio.NewReader(conn)
				starttls = false
				all.Reset() // from here on nobody else hears it
			case "AUTH":
				fmt.Fprint(conn, "235 in\r\n")
			case "RCPT":
				if refuse != "" {
					fmt.Fprint(conn, refuse+"\r\n")
					continue
				}
				fmt.Fprint(conn, "250 ok\r\n")
			case "DATA":
				fmt.Fprint(conn, "354 go\r\n")
				for {
					line, err := in.ReadString('\n')
					if err != nil || line == ".\r\n" {
						break
					}
					all.WriteString(line)
				}
				fmt.Fprint(conn, "250 taken\r\n")
			case "QUIT":
				fmt.Fprint(conn, "221 bye\r\n")
				return
			default:
				fmt.Fprint(conn, "250 ok\r\n")
			}
		}
	}()
	return p
}

func TestEmail(t *testing.T) {
	ca, err := tlsca.Load(t.TempDir(), nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{GetCertificate: ca.GetCertificate}
	trusting := &tls.Config{RootCAs: x509.NewCertPool()}
	trusting.RootCAs.AppendCertsFromPEM(ca.PEM())
	for name, test := range map[string]struct {
		tls                string
		roots              *tls.Config
		starttls, implicit bool
		refuse             string
		fails, refused     bool
	}{
		"STARTTLS":                   {"starttls", trusting, true, false, "", false, false},
		"TLS from the start":         {"implicit", trusting, false, true, "", false, false},
		"in the clear, on loopback":  {"disable", nil, false, false, "", false, false},
		"a server without TLS":       {"starttls", trusting, false, false, "", true, false},
		"a certificate of nobody's":  {"starttls", nil, true, false, "", true, false},
		"a mailbox that is not":      {"starttls", trusting, true, false, "550 no such user", true, true},
		"a mailbox that is full now": {"starttls", trusting, true, false, "452 later", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := openPostOffice(t, server, test.starttls, test.implicit, test.refuse)
			e := &Email{Server: p.address, TLS: test.tls, From: "custos@example.com", To: []string{"dba@example.com", "sec@example.com"},
				Username: "custos", Password: fixed("smtp-secret"), Roots: test.roots}
			err := e.Send(t.Context(), message(Requested))
			if (err != nil) != test.fails || errors.Is(err, ErrRefused) != test.refused {
				t.Fatalf("%v", err)
			}
			said := <-p.said
			if strings.Contains(fmt.Sprint(err), "smtp-secret") {
				t.Errorf("a secret is in: %v", err)
			}
			if test.fails {
				if test.refuse == "" && (strings.Contains(said, "AUTH") || strings.Contains(said, "DATA")) {
					t.Errorf("it went on: %s", said)
				}
				return
			}
			if !strings.Contains(said, "RCPT TO:<sec@example.com>") || !strings.Contains(said, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00custos\x00smtp-secret"))) {
				t.Errorf("it said: %s", said)
			}
			_, text, _ := strings.Cut(said, "DATA\r\n")
			m, err := mail.ReadMessage(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(m.Body)
			if m.Header.Get("Auto-Submitted") != "auto-generated" || !strings.HasPrefix(m.Header.Get("Subject"), "[custos] skill:reporter") ||
				!strings.HasPrefix(m.Header.Get("Content-Type"), "text/plain") || !bytes.Contains(b, []byte("https://gw.test/approvals/abc")) {
				t.Errorf("the mail: %v\n%s", m.Header, b)
			}
		})
	}
}
