package git

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/custos-gateway/custos/mask"
)

// largeFile is from how many bytes a file is unusually large: GitHub warns of
// such, and refuses them from twice as many on.
const largeFile = 50 << 20

// Bounds of what is kept of what an inspection finds.
const (
	maxFound  = 1000    // values that look like secrets
	maxSecret = 4 << 10 // bytes of one of them
)

// found is a value that looks like a secret.
type found struct {
	in    id     // the object that holds it
	kind  string // of value, as package mask names it
	value string // its first bytes
}

// inspection looks through the objects of a pack while they are read.
type inspection struct {
	format  *format
	masker  *mask.Masker
	commits map[id]*commit
	order   []id // of commits, as they came
	tags    map[id]*tag
	secrets []found
	more    bool // there were more secrets than are kept
	large   map[id]int64
	opaque  map[id]string
	trick   string // what makes a tree one that nobody may push; "": nothing
	trees   int
	blobs   int
	sums    [][sha256.Size]byte

	window []byte
	spans  []mask.Span
}

func newInspection(f *format, m *mask.Masker) *inspection {
	return &inspection{format: f, masker: m, commits: map[id]*commit{}, tags: map[id]*tag{}, large: map[id]int64{}, opaque: map[id]string{}}
}

// visit is the visitor of a pack.
func (n *inspection) visit(k kind, size int64) (sink, error) {
	o := inspected{inspection: n, kind: k, size: size, sum: sha256.New()}
	if k == kindBlob {
		n.blobs++
		n.window = n.window[:0]
		return &blobSink{inspected: o}, nil
	}
	if size > maxTree || k != kindTree && size > maxCommit {
		return nil, fmt.Errorf("read %s of %d bytes: %w", k, size, errBound)
	}
	return &wholeSink{inspected: o}, nil
}

