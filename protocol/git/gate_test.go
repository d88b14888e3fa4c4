package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/internal/gittest"
)

// raw is a request as it stands on the wire, with ana's token.
func raw(line, head, body string) []byte {
	return []byte(line + " HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer " + gatetest.Token + "\r\n" + head + "\r\n" + body)
}

func TestGate(t *testing.T) {
	server := gittest.Start(t)
	server.Repository(t, "app.git")
	dir := t.TempDir()
	gittest.Git(t, dir, "init", "-q", "-b", "remember_me")
	gittest.Git(t, dir, "commit", "-q", "--allow-empty", "-m", "first")
	gittest.Git(t, dir, "push", "-q", server.Dir+"/app.git", "remember_me")
	begun := make(chan struct{})
	server.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/slow") && r.Method == http.MethodPost {
			io.Copy(io.Discard, r.Body)
			begun <- struct{}{}
			<-r.Context().Done()
			return false
		}
		return true
	}
	post := "Content-Type: application/x-git-upload-pack-request\r\nGit-Protocol: version=2\r\n"
	c := connectionTo(server)
	gatetest.Run(t, gatetest.Case{
		Connection: c, Credential: custos.Credential{Username: server.Username, Password: server.Password},
		Serve: func(ctx context.Context, w *gatetest.World, l net.Listener) error {
			ctx, stop := context.WithCancel(ctx)
			h := New(ctx, Options{Gate: w.Gate, Dialer: w, Logger: w.Logger(), Temp: t.TempDir(), Idle: 20 * time.Millisecond})
			front := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
			go func() {
				<-ctx.Done()
				front.Close()
			}()
			err := front.Serve(l)
			stop()
			h.Wait()
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		},
		Dial:      dialClient,
		Statement: func(word string) string { return "app refs/heads/" + word },
		Slow:      "slow refs/heads/x",
		Begun:     func() { <-begun },
		Unknown: map[string][]byte{
			"the dumb protocol":       raw("GET /git/platform/app.git/HEAD", "", ""),
			"a loose object":          raw("GET /git/platform/app.git/objects/00/1", "", ""),
			"an archive":              raw("POST /git/platform/app.git/git-upload-archive", "Content-Length: 4\r\n", "0000"),
			"another service":         raw("GET /git/platform/app.git/info/refs?service=git-receive-pack%26x", "", ""),
			"a path that leads out":   raw("GET /git/platform/../../etc/info/refs?service=git-upload-pack", "", ""),
			"an escaped path":         raw("GET /git/platform/%2e%2e/app.git/info/refs?service=git-upload-pack", "", ""),
			"an escaped slash":        raw("GET /git/platform/app%2fb.git/info/refs?service=git-upload-pack", "", ""),
			"git's own folder":        raw("GET /git/platform/app/.git/info/refs?service=git-upload-pack", "", ""),
			"an unknown command":      raw("POST /git/platform/app.git/git-upload-pack", post+"Content-Length: 17\r\n", "0011command=wipe\n"),
			"an unknown line":         raw("POST /git/platform/app.git/git-upload-pack", post+"Content-Length: 41\r\n", "0014command=ls-refs\n0001000dslip=good0000"),
			"no pkt-line":             raw("POST /git/platform/app.git/git-upload-pack", post+"Content-Length: 4\r\n", "slip"),
			"another type":            raw("POST /git/platform/app.git/git-upload-pack", "Content-Type: text/plain\r\nContent-Length: 4\r\n", "0000"),
			"another encoding":        raw("POST /git/platform/app.git/git-upload-pack", post+"Content-Encoding: br\r\nContent-Length: 4\r\n", "0000"),
			"what is no gzip":         raw("POST /git/platform/app.git/git-upload-pack", post+"Content-Encoding: gzip\r\nContent-Length: 4\r\n", "0000"),
			"a push that is none":     raw("POST /git/platform/app.git/git-receive-pack", "Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 8\r\n", "0008slip"),
			"an LFS object of nobody": raw("GET /git/platform/app.git/info/lfs/objects/"+strings.Repeat("1", 64), "", ""),
			"no HTTP":                 []byte("slip slip slip\r\n\r\n"),
			"two lengths":             raw("POST /git/platform/app.git/git-upload-pack", post+"Content-Length: 4\r\nContent-Length: 5\r\n", "0000s"),
		},
		Oversized: raw("POST /git/platform/app.git/git-upload-pack", post+"Content-Length: 99999999999\r\n", "0014command=ls-refs\n"),
	})
}

// client speaks HTTP on one line, as gatetest sees it.
type client struct {
	conn  net.Conn
	in    *bufio.Reader
	token string
}

var clients atomic.Int64

func dialClient(t testing.TB, addr, token string) (gatetest.Client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	// A session is kept for a token's next request; each client here has its own.
	if token == gatetest.Token {
		token += fmt.Sprint(".", clients.Add(1))
	}
	c := &client{conn: conn, in: bufio.NewReader(conn), token: token}
	if err := c.answer(http.NewRequest(http.MethodGet, "http://gw/git/platform", nil)); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) answer(r *http.Request, err error) error {
	if err != nil {
		return err
	}
	r.SetBasicAuth("any", c.token)
	r.Header.Set("Git-Protocol", "version=2")
	if r.Method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	}
	if err := r.Write(c.conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.in, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || bytes.HasPrefix(b[min(4, len(b)):], []byte("ERR ")) {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return nil
}

// Do lists the refs of a repository with a prefix.
func (c *client) Do(statement string) error {
	repository, prefix, _ := strings.Cut(statement, " ")
	b := append(append(appendPkt(nil, "command=ls-refs\n"), delimPkt...), append(appendPkt(nil, "ref-prefix "+prefix), flushPkt...)...)
	return c.answer(http.NewRequest(http.MethodPost, "http://gw/git/platform/"+repository+"/git-upload-pack", bytes.NewReader(b)))
}

func (c *client) Conn() net.Conn { return c.conn }
func (c *client) Close() error   { return c.conn.Close() }
