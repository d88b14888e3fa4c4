package tunnel

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// dialGateway reaches the gateway: by the proxy that HTTPS_PROXY names, which
// it asks to CONNECT (RFC 9110, section 9.3.6), or itself.
func dialGateway(ctx context.Context, gateway, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: usual.pulse, Interval: usual.pulse, Count: 3}}
	u, err := url.Parse(gateway)
	if err != nil {
		return nil, err
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if err != nil {
		return nil, fmt.Errorf("read HTTPS_PROXY: %w", err)
	}
	if proxy == nil {
		return d.DialContext(ctx, "tcp", address)
	}
	if proxy.Scheme != "http" {
		return nil, fmt.Errorf("read HTTPS_PROXY: a proxy must be http://host:port, not %s", proxy.Scheme)
	}
	port := proxy.Port()
	if port == "" {
		port = "80"
	}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("reach proxy: %w", err)
	}
	conn.SetDeadline(time.Now().Add(wordTimeout))
	if err := throughProxy(conn, proxy, address); err != nil {
		conn.Close()
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return conn, nil
}

func throughProxy(conn net.Conn, proxy *url.URL, address string) error {
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := r.Write(conn); err != nil {
		return fmt.Errorf("ask proxy: %w", err)
	}
	// The gateway says nothing before the agent does: nothing that is read
	// ahead belongs to it.
	answer := bufio.NewReaderSize(conn, 4<<10)
	res, err := http.ReadResponse(answer, r)
	if err != nil {
		return fmt.Errorf("ask proxy: %w", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK || answer.Buffered() > 0 {
		return fmt.Errorf("ask proxy: it answered %s to CONNECT %s", res.Status, address)
	}
	return nil
}
