package export_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/custos-gateway/custos/export"
	"github.com/custos-gateway/custos/export/exporttest"
	"github.com/custos-gateway/custos/store"
)

// following runs an indexer until the function it returns is called.
func following(t *testing.T, h *exporttest.House, path string) (x *export.Indexer, log *bytes.Buffer, stop func()) {
	t.Helper()
	index, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	log = new(bytes.Buffer)
	x = &export.Indexer{Ledger: h.Ledger, Recordings: h.Recordings, Index: index, Logger: slog.New(slog.NewTextHandler(log, nil))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	if err := x.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return x, log, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := index.Close(); err != nil {
			t.Error(err)
		}
	}
}

func found(t *testing.T, x *export.Indexer, query string) int {
	t.Helper()
	items, _, err := x.Index.Search(t.Context(), store.Filter{Query: query})
	if err != nil {
		t.Fatal(err)
	}
	return len(items)
}

func TestIndexerFollowsAndRebuilds(t *testing.T) {
	h := exporttest.New(t)
	path := filepath.Join(t.TempDir(), "index.db")
	s := h.Session(exporttest.Ana)
	s.Run("SELECT needle", "x")
	x, _, stop := following(t, h, path)
	if n := found(t, x, "needle"); n != 1 {
		t.Errorf("%d found", n)
	}
	s.Run("SELECT needle again", "x") // while it follows
	if err := x.CaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := found(t, x, "needle"); n != 2 {
		t.Errorf("%d found after one more", n)
	}
	stop()
	for name, damage := range map[string]func() error{
		"missing": func() error { return os.Remove(path) },
		"garbage": func() error { return os.WriteFile(path, bytes.Repeat([]byte("garbage"), 1000), 0o600) },
		"cut":     func() error { return os.Truncate(path, 5000) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		x, _, stop := following(t, h, path)
		if n := found(t, x, "needle"); n != 2 {
			t.Errorf("%s: %d found after the rebuild", name, n)
		}
		stop()
	}
}

// The index of another ledger, shorter or longer, is made anew.
func TestIndexerKnowsItsLedger(t *testing.T) {
	for _, others := range []int{1, 10} {
		path := filepath.Join(t.TempDir(), "index.db")
		before := exporttest.New(t)
		s := before.Session(exporttest.Ana)
		s.Run("SELECT needle", "x")
		s.Run("SELECT needle", "x")
		_, _, stop := following(t, before, path)
		stop()
		after := exporttest.New(t)
		other := after.Session(exporttest.Bob)
		for range others {
			other.Run("SELECT other", "x")
		}
		x, _, stop := following(t, after, path)
		if found(t, x, "needle") != 0 || found(t, x, "other") != others {
			t.Errorf("of a ledger with %d operations: an index of another was taken for its own", others)
		}
		stop()
	}
}

// One key that is gone does not keep the rest from being found.
func TestIndexerGoesOnWithoutAKey(t *testing.T) {
	h := exporttest.New(t)
	gone := h.Session(exporttest.Ana)
	gone.Run("SELECT unreadable", "x")
	gone.Close()
	if err := h.Recordings.Erase(gone.ID); err != nil {
		t.Fatal(err)
	}
	bad := h.Session(exporttest.Ana)
	bad.Run("SELECT damaged", "x")
	if err := os.WriteFile(filepath.Join(h.Dir, "recordings", string(bad.ID[:2]), string(bad.ID)+".key"), []byte("not a key, but as long as one could well be"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.Session(exporttest.Bob).Run("SELECT readable", "x")
	x, log, stop := following(t, h, filepath.Join(t.TempDir(), "index.db"))
	if found(t, x, "readable") != 1 || found(t, x, "unreadable") != 0 || found(t, x, "who:ana") != 2 {
		t.Error("what is left is not found")
	}
	stop()
	if !strings.Contains(log.String(), string(bad.ID)) || strings.Contains(log.String(), string(gone.ID)) {
		t.Errorf("the log says:\n%s", log)
	}
}

// Damage, wherever it is and whoever meets it, costs the index and nothing else:
// it is built anew.
func TestIndexerOutlivesDamage(t *testing.T) {
	h := exporttest.New(t)
	path := filepath.Join(t.TempDir(), "index.db")
	for range 40 {
		h.Session(exporttest.Ana).Run("SELECT needle", strings.Repeat("x", 100))
	}
	_, _, stop := following(t, h, path)
	stop()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for at := 0; at < len(whole); at += page {
		t.Run(fmt.Sprint("page ", at/page), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			damaged := bytes.Clone(whole)
			for i := at; i < min(at+page, len(damaged)); i++ {
				damaged[i] ^= 0xa5
			}
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			heals(t, h, path)
		})
	}
}

// heals starts an indexer on a file, and waits until it finds all.
func heals(t *testing.T, h *exporttest.House, path string) {
	t.Helper()
	index, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	var log bytes.Buffer
	x := &export.Indexer{Ledger: h.Ledger, Recordings: h.Recordings, Index: index, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	h.Session(exporttest.Ana).Run("SELECT another", "x")
	var items []store.Operation
	for ctx.Err() == nil && len(items) != 40 {
		if err = x.CaughtUp(ctx); err == nil {
			items, _, err = x.Index.Search(ctx, store.Filter{Query: "needle", Limit: 100})
		}
	}
	cancel()
	if ended := <-done; err != nil || ended != nil {
		t.Errorf("%d found; %v; %v; log %s", len(items), err, ended, &log)
	}
}
