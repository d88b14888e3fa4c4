package git

import (
	"fmt"
	"slices"
	"strings"
)

// checkRef says what is wrong with a ref's full name (git-check-ref-format(1));
// a name that passes is the same name to everybody.
func checkRef(name string) error {
	bad := func(what string) error {
		return fmt.Errorf("read ref %q: %s", clip(name, 120), what)
	}
	switch {
	case len(name) > 1024:
		return bad("the name is longer than 1024 bytes")
	case !strings.HasPrefix(name, "refs/"):
		return bad("it does not begin with refs/")
	case strings.Contains(name, ".."), strings.Contains(name, "@{"), strings.Contains(name, "//"):
		return bad("it holds .., @{ or //")
	case strings.HasSuffix(name, "/"), strings.HasSuffix(name, "."):
		return bad("it ends with a slash or full stop")
	case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(`~^:?*[\`, r) }):
		return bad("it holds a character that refs do not have")
	}
	parts := strings.Split(name, "/")
	for _, part := range parts {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(fold(part), ".lock") {
			return bad("a part of it begins with a full stop or ends with .lock")
		}
	}
	if len(parts) < 3 {
		return bad("it has no name behind its kind")
	}
	if strings.HasPrefix(parts[2], "-") {
		return bad("its name begins with a hyphen")
	}
	return nil
}

// protectedRef reports a branch that others build on: the default one, and
// those of the names that repositories give to what they release.
func protectedRef(name, head string) bool {
	if name == head {
		return true
	}
	branch, ok := strings.CutPrefix(name, "refs/heads/")
	if !ok {
		return false
	}
	first, _, _ := strings.Cut(branch, "/")
	switch fold(first) {
	case "main", "master", "trunk", "release", "releases", "production", "prod", "stable", "hotfix":
		return true
	}
	lower := fold(branch)
	return lower == "develop" || lower == "gh-pages" || strings.HasPrefix(lower, "release-") || strings.HasPrefix(lower, "release_") ||
		strings.HasPrefix(lower, "stable-") || strings.HasSuffix(lower, "-stable")
}

// refNames are the names of refs that stand beside one another.
type refNames struct {
	spelled map[string]string // how each name, and each folder of names, is spelled, by its folded form
	full    map[string]bool
}

func newRefNames() *refNames {
	return &refNames{spelled: map[string]string{}, full: map[string]bool{}}
}

func (n *refNames) add(name string) {
	n.full[name] = true
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		key := fold(name[:i])
		if _, ok := n.spelled[key]; !ok {
			n.spelled[key] = name[:i]
		}
	}
}

// reserved says why a new ref would change what others mean; "": it would not.
func (n *refNames) reserved(name string) string {
	kind, short, _ := strings.Cut(strings.TrimPrefix(name, "refs/"), "/")
	switch {
	case short == "HEAD", short == "FETCH_HEAD", short == "ORIG_HEAD", short == "MERGE_HEAD":
		return "its name is one of git's own"
	case strings.HasPrefix(short, "refs/"), strings.HasPrefix(short, "heads/"), strings.HasPrefix(short, "tags/"), strings.HasPrefix(short, "remotes/"):
		return "its name reads as another ref's"
	case looksLikeID(short):
		return "its name reads as a commit's"
	}
	for i := len("refs/"); i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		if other, ok := n.spelled[fold(name[:i])]; ok && other != name[:i] {
			return fmt.Sprintf("it differs from %s in case only", other)
		}
	}
	if kind == "tags" && n.full["refs/heads/"+short] || kind == "heads" && n.full["refs/tags/"+short] {
		return "a branch and a tag would have the same name"
	}
	return ""
}

// ordinary reports whether a ref is of a kind that people push to: branches,
// tags, notes, and what Gerrit takes for review.
func ordinary(name string) bool {
	kind, _, _ := strings.Cut(strings.TrimPrefix(name, "refs/"), "/")
	return kind == "heads" || kind == "tags" || kind == "for" || kind == "notes"
}

func looksLikeID(name string) bool {
	return (len(name) == 40 || len(name) == 64) && !slices.ContainsFunc([]byte(name), func(c byte) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", rune(c)) })
}
