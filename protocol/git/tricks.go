package git

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A name in a tree that a checkout somewhere would take for git's own folder,
// or for a way out of the repository, is let through for nobody: that is code
// that runs where it is cloned (CVE-2014-9390, CVE-2019-1352, CVE-2019-1353).

// trick says what is wrong with a name in a tree; "": nothing.
func trick(e *treeEntry) string {
	name := e.name
	switch {
	case name == "." || name == "..":
		return "a name that leads out of its folder"
	case isDotGit(name, "git", "git~1"):
		return "a name that some systems take for git's own folder"
	case strings.ContainsAny(name, "\\\x00\n\r\x1b"):
		return "a name with a backslash or control character"
	case e.mode == modeLink && isModules(name):
		return ".gitmodules as a link"
	case e.mode == modeLink && (isDotGit(name, "gitattributes", "gi7d29~1") || isDotGit(name, "gitignore", "gi250a~1")):
		return "settings of git's as a link"
	}
	return ""
}

// isModules reports a name that some system takes for .gitmodules.
func isModules(name string) bool { return isDotGit(name, "gitmodules", "gi7eba~1") }

// isDotGit reports whether some file system takes name for a dot and word:
// without regard to case, with what HFS+ ignores in it, with what NTFS cuts from
// its end, or in NTFS's short form.
func isDotGit(name, word, short string) bool {
	plain := fold(name)
	// NTFS: ".git::$INDEX_ALLOCATION", ".git . .".
	if i := strings.IndexByte(plain, ':'); i >= 0 {
		plain = plain[:i]
	}
	plain = strings.TrimRight(plain, ". ")
	if plain == "."+word {
		return true
	}
	if plain == short {
		return true
	}
	// The first four short forms keep six letters of the name.
	letters, number, isShort := strings.Cut(plain, "~")
	return isShort && len(number) == 1 && number[0] >= '1' && number[0] <= '4' && letters == clip(word, 6)
}

// fold writes a name as file systems compare it that don't tell case.
func fold(name string) string {
	ascii := true
	for i := range len(name) {
		ascii = ascii && name[i] < utf8.RuneSelf
	}
	if ascii {
		return strings.ToLower(name)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case ignoredByHFS(r):
			return -1
		case r == 'İ' || r == 'ı':
			return 'i'
		}
		return unicode.ToLower(unicode.ToUpper(r))
	}, name)
}

// ignoredByHFS reports the characters that HFS+ leaves out of names (Apple
// TN1150, as git's utf8.c has them).
func ignoredByHFS(r rune) bool {
	return r >= 0x200c && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x206a && r <= 0x206f || r == 0xfeff
}

// leaves reports whether a link at a path leads out of the repository, or into
// git's own folder.
func leaves(at, target string) bool {
	target = strings.ReplaceAll(target, "\\", "/")
	if target == "" || strings.HasPrefix(target, "/") || len(target) > 1 && target[1] == ':' {
		return true
	}
	to := path.Join(path.Dir("/" + at)[1:], target)
	if to == ".." || strings.HasPrefix(to, "../") {
		return true
	}
	for part := range strings.SplitSeq(to, "/") {
		if isDotGit(part, "git", "git~1") {
			return true
		}
	}
	return false
}

// moduleTrick says what is wrong with a .gitmodules file; "": nothing. A
// submodule whose address or path is read as an option, or as a command, runs
// code where it is cloned (CVE-2018-17456, CVE-2018-11235).
func moduleTrick(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "[submodule "); ok {
			name = strings.Trim(strings.TrimSuffix(strings.TrimSpace(name), "]"), `"`)
			for part := range strings.SplitSeq(strings.ReplaceAll(name, "\\", "/"), "/") {
				if part == ".." {
					return fmt.Sprintf("a submodule of the name %q", clip(name, 80))
				}
			}
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "url":
			if strings.HasPrefix(value, "-") || strings.Contains(value, "::") || strings.Contains(value, "%0a") || strings.Contains(value, `\n`) ||
				strings.HasPrefix(value, "/") || strings.HasPrefix(value, "file:") {
				return fmt.Sprintf("a submodule at %q", clip(value, 80))
			}
		case "path":
			if strings.HasPrefix(value, "-") || leaves("x", value) {
				return fmt.Sprintf("a submodule in %q", clip(value, 80))
			}
		case "update":
			if strings.HasPrefix(value, "!") {
				return "a submodule that runs a command"
			}
		}
	}
	return ""
}
