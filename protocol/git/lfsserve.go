package git

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	web "github.com/custos-gateway/custos/protocol/http"
)

// lfsPatience is how long git-lfs waits for an answer (lfs.activitytimeout is
// 30 s), less what is lost on the way.
const lfsPatience = 25 * time.Second

// maxLock bounds a request about locks, in bytes.
const maxLock = 64 << 10

// sayLFS answers with a refusal, of which git-lfs prints the message.
func (x *exchange) sayLFS(r *custos.Refusal) {
	b, err := json.Marshal(struct {
		Message string `json:"message"`
	}{strings.Join(told(r), "; ")})
	if err != nil {
		x.broken(nil, err)
		return
	}
	x.head(http.StatusForbidden, lfsType, r)
	x.w.Write(b)
}

// batch tells where objects are brought or fetched: here.
func (x *exchange) batch() {
	raw, err := x.body(lfsType, maxBatch)
	var b *batch
	if err == nil {
		b, err = parseBatch(raw)
	}
	if err != nil {
		x.unread(classBatch, err, x.sayLFS)
		return
	}
	// What is not of a batch is not passed on.
	if raw, err = json.Marshal(b); err != nil {
		x.broken(nil, err)
		return
	}
	to := &wire{method: http.MethodPost, contentType: lfsType, accept: lfsType, lfs: &lfsCall{repository: x.e.repository, base: x.base + "/" + x.e.repository}}
	to.body, to.size = ready(raw)
	q, err := x.request(x.r.Context(), to)
	if err != nil {
		x.broken(nil, err)
		return
	}
	p := x.submit(gate.Request{Operation: b.operation(x.e.name()), HTTP: q, Patience: lfsPatience}, x.sayLFS)
	if p == nil {
		return
	}
	if b.Operation == "upload" {
		x.server.granted(x.session.ID(), x.e.repository, b)
	}
	x.forward(p, lfsType, nil)
}

// locks passes on what is asked about locks of files.
func (x *exchange) locks() {
	o := &custos.Operation{Class: classLocks, Text: x.r.Method + " " + x.e.name() + x.e.suffix, Verbs: []string{"LFS LOCKS"}, Objects: []string{x.e.name()},
		Facts: &custos.Facts{Effects: []string{"read"}, Attributes: map[string][]string{"repository": {x.e.name()}}}}
	if x.e.query != "" {
		o.Text += "?" + x.e.query
	}
	to := &wire{method: x.r.Method, accept: lfsType}
	if x.r.Method == http.MethodPost {
		raw, err := x.body(lfsType, maxLock)
		if err == nil && !json.Valid(raw) {
			err = fmt.Errorf("read LFS lock: it is no JSON: %w", errRequest)
		}
		if err != nil {
			x.unread(classLocks, err, x.sayLFS)
			return
		}
		o.Text += "\n" + string(raw)
		if !strings.HasSuffix(x.e.suffix, "/verify") {
			o.Writes, o.Facts.Effects = true, []string{"change"}
		}
		to.contentType = lfsType
		to.body, to.size = ready(raw)
	}
	q, err := x.request(x.r.Context(), to)
	if err != nil {
		x.broken(nil, err)
		return
	}
	if p := x.submit(gate.Request{Operation: o, HTTP: q, Patience: lfsPatience}, x.sayLFS); p != nil {
		x.forward(p, lfsType, nil)
	}
}

// object brings, fetches or confirms one object.
func (x *exchange) object() {
	to := &wire{method: x.r.Method, accept: "application/octet-stream", lfs: &lfsCall{repository: x.e.repository, oid: x.e.oid, verb: x.e.verb}}
	switch x.e.verb {
	case "download":
		x.passObject(gate.Request{Operation: lfsObject(x.e.name(), x.e.oid, x.e.verb, 0, []string{"read"})}, to)
	case "verify":
		raw, err := x.body(lfsType, maxLock)
		if err != nil {
			x.unread(classObject, err, x.sayLFS)
			return
		}
		to.contentType, to.accept = lfsType, lfsType
		to.body, to.size = ready(raw)
		x.passObject(gate.Request{Operation: lfsObject(x.e.name(), x.e.oid, x.e.verb, int64(len(raw)), []string{"read"})}, to)
	case "upload":
		x.upload(to)
	}
}

