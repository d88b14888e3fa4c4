package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	wire "encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/custos-gateway/custos/internal/oidctest"
)

// prod is the connection that the corpus is run on.
const prod = `  - name: app
    protocol: postgres
    address: TARGET
    database: app
    tls: disable
    labels: {env: prod}
    credential: {username: USER, password: {file: orders.password}}
    access: [{groups: [skills, dba]}]
approvals: {hold: {skill: 0s}}
policies:
  - include: builtin/safe-defaults
    connections: {env: prod}
  - rule: hide-personal-data
    connections: {name: app}
    mask:
      - {columns: ["*.users.email"], with: hash}
      - {columns: ["*.users.ssn", "*.users.phone"], with: redact}
      - {columns: ["*.users.card_number"], with: partial}
`

// row is one of the corpus.
type row struct{ protocol, class, want, statement string }

func corpus(t *testing.T) []row {
	paths := []string{"testdata/corpus.tsv", "testdata/more.tsv"}
	if path := os.Getenv("CUSTOS_CORPUS"); path != "" {
		paths = []string{path}
	}
	var rows []row
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSuffix(line, "\n")
			if fields := strings.SplitN(line, "\t", 4); len(fields) == 4 && !strings.HasPrefix(line, "#") && (fields[0] == "pg" || fields[0] == "pg-ext") {
				rows = append(rows, row{fields[0], fields[1], fields[2], unescape(fields[3])})
			}
		}
	}
	if len(rows) < 100 {
		t.Fatalf("the corpus has %d rows", len(rows))
	}
	return rows
}

// unescape reads the corpus's escapes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case 'x':
			if n, err := strconv.ParseUint(s[min(i+1, len(s)):min(i+3, len(s))], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				break
			}
			b.WriteString(`\x`)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// TestCorpus runs statements of known verdicts as a skill on a production
// connection, against a real PostgreSQL: at least 98 of 100 come out as they
// should, none that should be refused or held is let through, and where the
// class is about masks no clear value comes back.
func TestCorpus(t *testing.T) {
	s := newSiteOf(t, prod, func(s *site) {
		s.direct("postgres", "CREATE DATABASE app")
		app, err := os.ReadFile("testdata/app.sql")
		if err != nil {
			t.Fatal(err)
		}
		s.direct("app", string(app))
	})
	secrets := s.secrets()
	rows := corpus(t)
	right := 0
	var wrong []string
	for _, r := range rows {
		got, answer := s.verdict(r)
		ok := got == r.want || r.class == "mask-error" && got == "allow"
		if ok {
			right++
		} else {
			wrong = append(wrong, fmt.Sprintf("%s\t%s\twant %s, got %s: %q\n\t%.200s", r.protocol, r.class, r.want, got, r.statement, answer))
		}
		if got == "allow" && r.want != "allow" && r.class != "mask-error" {
			t.Errorf("let through: %s %s %q", r.protocol, r.class, r.statement)
		}
		for _, secret := range secrets {
			if bytes.Contains(answer, secret) {
				t.Errorf("%s: %q shows %q", r.class, r.statement, secret)
				break
			}
		}
		if strings.HasPrefix(r.class, "mask-") && got == "allow" && len(answer) == 0 {
			t.Errorf("%s: %q was answered by nothing", r.class, r.statement)
		}
	}
	t.Logf("%d of %d right", right, len(rows))
	for _, w := range wrong {
		t.Log(w)
	}
	if 100*right < 98*len(rows) {
		t.Errorf("%d of %d verdicts right, want 98 of 100", right, len(rows))
	}
	s.verify()
}

// secrets are the values that are hidden, in the forms that a statement could
// bring them in.
func (s *site) secrets() [][]byte {
	s.t.Helper()
	conn, err := pgconn.Connect(s.t.Context(), s.target.DSN("dbname=app"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context())
	answer, err := conn.Exec(s.t.Context(), "SELECT email, ssn, phone, card_number FROM users").ReadAll()
	if err != nil {
		s.t.Fatal(err)
	}
	var all [][]byte
	for _, row := range answer[0].Rows {
		for _, v := range row {
			back := slices.Clone(v)
			slices.Reverse(back)
			sum := md5.Sum(v)
			all = append(all, slices.Clone(v), back, []byte(hex.EncodeToString(v)), []byte(base64.StdEncoding.EncodeToString(v)), []byte(hex.EncodeToString(sum[:])),
				bytes.ToUpper(v))
		}
	}
	return slices.DeleteFunc(all, func(b []byte) bool { return len(b) < 5 })
}

// skill connects as the skill, with settings of its own.
func (s *site) skill(settings ...string) (*pgconn.PgConn, *bytes.Buffer, error) {
	token := s.provider.Mint(oidctest.SkillSubject)
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%s user=any dbname=app sslmode=verify-full sslrootcert=%s password=%s",
		s.port, filepath.Join(s.data(), "tls", "ca.pem"), token))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(settings); i += 2 {
		config.RuntimeParams[settings[i]] = settings[i+1]
	}
	heard := new(bytes.Buffer)
	config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, c net.Conn) (net.Conn, error) {
		return &listener{c, heard}, nil
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	return conn, heard, err
}

// listener keeps what a line brings.
type listener struct {
	net.Conn
	heard *bytes.Buffer
}

func (l *listener) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.heard.Write(b[:n])
	return n, err
}

