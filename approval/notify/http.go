package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Secret reads a secret anew, so that a rotation needs no restart.
type Secret func(context.Context) (string, error)

// NewHTTP returns a client for channels. It goes to the address that is
// configured and nowhere else: it follows no redirect.
func NewHTTP() *http.Client {
	return &http.Client{
		Timeout:       sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10},
	}
}

// address reads a secret that is a URL, and checks that nothing crosses a
// network in the clear.
func address(ctx context.Context, s Secret) (string, error) {
	text, err := s(ctx)
	if err != nil {
		return "", err
	}
	if !Safe(text) {
		return "", fmt.Errorf("%w: the address is no https URL: put the one there that the service gave you", ErrRefused)
	}
	return text, nil
}

// Safe reports whether a message can be sent to a URL: https, or http on
// loopback.
func Safe(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())
}

// post sends a body, and makes of what is answered an error or none.
func post(ctx context.Context, client *http.Client, to string, body []byte, header http.Header) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: the address is no URL", ErrRefused)
	}
	r.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := client.Do(r)
	if err != nil {
		return unaddressed(err)
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, 64<<10) // so that the line can be used again
	return answered(resp.StatusCode, resp.Header)
}

// answered is the error of an answer.
func answered(status int, header http.Header) error {
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(strings.TrimSpace(header.Get("Retry-After"))) // 0: it does not say
		return later{fmt.Errorf("it was answered with status %d", status), time.Duration(min(max(seconds, 0), 3600)) * time.Second}
	case status == http.StatusRequestTimeout || status == http.StatusTooEarly || status >= 500:
		return fmt.Errorf("it was answered with status %d", status)
	}
	return fmt.Errorf("%w: it was answered with status %d", ErrRefused, status)
}

// unaddressed takes the address out of an error of net/http: it may be a
// secret.
func unaddressed(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
