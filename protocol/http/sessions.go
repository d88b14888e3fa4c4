package http

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// standardIdle is how long a session is kept open for its caller's next request,
// where nothing else is said: clients make several for one command.
const standardIdle = 2 * time.Minute

// Sessions keeps one session per caller, connection and address of the client's,
// over the requests that are made of it: HTTP itself has none.
type Sessions struct {
	Gate *gate.Gate
	// Protocol is the name that the connections have.
	Protocol string
	Login    gate.Login
	// Idle is how long a session is kept that nothing is asked of; 0: two
	// minutes.
	Idle time.Duration
	// Context ends all sessions.
	Context context.Context

	mu      sync.Mutex // guards kept, and users and idle of each
	kept    map[sessionKey]*Kept
	waiting sync.WaitGroup
}

// sessionKey tells sessions apart: by token, connection, and where it is
// presented.
type sessionKey struct {
	token              [sha256.Size]byte
	connection, client string
}

// Kept is a session that is in use until it is released.
type Kept struct {
	// Session is nil where it could not be opened: then Err says why.
	Session *gate.Session
	Err     error

	all    *Sessions
	key    sessionKey
	opened chan struct{} // closed once Session or Err is there
	users  int
	idle   *time.Timer
}

// Wait returns when all sessions are closed, after their context has ended.
func (s *Sessions) Wait() { s.waiting.Wait() }

// Use returns the session of whoever makes a request, opened if there is none.
// The caller must Release it.
func (s *Sessions) Use(r *http.Request, connection, token string) *Kept {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	says := custos.AssertedBy(r.Header.Get)
	// Another conversation, or another skill, is another session.
	whose := token + "\x00" + says[custos.AssertedConversation] + "\x00" + says[custos.AssertedSkill]
	key := sessionKey{sha256.Sum256([]byte(whose)), connection, client}
	s.mu.Lock()
	k := s.kept[key]
	if k == nil {
		k = &Kept{all: s, key: key, opened: make(chan struct{})}
		if s.kept == nil {
			s.kept = map[sessionKey]*Kept{}
		}
		s.kept[key] = k
		s.waiting.Add(1)
		go s.open(k, token, says)
	} else if k.idle != nil {
		k.idle.Stop()
	}
	k.users++
	s.mu.Unlock()
	<-k.opened // a login is bounded in time
	return k
}

func (s *Sessions) open(k *Kept, token string, says map[string]string) {
	defer close(k.opened)
	k.Session, k.Err = s.Gate.Open(s.Context, gate.Knock{Protocol: s.Protocol, Connection: k.key.connection, Token: token, Client: k.key.client,
		Asserted: says, Login: s.Login})
	if k.Err != nil {
		s.drop(k)
		s.waiting.Done()
		return
	}
	// A session that ends by itself, such as with its token, is not used again.
	context.AfterFunc(k.Session.Context(), func() {
		defer s.waiting.Done()
		s.drop(k)
		k.Session.Close("")
	})
}

func (s *Sessions) drop(k *Kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[k.key] == k {
		delete(s.kept, k.key)
	}
}

// Release ends a request's use of a session.
func (k *Kept) Release() {
	s := k.all
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.users--; k.users > 0 || k.Err != nil {
		return
	}
	idle := s.Idle
	if idle <= 0 {
		idle = standardIdle
	}
	if k.idle == nil {
		k.idle = time.AfterFunc(idle, func() { s.expire(k) })
		return
	}
	k.idle.Reset(idle)
}

func (s *Sessions) expire(k *Kept) {
	s.mu.Lock()
	used := k.users > 0
	if !used && s.kept[k.key] == k {
		delete(s.kept, k.key)
	}
	s.mu.Unlock()
	if !used {
		k.Session.Close("nothing was asked of it any more")
	}
}

// oneLine makes of a text what fits on a line of at most max bytes.
func oneLine(s string, max int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if len(s) > max {
		s = strings.ToValidUTF8(s[:max], "")
	}
	return s
}

// Token is what a request presents: a bearer's token (RFC 6750), or what stands in
// place of a password (RFC 7617); "": neither. It is never passed on.
func Token(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// Connection cuts the connection's name off a request's path behind prefix. rest
// is what follows, as the client wrote it: it begins with a slash, or is "".
func Connection(r *http.Request, prefix string) (name, rest string) {
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(raw, prefix) {
		raw = r.URL.EscapedPath()
	}
	name, rest, below := strings.Cut(strings.TrimPrefix(raw, prefix), "/")
	if below {
		rest = "/" + rest
	}
	return name, rest
}
