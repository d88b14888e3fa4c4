package sql

// scan is what one pass over a text finds, without parsing it.
type scan struct {
	// key is the text with its plain constants replaced by marks; two texts
	// of one key differ in constants only. It is of use when plain is true.
	key   []byte
	plain bool
	// depth bounds how deeply the parse tree can be nested: the words,
	// operators and brackets between two commas, summed over the brackets
	// that enclose them.
	depth int
}

// The marks of constants in a key. A text that holds one is not plain.
const (
	markInteger = 0x01
	markString  = 0x02
)

// maxIntegerDigits keeps to what PostgreSQL reads as an integer constant: the
// grammar takes a longer one for another kind of token.
const maxIntegerDigits = 9

// maxBrackets bounds the stack of the pass.
const maxBrackets = 4096

// lexer follows PostgreSQL's scan.l with standard_conforming_strings on, as
// libpg_query has it. What it is not sure of makes the text not plain.
type lexer struct {
	text        string
	i           int
	out         scan
	depth       int // of the element that is being read, its brackets included
	stack       []int
	afterString bool // the last token was a string constant
	first       bool // no word has been read
}

// read scans text, appending the key to buf.
func read(text string, buf []byte) scan {
	l := lexer{text: text, out: scan{key: buf, plain: true}, first: true}
	for l.i < len(text) {
		l.token()
	}
	return l.out
}

func (l *lexer) verbatim(end int) {
	l.out.key = append(l.out.key, l.text[l.i:end]...)
	l.i = end
}

func (l *lexer) deeper() {
	l.depth++
	l.out.depth = max(l.out.depth, l.depth)
}

func (l *lexer) at(i int) byte {
	if i < len(l.text) {
		return l.text[i]
	}
	return 0
}

