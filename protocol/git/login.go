package git

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/custos-gateway/custos/gate"
)

// side is the half of a session that faces the upstream. It has the way on
// which the credential is put in, and keeps to itself where LFS objects are
// brought, and with which credential.
type side struct {
	base *url.URL
	rt   http.RoundTripper
	// foreign is the way to other hosts, for LFS objects that are kept there. It
	// knows no credential.
	foreign http.RoundTripper

	mu      sync.Mutex
	actions actions
}

// maxActions bounds how many LFS objects' places a session knows.
const maxActions = 20_000

// greeting is what the client's half may know: how to read of a repository what
// a push is judged by.
type greeting struct{ side *side }

// newSide makes of a way to the upstream, which puts its credential in, the
// session's target. base is the upstream's address.
func newSide(t *gate.Target, base *url.URL, foreign http.RoundTripper) *gate.Target {
	s := &side{base: base, rt: t.HTTP, foreign: foreign, actions: actions{}}
	t.HTTP, t.Greeting = s, &greeting{s}
	return t
}

// upstream reads of a repository. What it asks changes nothing: it is
// git-upload-pack only.
func (g *greeting) upstream(repository, dir string) *upstream {
	return &upstream{rt: readOnly{g.side.rt}, url: strings.TrimSuffix(g.side.base.String(), "/") + "/" + (&url.URL{Path: repository}).EscapedPath(), dir: dir, agent: agent}
}

// agent is what the gateway calls itself.
const agent = "git/custos"

// readOnly lets through what reads.
type readOnly struct{ rt http.RoundTripper }

func (r readOnly) RoundTrip(q *http.Request) (*http.Response, error) {
	discover := q.Method == http.MethodGet && strings.HasSuffix(q.URL.Path, "/info/refs") && q.URL.RawQuery == "service="+serviceFetch
	if !discover && !(q.Method == http.MethodPost && strings.HasSuffix(q.URL.Path, "/"+serviceFetch)) {
		return nil, fmt.Errorf("read upstream: %s %s is not only reading", q.Method, q.URL.Path)
	}
	return r.rt.RoundTrip(q)
}

// lfsKey is where a request of LFS says what it is.
type lfsKey struct{}

// lfsCall is what the upstream's half is told of a request of LFS.
type lfsCall struct {
	repository string
	base       string // of a batch: the repository's address as the client knows it
	oid, verb  string // of an object
}

func withLFS(ctx context.Context, c *lfsCall) context.Context {
	return context.WithValue(ctx, lfsKey{}, c)
}

// RoundTrip sends a request that was let through. Where objects of LFS are kept
// is put in here, and taken out of what comes back.
func (s *side) RoundTrip(r *http.Request) (*http.Response, error) {
	call, _ := r.Context().Value(lfsKey{}).(*lfsCall)
	if call == nil {
		return s.rt.RoundTrip(r)
	}
	if call.oid != "" {
		return s.object(r, call)
	}
	resp, err := s.rt.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	out, err := rewriteReply(resp.Body, call.repository, call.base, r.URL, s.keep)
	if err != nil {
		return nil, err
	}
	return answer(resp, out), nil
}

func (s *side) keep(name string, a action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.actions) >= maxActions {
		clear(s.actions)
	}
	s.actions[name] = a
}

// errNoAction is what becomes of an object that no batch named.
var errNoAction = fmt.Errorf("no batch of this session has named the object: %w", errRequest)

func (s *side) object(r *http.Request, call *lfsCall) (*http.Response, error) {
	s.mu.Lock()
	a, ok := s.actions[actionName(call.repository, call.oid, call.verb)]
	s.mu.Unlock()
	if !ok {
		return nil, errNoAction
	}
	r = r.Clone(r.Context())
	r.URL, r.Host = a.href, ""
	if a.href.Scheme == s.base.Scheme && a.href.Host == s.base.Host {
		for key, value := range a.header {
			if !strings.EqualFold(key, "Authorization") {
				r.Header.Set(key, value)
			}
		}
		return s.rt.RoundTrip(r)
	}
	if s.foreign == nil || a.href.Scheme != "https" {
		return nil, fmt.Errorf("reach LFS object at another host than the upstream's: %w", errReply)
	}
	for key, value := range a.header {
		r.Header.Set(key, value)
	}
	return s.foreign.RoundTrip(r)
}

// answer is an answer with another body.
func answer(resp *http.Response, body []byte) *http.Response {
	to := *resp
	to.Header = http.Header{"Content-Type": {lfsType}}
	to.Body, to.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return &to
}
