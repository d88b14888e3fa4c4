package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Bounds of what a push asks for, besides its pack.
const (
	maxCommands = 10_000
	maxOptions  = 100
)

var errRequest = errors.New("it is no request that git would make")

// command is one change of a ref that a push asks for.
type command struct {
	old, new id
	ref      string
}

func (c *command) deletes() bool { return c.new.zero() }
func (c *command) creates() bool { return c.old.zero() }

// pushRequest is what a push asks for, before its pack (gitprotocol-pack(5), "Reference
// Update Request and Packfile Transfer").
type pushRequest struct {
	format   *format
	commands []command
	caps     map[string]string
	options  []string
	seen     map[string]bool
	// wire is all of it as it goes to the upstream: written anew from what
	// was read, so that nothing else is in it.
	wire []byte
}

// pushCaps are the capabilities that a push may choose (gitprotocol-capabilities(5)).
// A signed push, push-cert, is not among them: it would carry its commands in a
// second form.
var pushCaps = []string{"report-status", "report-status-v2", "delete-refs", "quiet", "atomic", "ofs-delta", "side-band-64k", "push-options", "object-format", "agent", "session-id"}

// parsePush reads a push up to its pack. A request without commands is git's
// way to ask whether it may push at all; it returns nil then.
func parsePush(r *pktReader) (*pushRequest, error) {
	p := &pushRequest{format: formatSHA1, seen: map[string]bool{}}
	for {
		sort, line, err := r.line()
		switch {
		case err != nil:
			return nil, requestCut(err)
		case sort == pktFlush:
			return p.finish(r)
		case sort != pktData:
			return nil, fmt.Errorf("read push: a packet of another protocol: %w", errRequest)
		}
		if shallow, ok := bytes.CutPrefix(line, []byte("shallow ")); ok && p.caps == nil {
			// The format is not known yet; either is an id.
			if _, err := formatSHA1.parseID(shallow); err != nil {
				if _, err := formatSHA256.parseID(shallow); err != nil {
					return nil, fmt.Errorf("read push: %w", err)
				}
			}
			p.wire = appendPkt(p.wire, line)
		} else if err := p.addCommand(line); err != nil {
			return nil, err
		}
		if len(p.commands) > maxCommands || len(p.wire) > maxCommands*200 {
			return nil, fmt.Errorf("read push: it has more than %d commands: %w", maxCommands, errBound)
		}
	}
}

func requestCut(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("read request: it is cut: %w", errRequest)
	}
	return err
}

func (p *pushRequest) addCommand(line []byte) error {
	first := p.caps == nil
	text, caps, found := bytes.Cut(line, []byte{0})
	if found != first {
		return fmt.Errorf("read push: the capabilities are not in its first line: %w", errRequest)
	}
	if first {
		if err := p.readCaps(string(caps)); err != nil {
			return err
		}
	}
	parts := bytes.SplitN(text, []byte(" "), 3)
	if len(parts) != 3 {
		return fmt.Errorf("read push: the command %q: %w", clip(text, 120), errRequest)
	}
	c := command{ref: string(parts[2])}
	var err error
	if c.old, err = p.format.parseID(parts[0]); err == nil {
		c.new, err = p.format.parseID(parts[1])
	}
	if err != nil {
		return fmt.Errorf("read push: %w", err)
	}
	if err := checkRef(c.ref); err != nil {
		return err
	}
	if c.old.zero() && c.new.zero() {
		return fmt.Errorf("read push: %s from nothing to nothing: %w", c.ref, errRequest)
	}
	if p.seen[c.ref] {
		return fmt.Errorf("read push: %s is there twice: %w", c.ref, errRequest)
	}
	p.seen[c.ref] = true
	p.commands = append(p.commands, c)
	p.wire = appendPkt(p.wire, line)
	return nil
}

func (p *pushRequest) readCaps(list string) error {
	p.caps = map[string]string{}
	for word := range strings.FieldsSeq(list) {
		key, value, _ := strings.Cut(word, "=")
		if !slices.Contains(pushCaps, key) {
			return fmt.Errorf("read push: the capability %q is not known here: %w", clip(key, 80), errRequest)
		}
		p.caps[key] = value
	}
	var err error
	p.format, err = formatOf(p.caps["object-format"])
	return err
}

// finish reads the options behind the commands.
func (p *pushRequest) finish(r *pktReader) (*pushRequest, error) {
	if p.caps == nil {
		if len(p.wire) > 0 {
			return nil, fmt.Errorf("read push: it has no command: %w", errRequest)
		}
		return nil, nil
	}
	p.wire = append(p.wire, flushPkt...)
	if !p.has("push-options") {
		return p, nil
	}
	for {
		sort, line, err := r.line()
		switch {
		case err != nil:
			return nil, requestCut(err)
		case sort == pktFlush:
			p.wire = append(p.wire, flushPkt...)
			return p, nil
		case sort != pktData || len(p.options) == maxOptions || bytes.ContainsAny(line, "\x00\n"):
			return nil, fmt.Errorf("read push: its options: %w", errRequest)
		}
		p.options = append(p.options, string(line))
		p.wire = appendPkt(p.wire, line)
	}
}

func (p *pushRequest) has(capability string) bool {
	_, ok := p.caps[capability]
	return ok
}

// carriesPack reports whether a pack follows: only deletions go without.
func (p *pushRequest) carriesPack() bool {
	return slices.ContainsFunc(p.commands, func(c command) bool { return !c.deletes() })
}
