package ledger

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Witness is a server that cosigns checkpoints (C2SP tlog-witness).
type Witness struct {
	URL string // the prefix of its add-checkpoint endpoint
	Key string // its verifier key, for cosignatures (C2SP tlog-cosignature)
}

// WitnessState is how it stands with one witness.
type WitnessState struct {
	Name string `json:"name"`
	// Size is how many entries the latest checkpoint has that it cosigned.
	Size uint64 `json:"size"`
	// At is when it did.
	At time.Time `json:"at,omitzero"`
	// Problem is why it did not cosign the latest one.
	Problem string `json:"problem,omitempty"`
}

// Health is how it stands with a log.
type Health struct {
	// Refuses is why the log refuses entries; empty: it does not.
	Refuses string `json:"refuses,omitempty"`
	// Problem is what keeps heartbeats and checkpoints from being made.
	Problem string `json:"problem,omitempty"`
	Size    uint64 `json:"size"`
	// Durable, Signed and Published are how many entries are durable, under
	// a signed checkpoint, and under a published one.
	Durable   uint64 `json:"durable"`
	Signed    uint64 `json:"signed"`
	Published uint64 `json:"published"`
	// Quorum is how many witnesses must cosign before a checkpoint is
	// published.
	Quorum    int            `json:"quorum"`
	Witnesses []WitnessState `json:"witnesses"`
}

// Health tells how it stands with the log.
func (l *Log) Health() Health {
	head := l.head.Load()
	h := Health{Size: l.size.Load(), Durable: l.synced.Load(), Signed: uint64(head.pending.N),
		Published: uint64(head.published.N), Quorum: l.o.Quorum, Witnesses: []WitnessState{}}
	if err := l.Healthy(); err != nil {
		h.Refuses = err.Error()
	}
	if p := l.problem.Load(); p != nil {
		h.Problem = *p
	}
	for _, w := range l.witnesses {
		w.mu.Lock()
		h.Witnesses = append(h.Witnesses, w.state)
		w.mu.Unlock()
	}
	return h
}

const (
	witnessTimeout = 10 * time.Second
	witnessRetry   = 5 * time.Second
	// maxCosignatures bounds, in bytes, a witness's answer.
	maxCosignatures = 16 << 10
)

type witnessClient struct {
	url string
	key *torchwood.CosignatureVerifier

	mu    sync.Mutex
	state WitnessState
}

func newWitnessClients(o *Options) ([]*witnessClient, error) {
	var all []*witnessClient
	names := map[string]bool{}
	for _, w := range o.Witnesses {
		key, err := torchwood.NewCosignatureVerifier(w.Key)
		if err != nil {
			return nil, fmt.Errorf("read key of witness %s: %w; it must be a key for cosignatures, name+hash+key", w.URL, err)
		}
		u, err := url.Parse(w.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			return nil, fmt.Errorf("read URL of witness %s: it must be https, or http on loopback", key.Name())
		}
		if names[key.Name()] {
			return nil, fmt.Errorf("witness %s is there twice", key.Name())
		}
		names[key.Name()] = true
		all = append(all, &witnessClient{url: strings.TrimSuffix(w.URL, "/") + "/add-checkpoint", key: key, state: WitnessState{Name: key.Name()}})
	}
	return all, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// cosignLoop has each new checkpoint cosigned, and tries again with those
// witnesses that failed.
func (l *Log) cosignLoop() {
	retry := time.NewTicker(witnessRetry)
	defer retry.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.signed:
		case <-retry.C:
			if l.head.Load().pending.N == l.head.Load().published.N && l.allCosigned() {
				continue
			}
		}
		if err := l.cosign(l.ctx); err != nil && l.ctx.Err() == nil {
			l.o.Logger.Warn("have the checkpoint cosigned", "cause", err)
		}
	}
}

func (l *Log) allCosigned() bool {
	for _, w := range l.witnesses {
		w.mu.Lock()
		problem := w.state.Problem
		w.mu.Unlock()
		if problem != "" {
			return false
		}
	}
	return true
}

