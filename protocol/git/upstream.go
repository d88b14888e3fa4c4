package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Bounds of what is read from an upstream to judge one push, in bytes.
const (
	maxAdvert  = 64 << 20
	maxLookup  = 512 << 20
	wantsAtOne = 20_000 // ids asked for at once
)

// upstream reads of a repository what a push has to be judged by: its refs, and
// objects that the push builds on. It speaks protocol version 2 (gitprotocol-v2(5))
// and only ever asks git-upload-pack, which changes nothing.
type upstream struct {
	rt     http.RoundTripper
	url    string // of the repository, without a slash at its end
	dir    string // for spools
	agent  string
	format *format
	filter bool // it leaves out what is not asked for
	unborn bool
	asked  bool
}

// ref is one of the upstream's.
type ref struct {
	name string
	id   id
}

// errUpstream is the cause where the upstream cannot say what a push needs.
var errUpstream = errors.New("the upstream does not say")

func (u *upstream) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, u.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask upstream: %w", err)
	}
	r.Header.Set("Git-Protocol", "version=2")
	r.Header.Set("User-Agent", u.agent)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		r.Header.Set("Accept", "application/x-git-upload-pack-result")
	}
	resp, err := u.rt.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask upstream: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("ask upstream: it answers %s to %s: %w", resp.Status, path, errUpstream)
	}
	return resp, nil
}

// greet asks what the upstream can do.
func (u *upstream) greet(ctx context.Context) error {
	if u.asked {
		return nil
	}
	resp, err := u.do(ctx, http.MethodGet, "/info/refs?service=git-upload-pack", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	r := newPktReader(io.LimitReader(resp.Body, maxAdvert))
	u.format = formatSHA1
	two := false
	for flushes := 0; ; {
		sort, line, err := r.line()
		if err != nil {
			return fmt.Errorf("ask upstream what it can do: %w", err)
		}
		text := string(line)
		key, value, _ := strings.Cut(text, "=")
		switch {
		case sort == pktFlush:
			if flushes++; two || flushes == 2 {
				if !two {
					return fmt.Errorf("ask upstream what it can do: it has no protocol version 2: %w", errUpstream)
				}
				u.asked = true
				return nil
			}
		case text == "version 2":
			two = true
		case key == "fetch":
			u.filter = strings.Contains(" "+value+" ", " filter ")
		case key == "ls-refs":
			u.unborn = strings.Contains(value, "unborn")
		case key == "object-format":
			if u.format, err = formatOf(value); err != nil {
				return err
			}
		}
	}
}

// command begins a request of version 2.
func (u *upstream) command(name string) []byte {
	b := appendPkt(nil, "command="+name+"\n")
	b = appendPkt(b, "agent="+u.agent+"\n")
	b = appendPkt(b, "object-format="+u.format.name+"\n")
	return append(b, delimPkt...)
}

// refs lists the upstream's refs, and which of them is the default branch.
func (u *upstream) refs(ctx context.Context) (all []ref, head string, err error) {
	if err := u.greet(ctx); err != nil {
		return nil, "", err
	}
	b := appendPkt(u.command("ls-refs"), "symrefs\n")
	if u.unborn {
		b = appendPkt(b, "unborn\n")
	}
	resp, err := u.do(ctx, http.MethodPost, "/git-upload-pack", append(b, flushPkt...))
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	r := newPktReader(io.LimitReader(resp.Body, maxAdvert))
	for {
		sort, line, err := r.line()
		if err != nil {
			return nil, "", fmt.Errorf("list upstream's refs: %w", err)
		}
		if sort == pktFlush {
			return all, head, nil
		}
		words := strings.Fields(string(line))
		if sort != pktData || len(words) < 2 {
			return nil, "", fmt.Errorf("list upstream's refs: the line %q: %w", clip(line, 120), errUpstream)
		}
		for _, w := range words[2:] {
			if target, ok := strings.CutPrefix(w, "symref-target:"); ok && words[1] == "HEAD" {
				head = target
			}
		}
		if words[0] == "unborn" || words[1] == "HEAD" {
			continue
		}
		i, err := u.format.parseID([]byte(words[0]))
		if err != nil {
			return nil, "", err
		}
		all = append(all, ref{words[1], i})
	}
}

// lookup says what to get of the upstream.
type lookup struct {
	want []id
	have []id
	// filter leaves out what is not wanted itself, such as "tree:0".
	filter string
	// shallow leaves out the history before what is wanted.
	shallow bool
}

// get gets objects. What the upstream does not have is an error.
func (u *upstream) get(ctx context.Context, l lookup) (*pack, error) {
	if err := u.greet(ctx); err != nil {
		return nil, err
	}
	b := u.command("fetch")
	b = appendPkt(b, "ofs-delta\n")
	b = appendPkt(b, "no-progress\n")
	for _, i := range l.want {
		b = appendPkt(b, "want "+i.String()+"\n")
	}
	for _, i := range l.have {
		b = appendPkt(b, "have "+i.String()+"\n")
	}
	if l.shallow {
		b = appendPkt(b, "deepen 1\n")
	}
	if l.filter != "" && u.filter {
		b = appendPkt(b, "filter "+l.filter+"\n")
	}
	b = appendPkt(b, "done\n")
	resp, err := u.do(ctx, http.MethodPost, "/git-upload-pack", append(b, flushPkt...))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := newPktReader(io.LimitReader(resp.Body, maxLookup))
	for {
		sort, line, err := r.line()
		if err != nil {
			return nil, fmt.Errorf("get objects of the upstream: %w: %w", err, errUpstream)
		}
		if text, ok := strings.CutPrefix(string(line), "ERR "); ok {
			return nil, fmt.Errorf("get objects of the upstream: it says %q: %w", clip(text, 200), errUpstream)
		}
		if sort == pktData && string(line) == "packfile" {
			break
		}
	}
	limits := standardLimits
	limits.Pack = maxLookup
	p, _, err := readPack(ctx, &bandReader{r: r}, u.format, u.dir, &limits, nil)
	if err != nil {
		return nil, fmt.Errorf("get objects of the upstream: %w", err)
	}
	if err := p.resolve(ctx, nil); err != nil {
		p.Close()
		return nil, fmt.Errorf("get objects of the upstream: %w", err)
	}
	return p, nil
}

// bandReader reads what is in the band of data.
type bandReader struct {
	r    *pktReader
	left []byte
}

func (b *bandReader) Read(out []byte) (int, error) {
	for len(b.left) == 0 {
		sort, data, err := b.r.next()
		switch {
		case err != nil:
			return 0, err
		case sort != pktData:
			return 0, io.EOF
		case len(data) == 0:
			continue
		case data[0] == bandData:
			b.left = data[1:]
		case data[0] == bandError:
			return 0, fmt.Errorf("the upstream says %q: %w", clip(data[1:], 200), errUpstream)
		}
	}
	n := copy(out, b.left)
	b.left = b.left[n:]
	return n, nil
}
