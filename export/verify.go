package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
	"github.com/custos-gateway/custos/recording"
)

// VerifyOptions say how a store is verified.
type VerifyOptions struct {
	// Trust is whose signatures count.
	Trust ledger.Trust
	// Trusted is a signed checkpoint from elsewhere, which the ledger must be
	// an addition to; nil: none.
	Trusted []byte
	// Heartbeat is how long the ledger may be silent; 0 is an hour.
	Heartbeat time.Duration
	// Progress, if not nil, is told how far it got, in bytes of the ledger.
	Progress func(done, total int64)
	// Context ends the verification early; nil is never.
	Context context.Context
}

// StoreReport is the ledger's report with what is found of recordings.
type StoreReport struct {
	*ledger.Report
	// Recordings is the count of files that entries cite and that are as
	// they were.
	Recordings int `json:"recordings"`
	// Erased are the sessions whose keys were destroyed, on record, in the
	// order of the entries that say so.
	Erased []Erasure `json:"erased,omitempty"`
	// Unknown are files among the recordings that no entry cites: what a
	// crash left, or what somebody put there. They are no damage.
	Unknown []string `json:"unknown,omitempty"`
}

// Erasure is what the ledger says of a session's key that was destroyed.
type Erasure struct {
	Session custos.SessionID `json:"session"`
	Entry   uint64           `json:"entry"`
	At      time.Time        `json:"at"`
	By      string           `json:"by,omitempty"`
	Rule    string           `json:"rule,omitempty"` // by which setting, where nobody did
	Reason  string           `json:"reason,omitempty"`
}

func erasureOf(index uint64, e *custos.Entry) *Erasure {
	r := &Erasure{Session: e.Session, Entry: index, At: e.At}
	if n := e.Note; n != nil {
		r.By, r.Rule, r.Reason = n.By, n.Rule, n.Text
	}
	return r
}

// String says it in words.
func (e *Erasure) String() string {
	by := "by " + e.By
	if e.By == "" {
		by = "under " + e.Rule
	}
	return fmt.Sprintf("erased on %s %s: %s (entry %d)", e.At.UTC().Format(time.DateOnly), by, e.Reason, e.Entry)
}

// cited is a recording that an entry cites.
type cited struct {
	session custos.SessionID
	entry   uint64 // of the intent
	settled uint64
	digest  custos.Digest
}

// VerifyStore verifies a gateway's data folder with public keys only: the
// ledger, and that each recording that it cites is there as it was, unless
// the ledger says that it was erased. Damage is in the report; an error says
// that it could not be verified at all.
func VerifyStore(dataDir string, o VerifyOptions) (*StoreReport, error) {
	files := map[string]cited{}
	keys := map[string]uint64{}
	erased := map[custos.SessionID]*Erasure{}
	report, err := ledger.Verify(ledger.VerifyOptions{Dir: filepath.Join(dataDir, "ledger"), Trust: o.Trust, Trusted: o.Trusted,
		Heartbeat: o.Heartbeat, Progress: o.Progress, Context: o.Context,
		Each: func(index uint64, leaf, _ []byte) error {
			e, err := custos.ParseEntry(leaf)
			if err != nil {
				return err
			}
			switch {
			case e.Kind == custos.EntryOpened && e.Session.Valid():
				keys[fileOf(e.Session, "key")] = index
			case e.Kind == custos.EntryErased:
				erased[e.Session] = erasureOf(index, e)
			case e.Settled != nil && e.Settled.Recording != nil && e.Session.Valid():
				files[fileOf(e.Session, strconv.FormatUint(e.Settled.Operation, 10)+".rec")] = cited{e.Session, e.Settled.Operation, index, *e.Settled.Recording}
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	for i := range report.Damage {
		if d := &report.Damage[i]; d.File != "" {
			d.File = "ledger/" + d.File // as the others, relative to the data folder
		}
	}
	r := &StoreReport{Report: report}
	for _, e := range erased {
		r.Erased = append(r.Erased, *e)
	}
	slices.SortFunc(r.Erased, func(a, b Erasure) int { return cmp.Compare(a.Entry, b.Entry) })
	dir := filepath.Join(dataDir, "recordings")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		c := files[name]
		err := recording.CheckFile(filepath.Join(dir, name), c.digest)
		switch {
		case err == nil:
			r.Recordings++
		case errors.Is(err, fs.ErrNotExist) && erased[c.session] != nil:
		case errors.Is(err, fs.ErrNotExist):
			r.damage(c.settled, "recordings/"+name, "the recording that this entry cites is missing")
		default:
			r.damage(c.settled, "recordings/"+name, err.Error())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		_, err := os.Stat(filepath.Join(dir, name))
		if id := custos.SessionID(strings.TrimSuffix(filepath.Base(name), ".key")); errors.Is(err, fs.ErrNotExist) && erased[id] == nil {
			r.damage(keys[name], "recordings/"+name, "the key of this entry's session is missing: its recording can't be read, and no entry says that it was erased")
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("verify recordings: %w", err)
		}
	}
	if r.Unknown, err = unknownFiles(dir, files, keys); err != nil {
		return nil, fmt.Errorf("verify recordings: %w", err)
	}
	r.OK = len(r.Damage) == 0
	return r, nil
}

func (r *StoreReport) damage(entry uint64, file, what string) {
	r.Damage = append(r.Damage, ledger.Damage{Entry: entry, File: file, What: what})
}

// fileOf is a session's file, under the recordings' folder.
func fileOf(id custos.SessionID, suffix string) string {
	return filepath.Join(string(id[:2]), string(id)+"."+suffix)
}

func unknownFiles(dir string, files map[string]cited, keys map[string]uint64) ([]string, error) {
	var unknown []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == dir {
			return nil // no session was ever recorded
		}
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		_, isFile := files[name]
		// The mark of an erased key lies where the key lay.
		if _, isKey := keys[strings.TrimSuffix(name, ".erased")+".key"]; isKey && strings.HasSuffix(name, ".erased") {
			return nil
		}
		if _, isKey := keys[name]; !isFile && !isKey {
			unknown = append(unknown, "recordings/"+filepath.ToSlash(name))
		}
		return err
	})
	return unknown, err
}
