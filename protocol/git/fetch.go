package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxWants bounds the lines of a request to read, of any sort.
const maxWants = 2_000_000

// fetchRequest is what a client asks to read.
type fetchRequest struct {
	command string // "fetch", "ls-refs" or "object-info"
	wants   []string
	haves   int
	words   []string // what else it asks, as it stands on the wire
}

// The lines of a request to read, by their first word: what each is, and whether
// something follows the word. Whatever is not here is refused.
type fetchLine struct{ argument, quiet bool }

var (
	// Of versions 0 and 1 (gitprotocol-pack(5), "Packfile Negotiation").
	fetchLines = map[string]fetchLine{"want": {argument: true}, "have": {argument: true}, "done": {quiet: true}, "shallow": {argument: true, quiet: true},
		"deepen": {argument: true}, "deepen-since": {argument: true}, "deepen-not": {argument: true}, "filter": {argument: true}}
	fetchCaps = []string{"multi_ack", "multi_ack_detailed", "no-done", "thin-pack", "side-band", "side-band-64k", "ofs-delta", "shallow", "deepen-since",
		"deepen-not", "deepen-relative", "no-progress", "include-tag", "filter", "object-format", "agent", "session-id", "allow-tip-sha1-in-want", "allow-reachable-sha1-in-want"}

	// Of version 2 (gitprotocol-v2(5)). Packs and bundles by address, packfile-uris
	// and bundle-uri, are not here: they would come from elsewhere.
	commandLines = map[string]map[string]fetchLine{
		"ls-refs": {"peel": {quiet: true}, "symrefs": {quiet: true}, "unborn": {quiet: true}, "ref-prefix": {argument: true}},
		"fetch": {"want": {argument: true}, "have": {argument: true}, "done": {quiet: true}, "thin-pack": {quiet: true}, "no-progress": {quiet: true}, "include-tag": {quiet: true},
			"ofs-delta": {quiet: true}, "shallow": {argument: true, quiet: true}, "deepen": {argument: true}, "deepen-relative": {}, "deepen-since": {argument: true}, "deepen-not": {argument: true},
			"filter": {argument: true}, "want-ref": {argument: true}, "sideband-all": {quiet: true}, "wait-for-done": {quiet: true}},
		"object-info": {"size": {}, "oid": {argument: true}},
	}
	commandCaps = []string{"agent", "object-format", "server-option", "session-id"}
)

// parseFetch reads a request to git-upload-pack of protocol version 0, 1 or 2.
func parseFetch(body io.Reader, version int) (*fetchRequest, error) {
	r := newPktReader(body)
	if version == 2 {
		return parseCommand(r)
	}
	f := &fetchRequest{command: "fetch"}
	for lines := 0; ; lines++ {
		sort, line, err := r.line()
		switch {
		case errors.Is(err, io.EOF):
			return f, nil
		case err != nil:
			return nil, err
		case lines > maxWants:
			return nil, fmt.Errorf("read fetch: more than %d lines: %w", maxWants, errBound)
		case sort == pktFlush:
			continue
		case sort != pktData:
			return nil, fmt.Errorf("read fetch: a packet of another version: %w", errRequest)
		}
		if rest, ok := bytes.CutPrefix(line, []byte("want ")); ok && len(f.wants) == 0 {
			name, caps, _ := bytes.Cut(rest, []byte(" "))
			if err := known(string(caps), fetchCaps); err != nil {
				return nil, err
			}
			line = append([]byte("want "), name...)
		}
		if err := f.add(string(line), fetchLines); err != nil {
			return nil, err
		}
	}
}

func known(list string, of []string) error {
	for word := range strings.FieldsSeq(list) {
		if key, _, _ := strings.Cut(word, "="); !slices.Contains(of, key) {
			return fmt.Errorf("read fetch: the capability %q is not known here: %w", clip(key, 80), errRequest)
		}
	}
	return nil
}

func (f *fetchRequest) add(line string, of map[string]fetchLine) error {
	word, argument, found := strings.Cut(line, " ")
	l, ok := of[word]
	if !ok || found != l.argument {
		return fmt.Errorf("read %s: the line %q is not known here: %w", f.command, clip(line, 80), errRequest)
	}
	switch {
	case word == "have":
		f.haves++
	case word == "want", word == "want-ref":
		f.wants = append(f.wants, argument)
		f.words = append(f.words, line)
	case !l.quiet:
		f.words = append(f.words, line)
	}
	return nil
}

func parseCommand(r *pktReader) (*fetchRequest, error) {
	f := &fetchRequest{}
	var lines map[string]fetchLine
	args := false
	for n := 0; ; n++ {
		sort, line, err := r.line()
		text := string(line)
		switch {
		case err != nil:
			return nil, requestCut(err)
		case n > maxWants:
			return nil, fmt.Errorf("read command: more than %d lines: %w", maxWants, errBound)
		case sort == pktFlush:
			if lines == nil {
				return nil, fmt.Errorf("read command: there is none: %w", errRequest)
			}
			if _, err := r.r.Peek(1); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("read command: something is behind it: %w", errRequest)
			}
			return f, nil
		case sort == pktDelim && !args && lines != nil:
			args = true
		case sort != pktData:
			return nil, fmt.Errorf("read command: a packet at the wrong place: %w", errRequest)
		case args:
			if err := f.add(text, lines); err != nil {
				return nil, err
			}
		case strings.HasPrefix(text, "command="):
			f.command = text[len("command="):]
			if lines != nil || commandLines[f.command] == nil {
				return nil, fmt.Errorf("read command: %q is not known here: %w", clip(f.command, 80), errRequest)
			}
			lines = commandLines[f.command]
		default:
			if key, value, _ := strings.Cut(text, "="); !slices.Contains(commandCaps, key) {
				return nil, fmt.Errorf("read command: the capability %q is not known here: %w", clip(key, 80), errRequest)
			} else if key == "server-option" {
				f.words = append(f.words, "server-option "+value)
			}
		}
	}
}