func (x *exchange) passObject(q gate.Request, to *wire) {
	var err error
	if q.HTTP, err = x.request(x.r.Context(), to); err != nil {
		x.broken(nil, err)
		return
	}
	p := x.submit(q, x.sayLFS)
	if p == nil {
		return
	}
	resp, err := p.RoundTrip()
	if errors.Is(err, errNoAction) {
		err = p.Settle(gate.Outcome{State: custos.StateNotSent})
		d := refuse(ruleRequest, errNoAction.Error(), "ask for it again with git lfs")
		x.sayLFS(&custos.Refusal{Decision: *d, Session: x.session.ID(), Entry: p.Entry(), Recorded: err == nil})
		return
	}
	if err != nil {
		x.broken(p, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		x.unexpected(p, resp)
		return
	}
	out := &answering{x: x, permit: p}
	if err := out.begin(resp.StatusCode, "application/octet-stream"); err != nil {
		x.broken(p, err)
		return
	}
	n, err := io.Copy(out, resp.Body)
	out.finish(n, err)
}

// upload looks through an object that a batch has named, as a whole, and brings
// it.
func (x *exchange) upload(to *wire) {
	size, ok := x.server.wasGranted(x.session.ID(), x.e.repository, x.e.oid)
	if !ok {
		x.unread(classObject, errNoAction, x.sayLFS)
		return
	}
	in := newInspection(formatSHA256, x.server.masker)
	s := web.NewSpool(x.server.dir)
	defer s.Close()
	sum := sha256.New()
	found, err := lookThrough(in, size, io.TeeReader(x.r.Body, io.MultiWriter(s, sum)))
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != x.e.oid {
		err = fmt.Errorf("read LFS object: it is not what its name says: %w", errRequest)
	}
	if err != nil {
		x.unread(classObject, err, x.sayLFS)
		return
	}
	effects := []string{"change"}
	if len(in.opaque) > 0 {
		effects = append(effects, "opaque")
	}
	if found {
		effects = append(effects, "secret.added")
	}
	slices.Sort(effects)
	to.contentType = "application/octet-stream"
	body := web.NewPieces(nil, s)
	to.body, to.size = body, body.Size()
	// That it is brought was let through with its batch; what is in it may
	// be refused all the same.
	x.passObject(gate.Request{Operation: lfsObject(x.e.name(), x.e.oid, x.e.verb, s.Size(), effects), Defines: true}, to)
}

// lookThrough has a file of a known size looked through.
func lookThrough(in *inspection, size int64, r io.Reader) (secrets bool, err error) {
	o, err := in.visit(kindBlob, size)
	if err != nil {
		return false, err
	}
	n, err := io.Copy(o, io.LimitReader(r, size+1))
	if err == nil && n != size {
		err = errors.New("its length is another")
	}
	if err != nil {
		return false, fmt.Errorf("read LFS object: %w: %w", err, errRequest)
	}
	if err := o.done(id{size: 1}); err != nil {
		return false, err
	}
	return len(in.secrets) > 0 || in.more, nil
}

// grants are the objects that sessions may bring: those of the batches that
// were let through, by session, repository and id.
type grants map[string]int64

// maxGrants bounds how many are kept.
const maxGrants = 100_000

func grantKey(s custos.SessionID, repository, oid string) string {
	return string(s) + "\x00" + actionName(repository, oid, "upload")
}

func (s *Server) granted(session custos.SessionID, repository string, b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grants == nil || len(s.grants) > maxGrants {
		s.grants = grants{}
	}
	for _, o := range b.Objects {
		s.grants[grantKey(session, repository, o.OID)] = o.Size
	}
}

func (s *Server) wasGranted(session custos.SessionID, repository, oid string) (size int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, ok = s.grants[grantKey(session, repository, oid)]
	return size, ok
}
