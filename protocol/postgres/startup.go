package postgres

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// The numbers that a startup packet begins with (section "Message Formats").
const (
	version3       = 3 << 16
	minorKnown     = 2
	sslRequest     = 1234<<16 | 5679
	gssRequest     = 1234<<16 | 5680
	cancelRequest  = 1234<<16 | 5678
	tlsHandshake   = 0x16 // the first byte of a TLS record (RFC 8446, section 5.1)
	maxNegotiation = 2    // requests for encryption before the startup message
)

// door is a connection before its session.
type door struct {
	server *Server
	conn   net.Conn // the client, inside TLS once that is up
	client string   // its address
	secure bool
	minor  int // the protocol's, after 3
	params map[string]string
	key    cancelKey
}

var errDone = errors.New("it asked for something else than a session")

// enter leads the client up to its session. A client that is not let in was
// told so.
func (d *door) enter(ctx context.Context) (*gate.Session, error) {
	if err := d.startup(ctx); err != nil {
		return nil, err
	}
	hello, err := d.greet()
	if err != nil {
		return nil, d.turnAway(err)
	}
	token, err := d.authenticate()
	if err != nil {
		return nil, d.turnAway(err)
	}
	session, err := d.server.Gate.Open(ctx, gate.Knock{
		Protocol: Name, Connection: hello.connection, Token: token, Client: d.client,
		Asserted: hello.asserted, Hello: hello, Login: d.server.login,
	})
	if err != nil {
		return nil, d.turnAway(err)
	}
	if err := d.welcome(session); err != nil {
		session.Close("client closed the connection")
		return nil, err
	}
	return session, nil
}

// startup reads up to the startup message. Every length is judged before
// anything is held for it.
func (d *door) startup(ctx context.Context) error {
	var head [8]byte
	for range maxNegotiation + 1 {
		if _, err := io.ReadFull(d.conn, head[:1]); err != nil {
			return err
		}
		if head[0] == tlsHandshake && !d.secure {
			if err := d.direct(ctx, head[0]); err != nil {
				return err
			}
			if _, err := io.ReadFull(d.conn, head[:1]); err != nil {
				return err
			}
		}
		if _, err := io.ReadFull(d.conn, head[1:]); err != nil {
			return err
		}
		size, number := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:])
		if size < 8 || size > startupLimit {
			return d.turnAway(violation("invalid length of startup packet"))
		}
		body := make([]byte, size-8)
		if _, err := io.ReadFull(d.conn, body); err != nil {
			return err
		}
		switch {
		case number == sslRequest && len(body) == 0 && !d.secure:
			if err := d.encrypt(ctx); err != nil {
				return err
			}
		case number == gssRequest && len(body) == 0 && !d.secure:
			if _, err := d.conn.Write([]byte{'N'}); err != nil {
				return err
			}
		case number == cancelRequest:
			d.server.cancel.request(ctx, d.server, body)
			return errDone
		case number>>16 == 3:
			return d.read(int(number&0xffff), body)
		default:
			return d.turnAway(&fatal{code: "0A000", message: fmt.Sprintf(
				"unsupported frontend protocol %d.%d: the gateway speaks 3.0 to 3.2", number>>16, number&0xffff)})
		}
	}
	return d.turnAway(violation("too many requests for encryption"))
}

// encrypt answers an SSLRequest. What came in the clear behind it would be
// taken for a part of the encrypted stream (CVE-2021-23222), but is not: TLS
// reads it as a record, and fails.
func (d *door) encrypt(ctx context.Context) error {
	if d.server.tls == nil {
		_, err := d.conn.Write([]byte{'N'})
		return err
	}
	if _, err := d.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	return d.handshake(ctx, d.conn)
}

// direct takes a TLS handshake without a request.
func (d *door) direct(ctx context.Context, first byte) error {
	if d.server.tls == nil {
		return errors.New("start TLS: the gateway has no certificate for this listener")
	}
	if err := d.handshake(ctx, &unread{Conn: d.conn, first: []byte{first}}); err != nil {
		return err
	}
	if d.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != alpn {
		return d.turnAway(violation("received direct SSL connection request without ALPN protocol negotiation extension"))
	}
	return nil
}

func (d *door) handshake(ctx context.Context, conn net.Conn) error {
	t := tls.Server(conn, d.server.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("start TLS: %w", err)
	}
	d.conn, d.secure = t, true
	return nil
}

// unread is a connection of which the first byte was taken.
type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}

// read takes the parameters of a startup message. The manual has it that
// duplicates are not sent; the last counts, as in PostgreSQL.
func (d *door) read(minor int, body []byte) error {
	d.minor, d.params = minor, map[string]string{}
	f := fields{b: body}
	for !f.bad {
		name := f.text()
		if len(name) == 0 {
			break
		}
		d.params[string(name)] = string(f.text())
	}
	if f.end() != nil {
		return d.turnAway(violation("invalid startup packet layout: expected terminator as last byte"))
	}
	return nil
}

// hello is what the client asked for in its startup message, judged.
type hello struct {
	connection string
	asserted   map[string]string
	settings   map[string]string // parameters of the target's session
}

