package git

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// Git LFS (github.com/git-lfs/git-lfs, docs/api): the batch API says where objects
// are brought and fetched, and the basic transfer does it. Where that is, and
// with which credential, stays with the upstream's side: the client is pointed
// at the gateway.

// lfsType is the media type of the API.
const lfsType = "application/vnd.git-lfs+json"

// Bounds of a batch.
const (
	maxBatch      = 1 << 20 // bytes of the request
	maxBatchReply = 16 << 20
	maxBatchItems = 1000
)

// batch is a request of the batch API. Nothing else of it is passed on.
type batch struct {
	Operation string     `json:"operation"`
	Transfers []string   `json:"transfers,omitempty"`
	Ref       *lfsRef    `json:"ref,omitempty"`
	Objects   []lfsEntry `json:"objects"`
	HashAlgo  string     `json:"hash_algo,omitempty"`
}

type lfsRef struct {
	Name string `json:"name"`
}

type lfsEntry struct {
	OID  string `json:"oid"`
	Size int64  `json:"size"`
}

func isLFSID(s string) bool {
	return len(s) == 64 && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
}

// parseBatch reads a batch, and only what is of it.
func parseBatch(body []byte) (*batch, error) {
	b := &batch{}
	if err := json.Unmarshal(body, b); err != nil {
		return nil, fmt.Errorf("read LFS batch: %v: %w", err, errRequest)
	}
	switch {
	case b.Operation != "upload" && b.Operation != "download":
		return nil, fmt.Errorf("read LFS batch: the operation %q: %w", clip(b.Operation, 80), errRequest)
	case b.HashAlgo != "" && b.HashAlgo != "sha256":
		return nil, fmt.Errorf("read LFS batch: the hash %q: %w", clip(b.HashAlgo, 80), errRequest)
	case len(b.Transfers) > 0 && !slices.Contains(b.Transfers, "basic"):
		return nil, fmt.Errorf("read LFS batch: it does not take the transfer basic: %w", errRequest)
	case len(b.Objects) == 0 || len(b.Objects) > maxBatchItems:
		return nil, fmt.Errorf("read LFS batch: %d objects, of 1 to %d: %w", len(b.Objects), maxBatchItems, errRequest)
	}
	for _, o := range b.Objects {
		if !isLFSID(o.OID) || o.Size < 0 {
			return nil, fmt.Errorf("read LFS batch: the object %q: %w", clip(o.OID, 80), errRequest)
		}
	}
	b.Transfers = []string{"basic"}
	return b, nil
}

func (b *batch) operation(repository string) *custos.Operation {
	var text strings.Builder
	fmt.Fprintf(&text, "lfs %s %s\n", b.Operation, repository)
	facts := &custos.Facts{Effects: []string{"read"}, Attributes: map[string][]string{"repository": {repository}}}
	o := &custos.Operation{Class: classBatch, Verbs: []string{"LFS " + strings.ToUpper(b.Operation)}, Objects: []string{repository}, Facts: facts}
	if b.Ref != nil {
		facts.Attributes["ref"] = []string{b.Ref.Name}
		fmt.Fprintf(&text, "ref %s\n", oneLine(b.Ref.Name))
	}
	for _, e := range b.Objects {
		fmt.Fprintf(&text, "%s %d bytes\n", e.OID, e.Size)
		if b.Operation == "upload" && e.Size >= largeFile && !slices.Contains(facts.Effects, "large") {
			facts.Effects = append(facts.Effects, "large")
		}
	}
	if b.Operation == "upload" {
		// What is brought is looked through as it comes, and until then nobody
		// knows what it is.
		facts.Effects = append(slices.DeleteFunc(facts.Effects, func(e string) bool { return e == "read" }), "change", "opaque")
		o.Writes = true
	}
	o.Text = text.String()
	return o
}

// action is where, and with what, the upstream wants an object brought to or
// fetched from.
type action struct {
	href   *url.URL
	header map[string]string
}

// actions are those that a session's batches were told, by name.
type actions map[string]action

// actionName names an action: what is done with which object of a repository.
func actionName(repository, oid, what string) string {
	return repository + "\x00" + oid + "\x00" + what
}

// errReply is the cause where the upstream answers a batch with something else.
var errReply = errors.New("the upstream's answer is no LFS batch")

// rewriteReply takes where objects are brought and fetched out of the answer to
// a batch, hands it to keep, and puts the gateway's own address there. base is
// the repository's address as the client knows it.
func rewriteReply(body io.Reader, repository, base string, upstream *url.URL, keep func(name string, a action)) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(body, maxBatchReply+1))
	if err != nil {
		return nil, fmt.Errorf("read LFS batch's answer: %w", err)
	}
	if len(raw) > maxBatchReply {
		return nil, fmt.Errorf("read LFS batch's answer: more than %d bytes: %w", maxBatchReply, errReply)
	}
	type target struct {
		Href      string            `json:"href"`
		Header    map[string]string `json:"header,omitempty"`
		ExpiresIn int64             `json:"expires_in,omitempty"`
		ExpiresAt string            `json:"expires_at,omitempty"`
	}
	type object struct {
		OID           string            `json:"oid"`
		Size          int64             `json:"size"`
		Authenticated bool              `json:"authenticated,omitempty"`
		Actions       map[string]target `json:"actions,omitempty"`
		Error         *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error,omitempty"`
	}
	var reply struct {
		Transfer string   `json:"transfer,omitempty"`
		Objects  []object `json:"objects"`
		HashAlgo string   `json:"hash_algo,omitempty"`
	}
	if err := json.Unmarshal(raw, &reply); err != nil {
		return nil, fmt.Errorf("read LFS batch's answer: %v: %w", err, errReply)
	}
	if reply.Transfer != "" && reply.Transfer != "basic" {
		return nil, fmt.Errorf("read LFS batch's answer: the transfer %q: %w", clip(reply.Transfer, 80), errReply)
	}
	for i := range reply.Objects {
		o := &reply.Objects[i]
		// The client is not to look for a credential of its own for the upstream.
		o.Authenticated = false
		for what, t := range o.Actions {
			href, err := upstream.Parse(t.Href)
			if err != nil || !isLFSID(o.OID) || !slices.Contains([]string{"download", "upload", "verify"}, what) {
				return nil, fmt.Errorf("read LFS batch's answer: the action %q: %w", clip(what, 80), errReply)
			}
			keep(actionName(repository, o.OID, what), action{href, t.Header})
			t.Href, t.Header = base+"/info/lfs/objects/"+o.OID, nil
			if what == "verify" {
				t.Href += "/verify"
			}
			o.Actions[what] = t
		}
	}
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(reply); err != nil {
		return nil, fmt.Errorf("write LFS batch's answer: %w", err)
	}
	return out.Bytes(), nil
}

// lfsObject is the operation of bringing, fetching or confirming one object.
func lfsObject(repository, oid, what string, size int64, effects []string) *custos.Operation {
	return &custos.Operation{Class: classObject, Text: "lfs object " + what + " " + repository + "\n" + oid + " " + strconv.FormatInt(size, 10) + " bytes",
		Verbs: []string{"LFS " + strings.ToUpper(what)}, Objects: []string{repository + " " + oid}, Writes: what == "upload",
		Facts: &custos.Facts{Effects: effects, Attributes: map[string][]string{"repository": {repository}}}}
}
