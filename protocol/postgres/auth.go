package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/custos-gateway/custos/gate"
)

// Methods of the Authentication message (section "Message Formats").
const (
	authOK        = 0
	authCleartext = 3
	authSASL      = 10
	authSASLMore  = 11
)

// oauthUser is the user name that asks for OAUTHBEARER. The server picks the
// method, and whoever speaks the one fails at the other; the name is free, as
// the token says who is calling.
const oauthUser = "oauth"

const oauthMechanism = "OAUTHBEARER"

// authenticate gets the token from the client.
func (d *door) authenticate() (token string, err error) {
	if d.params["user"] == oauthUser {
		return d.bearer()
	}
	if err := d.ask(authCleartext, ""); err != nil {
		return "", err
	}
	body, err := d.password()
	if err != nil {
		return "", err
	}
	f := fields{b: body}
	password := f.text()
	if f.end() != nil {
		return "", violation("invalid password packet")
	}
	if len(password) == 0 {
		return "", &fatal{code: "28P01", message: "no token was given", hint: tokenHint}
	}
	return string(password), nil
}

const tokenHint = "give an OIDC token as the password: PGPASSWORD=$(custos token)"

// ask sends an Authentication message.
func (d *door) ask(method uint32, data string) error {
	m, at := begin(nil, 'R')
	m = binary.BigEndian.AppendUint32(m, method)
	_, err := d.conn.Write(finish(append(m, data...), at))
	return err
}

// password reads one message of type 'p', whose meaning depends on what was
// asked. It is held only up to the limit, and grows as it arrives.
func (d *door) password() ([]byte, error) {
	var head [headerSize]byte
	if _, err := io.ReadFull(d.conn, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[1:])) - 4
	if head[0] != 'p' {
		return nil, violation(fmt.Sprintf("expected password response, got message type %s", messageName(head[0])))
	}
	if size < 0 || size > int64(d.server.Limits.Password) {
		return nil, violation(fmt.Sprintf("the password message has %d bytes, want at most %d", size, d.server.Limits.Password))
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, d.conn, size); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// bearer leads the exchange of OAUTHBEARER (RFC 7628).
func (d *door) bearer() (token string, err error) {
	if err := d.ask(authSASL, oauthMechanism+"\x00\x00"); err != nil {
		return "", err
	}
	body, err := d.password()
	if err != nil {
		return "", err
	}
	f := fields{b: body}
	mechanism := string(f.text())
	response := f.take(f.int32())
	if f.end() != nil || mechanism != oauthMechanism {
		return "", violation("malformed SASL response: the gateway offers " + oauthMechanism)
	}
	token, ok := bearerToken(string(response))
	if !ok {
		return "", violation("malformed " + oauthMechanism + " message")
	}
	if token == "" {
		// The client asks where to get a token (RFC 7628, section 4.3). The
		// gateway's issuers are in the console; it answers, and fails.
		if err := d.ask(authSASLMore, `{"status":"invalid_token"}`); err != nil {
			return "", err
		}
		if _, err := d.password(); err != nil {
			return "", err
		}
		return "", &fatal{code: "28000", message: "no token was given", hint: tokenHint}
	}
	return token, nil
}

// bearerToken reads a client's first message: a GS2 header, then key-value
// pairs, of which auth is the one that counts (RFC 7628, section 3.1).
func bearerToken(message string) (token string, ok bool) {
	header, pairs, ok := strings.Cut(message, "\x01")
	if !ok || !strings.HasPrefix(header, "n,") && !strings.HasPrefix(header, "y,") {
		return "", false
	}
	pairs, ok = strings.CutSuffix(pairs, "\x01\x01")
	if !ok {
		return "", false
	}
	found := false
	for pair := range strings.SplitSeq(pairs, "\x01") {
		if value, is := strings.CutPrefix(pair, "auth="); is {
			if found {
				return "", false
			}
			found = true
			scheme, rest, _ := strings.Cut(value, " ")
			if value != "" && !strings.EqualFold(scheme, "Bearer") {
				return "", false
			}
			token = strings.TrimLeft(rest, " ")
		}
	}
	return token, found
}

// welcome tells the client that it is in, with all that a target says at a
// session's start, except for the key, which is the gateway's own.
func (d *door) welcome(s *gate.Session) error {
	g, ok := s.Greeting().(*greeting)
	if !ok {
		return fmt.Errorf("welcome client: the login left no greeting")
	}
	m, at := begin(nil, 'R')
	m = finish(binary.BigEndian.AppendUint32(m, authOK), at)
	for _, p := range g.parameters {
		m, at = begin(m, 'S')
		m = finish(appendText(appendText(m, p[0]), p[1]), at)
	}
	d.key = d.server.cancel.issue(d.minor)
	m, at = begin(m, 'K')
	m = binary.BigEndian.AppendUint32(m, d.key.number)
	m = finish(append(m, d.key.secret...), at)
	m, at = begin(m, 'Z')
	m = finish(append(m, 'I'), at)
	_, err := d.conn.Write(m)
	return err
}
