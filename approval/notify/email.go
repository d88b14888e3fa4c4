package notify

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
)

// Email sends plain text by SMTP (RFC 5321): inside TLS, except on loopback.
type Email struct {
	Server   string // host:port
	TLS      string // starttls (the default), implicit or disable
	From     string
	To       []string
	Username string
	Password Secret // nil: the server asks for none
	// Roots are what its certificate is trusted by; nil: the system's.
	Roots *tls.Config
}

// Send is of Sender.
func (e *Email) Send(ctx context.Context, m *Message) error {
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(e.From), msg.To(e.To...)); err != nil {
		return fmt.Errorf("%w: an address of the channel is none: %w", ErrRefused, err)
	}
	msg.Subject("[custos] " + m.Title)
	// The same for each try, so that a mail that came twice is seen to be one.
	sum := sha256.Sum256([]byte(m.ID))
	msg.SetMessageIDWithValue(hex.EncodeToString(sum[:16]) + "@custos.invalid")
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834
	msg.SetBodyString(mail.TypeTextPlain, body(m))
	client, hangUp, err := e.client(ctx)
	if err != nil {
		return err
	}
	defer hangUp()
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		if sent, ok := errors.AsType[*mail.SendError](err); ok && !sent.IsTemp() && sent.ErrorCode() >= 500 {
			return fmt.Errorf("%w: the mail server answered with %d", ErrRefused, sent.ErrorCode())
		}
		return fmt.Errorf("send mail: %w", err)
	}
	return nil
}

func body(m *Message) string {
	var b strings.Builder
	b.WriteString(m.Title + "\n\n")
	for _, f := range m.Facts {
		fmt.Fprintf(&b, "%-12s%s\n", f[0], f[1])
	}
	if m.Statement != "" {
		b.WriteString("\n" + m.Statement + "\n")
	}
	if m.Link != "" {
		b.WriteString("\nSign in and answer:\n" + m.Link + "\n")
	}
	return b.String()
}

// client returns a client of the server, and what closes its line however the
// client leaves it.
func (e *Email) client(ctx context.Context) (client *mail.Client, hangUp func(), err error) {
	host, port, err := net.SplitHostPort(e.Server)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the mail server is no host:port", ErrRefused)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the mail server's port is no number", ErrRefused)
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.Roots != nil {
		secure = e.Roots.Clone()
	}
	secure.ServerName = host
	options := []mail.Option{mail.WithPort(number), mail.WithTimeout(sendTimeout), mail.WithTLSConfig(secure)}
	auth := mail.SMTPAuthAutoDiscover
	switch {
	case e.TLS == "implicit":
		auth = mail.SMTPAuthPlainNoEnc // the line is inside TLS, which dial below begins
		options = append(options, mail.WithSSL())
	case e.TLS == "disable" && isLoopback(host):
		auth = mail.SMTPAuthPlainNoEnc
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if e.Username != "" && e.Password != nil {
		password, err := e.Password(ctx)
		if err != nil {
			return nil, nil, err
		}
		options = append(options, mail.WithSMTPAuth(auth), mail.WithUsername(e.Username), mail.WithPassword(password))
	}
	var line net.Conn
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: sendTimeout}).DialContext(ctx, network, address)
		if line = conn; err == nil && e.TLS == "implicit" {
			conn = tls.Client(conn, secure)
		}
		return conn, err
	}
	options = append(options, mail.WithDialContextFunc(dial))
	client, err = mail.NewClient(host, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("make mail client: %w", err)
	}
	return client, func() {
		if line != nil {
			line.Close()
		}
	}, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
