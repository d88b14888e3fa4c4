package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
)

// The files of checkpoints. The pending one is there if a quorum of witnesses
// is asked for, and has the log's own signature only.
const (
	checkpointFile = "checkpoint"
	pendingFile    = "checkpoint.pending"
	maxCheckpoint  = 64 << 10 // bytes, with all signatures
)

// head is a signed tree head.
type head struct {
	tlog.Tree
	note []byte // nil: there is none
}

// heads are the latest that the log signed, and the latest that enough
// witnesses cosigned. A heads is never changed.
type heads struct{ pending, published head }

// Checkpoint returns the latest published checkpoint, with its cosignatures.
func (l *Log) Checkpoint() ([]byte, error) {
	if n := l.head.Load().published.note; n != nil {
		return bytes.Clone(n), nil
	}
	return nil, fmt.Errorf("get checkpoint: no %d witnesses have cosigned one yet; see the ledger's state for what keeps them", l.o.Quorum)
}

// loadHeads reads what the last run signed.
func (l *Log) loadHeads() (*heads, error) {
	h := new(heads)
	for name, to := range map[string]*head{checkpointFile: &h.published, pendingFile: &h.pending} {
		b, err := durable.ReadFile(l.o.FS, filepath.Join(l.o.Dir, name), maxCheckpoint)
		if errors.Is(err, errNotExist) {
			continue
		}
		if err == nil {
			*to, err = l.ownHead(b)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: read %s: %w; %s", ErrDamaged, name, err, damagedHint)
		}
	}
	if h.pending.note == nil || h.pending.N < h.published.N {
		h.pending = h.published
	}
	return h, nil
}

// ownHead reads a checkpoint that this log's key must have signed. Ed25519
// signatures are deterministic (RFC 8032, section 5.1.6): the key signs
// again, and the line must be there.
func (l *Log) ownHead(b []byte) (head, error) {
	text, sigs, ok := splitNote(b)
	if !ok {
		return head{}, errors.New("it is not a signed note")
	}
	c, err := torchwood.ParseCheckpoint(string(text))
	if err != nil {
		return head{}, err
	}
	if c.Origin != l.o.Signer.Name() {
		return head{}, fmt.Errorf("it is of another ledger, %q", c.Origin)
	}
	again, err := note.Sign(&note.Note{Text: string(text)}, l.o.Signer)
	if err != nil {
		return head{}, err
	}
	_, own, _ := splitNote(again)
	if !bytes.Contains(append([]byte("\n"), sigs...), append([]byte("\n"), own...)) {
		return head{}, errors.New("this ledger's key did not sign it")
	}
	return head{c.Tree, b}, nil
}

// splitNote splits a signed note (C2SP signed-note) into its text and its
// signature lines, both with their last newline.
func splitNote(b []byte) (text, sigs []byte, ok bool) {
	i := bytes.LastIndex(b, []byte("\n\n"))
	if i < 0 || len(b) == i+2 || b[len(b)-1] != '\n' {
		return nil, nil, false
	}
	return b[:i+1], b[i+2:], true
}

// sign signs the head of the tree and writes it. Without a quorum to wait
// for it is published at once. The caller holds publish, or has the log for
// itself.
func (l *Log) sign() error {
	c := torchwood.Checkpoint{Origin: l.o.Signer.Name(), Tree: tlog.Tree{N: int64(l.tree.n), Hash: l.tree.root()}}
	b, err := note.Sign(&note.Note{Text: c.String()}, l.o.Signer)
	if err != nil {
		return fmt.Errorf("sign checkpoint: %w", err)
	}
	h := heads{pending: head{c.Tree, b}}
	name := checkpointFile
	if l.o.Quorum > 0 {
		name = pendingFile
	}
	l.headMu.Lock()
	defer l.headMu.Unlock()
	if err := durable.WriteFile(l.o.FS, filepath.Join(l.o.Dir, name), b, 0o600); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if l.o.Quorum == 0 {
		h.published = h.pending
	} else if old := l.head.Load(); old != nil {
		h.published = old.published
	}
	l.head.Store(&h)
	select {
	case l.signed <- struct{}{}:
	default:
	}
	return nil
}

// announce publishes a checkpoint with its cosignatures.
func (l *Log) announce(c head) error {
	l.headMu.Lock()
	defer l.headMu.Unlock()
	h := *l.head.Load()
	if c.N < h.published.N {
		return nil
	}
	if err := durable.WriteFile(l.o.FS, filepath.Join(l.o.Dir, checkpointFile), c.note, 0o600); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	h.published = c
	l.head.Store(&h)
	return nil
}

// maxGrowth bounds how many entries a checkpoint adds, and so how long after
// a long absence the first one takes.
const maxGrowth = 1 << 16

// Publish signs a checkpoint of all entries there are, if there are new ones,
// without waiting for the next to be due. It covers durable entries only.
func (l *Log) Publish() error {
	l.publish.Lock()
	defer l.publish.Unlock()
	for size := l.size.Load(); l.tree.n < size; {
		to := min(size, l.tree.n+maxGrowth)
		if err := l.Durable(to - 1); err != nil {
			return fmt.Errorf("make checkpoint: %w", err)
		}
		old, t := l.tree, l.tree.clone()
		if err := l.grow(t, to); err != nil {
			return fmt.Errorf("make checkpoint: %w", err)
		}
		l.tree = t
		if err := l.sign(); err != nil {
			// What is on disk may be the new one; what the tree covers is
			// durable either way, and the next try signs more of the same.
			l.tree = old
			return fmt.Errorf("make checkpoint: %w", err)
		}
	}
	return nil
}

// follow starts what goes on behind the log.
func (l *Log) follow() {
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		tick := time.NewTicker(l.o.Interval)
		defer tick.Stop()
		for {
			select {
			case <-l.ctx.Done():
				return
			case <-tick.C:
				l.tick()
			}
		}
	}()
	if len(l.witnesses) > 0 {
		l.done.Add(1)
		go func() {
			defer l.done.Done()
			l.cosignLoop()
		}()
	}
}

// tick does what is due: healing, a heartbeat, a checkpoint.
func (l *Log) tick() {
	l.mu.Lock()
	err := l.tryHeal()
	if err == nil && !l.closed.Load() && l.o.Now().Sub(l.lastAt) >= l.o.Heartbeat {
		_, err = l.note(custos.EntryHeartbeat, "")
	}
	l.mu.Unlock()
	if err == nil {
		err = l.Publish()
	}
	problem := ""
	if err != nil && l.ctx.Err() == nil {
		problem = err.Error()
	}
	if last := l.problem.Swap(&problem); problem != "" && (last == nil || *last != problem) {
		l.o.Logger.Error("keep the ledger", "cause", err)
	}
}
