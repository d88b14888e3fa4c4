// Package gatetest holds protocols to the promises of the gate: with a real
// ledger, real recordings and a real target.
package gatetest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
)

// Token is the token that a World takes.
const Token = "token-of-ana"

// World is a gate on a real ledger and real recordings, with one connection,
// and one caller, ana. Its parts can be told to fail.
type World struct {
	Gate       *gate.Gate
	Ledger     *Ledger
	Recordings *recording.Store
	Connection *custos.Connection
	Credential custos.Credential
	// Tap sees what reaches the target and what comes from it.
	Tap *Tap

	mu    sync.Mutex
	judge func(*custos.Operation) custos.Decision
	space error
	log   bytes.Buffer
}

// New returns a world around a connection to a running target.
func New(t testing.TB, c custos.Connection, cred custos.Credential) *World {
	t.Helper()
	dir := t.TempDir()
	signer, _, err := ledger.LoadOrCreateKey(filepath.Join(dir, "keys", "ledger.key"), "gatetest.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(ledger.Options{Dir: filepath.Join(dir, "ledger"), Signer: signer, Now: time.Now, SegmentBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	recordings, err := recording.Open(filepath.Join(dir, "recordings"), filepath.Join(dir, "keys", "recording.key"))
	if err != nil {
		t.Fatal(err)
	}
	c.Access = []custos.Access{{Groups: []string{"dba"}}}
	w := &World{Ledger: &Ledger{log: l}, Recordings: recordings, Connection: &c, Credential: cred, Tap: &Tap{}}
	w.Ledger.changed.L = &w.Ledger.mu
	w.Gate, err = gate.New(gate.Config{Ledger: w.Ledger, Recorder: recorder{recordings}, Identifier: w, Policy: w, Vault: w,
		Dialer: w, Directory: directory{&c}, Space: w, Logger: slog.New(slog.NewTextHandler((*logWriter)(w), &slog.HandlerOptions{Level: slog.LevelDebug})), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// recorder gives the gate the recordings under its own interfaces.
type recorder struct{ *recording.Store }

func (r recorder) Start(id custos.SessionID) (gate.Recording, error) {
	rec, err := r.Store.Start(id)
	return recordingOf{rec}, err
}

type recordingOf struct{ *recording.Recording }

func (r recordingOf) Answer(entry uint64, submitted time.Time) gate.Answer {
	return r.Recording.Answer(entry, submitted)
}

// logWriter is where the gate and the protocol log.
type logWriter World

func (w *logWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

// Logger logs into Log.
func (w *World) Logger() *slog.Logger { return w.Gate.Logger }

// Log returns what was logged.
func (w *World) Log() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// SetPolicy sets the policy; nil allows everything.
func (w *World) SetPolicy(judge func(*custos.Operation) custos.Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judge = judge
}

// RefuseText has policy refuse operations whose text holds a word.
func (w *World) RefuseText(word string) {
	w.SetPolicy(func(op *custos.Operation) custos.Decision {
		if strings.Contains(op.Text, word) {
			return custos.Decision{Rule: "no-" + word, Reason: "it says " + word, Hint: "leave it out"}
		}
		return custos.Decision{Effect: custos.Allow}
	})
}

// FillDisk has the disk without room; nil: with.
func (w *World) FillDisk(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.space = err
}

// Verify is gate.Identifier.
func (w *World) Verify(_ context.Context, token string) (*custos.Principal, error) {
	if token != Token && !strings.HasPrefix(token, Token+".") {
		return nil, errors.New("the token's signature is wrong")
	}
	return &custos.Principal{Issuer: "https://id.example.com", Subject: "ana", Name: "ana", Kind: custos.KindPerson, Groups: []string{"dba"}, Expires: time.Now().Add(time.Hour)}, nil
}

// Enter is of gate.Policy.
func (w *World) Enter(p *custos.Principal, c *custos.Connection) custos.Decision {
	if c.Admits(p) {
		return custos.Decision{Effect: custos.Allow}
	}
	return custos.Decision{Rule: "access", Reason: "no group of yours may use this connection", Hint: "ask for it"}
}

// Judge is of gate.Policy.
func (w *World) Judge(_ *custos.Principal, _ *custos.Connection, op *custos.Operation, _ *custos.Usage, _ time.Time) custos.Decision {
	w.mu.Lock()
	judge := w.judge
	w.mu.Unlock()
	if judge == nil {
		return custos.Decision{Effect: custos.Allow}
	}
	return judge(op)
}

// Lend is gate.Vault.
func (w *World) Lend(context.Context, *custos.Connection) (custos.Credential, error) {
	return w.Credential, nil
}

// Dial is gate.Dialer: what it returns is tapped.
func (w *World) Dial(ctx context.Context, c *custos.Connection) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return nil, err
	}
	return w.Tap.wrap(conn), nil
}

// directory is gate.Directory.
type directory struct{ c *custos.Connection }

func (d directory) Connection(name string) (*custos.Connection, bool) { return d.c, name == d.c.Name }

// ForSession is of gate.Space.
func (w *World) ForSession() error { return w.ForOperation() }

// ForOperation is of gate.Space.
func (w *World) ForOperation() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.space
}

// Tap keeps what crosses the lines to the target.
type Tap struct {
	quiet atomic.Bool
	mu    sync.Mutex
	sent  []byte
	lines []net.Conn
}

// Discard has the tap keep nothing, for tests of bulk.
func (t *Tap) Discard() { t.quiet.Store(true) }

// Sent returns what was sent to the target since the last call.
func (t *Tap) Sent() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.sent
	t.sent = nil
	return b
}

// Cut breaks all lines to the target.
func (t *Tap) Cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.lines {
		l.Close()
	}
	t.lines = nil
}

func (t *Tap) wrap(conn net.Conn) net.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, conn)
	return &tapped{Conn: conn, tap: t}
}

type tapped struct {
	net.Conn
	tap *Tap
}

func (c *tapped) Write(b []byte) (int, error) {
	if !c.tap.quiet.Load() {
		c.tap.mu.Lock()
		c.tap.sent = append(c.tap.sent, b...)
		c.tap.mu.Unlock()
	}
	return c.Conn.Write(b)
}
