package api

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
)

// Proof is the proof that an entry is in the ledger.
type Proof struct {
	Entry uint64 `json:"entry"`
	// Leaf is the entry's bytes.
	Leaf string `json:"leaf"`
	// Proof is all of it, with the checkpoint, as C2SP tlog-proof says.
	Proof string `json:"proof"`
}

// checkpoint serves the latest checkpoint with its cosignatures.
func (s *server) checkpoint(w http.ResponseWriter, _ *http.Request) error {
	b, err := s.Ledger.Checkpoint()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = w.Write(b)
	if err != nil {
		return fmt.Errorf("%w: %w", errBegun, err)
	}
	return nil
}

// maySee says whether the caller may see an entry: of a session of theirs, or
// any for an auditor.
func (s *server) maySee(r *http.Request, index uint64) error {
	if index >= s.Ledger.Size() {
		return notFound()
	}
	if s.seesAll(caller(r.Context())) {
		return nil
	}
	e, _, err := s.read(index)
	if err != nil {
		return err
	}
	_, err = s.lookUp(r, e.Session)
	return err
}

func (s *server) prove(w http.ResponseWriter, r *http.Request) error {
	index, err := strconv.ParseUint(r.URL.Query().Get("entry"), 10, 64)
	if err != nil {
		return problem(http.StatusBadRequest, "entry must be an entry's number")
	}
	if err := s.maySee(r, index); err != nil {
		return err
	}
	p, err := s.Ledger.Prove(r.Context(), index)
	if err != nil {
		return err
	}
	return writeJSON(w, Proof{Entry: index, Leaf: string(p.Leaf), Proof: string(p.Text())})
}

// LedgerEntry is an entry as the ledger holds it.
type LedgerEntry struct {
	Entry uint64 `json:"entry"`
	Leaf  string `json:"leaf"`
}

// entries lists entries in order, for auditors.
func (s *server) entries(w http.ResponseWriter, r *http.Request) error {
	if !s.seesAll(caller(r.Context())) {
		return notFound()
	}
	q := r.URL.Query()
	from, limit := uint64(0), uint64(defaultPage)
	for name, n := range map[string]*uint64{"cursor": &from, "limit": &limit} {
		if v := q.Get(name); v != "" {
			var err error
			if *n, err = strconv.ParseUint(v, 10, 64); err != nil {
				return problem(http.StatusBadRequest, name+" must be a number")
			}
		}
	}
	page := Page[LedgerEntry]{Items: []LedgerEntry{}}
	to := min(s.Ledger.Size(), from+min(limit, maxPage))
	if from < to {
		if err := s.Ledger.Scan(from, to, func(i uint64, leaf, _ []byte) error {
			page.Items = append(page.Items, LedgerEntry{i, string(leaf)})
			return nil
		}); err != nil {
			return err
		}
		page.Next = strconv.FormatUint(to, 10)
	}
	return writeJSON(w, page)
}

// tile serves the ledger's tiles (C2SP tlog-tiles): hashes to everyone who
// has a token, bundles of entries, which say who did what, to auditors.
func (s *server) tile(w http.ResponseWriter, r *http.Request) error {
	path := r.PathValue("path")
	if strings.HasPrefix(path, "entries/") && !s.seesAll(caller(r.Context())) || !fs.ValidPath(path) {
		return notFound()
	}
	f, err := s.Tiles.Open("tile/" + path)
	if errors.Is(err, fs.ErrNotExist) {
		return notFound()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return notFound()
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = io.Copy(w, f)
	if err != nil {
		return fmt.Errorf("%w: %w", errBegun, err)
	}
	return nil
}