// settable are the parameters that a client may set for its session at its
// start: they shape how values look and how long things take, and widen
// nothing. Names are compared as PostgreSQL does, without regard to case.
var settable = map[string]bool{
	"application_name": true, "client_encoding": true, "client_min_messages": true, "datestyle": true, "timezone": true,
	"intervalstyle": true, "extra_float_digits": true, "bytea_output": true, "search_path": true, "standard_conforming_strings": true,
	"statement_timeout": true, "lock_timeout": true, "idle_in_transaction_session_timeout": true, "idle_session_timeout": true,
	"transaction_timeout": true, "default_transaction_read_only": true, "default_transaction_isolation": true,
	"default_transaction_deferrable": true, "lc_monetary": true, "lc_numeric": true, "lc_time": true, "xmloption": true, "xmlbinary": true,
	"geqo": true, "jit": true, "plan_cache_mode": true, "cursor_tuple_fraction": true, "enable_seqscan": true, "enable_indexscan": true,
	"enable_bitmapscan": true, "enable_hashjoin": true, "enable_mergejoin": true, "enable_nestloop": true, "work_mem": true,
}

// saying are parameters by which a client says of itself what an HTTP client
// says in its header. They are not the target's, and do not go there.
var saying = map[string]string{
	"custos.conversation": custos.AssertedConversation, "custos.tool_call": custos.AssertedToolCall,
	"custos.traceparent": custos.AssertedTrace, "custos.skill_digest": custos.AssertedSkill,
}

// greet judges the startup message and, where the client is ahead of the
// gateway, says so (section "Protocol Versions").
func (d *door) greet() (*hello, error) {
	h := &hello{connection: d.params["database"], asserted: map[string]string{}, settings: map[string]string{}}
	if !d.secure && !loopback(d.conn.LocalAddr()) {
		// The token is not asked for: it would cross the network in the clear.
		return nil, &fatal{code: "28000", message: "the gateway takes connections inside TLS only", hint: "connect with sslmode=require, or better verify-full"}
	}
	if d.params["user"] == "" {
		return nil, &fatal{code: "28000", message: "no PostgreSQL user name specified in startup packet"}
	}
	if h.connection == "" {
		h.connection = d.params["user"]
	}
	var extensions []string
	for name, value := range d.params {
		var err error
		switch {
		case name == "user" || name == "database":
		case strings.HasPrefix(name, "_pq_."):
			extensions = append(extensions, name)
		case name == "replication":
			switch strings.ToLower(value) {
			case "false", "off", "no", "0":
			default:
				err = &fatal{code: "42501", message: "refused by rule postgres/replication: the gateway lets no replication through"}
			}
		case name == "options":
			err = h.options(value)
		default:
			err = h.set(name, value)
		}
		if err != nil {
			return nil, err
		}
	}
	if name, ok := h.settings["application_name"]; ok {
		h.asserted["application_name"] = custos.AssertedText(name)
	}
	h.settings["client_encoding"] = "UTF8"
	if d.minor > minorKnown || len(extensions) > 0 {
		d.minor = min(d.minor, minorKnown)
		m, at := begin(nil, 'v')
		m = binary.BigEndian.AppendUint32(m, uint32(version3|d.minor))
		m = binary.BigEndian.AppendUint32(m, uint32(len(extensions)))
		for _, name := range extensions {
			m = appendText(m, name)
		}
		if _, err := d.conn.Write(finish(m, at)); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *hello) set(name, value string) error {
	low := strings.ToLower(name)
	if key, ok := saying[low]; ok {
		h.asserted[key] = custos.AssertedText(value)
		return nil
	}
	if !settable[low] {
		return &fatal{code: "42501", message: fmt.Sprintf("refused by rule postgres/startup-parameter: unsupported startup parameter: %s", name),
			hint: "leave it out of the connection's settings, or SET it afterwards, where policy allows that"}
	}
	if low == "client_encoding" {
		switch strings.ToUpper(strings.ReplaceAll(strings.Trim(value, "'"), "-", "")) {
		case "UTF8", "UNICODE", "AUTO":
		default:
			return &fatal{code: "22023", message: fmt.Sprintf("refused by rule postgres/encoding: client_encoding %q", value),
				hint: "the gateway reads what it lets through, as UTF8: set client_encoding to UTF8"}
		}
	}
	h.settings[low] = value
	return nil
}

// options reads the parameter of that name, which is a command line: -c
// name=value and --name=value, with backslash as escape (pg_split_opts).
func (h *hello) options(line string) error {
	var words []string
	var word []byte
	inside := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			word, inside = append(word, line[i]), true
		case bytes.IndexByte([]byte(" \t\n\v\f\r"), c) >= 0:
			if inside {
				words = append(words, string(word))
			}
			word, inside = nil, false
		default:
			word, inside = append(word, c), true
		}
	}
	if inside {
		words = append(words, string(word))
	}
	for i := 0; i < len(words); i++ {
		setting, ok := strings.CutPrefix(words[i], "--")
		if !ok {
			if setting, ok = strings.CutPrefix(words[i], "-c"); ok && setting == "" && i+1 < len(words) {
				i++
				setting = words[i]
			}
		}
		name, value, assigned := strings.Cut(setting, "=")
		if !ok || !assigned {
			return &fatal{code: "42501", message: fmt.Sprintf("refused by rule postgres/startup-parameter: the option %q", words[i]),
				hint: "of options, only -c name=value is let through"}
		}
		if err := h.set(strings.ReplaceAll(name, "-", "_"), value); err != nil {
			return err
		}
	}
	return nil
}

// turnAway tells the client why it is not let in. It returns why, for the log.
func (d *door) turnAway(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return err
	}
	var refusal *custos.Refusal
	var f *fatal
	switch {
	case errors.As(err, &refusal):
		f = turnedAway(refusal)
	case !errors.As(err, &f):
		return err
	}
	d.conn.Write(f.append(nil, "FATAL"))
	return err
}
