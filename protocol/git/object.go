package git

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Bounds of what is read into memory whole, in bytes.
const (
	maxCommit = 4 << 20
	maxTree   = 64 << 20
)

var errObject = errors.New("git would not make it")

// commit is what is kept of a commit (git-commit-tree(1), gitformat-signature(5)).
type commit struct {
	tree    id
	parents []id
	authors []string // the addresses of author and committer, each once
	names   []string // their names
	signed  bool
	subject string
}

// headers calls each with the headers of a commit or tag, and returns the
// message. A header's value may go on in lines that begin with a space.
func headers(b []byte, each func(key string, value []byte) error) (message []byte, err error) {
	for len(b) > 0 && b[0] != '\n' {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return nil, fmt.Errorf("a header has no end: %w", errObject)
		}
		for end+1 < len(b) && b[end+1] == ' ' {
			more := bytes.IndexByte(b[end+1:], '\n')
			if more < 0 {
				return nil, fmt.Errorf("a header has no end: %w", errObject)
			}
			end += 1 + more
		}
		key, value, _ := bytes.Cut(b[:end], []byte(" "))
		if err := each(string(key), value); err != nil {
			return nil, err
		}
		b = b[end+1:]
	}
	if len(b) > 0 {
		b = b[1:]
	}
	return b, nil
}

// parseCommit reads a commit. git takes the first tree, author and committer,
// and so does everybody: a second one is refused.
func (f *format) parseCommit(b []byte) (*commit, error) {
	c := &commit{}
	seen := map[string]int{}
	message, err := headers(b, func(key string, value []byte) error {
		seen[key]++
		var err error
		switch key {
		case "tree":
			c.tree, err = f.parseID(value)
		case "parent":
			var p id
			p, err = f.parseID(value)
			c.parents = append(c.parents, p)
		case "author", "committer":
			c.addAuthor(value)
		case "gpgsig", "gpgsig-sha256":
			c.signed = c.signed || isSignature(value)
		}
		return err
	})
	for _, key := range []string{"tree", "author", "committer"} {
		if err == nil && seen[key] != 1 {
			err = fmt.Errorf("it has %d headers %s: %w", seen[key], key, errObject)
		}
	}
	if err == nil && bytes.IndexByte(b, 0) >= 0 {
		err = fmt.Errorf("it holds a NUL: %w", errObject)
	}
	if err != nil {
		return nil, fmt.Errorf("read commit: %w", err)
	}
	subject, _, _ := bytes.Cut(message, []byte("\n"))
	c.subject = string(clip(subject, 200))
	return c, nil
}

// addAuthor takes in "Name <address> time zone".
func (c *commit) addAuthor(value []byte) {
	name, rest, _ := strings.Cut(string(value), "<")
	address, _, _ := strings.Cut(rest, ">")
	for _, a := range c.authors {
		if a == address {
			return
		}
	}
	c.authors = append(c.authors, address)
	c.names = append(c.names, strings.TrimSpace(name))
}

// isSignature reports whether a header holds a signature in one of the forms
// that git knows: OpenPGP, X.509 or SSH.
func isSignature(value []byte) bool {
	for _, form := range []string{"PGP SIGNATURE", "PGP MESSAGE", "SIGNED MESSAGE", "SSH SIGNATURE"} {
		if bytes.HasPrefix(value, []byte("-----BEGIN "+form+"-----\n")) && bytes.Contains(value, []byte("\n -----END "+form+"-----")) {
			return true
		}
	}
	return false
}

// tag is what is kept of an annotated tag.
type tag struct {
	object id
	kind   string
	name   string
}

func (f *format) parseTag(b []byte) (*tag, error) {
	g := &tag{}
	_, err := headers(b, func(key string, value []byte) error {
		var err error
		switch key {
		case "object":
			if !g.object.zero() {
				return fmt.Errorf("it names two objects: %w", errObject)
			}
			g.object, err = f.parseID(value)
		case "type":
			g.kind = string(value)
		case "tag":
			g.name = string(value)
		}
		return err
	})
	if err == nil && (g.object.zero() || g.kind == "") {
		err = fmt.Errorf("it names no object: %w", errObject)
	}
	if err != nil {
		return nil, fmt.Errorf("read tag: %w", err)
	}
	return g, nil
}

// The modes of a tree's entries.
const (
	modeTree      = 0o40000
	modeFile      = 0o100644
	modeGroup     = 0o100664 // of old; git still reads it
	modeProgram   = 0o100755
	modeLink      = 0o120000
	modeSubmodule = 0o160000
)

// treeEntry is one name in a tree.
type treeEntry struct {
	mode uint32
	name string
	id   id
}

func (e *treeEntry) dir() bool { return e.mode == modeTree }

// parseTree reads a tree. Names are in order, each once, and none has a slash:
// git would find something else otherwise.
func (f *format) parseTree(b []byte) ([]treeEntry, error) {
	entries := make([]treeEntry, 0, len(b)/(f.size+16)+1)
	for len(b) > 0 {
		e := treeEntry{}
		i := 0
		for ; i < len(b) && i < 7 && b[i] >= '0' && b[i] <= '7'; i++ {
			e.mode = e.mode<<3 | uint32(b[i]-'0')
		}
		if i == 0 || i == len(b) || b[i] != ' ' || b[0] == '0' {
			return nil, fmt.Errorf("read tree: an entry has no mode: %w", errObject)
		}
		b = b[i+1:]
		end := bytes.IndexByte(b, 0)
		if end < 0 || len(b) < end+1+f.size {
			return nil, fmt.Errorf("read tree: it is cut: %w", errObject)
		}
		e.name, e.id = string(b[:end]), f.rawID(b[end+1:])
		b = b[end+1+f.size:]
		if n := len(entries); n > 0 && compareEntries(&entries[n-1], &e) >= 0 {
			return nil, fmt.Errorf("read tree: its names are not in order, or twice there: %w", errObject)
		}
		if err := e.check(); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	// A file and a folder of one name need not stand side by side.
	for i := range entries {
		for j := i + 1; j < len(entries) && strings.HasPrefix(entries[j].name, entries[i].name); j++ {
			if entries[j].name == entries[i].name {
				return nil, fmt.Errorf("read tree: %q is there twice: %w", entries[i].name, errObject)
			}
		}
	}
	return entries, nil
}

func (e *treeEntry) check() error {
	switch e.mode {
	case modeTree, modeFile, modeGroup, modeProgram, modeLink, modeSubmodule:
	default:
		return fmt.Errorf("read tree: %q has the mode %o: %w", clip(e.name, 80), e.mode, errObject)
	}
	if e.name == "" || strings.Contains(e.name, "/") {
		return fmt.Errorf("read tree: the name %q: %w", clip(e.name, 80), errObject)
	}
	return nil
}

// compareEntries orders names as git does: a folder's as if a slash were behind it.
func compareEntries(a, b *treeEntry) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	end := func(e *treeEntry) int {
		switch {
		case len(e.name) > n:
			return int(e.name[n])
		case e.dir():
			return '/'
		}
		return 0
	}
	if c := end(a) - end(b); c != 0 {
		return c
	}
	return len(a.name) - len(b.name)
}
