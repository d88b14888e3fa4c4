package export

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable returns s with everything made visible that a terminal or a
// browser would act upon instead of showing it: control characters (a
// terminal's escape sequences begin with one), characters that change the
// direction of writing or take no room, and bytes that are not UTF-8. Line
// ends and tabs stay.
func Printable(s string) string {
	clean := true
	for _, r := range s {
		if !shown(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case shown(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}

// Line is Printable on one line: line ends and tabs are made visible as well.
func Line(s string) string {
	return lineEnds.Replace(Printable(s))
}

// JSON does to JSON text what Printable does to words, by JSON's own escapes,
// so that it stays the same JSON (RFC 8259, section 7).
func JSON(s string) string {
	clean := true
	for _, r := range s {
		if !shown(r) && r != utf8.RuneError {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, r := range s {
		if shown(r) || r == utf8.RuneError {
			b.WriteRune(r)
			continue
		}
		for _, u := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.String()
}

var lineEnds = strings.NewReplacer("\n", `\n`, "\t", `\t`)

// shown reports whether r shows as what it is. Category Cf holds the bidi
// controls (Unicode Standard Annex 9) and the zero-width characters; Zl and
// Zp are line ends to some programs. U+FFFD may stand for a wrong byte.
func shown(r rune) bool {
	if r == '\n' || r == '\t' {
		return true
	}
	return r != utf8.RuneError && !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Cs, unicode.Co)
}