// digest is the SHA-256 of what all objects are, whatever their order. A commit's
// name alone would be a SHA-1, of which two can be made that mean different things.
func (n *inspection) digest() [sha256.Size]byte {
	slices.SortFunc(n.sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	for i := range n.sums {
		h.Write(n.sums[i][:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// inspected is an object that is being looked through.
type inspected struct {
	*inspection
	kind kind
	size int64
	sum  hash.Hash
}

func (o *inspected) finish(i id) {
	o.sum.Write(append([]byte(o.kind.String()), i.sum[:i.size]...))
	o.sums = append(o.sums, [sha256.Size]byte(o.sum.Sum(nil)))
}

// look looks for secrets in b.
func (n *inspection) look(in id, b []byte) {
	n.spans = n.masker.Find(n.spans[:0], b)
	for _, s := range n.spans {
		value := string(clip(b[s.Start:s.End], maxSecret))
		if harmless(s.Kind.String(), value, b[s.End:]) {
			continue
		}
		f := found{in: in, kind: s.Kind.String(), value: value}
		if len(n.secrets) == maxFound {
			n.more = true
			return
		}
		n.secrets = append(n.secrets, f)
	}
}

// harmless reports a password in an address that stands for one, or that opens
// nothing beyond the machine it is used on.
func harmless(kind, value string, behind []byte) bool {
	if kind != "url_password" {
		return false
	}
	if strings.ContainsAny(value, "$<>{}*%") {
		return true
	}
	switch strings.ToLower(value) {
	case "password", "pass", "passwd", "secret", "postgres", "root", "test", "example", "changeme", "xxx", "guest", "mysecretpassword", "pw":
		return true
	}
	host, _ := bytes.CutPrefix(behind, []byte("@"))
	for _, local := range []string{"localhost", "127.0.0.1", "[::1]", "example.com", "db:", "db/"} {
		if bytes.HasPrefix(host, []byte(local)) {
			return true
		}
	}
	return false
}

// wholeSink takes a commit, tree or tag.
type wholeSink struct {
	inspected
	b []byte
}

func (s *wholeSink) Write(b []byte) (int, error) {
	s.b = append(s.b, b...)
	s.sum.Write(b)
	return len(b), nil
}

func (s *wholeSink) done(i id) error {
	s.finish(i)
	switch s.inspected.kind {
	case kindCommit:
		c, err := s.format.parseCommit(s.b)
		if err != nil {
			return err
		}
		if _, ok := s.commits[i]; !ok {
			s.order = append(s.order, i)
		}
		s.commits[i] = c
		s.look(i, s.b)
	case kindTag:
		g, err := s.format.parseTag(s.b)
		if err != nil {
			return err
		}
		s.tags[i] = g
		s.look(i, s.b)
	case kindTree:
		s.trees++
		entries, err := s.format.parseTree(s.b)
		if err != nil {
			return err
		}
		if s.trick == "" {
			s.trick = treeTrick(entries)
		}
	}
	return nil
}

// treeTrick says what is wrong with a tree; "": nothing.
func treeTrick(entries []treeEntry) string {
	var links map[string]string
	for i := range entries {
		e := &entries[i]
		if what := trick(e); what != "" {
			return fmt.Sprintf("%s: %q", what, clip(e.name, 80))
		}
		if e.mode == modeLink {
			if links == nil {
				links = map[string]string{}
			}
			links[fold(e.name)] = e.name
		}
	}
	if links == nil {
		return ""
	}
	// A link and a folder that are one where case is not told: what is checked
	// out into the folder goes through the link (CVE-2021-21300).
	for i := range entries {
		if link, ok := links[fold(entries[i].name)]; ok && link != entries[i].name {
			return fmt.Sprintf("a link that differs in case only from another name: %q", clip(link, 80))
		}
	}
	return ""
}

// Windows in which a blob is looked through, in bytes: what is in the overlap is
// looked at with what is before it, and with what is behind.
const (
	scanWindow  = 256 << 10
	scanOverlap = 16 << 10
)

// blobSink takes a file's content, of any size.
type blobSink struct {
	inspected
	seen  int64
	wide  bool // UTF-16
	found []found
}

func (s *blobSink) Write(b []byte) (int, error) {
	s.sum.Write(b)
	n := len(b)
	for len(b) > 0 {
		m := min(len(b), scanWindow-len(s.window))
		s.window = append(s.window, b[:m]...)
		b = b[m:]
		if len(s.window) == scanWindow {
			s.scan()
			s.window = s.window[:copy(s.window, s.window[scanWindow-scanOverlap:])]
		}
	}
	return n, nil
}

func (s *blobSink) scan() {
	if s.seen == 0 {
		s.wide = isWide(s.window)
		if what := archive(s.window); what != "" {
			s.opaque[id{}] = what
		}
	}
	s.seen += int64(len(s.window))
	if len(s.window) == 0 {
		return
	}
	from := len(s.secrets)
	s.look(id{}, s.window)
	if s.wide {
		s.look(id{}, bytes.ReplaceAll(s.window, []byte{0}, nil))
	}
	s.found = append(s.found, s.secrets[from:]...)
	s.secrets = s.secrets[:from]
}

func (s *blobSink) done(i id) error {
	s.scan()
	s.finish(i)
	if s.size >= largeFile {
		s.large[i] = s.size
	}
	if what, ok := s.opaque[id{}]; ok {
		delete(s.opaque, id{})
		s.opaque[i] = what
	}
	for _, f := range s.found {
		if f.in = i; len(s.secrets) < maxFound {
			s.secrets = append(s.secrets, f)
		} else {
			s.more = true
		}
	}
	return nil
}

// isWide reports text in UTF-16, which would hide a secret's letters from each
// other.
func isWide(b []byte) bool {
	if bytes.HasPrefix(b, []byte{0xff, 0xfe}) || bytes.HasPrefix(b, []byte{0xfe, 0xff}) {
		return true
	}
	b = clip(b, 64)
	zeros := [2]int{}
	for i, c := range b {
		if c == 0 {
			zeros[i%2]++
		}
	}
	return len(b) >= 16 && (zeros[0] >= len(b)/2-2 || zeros[1] >= len(b)/2-2)
}

// archive names the form of a file into which nobody can look without
// unpacking it; "": it is none.
func archive(b []byte) string {
	for magic, name := range map[string]string{
		"PK\x03\x04": "zip", "\x1f\x8b": "gzip", "\xfd7zXZ\x00": "xz", "\x28\xb5\x2f\xfd": "zstd", "BZh": "bzip2", "7z\xbc\xaf\x27\x1c": "7z",
		"Rar!\x1a\x07": "rar", "PACK\x00\x00\x00": "pack", "# v2 git bundle": "bundle", "# v3 git bundle": "bundle", "%PDF-": "PDF", "\x04\x22\x4d\x18": "lz4",
	} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return name
		}
	}
	return ""
}
