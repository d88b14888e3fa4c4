// Package apitest runs a real HTTP server for tests and the demonstration, on
// loopback: a folder of resources that are read, put and deleted (WebDAV's
// server, golang.org/x/net/webdav), for whoever has its key.
package apitest

import (
	"crypto/subtle"
	"fmt"
	"mime"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/webdav"
)

// Server is an API of resources, which lie as files in a folder.
type Server struct {
	// URL is where it serves, Dir where its resources lie.
	URL, Dir string
	// Key is what it wants to find in the field X-Api-Key.
	Key string

	http *http.Server
}

// Open starts a server with its resources in a folder.
func Open(dir string) (*Server, error) {
	// Debian's own table is not everywhere.
	if err := mime.AddExtensionType(".csv", "text/csv"); err != nil {
		return nil, fmt.Errorf("start API: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start API: %w", err)
	}
	s := &Server{URL: "http://" + l.Addr().String(), Dir: dir, Key: "hunter2-of-the-api"}
	files := &webdav.Handler{FileSystem: webdav.Dir(dir), LockSystem: webdav.NewMemLS()}
	s.http = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Api-Key")), []byte(s.Key)) != 1 {
			http.Error(w, "who are you? "+r.Header.Get("X-Api-Key"), http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(w, r)
	})}
	go s.http.Serve(l)
	return s, nil
}

// Put writes a resource.
func (s *Server) Put(path, text string) error {
	path = filepath.Join(s.Dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("put resource: %w", err)
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// Close ends the server.
func (s *Server) Close() { s.http.Close() }
