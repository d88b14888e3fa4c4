package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/durable"
	"github.com/custos-gateway/custos/ledger"
)

// speed is how fast something becomes durable.
type speed struct {
	perSecond float64
	p50       time.Duration
}

// attached is how much is sealed beside the record of a small statement.
const attached = 160

// record is the ledger's record of a small statement.
func record() (leaf, attachment []byte) {
	attachment = make([]byte, attached)
	rand.Read(attachment)
	digest := hex.EncodeToString(attachment[:32])
	e := custos.Entry{Kind: custos.EntrySubmitted, At: time.Now(), Session: custos.NewSessionID(),
		Submit: &custos.Submitted{Class: "Execute", Verbs: []string{"SELECT"}, Objects: []string{"public.pgbench_accounts"},
			Digest: digest, Effect: "allow", Rule: "access", Policy: digest[:16]},
		Attachment: &custos.Digest{SHA256: digest, Bytes: attached}}
	return e.AppendJSON(nil), attachment
}

// syncAlone writes and syncs one record after another in a file that was
// filled beforehand, with nothing around it: what a machine can do at all.
func syncAlone(dir string, d time.Duration) (_ speed, err error) {
	const size = 16 << 20
	leaf, attachment := record()
	b := append(leaf, attachment...)
	name := filepath.Join(dir, "alone")
	if err := durable.WriteFile(durable.OS, name, make([]byte, size), 0o600); err != nil {
		return speed{}, err
	}
	f, err := durable.OS.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return speed{}, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	var took []time.Duration
	var at int64
	begun := time.Now()
	for time.Since(begun) < d {
		one := time.Now()
		if _, err := f.WriteAt(b, at); err != nil {
			return speed{}, err
		}
		if err := f.Datasync(); err != nil {
			return speed{}, err
		}
		took = append(took, time.Since(one))
		if at += int64(len(b)); at > size-int64(len(b)) {
			at = 0
		}
	}
	return speed{float64(len(took)) / time.Since(begun).Seconds(), median(took)}, nil
}

// walSpeed is the ledger beside bare syncs.
type walSpeed struct {
	writers      int
	alone, keeps speed
}

// wal measures the ledger alone, in this process: Append, then Durable.
func (b *bench) wal(ctx context.Context, _ *world) error {
	d := time.Duration(b.seconds) * time.Second
	for _, n := range []int{1, 8, 64} {
		alone, err := syncAlone(b.dir, d)
		if err != nil {
			return err
		}
		keeps, err := b.keep(ctx, n, d)
		if err != nil {
			return err
		}
		b.out.wal = append(b.out.wal, walSpeed{n, alone, keeps})
		say("%d writers: %.0f durable records/s; a bare loop: %.0f syncs/s", n, keeps.perSecond, alone.perSecond)
	}
	return nil
}

// keep has n writers append to a new ledger and wait until it is durable.
func (b *bench) keep(ctx context.Context, n int, d time.Duration) (_ speed, err error) {
	dir, err := os.MkdirTemp(b.dir, "wal-")
	if err != nil {
		return speed{}, err
	}
	signer, _, err := ledger.LoadOrCreateKey(filepath.Join(dir, "ledger.key"), "bench")
	if err != nil {
		return speed{}, err
	}
	l, err := ledger.Open(ledger.Options{Dir: filepath.Join(dir, "ledger"), Signer: signer, Now: time.Now})
	if err != nil {
		return speed{}, err
	}
	defer func() { err = errors.Join(err, l.Close(), os.RemoveAll(dir)) }()
	took, failed := make([][]time.Duration, n), make([]error, n)
	begun := time.Now()
	var writers sync.WaitGroup
	for i := range n {
		writers.Go(func() {
			leaf, attachment := record()
			for time.Since(begun) < d && ctx.Err() == nil && failed[i] == nil {
				one := time.Now()
				index, err := l.Append(leaf, attachment)
				if err == nil {
					err = l.Durable(index)
				}
				failed[i] = err
				took[i] = append(took[i], time.Since(one))
			}
		})
	}
	writers.Wait()
	elapsed := time.Since(begun)
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	if err := errors.Join(failed...); err != nil {
		return speed{}, fmt.Errorf("keep entries: %w", err)
	}
	return speed{float64(len(all)) / elapsed.Seconds(), median(all)}, ctx.Err()
}