// verdict runs a row and says what the gateway made of it, and what came back.
func (s *site) verdict(r row) (got string, answer []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	if startup, ok := strings.CutPrefix(r.statement, "StartupMessage("); ok {
		return s.startup(ctx, startup)
	}
	conn, heard, err := s.skill()
	if err != nil {
		s.t.Fatalf("%q: %v", r.statement, err)
	}
	defer conn.Close(ctx)
	heard.Reset()
	// What goes wrong stands in the answer.
	if r.protocol == "pg" {
		conn.Exec(ctx, r.statement).ReadAll()
	} else {
		s.extended(ctx, conn, r.statement)
	}
	if ctx.Err() != nil {
		s.t.Errorf("%q does not end", r.statement)
	}
	// One verdict a text: what a pipeline was refused for stands in the answer.
	return ruled(heard.Bytes()), slices.Clone(heard.Bytes())
}

// ruled reads the verdict off the errors of an answer.
func ruled(answer []byte) string {
	switch {
	case bytes.Contains(answer, []byte("Mrefused by rule ")) || bytes.Contains(answer, []byte("Mrefused: ")):
		return "refuse"
	case bytes.Contains(answer, []byte("Mheld by rule ")):
		return "approve"
	case bytes.Contains(answer, []byte("SFATAL")):
		return "refuse"
	}
	// What does not parse is refused in PostgreSQL's own words.
	if bytes.Contains(answer, []byte(`{"rule":"postgres/`)) {
		return "refuse"
	}
	return "allow"
}

var (
	setting = regexp.MustCompile(`(\w+)='?((?:[^',]|\\.)*)'?`)
	step    = regexp.MustCompile(`(Parse|Bind|Execute|FunctionCall|CancelRequest|CopyData|Query)\s*\(?`)
	text    = regexp.MustCompile(`sql='((?:[^']|'')*)'`)
	name    = regexp.MustCompile(`name='(\w*)'`)
	bound   = regexp.MustCompile(`\['(.*)'\]`)
)

// startup connects as a StartupMessage of the corpus says, and runs the Query
// behind it, if there is one.
func (s *site) startup(ctx context.Context, rest string) (string, []byte) {
	settings, query, _ := strings.Cut(rest, ")")
	var pairs []string
	for _, m := range setting.FindAllStringSubmatch(settings, -1) {
		pairs = append(pairs, m[1], m[2])
	}
	conn, heard, err := s.skill(pairs...)
	if err != nil {
		return "refuse", heard.Bytes()
	}
	defer conn.Close(ctx)
	if _, inner, found := strings.Cut(query, `Query("`); found {
		_, _ = conn.Exec(ctx, strings.TrimSuffix(inner, `")`)).ReadAll()
		return ruled(heard.Bytes()), slices.Clone(heard.Bytes())
	}
	return "allow", nil
}

// extended plays the messages that a row names.
func (s *site) extended(ctx context.Context, conn *pgconn.PgConn, script string) error {
	if strings.HasPrefix(script, "CancelRequest") {
		return conn.CancelRequest(ctx)
	}
	if strings.HasPrefix(script, "CopyData") {
		_, err := conn.CopyFrom(ctx, strings.NewReader("1\tx\n"), "COPY notes (user_id, body) FROM STDIN")
		return err
	}
	var out []byte
	message := func(t byte, body []byte) {
		out = wire.BigEndian.AppendUint32(append(out, t), uint32(len(body)+4))
		out = append(out, body...)
	}
	at := step.FindAllStringIndex(script, -1)
	last := ""
	for i, span := range at {
		end := len(script)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		part := script[span[0]:end]
		switch {
		case strings.HasPrefix(part, "Parse"):
			sql := strings.ReplaceAll(text.FindStringSubmatch(part)[1], "''", "'")
			last = ""
			if m := name.FindStringSubmatch(part); m != nil {
				last = m[1]
			}
			message('P', append([]byte(last+"\x00"+sql+"\x00"), 0, 0))
		case strings.HasPrefix(part, "Bind"):
			body := []byte("\x00" + last + "\x00\x00\x00")
			if m := bound.FindStringSubmatch(part); m != nil {
				body = wire.BigEndian.AppendUint16(body, 1)
				body = wire.BigEndian.AppendUint32(body, uint32(len(m[1])))
				body = append(body, m[1]...)
			} else {
				body = append(body, 0, 0)
			}
			format := byte(0)
			if strings.Contains(part, "binary") {
				format = 1
			}
			message('B', append(body, 0, 1, 0, format))
			message('D', []byte("P\x00"))
		case strings.HasPrefix(part, "Execute"):
			message('E', []byte{0, 0, 0, 0, 0})
		case strings.HasPrefix(part, "FunctionCall"):
			message('F', []byte{0, 0, 2, 0xcb, 0, 0, 0, 0, 0, 0})
		}
	}
	message('S', nil)
	line := conn.Conn()
	if err := line.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return err
	}
	if _, err := line.Write(out); err != nil {
		return err
	}
	// Up to the last ReadyForQuery.
	want := 1
	if strings.HasPrefix(script, "FunctionCall") {
		want = 2
	}
	in := bufio.NewReader(line)
	for want > 0 {
		head := make([]byte, 5)
		if _, err := readFull(in, head); err != nil {
			return err
		}
		if _, err := in.Discard(int(wire.BigEndian.Uint32(head[1:])) - 4); err != nil {
			return err
		}
		if head[0] == 'Z' {
			want--
		}
	}
	return nil
}

func readFull(r *bufio.Reader, b []byte) (int, error) {
	for n := 0; n < len(b); {
		m, err := r.Read(b[n:])
		if n += m; err != nil {
			return n, err
		}
	}
	return len(b), nil
}
