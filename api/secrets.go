package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
)

// setSecret stores what a connection logs in with: the body, as it is, but for
// one newline at its end. It is never given out again.
func (s *server) setSecret(w http.ResponseWriter, r *http.Request) error {
	secret, err := io.ReadAll(r.Body)
	if err != nil {
		return problem(http.StatusBadRequest, "the secret could not be read: send at most 64 KiB")
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(secret), "\n"), "\r")
	if err := s.Connections.SetSecret(r.Context(), identity(caller(r.Context())), r.PathValue("name"), text); err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return writeJSON(w, struct{}{})
}

func (s *server) removeSecret(w http.ResponseWriter, r *http.Request) error {
	if err := s.Connections.RemoveSecret(identity(caller(r.Context())), r.PathValue("name")); err != nil {
		return problem(http.StatusUnprocessableEntity, err.Error())
	}
	return writeJSON(w, struct{}{})
}

// SetSecret stores what a connection logs in with.
func (c *Client) SetSecret(ctx context.Context, name string, secret []byte) error {
	return c.secret(ctx, http.MethodPut, name, secret)
}

// RemoveSecret forgets it.
func (c *Client) RemoveSecret(ctx context.Context, name string) error {
	return c.secret(ctx, http.MethodDelete, name, nil)
}

func (c *Client) secret(ctx context.Context, method, name string, secret []byte) error {
	resp, err := c.send(ctx, method, connectionPath(name)+"/secret", nil, bytes.NewReader(secret))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
