package http

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
)

// house is a gateway before an upstream that the test gives.
type house struct {
	*gatetest.World
	url   string // of the connection
	addr  string
	spool string
}

// key is what the credentials of the tests are; secret in the sense of whoever
// looks for it.
const key = "kq7-the-key-of-the-target"

func build(t testing.TB, auth custos.Auth, upstream http.HandlerFunc) *house {
	t.Helper()
	up := httptest.NewServer(upstream)
	t.Cleanup(up.Close)
	address := up.Listener.Addr().String()
	auth.TokenURL = "http://" + address + "/token"
	c := custos.Connection{Name: "api", Protocol: Name, Address: address, Path: "/base", TLS: custos.TargetTLS{Mode: "disable"}, Auth: auth}
	w := gatetest.New(t, c, custos.Credential{Username: "gateway", Password: key})
	ctx, stop := context.WithCancel(context.Background())
	dir := t.TempDir()
	s := New(ctx, Options{Gate: w.Gate, Dialer: w, Logger: w.Logger(), Temp: dir, Idle: time.Minute, Link: func(id string) string { return "https://gw/approvals/" + id }})
	front := httptest.NewServer(s)
	t.Cleanup(func() {
		stop()
		front.Close()
		s.Wait()
		if t.Failed() {
			t.Log(w.Log())
		}
		if strings.Contains(w.Log(), key) {
			t.Error("the log has the key")
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left in the folder of spools: %v", left)
		}
	})
	return &house{w, front.URL + Prefix + "api", front.Listener.Addr().String(), dir}
}

// ask makes a request as ana.
func (h *house) ask(t testing.TB, method, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+gatetest.Token)
	for i := 0; i+1 < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i+1] == "" {
			r.Header.Del(header[i])
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp, string(b) + " CUT"
	}
	return resp, string(b)
}

// hide has rules hide in every answer.
func (h *house) hide(masks ...custos.Mask) {
	h.SetPolicy(func(*custos.Operation) custos.Decision { return custos.Decision{Effect: custos.Allow, Masks: masks} })
}

func TestCredentials(t *testing.T) {
	basic := "Basic Z2F0ZXdheTprcTctdGhlLWtleS1vZi10aGUtdGFyZ2V0"
	for _, test := range []struct {
		auth    custos.Auth
		present []string // where the client puts its token besides
		want    func(r *http.Request) bool
	}{
		{custos.Auth{}, nil, func(r *http.Request) bool { return r.Header.Get("Authorization") == "" }},
		{custos.Auth{Scheme: custos.AuthBasic}, nil, func(r *http.Request) bool { return r.Header.Get("Authorization") == basic }},
		{custos.Auth{Scheme: custos.AuthBearer}, nil, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+key }},
		{custos.Auth{Scheme: custos.AuthHeader, Name: "X-Api-Key"}, []string{"X-Api-Key", "slip"}, func(r *http.Request) bool {
			return len(r.Header.Values("X-Api-Key")) == 1 && r.Header.Get("X-Api-Key") == key && r.Header.Get("Authorization") == ""
		}},
		{custos.Auth{Scheme: custos.AuthHeader, Name: "Authorization"}, nil, func(r *http.Request) bool { return r.Header.Get("Authorization") == key }},
		{custos.Auth{Scheme: custos.AuthQuery, Name: "key"}, nil, func(r *http.Request) bool {
			return len(r.URL.Query()["key"]) == 1 && r.URL.Query().Get("key") == key && r.URL.Query().Get("a") == "b c"
		}},
		{custos.Auth{Scheme: custos.AuthOAuth, Scopes: []string{"read"}}, nil, func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer given" }},
		{custos.Auth{Scheme: custos.AuthSigV4, Region: "eu-central-1", Service: "s3"}, []string{"X-Amz-Date", "slip"}, func(r *http.Request) bool {
			sum := sha256.Sum256([]byte(`{"x":1}`))
			return strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=gateway/") && r.Header.Get("X-Amz-Content-Sha256") == hex.EncodeToString(sum[:]) &&
				len(r.Header.Get("X-Amz-Date")) == 16
		}},
	} {
		t.Run(test.auth.Scheme, func(t *testing.T) {
			h := build(t, test.auth, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token" {
					w.Header().Set("Content-Type", "application/json")
					io.WriteString(w, `{"access_token":"given","token_type":"bearer","expires_in":3600}`)
					return
				}
				b, _ := io.ReadAll(r.Body)
				if !test.want(r) || r.URL.Path != "/base/v1/x" || string(b) != `{"x":1}` || r.Header.Get("Cookie") != "" || r.Header.Get("X-Forwarded-For") != "" {
					t.Errorf("the upstream got %s %s %q %q", r.Method, r.URL, r.Header, b)
				}
				w.Header().Set("Set-Cookie", "session=of-the-gateway")
				io.WriteString(w, "done")
			})
			header := append([]string{"Content-Type", "application/json", "Cookie", "a=b", "X-Forwarded-For", "1.2.3.4"}, test.present...)
			resp, body := h.ask(t, "POST", "/v1/x?a=b+c&key=slip", `{"x":1}`, header...)
			if resp.StatusCode != 200 || body != "done" {
				t.Errorf("%s %s", resp.Status, body)
			}
			if resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("Content-Security-Policy") == "" || resp.Header.Get("Custos-Entry") == "" {
				t.Errorf("the answer's header is %v", resp.Header)
			}
		})
	}
}

