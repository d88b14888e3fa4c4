package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	custos "github.com/custos-gateway/custos"
)

// sampleSession is the n-th made-up session's id.
func sampleSession(n int) custos.SessionID {
	sum := sha256.Sum256(fmt.Appendf(nil, "session %d", n))
	return custos.SessionID(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16])))
}

// sampleWriter appends entries as a gateway does.
type sampleWriter struct {
	t   testing.TB
	log *Log
	now func() time.Time
}

func (w *sampleWriter) add(e custos.Entry, attachment []byte) uint64 {
	w.t.Helper()
	e.At = w.now()
	if attachment != nil {
		sum := sha256.Sum256(attachment)
		e.Attachment = &custos.Digest{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(attachment))}
	}
	i, err := w.log.Append(e.AppendJSON(nil), attachment)
	must(w.t, err)
	return i
}

// session appends a session of eight entries.
func (w *sampleWriter) session(n int) {
	id := sampleSession(n)
	caller := custos.Principal{Issuer: "https://id.example.com", Subject: "ana", Kind: custos.KindPerson}
	key := sha256.Sum256([]byte(id))
	w.add(custos.Entry{Kind: custos.EntryOpened, Session: id, Opened: &custos.Opened{Caller: caller,
		Connection: "orders", Protocol: "postgres", Client: "127.0.0.1:5000", Key: hex.EncodeToString(key[:])}}, nil)
	for k := range 3 {
		sealed := bytes.Repeat([]byte{byte(n), byte(k), 0xee}, 30+n%50)
		digest := sha256.Sum256(sealed)
		i := w.add(custos.Entry{Kind: custos.EntrySubmitted, Session: id, Submit: &custos.Submitted{Class: "Query", Verbs: []string{"SELECT"},
			Objects: []string{"public.customers"}, Digest: hex.EncodeToString(digest[:]), Effect: "allow", Policy: "1"}}, sealed)
		w.add(custos.Entry{Kind: custos.EntrySettled, Session: id, Settled: &custos.Settled{Operation: i, State: custos.StateOK,
			Code: "SELECT 2", Rows: 2, Bytes: 60}}, bytes.Repeat([]byte{0xdd, byte(k)}, 20))
	}
	w.add(custos.Entry{Kind: custos.EntryClosed, Session: id, Closed: &custos.Closed{Reason: "the client left", Operations: 3}}, nil)
}

// writeSample makes a ledger of 8*sessions+3 entries in segments of a size,
// an hour and a bit long, and closes it.
func writeSample(t testing.TB, dir string, sessions int, segment int64) {
	t.Helper()
	c := newClock()
	o := testOptions(dir)
	o.Now, o.SegmentBytes = c.now, segment
	l := mustOpen(t, o)
	w := &sampleWriter{t, l, c.now}
	w.add(custos.Entry{Kind: custos.EntryStarted, Note: &custos.Note{Text: "custos sample"}}, nil)
	w.add(custos.Entry{Kind: custos.EntryConfig, Note: &custos.Note{By: "ana"}}, []byte("connections: []\n"))
	for n := range sessions {
		w.session(n)
		c.add(time.Hour / time.Duration(max(sessions, 2)))
		if n%10 == 9 {
			must(t, l.Publish())
		}
	}
	w.add(custos.Entry{Kind: custos.EntryStopped}, nil)
	must(t, l.Close())
}

var testTrust = func() Trust {
	trust, err := ParseTrust([]string{testVKey}, nil, 0)
	if err != nil {
		panic(err)
	}
	return trust
}()

func mustVerify(t testing.TB, o VerifyOptions) *Report {
	t.Helper()
	if o.Trust.Log == nil {
		o.Trust = testTrust
	}
	r, err := Verify(o)
	must(t, err)
	return r
}

// copyDir copies a log's folder as it is now. The log may be making or dropping
// its next segment meanwhile: then it is looked at again.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	for {
		to := filepath.Join(t.TempDir(), "ledger")
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil {
			return to
		}
		if !errors.Is(err, fs.ErrNotExist) || t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

func zerosSum(n int) string {
	sum := sha256.Sum256(make([]byte, n))
	return hex.EncodeToString(sum[:])
}
