package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/custos-gateway/custos/internal/oidctest"
)

// api is the connection that the corpus of HTTP is run on.
const api = `  - name: api
    protocol: http
    address: %s
    credential: {header: {name: X-Api-Key, value: {file: api.key}}}
    labels: {env: prod}
    access: [{groups: [skills]}]
approvals: {hold: {skill: 0s}}
policies:
  - include: builtin/safe-defaults
    connections: {env: prod}
  - rule: hide-personal-data
    connections: {name: api}
    mask: [{detect: [email, us_ssn], with: redact}, {columns: ["*.users.phone"], with: redact}]
`

// What the upstream has of somebody, and what it wants to be shown.
const (
	email  = "bob.smith@example.com"
	ssn    = "536-90-4399"
	phone  = "extension four"
	apiKey = "the-key-of-the-api"
)

// records is an API with personal data, in the form that is asked for.
func records(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != apiKey {
			t.Errorf("the upstream was shown the key %q", r.Header.Get("X-Api-Key"))
		}
		for name := range r.Header {
			if slices.Contains([]string{"Authorization", "Cookie", "X-Forwarded-For"}, name) {
				t.Errorf("the upstream was shown %s", name)
			}
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		switch filepath.Ext(r.URL.Path) {
		case ".csv":
			w.Header().Set("Content-Type", "text/csv")
			fmt.Fprintf(w, "id,email,ssn,phone\n5,%s,%s,%s\n", email, ssn, phone)
		case ".pdf":
			w.Header().Set("Content-Type", "application/pdf")
			fmt.Fprintf(w, "%%PDF-1.7 %s", email)
		default:
			w.Header().Set("Content-Type", "application/json")
			if !strings.Contains(r.URL.Path, "users") {
				io.WriteString(w, `{"id":5,"total":12.5}`)
				return
			}
			fmt.Fprintf(w, `{"id":5,"email":%q,"ssn":%q,"phone":%q}`, email, ssn, phone)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestHTTPCorpus sends requests of known verdicts as a skill on a production
// connection: at least 98 of 100 come out as they should, none that should be
// refused or held is let through, and none shows what is hidden.
func TestHTTPCorpus(t *testing.T) {
	s := newSiteOf(t, fmt.Sprintf(api, records(t)), func(s *site) { s.write("api.key", apiKey) })
	path := "testdata/corpus_http.tsv"
	if named := os.Getenv("CUSTOS_CORPUS"); named != "" {
		path = named
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(s.data(), "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	token := s.provider.Mint(oidctest.SkillSubject)
	right, all := 0, 0
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 4)
		// What is asked of a forge's API is HTTP.
		if len(fields) != 4 || fields[0] != "http" && (fields[0] != "git" || fields[1] != "api") {
			continue
		}
		all++
		got, said := verdict(t, s.https, roots, token, strings.ReplaceAll(fields[3], `\n`, "\n"))
		for _, hidden := range []string{email, ssn, phone, apiKey} {
			if strings.Contains(said, hidden) {
				t.Errorf("it shows %s: %q", hidden, fields[3])
			}
		}
		if got == fields[2] {
			right++
			continue
		}
		t.Logf("%s: want %s, got %s: %q\n%s", fields[1], fields[2], got, fields[3], said)
		if got == "allow" {
			t.Errorf("let through: %q", fields[3])
		}
	}
	t.Logf("%d of %d right", right, all)
	if all == 0 || 100*right < 98*all {
		t.Errorf("%d of %d verdicts right, want 98 of 100", right, all)
	}
	s.verify()
}

var (
	noteOfHeader = regexp.MustCompile(`^\((?:header )?([A-Za-z_-]+): ([^)]*)\) ?`)
	noteOfType   = regexp.MustCompile(`^\(Content-Type ([^)]*)\) ?`)
	noteOfCoding = regexp.MustCompile(`^Content-Encoding: (\S+?),? undecodable`)
	unregistered = regexp.MustCompile(`^https?://(evil[.]|metadata[.]|169[.]254|\[|[^/]*@)`)
)

// wireOf is a request in words as it stands on the wire.
func wireOf(t *testing.T, token, s string) []byte {
	method, rest, ok := strings.Cut(s, " ")
	if !ok {
		t.Fatalf("no request: %q", s)
	}
	address, rest, _ := strings.Cut(rest, " ")
	if !unregistered.MatchString(address) {
		if _, after, whole := strings.Cut(address, "://"); whole {
			_, path, _ := strings.Cut(after, "/")
			address = "/" + path
		}
	} else {
		address = "/" + address // the only way to name another host
	}
	head := []string{method + " /http/api" + address + " HTTP/1.1", "Host: gw", "Authorization: Bearer " + token, "Connection: close"}
	media, lengths := "", 1
	for {
		if m := noteOfHeader.FindStringSubmatch(rest); m != nil {
			head, rest = append(head, m[1]+": "+m[2]), rest[len(m[0]):]
			if m[1] == "Upgrade" {
				head[3] = "Connection: Upgrade"
				head = append(head, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
			}
			continue
		}
		if m := noteOfType.FindStringSubmatch(rest); m != nil {
			media, rest = m[1], rest[len(m[0]):]
			continue
		}
		break
	}
	body := rest
	switch {
	case strings.HasPrefix(rest, "(client-supplied Authorization"):
		head, body = append(head, "Authorization: Basic YWRtaW46YWRtaW4="), ""
	case noteOfCoding.MatchString(rest):
		head, media, body = append(head, "Content-Encoding: "+noteOfCoding.FindStringSubmatch(rest)[1]), "application/json", "\x8b\x02slip"
	case strings.HasPrefix(rest, "with both Content-Length and Transfer-Encoding"):
		head, media, body = append(head, "Transfer-Encoding: chunked", "Content-Length: 4"), "application/json", "2\r\n{}\r\n0\r\n\r\n"
		lengths = 0
	case strings.HasSuffix(rest, "contains tokenised PII"):
		body = `{"to":"tok_email_0123456789abcdef"}`
	case strings.HasPrefix(rest, "(") && strings.HasSuffix(rest, ")"):
		body = "" // what the answer is
	}
	if body != "" && media == "" {
		switch {
		case strings.Contains(address, "/_bulk"), strings.Contains(address, "/_msearch"):
			media = "application/x-ndjson"
		case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["):
			media = "application/json"
		default:
			media = "application/x-www-form-urlencoded"
		}
	}
	if media != "" {
		head = append(head, "Content-Type: "+media)
	}
	if lengths > 0 && (body != "" || method == "POST" || method == "PUT" || method == "PATCH") {
		head = append(head, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	return []byte(strings.Join(head, "\r\n") + "\r\n\r\n" + body)
}

// verdict sends a request, and reads the gateway's answer.
func verdict(t *testing.T, gateway string, roots *x509.CertPool, token, s string) (got, said string) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", gateway, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	wire := wireOf(t, token, s)
	if _, err := conn.Write(wire); err != nil {
		t.Fatal(err)
	}
	method, _, _ := bytes.Cut(wire, []byte(" "))
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: string(method)})
	if err != nil {
		return "failed", err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "failed", err.Error()
	}
	said = resp.Status + " " + string(b)
	switch {
	case strings.Contains(said, "held by rule"):
		return "approve", said
	case strings.Contains(said, "refused by rule"), resp.StatusCode == http.StatusBadRequest:
		return "refuse", said
	case method[0] == 'H' && resp.StatusCode == http.StatusForbidden:
		return "refuse", said // HEAD has no body to say more in
	case resp.StatusCode < 300:
		return "allow", said
	}
	return "failed", said
}
