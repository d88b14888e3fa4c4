package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/approval"
	"github.com/custos-gateway/custos/approval/notify"
	"github.com/custos-gateway/custos/config"
	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/identity/ticket"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
	"github.com/custos-gateway/custos/store"
)

// house is the data folder in use: everything that outlives the process.
type house struct {
	dir        string
	lock       *os.File
	ledger     *ledger.Log
	publicKey  string
	recordings *recording.Store
	index      *store.Index
	approvals  []custos.Approval // that the last run left
	notices    notify.Replay     // likewise
	holds      holds
	past       *gate.Past // what callers took before
	tickets    *ticket.Book
	logger     *slog.Logger
	now        func() time.Time
}

// openHouse takes a data folder into use, or makes one, and closes what a
// crash left open. It closes what it opened when it fails.
func openHouse(c *config.Config, logger *slog.Logger, now func() time.Time) (_ *house, err error) {
	h := &house{dir: c.DataDir, logger: logger, now: now}
	if err := makeDir(h.dir); err != nil {
		return nil, err
	}
	if h.lock, err = lockDir(h.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.Close()
		}
	}()
	// What an export was writing when the last run ended.
	if err := os.RemoveAll(h.temp()); err != nil {
		return nil, fmt.Errorf("clear temporary files: %w", err)
	}
	if err := os.Mkdir(h.temp(), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of temporary files: %w", err)
	}
	if err := h.openLedger(c); err != nil {
		return nil, err
	}
	if h.recordings, err = recording.Open(filepath.Join(h.dir, "recordings"), filepath.Join(h.dir, "keys", "recording.key")); err != nil {
		return nil, err
	}
	if h.index, err = store.Open(filepath.Join(h.dir, "index.db")); err != nil {
		return nil, err
	}
	replay := approval.Replay{}
	h.notices = notify.Replay{}
	h.holds = holds{held: map[custos.SessionID]bool{}}
	h.tickets = ticket.NewBook(now, func(e *custos.Entry) error { return h.keep(e, nil) })
	h.past = &gate.Past{Since: now().Add(-24 * time.Hour)}
	found, err := export.Recover(h.ledger, h.recordings, now, func(index uint64, e *custos.Entry) {
		replay.Entry(e)
		h.notices.Entry(e)
		h.holds.entry(e)
		h.past.Entry(index, e)
		h.tickets.Entry(e)
	})
	if err != nil {
		return nil, err
	}
	h.approvals = replay.Left(now())
	if found.Sessions > 0 {
		logger.Warn("the last run ended without closing its sessions; they are closed as interrupted", "sessions", found.Sessions, "operations", found.Operations)
	}
	return h, nil
}

func (h *house) openLedger(c *config.Config) error {
	signer, public, err := ledger.LoadOrCreateKey(filepath.Join(h.dir, "keys", "ledger.key"), c.Ledger.Origin)
	if err != nil {
		return err
	}
	o := ledger.Options{Dir: filepath.Join(h.dir, "ledger"), Signer: signer, Now: h.now, Logger: h.logger,
		Heartbeat: time.Duration(c.Ledger.Heartbeat), Quorum: c.Ledger.WitnessQuorum}
	for _, w := range c.Ledger.Witnesses {
		o.Witnesses = append(o.Witnesses, ledger.Witness{URL: w.URL, Key: w.Key})
	}
	if h.ledger, err = ledger.Open(o); err != nil {
		return err
	}
	h.publicKey = public
	if r := h.ledger.Recovery(); r.TornBytes > 0 {
		h.logger.Warn("a crash left an unfinished entry, which was set aside", "bytes", r.TornBytes, "file", r.TornFile)
	}
	return nil
}

func (h *house) temp() string { return filepath.Join(h.dir, "tmp") }

// keep puts an entry on record, its attachment in the clear, durably.
func (h *house) keep(e *custos.Entry, attachment []byte) error {
	e.At = h.now()
	if attachment != nil {
		sum := sha256.Sum256(attachment)
		e.Attachment = &custos.Digest{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(attachment))}
	}
	i, err := h.ledger.Append(e.AppendJSON(nil), attachment)
	if err == nil {
		err = h.ledger.Durable(i)
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", e.Kind, err)
	}
	return nil
}

// follow keeps the index up with the ledger until ctx ends.
func (h *house) follow(ctx context.Context, seen func(uint64, *custos.Entry)) error {
	return (&export.Indexer{Ledger: h.ledger, Recordings: h.recordings, Index: h.index, Logger: h.logger, Seen: seen}).Run(ctx)
}

// Close gives the data folder back; the lock goes last.
func (h *house) Close() error {
	var errs []error
	if h.index != nil {
		errs = append(errs, h.index.Close())
	}
	if h.ledger != nil {
		errs = append(errs, h.ledger.Close())
	}
	return errors.Join(append(errs, h.lock.Close())...)
}

// recorder gives the gate the recordings under the gate's own interfaces.
type recorder struct{ *recording.Store }

func (r recorder) Start(id custos.SessionID) (gate.Recording, error) {
	rec, err := r.Store.Start(id)
	if err != nil {
		return nil, err
	}
	return sessionRecording{rec}, nil
}

type sessionRecording struct{ *recording.Recording }

func (r sessionRecording) Answer(entry uint64, submitted time.Time) gate.Answer {
	return r.Recording.Answer(entry, submitted)
}

// lockDir makes sure that no other gateway writes to dir. The lock goes with
// the process, however it ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock data folder %s: another gateway uses it; stop it first, or set another data_dir", dir)
	}
	return f, nil
}