// cosign asks all witnesses at once for the pending checkpoint, and publishes
// it if enough of them cosigned.
func (l *Log) cosign(ctx context.Context) error {
	c := l.head.Load().pending
	lines := make([][]byte, len(l.witnesses))
	errs := make([]error, len(l.witnesses))
	var all sync.WaitGroup
	for i, w := range l.witnesses {
		all.Go(func() { lines[i], errs[i] = w.cosign(ctx, l.o.Dir, c) })
	}
	all.Wait()
	full, got := bytes.Clone(c.note), 0
	for i, w := range l.witnesses {
		w.mu.Lock()
		if errs[i] != nil {
			w.state.Problem = errs[i].Error()
			errs[i] = fmt.Errorf("witness %s: %w", w.key.Name(), errs[i])
		} else {
			w.state.Size, w.state.At, w.state.Problem = uint64(c.N), l.o.Now(), ""
			full, got = append(full, lines[i]...), got+1
		}
		w.mu.Unlock()
	}
	if got >= l.o.Quorum && got > 0 {
		errs = append(errs, l.announce(head{c.Tree, full}))
	}
	return errors.Join(errs...)
}

// cosign returns the witness's signature line on a checkpoint. If the witness
// knows the log at another size than expected, it says so, and is asked once
// more with a proof from there.
func (w *witnessClient) cosign(ctx context.Context, dir string, c head) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	w.mu.Lock()
	known := w.state.Size
	w.mu.Unlock()
	line, actual, err := w.add(ctx, dir, c, known)
	if err == nil && line == nil {
		if actual > uint64(c.N) {
			return nil, fmt.Errorf("it has cosigned a checkpoint of %d entries, and this one has %d: this ledger was rolled back, or another uses its key", actual, c.N)
		}
		if line, actual, err = w.add(ctx, dir, c, actual); err == nil && line == nil {
			err = fmt.Errorf("it has cosigned another history of %d entries: this ledger was rolled back or rewritten, or another uses its key", actual)
		}
	}
	return line, err
}

// add sends one request. Without an error it returns the signature line, or
// none and the size at which the witness knows the log.
func (w *witnessClient) add(ctx context.Context, dir string, c head, old uint64) (line []byte, known uint64, err error) {
	body := fmt.Appendf(nil, "old %d\n", old)
	if old > 0 && old < uint64(c.N) {
		proof, err := tlog.ProveTree(c.N, int64(old), tlog.TileHashReader(c.Tree, tileFiles{dir}))
		if err != nil {
			return nil, 0, fmt.Errorf("prove that %d entries were added to: %w", old, err)
		}
		for _, h := range proof {
			body = base64.StdEncoding.AppendEncode(body, h[:])
			body = append(body, '\n')
		}
	}
	body = append(append(body, '\n'), c.note...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxCosignatures))
	if err != nil {
		return nil, 0, err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		line, err = w.pick(c.note, answer)
		return line, 0, err
	case resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") == "text/x.tlog.size":
		known, err = strconv.ParseUint(strings.TrimSpace(string(answer)), 10, 63)
		if err != nil {
			return nil, 0, errors.New("its answer 409 does not say a size")
		}
		return nil, known, nil
	}
	return nil, 0, fmt.Errorf("it answered %s: %.200q", resp.Status, answer)
}

// pick returns the line of answer that is the witness's signature.
func (w *witnessClient) pick(checkpoint, answer []byte) ([]byte, error) {
	text, _, _ := splitNote(checkpoint)
	for line := range bytes.Lines(answer) {
		n, err := note.Open(bytes.Join([][]byte{text, line}, []byte("\n")), note.VerifierList(w.key))
		if err == nil && len(n.Sigs) == 1 {
			return line, nil
		}
	}
	return nil, errors.New("its answer holds no cosignature by its key")
}
