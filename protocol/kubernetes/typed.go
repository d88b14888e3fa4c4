package kubernetes

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
)

// typed is what is typed into a terminal, or sent to a shell's input, as lines:
// each is judged and on record, with its words, before what ends it goes on. On
// a terminal it is what a person meant to type: what a shell makes of keys such
// as arrows and tab it does not know, and such a line says so.
type typed struct {
	lines bool // there are such: on a terminal, or of a shell
	tty   bool
	shell bool // they are a shell's

	line    []byte
	before  string // lines before it that it completes: a loop's, a quotation's
	unknown bool
	escape  int // of an escape sequence that is being read: 1 begun, 2 in brackets

	// held is what a shell without a terminal must not have before it is whole:
	// the end of the line would have it run.
	held   []byte
	stream uint32
}

// begin says what runs at the line's other end.
func (t *typed) begin(g *target) {
	command := g.query["command"]
	t.tty = len(g.query["tty"]) > 0 && !isFalse(g.query["tty"])
	t.shell = g.subresource == "attach" || isShell(command)
	t.lines = t.shell || t.tty
}

// isShell reports whether a command is a shell that reads its input.
func isShell(command []string) bool {
	for len(command) > 0 {
		name := path.Base(command[0])
		if slices.Contains(shells, name) {
			return !slices.ContainsFunc(command[1:], func(a string) bool {
				return strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.Contains(a, "c")
			})
		}
		if _, wraps := wrappers[name]; !wraps {
			return false
		}
		command = command[1:]
		for len(command) > 0 && !slices.Contains(shells, path.Base(command[0])) && (strings.HasPrefix(command[0], "-") || strings.Contains(command[0], "=")) {
			command = command[1:]
		}
	}
	return false
}

// maxTyped bounds, in bytes, a line that is judged.
const maxTyped = 64 << 10

var errLongLine = &custos.Refusal{Decision: custos.Decision{Rule: "kubernetes/line-limit", Reason: "a line is longer than what is judged", Hint: "send it as a file: kubectl cp"}}

// judge reads a frame, has each line that ends in it judged, and says which
// frames may go on.
func (t *typed) judge(l *line, p *piece) ([][]byte, error) {
	if !t.lines {
		return [][]byte{p.raw}, nil
	}
	if t.tty {
		var err error
		if p.channel == channelIn {
			err = t.keys(l, p.payload)
		}
		if err == nil && p.last {
			err = t.enter(l)
		}
		return [][]byte{p.raw}, err
	}
	if p.channel == channelIn {
		t.held, t.stream = append(t.held, p.payload...), p.stream
	}
	n := bytes.LastIndexByte(t.held, '\n') + 1
	if p.last {
		n = len(t.held)
	} else if n == 0 && len(t.held) > maxTyped {
		return nil, errLongLine
	}
	for text := range bytes.Lines(t.held[:n]) {
		t.line = append(t.line[:0], bytes.TrimRight(text, "\r\n")...)
		if err := t.enter(l); err != nil {
			return nil, err
		}
	}
	var out [][]byte
	if n > 0 {
		out = append(out, l.input(t.stream, t.held[:n]))
		t.held = append(t.held[:0], t.held[n:]...)
	}
	if p.last {
		end := p.raw
		if p.channel == channelIn { // its data went before
			end = append(bytes.Clone(p.raw[:5]), 0, 0, 0)
		}
		out = append(out, end)
	}
	return out, nil
}

// input is a frame that the client might have sent.
func (l *line) input(stream uint32, b []byte) []byte {
	if l.spdy {
		return frameSPDY(stream, b)
	}
	return asClient(frameWebSocket(channelIn, b))
}

// keys reads what is typed on a terminal.
func (t *typed) keys(l *line, b []byte) error {
	for _, c := range b {
		ends := c == '\r' || c == '\n' || c == 0x04 && len(t.line) > 0
		if !ends {
			t.key(c)
			if len(t.line) > maxTyped {
				return errLongLine
			}
			continue
		}
		if err := t.enter(l); err != nil {
			return err
		}
	}
	return nil
}

// key is one byte that ends no line.
func (t *typed) key(c byte) {
	switch {
	case t.escape == 1:
		t.escape = 0
		if c == '[' || c == 'O' {
			t.escape = 2
		}
	case t.escape == 2:
		if c >= 0x40 && c <= 0x7e {
			t.escape = 0
		}
	case c == 0x1b:
		t.escape, t.unknown = 1, true
	case c == 0x7f || c == 0x08: // backspace
		_, n := utf8.DecodeLastRune(t.line)
		t.line = t.line[:len(t.line)-n]
	case c == 0x15 || c == 0x03: // the line is given up
		t.line, t.unknown, t.before = t.line[:0], false, ""
	case c == 0x17: // a word back
		s := strings.TrimRight(string(t.line), " ")
		t.line = t.line[:strings.LastIndexByte(s, ' ')+1]
	case c == '\t':
		t.line, t.unknown = append(t.line, ' '), true
	case c < ' ':
		t.unknown = t.unknown || c != 0x04
	default:
		t.line = append(t.line, c)
	}
}

// enter has a line judged, if there is something in it.
func (t *typed) enter(l *line) error {
	text, unknown := strings.ToValidUTF8(string(t.line), "\uFFFD"), t.unknown
	t.line, t.unknown, t.escape = t.line[:0], false, 0
	if strings.TrimSpace(text) == "" && t.before == "" {
		return nil
	}
	effects := []string{"session"}
	if t.shell {
		found, incomplete := lineEffects(t.before + text)
		if len(found) > 0 {
			effects = found
		}
		if t.before += text + "\n"; !incomplete {
			t.before = ""
		} else if len(t.before) > maxTyped {
			return errLongLine
		}
	}
	op := &custos.Operation{Class: classLine, Text: text, Verbs: []string{"input"}, Objects: []string{l.x.target.object()}, Writes: true,
		Facts: &custos.Facts{Effects: effects, Attributes: attributes(l.x.target, &findings{}), Fingerprint: "input " + strings.Join(effects, " ")}}
	if unknown {
		op.Facts.Unknown = []string{"what keys such as arrows and tab made of the line"}
	}
	permits, err := l.x.session.Submit(l.x.session.Context(), nil, []gate.Request{{Operation: op}})
	if err != nil {
		return err
	}
	// What ends the line goes on as input of the operation that opened it.
	if err := permits[0].Settle(gate.Outcome{State: custos.StateOK}); err != nil {
		return errors.Join(errUnsettled, err)
	}
	return nil
}

var errUnsettled = errors.New("record line")
