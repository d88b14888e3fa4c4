package export

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strconv"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/ledger"
)

// content judges what a listed file says.
func (j *judge) content(name string, r io.Reader) {
	switch dir, rest, _ := strings.Cut(name, "/"); {
	case name == fileEntries:
		j.entries(r)
	case dir+"/" == dirKeys:
		j.key(name, strings.TrimSuffix(rest, ".key"), r)
	case dir+"/" == dirRecordings:
		if cited, ok := j.recordings[name]; !ok {
			j.damage(name, "no entry of the bundle cites it")
		} else if listed := j.listed[name]; listed.Digest != cited {
			j.damage(name, "the manifest lists another file than the entry cites")
		} else {
			j.sessions[custos.SessionID(strings.SplitN(rest, ".", 2)[0])].stored++
		}
	case dir+"/" == dirConfig:
		b, err := readAll(r, maxHead)
		if attachment, ok := j.configs[name]; err != nil || !ok || !bytes.Equal(b, attachment) {
			j.damage(name, "it is not the configuration that the entry holds")
		}
	}
}

func (j *judge) key(name, session string, r io.Reader) {
	b, err := readAll(r, 1<<10)
	s := j.sessions[custos.SessionID(session)]
	if sum := sha256.Sum256(b); err != nil || s == nil || hex.EncodeToString(sum[:]) != s.key {
		j.damage(name, "it is not the key that the session's first entry commits to")
		return
	}
	s.Readable = true
}

func (j *judge) entries(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		var p ProvenEntry
		if err := strictJSON(lines.Bytes(), &p); err != nil {
			j.damage(fileEntries, "after entry %d: %v", j.last, err)
			return
		}
		if int64(p.Index) <= j.last {
			j.damage(fileEntries, "entry %d is out of order", p.Index)
			return
		}
		j.last = int64(p.Index)
		e, err := checkEntry(&p, j.tree)
		if err != nil {
			j.report.Damage = append(j.report.Damage, ledger.Damage{Entry: p.Index, File: fileEntries, What: err.Error()})
			continue
		}
		j.report.Entries++
		j.count(&p, e)
	}
	if err := lines.Err(); err != nil {
		j.damage(fileEntries, "after entry %d: %v", j.last, err)
	}
}

// count does the accounts of an entry's session.
func (j *judge) count(p *ProvenEntry, e *custos.Entry) {
	if e.Kind == custos.EntryConfig {
		j.configs[configName(p.Index)] = p.Attachment
	}
	if e.Session == "" {
		return
	}
	s := j.sessions[e.Session]
	if s == nil {
		s = &suspect{BundleSession: BundleSession{ID: e.Session}, open: map[uint64]bool{}, all: map[uint64]bool{}}
		j.sessions[e.Session] = s
	}
	switch {
	case e.Opened != nil:
		s.Caller, s.Connection, s.key, s.opened = e.Opened.Caller.Name, e.Opened.Connection, e.Opened.Key, true
	case e.Submit != nil:
		s.Operations++
		s.all[p.Index] = true
		if e.Submit.Effect == custos.Allow.String() {
			s.open[p.Index] = true
		}
	case e.Settled != nil:
		delete(s.open, e.Settled.Operation)
		if !s.all[e.Settled.Operation] {
			j.damage(fileEntries, "entry %d is the outcome of entry %d, which is left out", p.Index, e.Settled.Operation)
		}
		if e.Settled.Recording != nil {
			s.cited++
			j.recordings[recordingName(e.Session, e.Settled.Operation)] = *e.Settled.Recording
		}
	case e.Input != nil && !s.all[e.Input.Operation]:
		j.damage(fileEntries, "entry %d is input of entry %d, which is left out", p.Index, e.Input.Operation)
	case e.Closed != nil:
		s.closed = e.Closed
	case e.Kind == custos.EntryErased:
		s.Erased = erasureOf(p.Index, e)
	}
}

func configName(index uint64) string { return dirConfig + strconv.FormatUint(index, 10) + ".yaml" }

func recordingName(id custos.SessionID, entry uint64) string {
	return dirRecordings + string(id) + "." + strconv.FormatUint(entry, 10) + ".rec"
}

// finish says what is missing, and what is proven of each session.
func (j *judge) finish() {
	r := j.report
	if len(j.head) < len(firstFiles)-1 && len(r.Damage) == 0 {
		j.damage(firstFiles[len(j.head)], "it is missing")
	}
	for _, f := range j.manifest.Files {
		if !j.seen[f.Name] {
			j.damage(f.Name, "the manifest lists it, and it is missing")
		}
	}
	for _, id := range j.manifest.Sessions {
		s := j.sessions[id]
		if s == nil {
			if len(r.Damage) == 0 {
				j.damage(fileEntries, "session %s has no entries", id)
			}
			continue
		}
		for entry := range s.open {
			s.Unsettled = append(s.Unsettled, entry)
		}
		slices.Sort(s.Unsettled)
		s.Recordings = s.stored
		s.Complete = s.opened && s.closed != nil && s.closed.Operations == s.Operations
		if s.closed != nil && s.opened && !s.Complete {
			j.damage(fileEntries, "session %s had %d operations and %d are here", id, s.closed.Operations, s.Operations)
		}
		if s.stored != s.cited && s.Erased == nil {
			j.damage(dirRecordings, "session %s has %d large answers and %d are here", id, s.cited, s.stored)
		}
		r.Sessions = append(r.Sessions, s.BundleSession)
	}
	r.OK = len(r.Damage) == 0
}