func wordStart(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func wordPart(c byte) bool { return wordStart(c) || digit(c) || c == '$' }

func (l *lexer) token() {
	c := l.text[l.i]
	switch {
	case c == ' ' || c >= '\t' && c <= '\r':
		l.verbatim(l.i + 1)
		return
	case c == '-' && l.at(l.i+1) == '-':
		l.lineComment()
		return
	case c == '/' && l.at(l.i+1) == '*':
		l.comment()
		return
	case c == '\'':
		l.str()
		return
	}
	l.afterString = false
	switch {
	case c == '"':
		l.quoted()
	case c == '$' && !digit(l.at(l.i+1)):
		l.dollar()
	case wordStart(c):
		l.word()
	case digit(c) || c == '.' && digit(l.at(l.i+1)) || c == '$':
		l.number()
	default:
		l.sign(c)
	}
}

func (l *lexer) sign(c byte) {
	switch c {
	case '(', '[':
		if len(l.stack) >= maxBrackets {
			l.out.plain = false
			l.deeper()
			break
		}
		l.deeper()
		l.stack = append(l.stack, l.depth)
	case ')', ']':
		// What was in the brackets is one operand beside those before it.
		if n := len(l.stack); n > 0 {
			l.depth = l.stack[n-1]
			l.stack = l.stack[:n-1]
		}
	case ',':
		l.depth = 0
		if n := len(l.stack); n > 0 {
			l.depth = l.stack[n-1]
		}
	case ';':
		l.depth, l.stack = 0, l.stack[:0]
	case markInteger, markString, 0:
		l.out.plain = false
	default:
		l.deeper()
	}
	l.verbatim(l.i + 1)
}

func (l *lexer) lineComment() {
	end := l.i
	for end < len(l.text) && l.text[end] != '\n' && l.text[end] != '\r' {
		end++
	}
	l.verbatim(end)
}

// comment reads a bracketed comment; they nest.
func (l *lexer) comment() {
	end, nested := l.i, 0
	for end < len(l.text) {
		switch {
		case l.text[end] == '/' && l.at(end+1) == '*':
			nested++
			l.out.depth = max(l.out.depth, l.depth+nested)
			end += 2
			continue
		case l.text[end] == '*' && l.at(end+1) == '/':
			nested--
			end += 2
			if nested == 0 {
				l.verbatim(end)
				return
			}
			continue
		}
		end++
	}
	l.out.plain = false
	l.verbatim(len(l.text))
}

// str reads a string constant with no prefix. One that continues another, or
// holds a backslash, is left to the parser.
func (l *lexer) str() {
	if l.afterString || l.i > 0 && (wordPart(l.text[l.i-1]) || l.text[l.i-1] == '&') {
		l.out.plain = false
	}
	l.afterString = true
	for end := l.i + 1; end < len(l.text); end++ {
		switch l.text[end] {
		case '\\', 0, markInteger, markString:
			l.out.plain = false
		case '\'':
			if l.at(end+1) == '\'' {
				end++
				continue
			}
			// What a mask has put in a value's place is judged by its value.
			if looksMasked(l.text[l.i:end]) {
				l.out.plain = false
			}
			l.i = end + 1
			l.out.key = append(l.out.key, markString)
			return
		}
	}
	l.out.plain = false
	l.i = len(l.text)
}

// escaped reads the rest of E'...', where a backslash takes the next byte.
func (l *lexer) escaped() {
	for end := l.i + 1; end < len(l.text); end++ {
		switch l.text[end] {
		case '\\':
			end++
		case '\'':
			if l.at(end+1) == '\'' {
				end++
				continue
			}
			l.verbatim(end + 1)
			return
		}
	}
	l.verbatim(len(l.text))
}

// quoted reads a quoted identifier. After U& its UESCAPE is a string that is
// no constant.
func (l *lexer) quoted() {
	if l.i > 0 && l.text[l.i-1] == '&' {
		l.out.plain = false
	}
	for end := l.i + 1; end < len(l.text); end++ {
		if c := l.text[end]; c == '"' {
			l.verbatim(end + 1)
			return
		} else if c == markInteger || c == markString || c == 0 {
			l.out.plain = false
		}
	}
	l.out.plain = false
	l.verbatim(len(l.text))
}

// dollar reads $tag$...$tag$, which is left to the parser.
func (l *lexer) dollar() {
	l.out.plain = false
	end := l.i + 1
	for end < len(l.text) && wordPart(l.text[end]) && l.text[end] != '$' {
		end++
	}
	if l.at(end) != '$' {
		l.deeper()
		l.verbatim(l.i + 1)
		return
	}
	tag := l.text[l.i : end+1]
	for rest := end + 1; rest+len(tag) <= len(l.text); rest++ {
		if l.text[rest:rest+len(tag)] == tag {
			l.verbatim(rest + len(tag))
			return
		}
	}
	l.verbatim(len(l.text))
}

func (l *lexer) word() {
	end := l.i + 1
	for end < len(l.text) && wordPart(l.text[end]) {
		end++
	}
	word := l.text[l.i:end]
	if l.first {
		l.first = false
		// Constants of other statements may say what they do.
		l.out.plain = l.out.plain && constantsAreData(word)
	}
	// float(24) and float(53) are other types, and float(54) is an error.
	if len(word) == len("float") && fold(word, "float") {
		l.out.plain = false
	}
	l.deeper()
	l.verbatim(end)
	if len(word) == 1 && word[0]|0x20 == 'e' && l.at(end) == '\'' {
		l.out.plain, l.afterString = false, true
		l.escaped()
	}
}

func constantsAreData(word string) bool {
	return fold(word, "select") || fold(word, "insert") || fold(word, "update") ||
		fold(word, "delete") || fold(word, "with") || fold(word, "values")
}

// fold reports whether word is lower in any case.
func fold(word, lower string) bool {
	if len(word) != len(lower) {
		return false
	}
	for i := range len(word) {
		if word[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// number reads all that could belong to one, and replaces integers only.
func (l *lexer) number() {
	end, integer := l.i, true
	for end < len(l.text) && (wordPart(l.text[end]) || l.text[end] == '.') {
		integer = integer && digit(l.text[end])
		end++
	}
	if !integer || end-l.i > maxIntegerDigits {
		l.verbatim(end)
		return
	}
	l.out.key = append(l.out.key, markInteger)
	l.i = end
}
