package postgres

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"sync"
)

// cancelKey is what a client cancels with: the gateway's own, and not the
// target's. The secret has 32 bytes in protocol 3.2, and the 4 that protocol
// 3.0 has room for.
type cancelKey struct {
	number uint32
	secret []byte
}

// cancelKeys find the session of a cancel request.
type cancelKeys struct {
	mu       sync.Mutex
	sessions map[uint32]*served // nil: issued, and not yet served
}

// issue makes a key that is not in use.
func (c *cancelKeys) issue(minor int) cancelKey {
	k := cancelKey{secret: make([]byte, 4)}
	if minor >= 2 {
		k.secret = make([]byte, 32)
	}
	rand.Read(k.secret)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var b [4]byte
		rand.Read(b[:])
		// Clients print it as a process id: a positive number.
		k.number = binary.BigEndian.Uint32(b[:]) >> 1
		if _, taken := c.sessions[k.number]; !taken && k.number != 0 {
			c.sessions[k.number] = nil
			return k
		}
	}
}

func (c *cancelKeys) serve(k cancelKey, s *served) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[k.number] = s
}

func (c *cancelKeys) forget(k cancelKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, k.number)
}

// request cancels what a session does, if body, from behind the request's
// number, holds its key. Whoever asks learns nothing (section "Canceling
// Requests in Progress").
func (c *cancelKeys) request(ctx context.Context, server *Server, body []byte) {
	if len(body) < 4+4 || len(body) > 4+cancelKeyLimit {
		return
	}
	c.mu.Lock()
	s := c.sessions[binary.BigEndian.Uint32(body)]
	c.mu.Unlock()
	if s == nil || subtle.ConstantTimeCompare(s.key.secret, body[4:]) != 1 {
		return
	}
	if s.giveUp() {
		return // nothing of it has reached the target
	}
	ctx, cancel := context.WithTimeout(ctx, server.PreAuthTimeout)
	defer cancel()
	if err := s.session.Cancel(ctx); err != nil {
		server.Logger.Warn("cancel operation", "session", s.session.ID(), "cause", err)
	}
}