// A client whose library puts its key into a field of its own puts its token
// there.
func TestTokenWhereTheKeyGoes(t *testing.T) {
	for _, test := range []struct {
		auth  custos.Auth
		query string
	}{
		{custos.Auth{Scheme: custos.AuthHeader, Name: "X-Api-Key"}, ""},
		{custos.Auth{Scheme: custos.AuthQuery, Name: "key"}, "?key=" + gatetest.Token + "&a=b"},
	} {
		h := build(t, test.auth, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(fmt.Sprint(r.Header, r.URL), gatetest.Token) {
				t.Errorf("the upstream got the token: %s %v", r.URL, r.Header)
			}
		})
		resp, body := h.ask(t, "GET", "/v1/x"+test.query, "", "Authorization", "", "X-Api-Key", gatetest.Token)
		if resp.StatusCode != 200 {
			t.Errorf("%s %s", resp.Status, body)
		}
		for _, e := range h.Ledger.Entries() {
			if len(e.Sealed) > 0 && bytes.Contains(h.Open(t, e), []byte(gatetest.Token)) {
				t.Error("the token is on record")
			}
		}
	}
}

// What the target says of the credential is not the caller's.
func TestCredentialThatIsNotTaken(t *testing.T) {
	h := build(t, custos.Auth{Scheme: custos.AuthBearer}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer error_description="`+r.Header.Get("Authorization")+`"`)
		http.Error(w, "wrong key: "+r.Header.Get("Authorization"), http.StatusUnauthorized)
	})
	resp, body := h.ask(t, "GET", "/v1/x", "")
	if resp.StatusCode != http.StatusBadGateway || strings.Contains(fmt.Sprint(resp.Header)+body, key) {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
}

func TestHidden(t *testing.T) {
	detect := custos.Mask{Detect: []string{"email", "credit_card"}, With: "redact"}
	named := func(with string, patterns ...string) custos.Mask { return custos.Mask{Columns: patterns, With: with} }
	const jsonType, csvType, sseType = "application/json", "text/csv; charset=utf-8", "text/event-stream"
	for _, test := range []struct {
		name, path, request, media, answer, want string
		masks                                    []custos.Mask
	}{
		{"strings", "/v1/x", "", jsonType, `{"a":["bob@example.com",{"b":"to bob@example.com."}],"c":1}`, `{"a":["***MASKED***",{"b":"to ***MASKED***."}],"c":1}`, []custos.Mask{detect}},
		{"escapes", "/v1/x", "", jsonType, `{"a":"bob\u0040example.com","b":"\u00fc"}`, `{"a":"***MASKED***","b":"\u00fc"}`, []custos.Mask{detect}},
		{"names", "/v1/x", "", jsonType, `{"bob@example.com":1}`, `{"***MASKED***":1}`, []custos.Mask{detect}},
		{"numbers", "/v1/x", "", jsonType, `{"card":4111111111111111,"n":41}`, `{"card":"***MASKED***","n":41}`, []custos.Mask{detect}},
		{"a field", "/v1/users/5", "", jsonType, `{"Phone":"four","n":{"phone":null},"name":"Bob"}`, `{"Phone":"***MASKED***","n":{"phone":null},"name":"Bob"}`, []custos.Mask{named("redact", "*.users.phone")}},
		{"a field elsewhere", "/v1/orders/5", "", jsonType, `{"phone":"four"}`, `{"phone":"four"}`, []custos.Mask{named("redact", "*.users.phone")}},
		{"a field below another", "/v1/orders/5", "", jsonType, `{"users":[{"x":{"phone":"four"}}]}`, `{"users":[{"x":{"phone":"***MASKED***"}}]}`, []custos.Mask{named("redact", "*.users.phone")}},
		{"all below a field", "/v1/x", "", jsonType, `{"card":{"no":12,"holder":["a",true]},"id":5}`, `{"card":{"no":null,"holder":[null,null]},"id":5}`, []custos.Mask{named("null", "card")}},
		{"lines", "/v1/x", "", "application/x-ndjson", "{\"a\":\"bob@example.com\"}\n{\"a\":2}\n", "{\"a\":\"***MASKED***\"}\n{\"a\":2}\n", []custos.Mask{detect}},
		{"an alias", "/graphql", `{"query":"{ u: user { e: email other } }"}`, jsonType, `{"data":{"u":{"e":"x","other":"y"}}}`, `{"data":{"u":{"e":"***MASKED***","other":"y"}}}`, []custos.Mask{named("redact", "user.email")}},
		{"CSV", "/v1/users.csv", "", csvType, "id,phone,note\r\n5,\"fo,ur\",\"line\nbob@example.com\"\r\n6,,x\r\n", "id,phone,note\r\n5,***MASKED***,\"line\r\n***MASKED***\"\r\n6,***MASKED***,x\r\n", []custos.Mask{detect, named("redact", "users.phone")}},
		{"CSV with semicolons", "/v1/x", "", csvType, "id;mail\n5;bob@example.com\n", "id;mail\n5;***MASKED***\n", []custos.Mask{detect}},
		{"events", "/v1/x", "", sseType, "event: a\ndata: {\"t\":\"bob@example.com\"}\n\ndata: plain\n\ndata: [DONE]\n\n", "event: a\ndata: {\"t\":\"***MASKED***\"}\n\ndata: plain\n\ndata: [DONE]\n\n", []custos.Mask{detect}},
		{"events with fields", "/v1/x", "", sseType, "data: {\"phone\":\"four\"}\n\ndata: phone four\n\ndata: [DONE]\n\n", "data: {\"phone\":\"***MASKED***\"}\n\ndata: ***MASKED***\n\ndata: [DONE]\n\n", []custos.Mask{named("redact", "phone")}},
		{"a form", "/v1/x", "", "application/x-www-form-urlencoded", "a=bob%40example.com&phone=four&b=c", "a=%2A%2A%2AMASKED%2A%2A%2A&phone=%2A%2A%2AMASKED%2A%2A%2A&b=c", []custos.Mask{detect, named("redact", "phone")}},
		{"text", "/v1/x", "", "text/plain", "mail bob@example.com\nx\n", "mail ***MASKED***\nx\n", []custos.Mask{detect}},
		{"XML", "/v1/x", "", "application/xml", "<a>bob@example.com</a>", "<a>***MASKED***</a>", []custos.Mask{detect}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, packed := range []bool{false, true} {
				h := build(t, custos.Auth{}, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", test.media)
					out := io.Writer(w)
					if packed {
						w.Header().Set("Content-Encoding", "gzip")
						z := gzip.NewWriter(w)
						defer z.Close()
						out = z
					}
					// Byte by byte: nothing depends on how an answer is cut.
					for i := range len(test.answer) {
						io.WriteString(out, test.answer[i:i+1])
						if !packed {
							http.NewResponseController(w).Flush()
						}
					}
				})
				h.hide(test.masks...)
				method := "GET"
				if test.request != "" {
					method = "POST"
				}
				_, body := h.ask(t, method, test.path, test.request, "Content-Type", jsonType)
				if body != test.want {
					t.Errorf("packed %v: got\n%q, want\n%q", packed, body, test.want)
				}
				settled := h.Ledger.Await(func(k gatetest.Kept) bool { return k.Settled != nil })
				if (settled.Settled.Masked > 0) != (test.want != test.answer) || settled.Settled.State != custos.StateOK {
					t.Errorf("the outcome is %+v", settled.Settled)
				}
				for _, hidden := range []string{"bob@", "fo,ur", "4111"} {
					if strings.Contains(string(h.Open(t, settled)), hidden) {
						t.Errorf("what was hidden is on record: %s", hidden)
					}
				}
			}
		})
	}
}

// Where nothing can be hidden in, nothing is shown.
func TestWithheld(t *testing.T) {
	detect := custos.Mask{Detect: []string{"email"}, With: "redact"}
	for _, test := range []struct {
		name, media, encoding, answer string
		status                        int
		mask                          custos.Mask
	}{
		{"a document", "application/pdf", "", "%PDF bob@example.com", 200, detect},
		{"no type", "", "", "bob@example.com", 200, detect},
		{"an encoding", "application/json", "br", "bob@example.com", 200, detect},
		{"no gzip", "application/json", "gzip", "bob@example.com", 200, detect},
		{"a part", "text/plain", "", "bob@example.com", 206, detect},
		{"other characters", "text/plain; charset=utf-16", "", "bob@example.com", 200, detect},
		{"text without fields", "text/plain", "", "phone: bob@example.com", 200, custos.Mask{Columns: []string{"phone"}, With: "redact"}},
		{"an error page", "text/html", "", "phone: bob@example.com", 500, custos.Mask{Columns: []string{"phone"}, With: "redact"}},
		{"no JSON", "application/json", "", "<html>bob@example.com", 200, detect},
		{"half of JSON", "application/json", "", `{"a":"bob@example.com"`, 200, detect},
		{"more fields than names", "text/csv", "", "id\n5,bob@example.com\n", 200, custos.Mask{Columns: []string{"phone"}, With: "redact"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := build(t, custos.Auth{}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{test.media}
				if test.encoding != "" {
					w.Header().Set("Content-Encoding", test.encoding)
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.answer)
			})
			h.hide(test.mask)
			resp, body := h.ask(t, "GET", "/v1/x", "")
			if resp.StatusCode == 200 && !strings.HasSuffix(body, "CUT") || strings.Contains(body, "bob@") {
				t.Errorf("%s %s", resp.Status, body)
			}
			settled := h.Ledger.Await(func(k gatetest.Kept) bool { return k.Settled != nil })
			if settled.Settled.State == custos.StateOK {
				t.Errorf("the outcome is %+v", settled.Settled)
			}
		})
	}
}

// What was done is told as done, though not in the target's words.
func TestWithheldOfAChange(t *testing.T) {
	h := build(t, custos.Auth{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pdf")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "bob@example.com")
	})
	h.hide(custos.Mask{Detect: []string{"email"}, With: "redact"})
	if resp, body := h.ask(t, "POST", "/v1/x", "{}", "Content-Type", "application/json"); resp.StatusCode != 201 || body != "" || resp.Header.Get("Custos-Withheld") == "" {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}
}

// Redirects lead back to the gateway, or nowhere.
func TestRedirects(t *testing.T) {
	var location string
	h := build(t, custos.Auth{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", strings.ReplaceAll(location, "HOST", r.Host))
		w.WriteHeader(http.StatusFound)
	})
	for to, want := range map[string]string{
		"/base/v1/y?a=b": "/http/api/v1/y?a=b", "http://HOST/base/v1/y": "/http/api/v1/y", "y": "y",
		"/other": "", "http://evil.example/base/x": "", "//evil.example/base/x": "", "http://HOST@evil.example/base": "", "javascript:alert(1)": "", "/basement": "",
	} {
		location = to
		resp, body := h.ask(t, "GET", "/v1/x", "")
		if got := resp.Header.Get("Location"); got != want || (want == "") != (resp.StatusCode == http.StatusBadGateway) {
			t.Errorf("%s: %s %q %s", to, resp.Status, got, body)
		}
	}
}

// A body that is too long to judge waits sealed, is bound by its digest, and goes
// out whole, recorded.
func TestLongBody(t *testing.T) {
	body := strings.Repeat("not to be found on disk ", 200_000)
	sum := sha256.Sum256([]byte(body))
	h := build(t, custos.Auth{}, func(w http.ResponseWriter, r *http.Request) {
		got := sha256.New()
		n, err := io.Copy(got, r.Body)
		if err != nil || !bytes.Equal(got.Sum(nil), sum[:]) || r.ContentLength != n {
			t.Errorf("the upstream got %d of %d bytes: %v", n, len(body), err)
		}
	})
	if resp, said := h.ask(t, "POST", "/v1/x", body, "Content-Type", "text/plain"); resp.StatusCode != 200 {
		t.Fatal(resp.Status, said)
	}
	op := h.Operation(t, h.Ledger.Await(func(k gatetest.Kept) bool { return k.Kind == custos.EntrySubmitted }))
	if !strings.Contains(op.Text, hex.EncodeToString(sum[:])) {
		t.Errorf("the operation is %q", op.Text)
	}
	recorded := 0
	for _, e := range h.Ledger.Entries() {
		if e.Kind == custos.EntryInput {
			recorded += len(h.Open(t, e))
		}
	}
	if recorded != len(body) {
		t.Errorf("%d of %d bytes are on record", recorded, len(body))
	}
}

// An answer that has no end of its own comes as it comes.
func TestStream(t *testing.T) {
	more := make(chan struct{})
	h := build(t, custos.Auth{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			io.WriteString(w, "data: {\"text\":\"a\"}\n\n")
			http.NewResponseController(w).Flush()
			<-more
		}
	})
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/v1/messages", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+gatetest.Token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for range 3 {
		if line, err := in.ReadString('\n'); err != nil || line != "data: {\"text\":\"a\"}\n" {
			t.Fatal(line, err)
		}
		in.ReadString('\n')
		more <- struct{}{}
	}
	if _, err := in.ReadByte(); err != io.EOF {
		t.Error(err)
	}
}

// Both ways of a WebSocket are on record.
func TestWebSocket(t *testing.T) {
	h := build(t, custos.Auth{Scheme: custos.AuthBearer}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-Websocket-Extensions") != "" || r.Header.Get("Authorization") != "Bearer "+key {
			t.Errorf("the upstream got %v", r.Header)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x05hello")
		b := make([]byte, 10)
		if _, err := io.ReadFull(rw, b); err == nil {
			conn.Write([]byte("\x81\x03bye\x88\x00"))
		}
	})
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %sapi/ws HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", Prefix, gatetest.Token)
	conn.Write([]byte("\x81\x84\x00\x00\x00\x00ping"))
	b, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 101 ") || !strings.HasSuffix(string(b), "\x81\x05hello\x81\x03bye\x88\x00") {
		t.Fatalf("%q %v", b, err)
	}
	settled := h.Ledger.Await(func(k gatetest.Kept) bool { return k.Settled != nil })
	var typed strings.Builder
	for _, e := range h.Ledger.Entries() {
		if e.Kind == custos.EntryInput {
			typed.Write(h.Open(t, e))
		}
	}
	if got := typed.String(); got != "\x81\x84\x00\x00\x00\x00ping" {
		t.Errorf("on record is %q", got)
	}
	if got := shown(t, h, settled); got != "hello\nbye\n[101 Switching Protocols]" {
		t.Errorf("it is shown as %q", got)
	}
}

// shown is an answer as people read it.
func shown(t *testing.T, h *house, settled gatetest.Kept) string {
	t.Helper()
	var b strings.Builder
	err := Render(&custos.Operation{Class: classRequest}, bytes.NewReader(h.Open(t, settled)), func(e *custos.Event) error {
		switch {
		case e.Columns != nil:
			fmt.Fprintln(&b, strings.Join(e.Columns, "|"))
		case e.Row != nil:
			for _, v := range e.Row {
				b.WriteString(*v + "|")
			}
			b.WriteString("\n")
		case e.Tag != "":
			b.WriteString("[" + e.Tag + "]")
		default:
			b.WriteString(e.Text + e.Error)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return b.String()
}

func TestRender(t *testing.T) {
	for _, test := range []struct{ media, answer, want string }{
		{"application/json", `{"a":[1,2]}`, "{\n  \"a\": [\n    1,\n    2\n  ]\n}\n[200 OK]"},
		{"text/csv", "a,b\n1,2\n", "a|b\n1|2|\n[200 OK]"},
		{"text/plain", "some text", "some text[200 OK]"},
		{"application/pdf", "%PDF-", "(5 bytes of application/pdf)\n[200 OK]"},
	} {
		h := build(t, custos.Auth{}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.media)
			io.WriteString(w, test.answer)
		})
		if _, body := h.ask(t, "GET", "/v1/x", ""); body != test.answer {
			t.Errorf("%q", body)
		}
		if got := shown(t, h, h.Ledger.Await(func(k gatetest.Kept) bool { return k.Settled != nil })); got != test.want {
			t.Errorf("%s: %q", test.media, got)
		}
	}
}

// A refusal is a problem that says what to do.
func TestRefusal(t *testing.T) {
	h := build(t, custos.Auth{}, func(http.ResponseWriter, *http.Request) { t.Error("it reached the upstream") })
	h.SetPolicy(func(*custos.Operation) custos.Decision {
		return custos.Decision{Effect: custos.Refuse, Rule: "no", Reason: "because", Hint: "ask"}
	})
	resp, body := h.ask(t, "DELETE", "/v1/x", "")
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 403 || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatal(resp.Status, body, err)
	}
	if p.Rule != "no" || p.Hint != "ask" || p.Session == "" || p.Entry == nil || p.Retry || !strings.Contains(p.Detail, "because") {
		t.Errorf("%+v", p)
	}
	if resp, body := h.ask(t, "GET", "/v1/x", "", "Authorization", ""); resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Bearer") {
		t.Error(resp.Status, body)
	}
}

// Whatever a target is called, it is none of the places where clouds keep
// credentials.
func TestNoMetadata(t *testing.T) {
	for address, taken := range map[string]bool{"169.254.169.254:80": false, "[fe80::1%eth0]:80": false, "[::ffff:169.254.169.254]:80": false, "[fd00:ec2::254]:80": false, "100.100.100.200:80": false, "0.0.0.0:80": false,
		"127.0.0.1:80": true, "10.0.0.1:443": true, "93.184.216.34:443": true} {
		a, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			a = &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 80}
		}
		if err := checkTarget(a); (err == nil) != taken {
			t.Errorf("%s: %v", address, err)
		}
	}
}
