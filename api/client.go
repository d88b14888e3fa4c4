package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/custos-gateway/custos/store"
)

// Client asks a gateway. It is safe for concurrent use.
type Client struct {
	// URL is the gateway's, such as https://gw:8443.
	URL string
	// HTTP makes the requests. It must not follow redirects, so that the
	// token goes to no other server.
	HTTP *http.Client
	// Token gives a token whenever one is needed.
	Token func(context.Context) (string, error)
	// SkillDigest is what the folder is of the skill that asks, if one does.
	SkillDigest string
}

// maxAnswer bounds, in bytes, an answer that is read whole, and one line of a
// stream.
const maxAnswer = 64 << 20

// do makes a request whose answer is good; the caller closes its body.
func (c *Client) do(ctx context.Context, method, path string, query url.Values) (*http.Response, error) {
	return c.send(ctx, method, path, query, nil)
}

// send makes a request with a body.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	u := strings.TrimSuffix(c.URL, "/") + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("ask gateway: %w", err)
	}
	token, err := c.Token(ctx)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if c.SkillDigest != "" {
		r.Header.Set("Custos-Skill-Digest", c.SkillDigest)
	}
	resp, err := c.HTTP.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask gateway: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	p := problem(resp.StatusCode, "")
	if b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)); err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		json.Unmarshal(b, p) // what is not JSON leaves the status
	}
	return nil, fmt.Errorf("ask gateway: %w", p)
}

func (c *Client) get(ctx context.Context, path string, query url.Values, v any) error {
	resp, err := c.do(ctx, http.MethodGet, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("read gateway's answer: %w", err)
	}
	return nil
}

// post sends a value and reads another.
func (c *Client) post(ctx context.Context, path string, body, v any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("ask gateway: %w", err)
	}
	resp, err := c.send(ctx, http.MethodPost, path, nil, bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("read gateway's answer: %w", err)
	}
	return nil
}

// WhoAmI asks who the gateway takes the token's bearer for.
func (c *Client) WhoAmI(ctx context.Context) (*WhoAmI, error) {
	w := new(WhoAmI)
	return w, c.get(ctx, "/api/v1/whoami", nil, w)
}

// pages goes through pages of a list until it ends or limit is reached; 0 is
// no limit.
func pages[T any](ctx context.Context, c *Client, path string, query url.Values, limit int) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		query := cloned(query)
		for n := 0; ; {
			var page Page[T]
			if limit > 0 {
				query.Set("limit", strconv.Itoa(min(limit-n, maxPage)))
			}
			if err := c.get(ctx, path, query, &page); err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Items {
				if n++; !yield(&page.Items[i], nil) || n == limit {
					return
				}
			}
			if page.Next == "" {
				return
			}
			query.Set("cursor", page.Next)
		}
	}
}

func cloned(v url.Values) url.Values {
	c := url.Values{}
	for k, s := range v {
		c[k] = s
	}
	return c
}

// Sessions lists sessions, newest first.
func (c *Client) Sessions(ctx context.Context, query url.Values, limit int) iter.Seq2[*store.Session, error] {
	return pages[store.Session](ctx, c, "/api/v1/sessions", query, limit)
}

// Session returns one session.
func (c *Client) Session(ctx context.Context, id string) (*store.Session, error) {
	s := new(store.Session)
	return s, c.get(ctx, "/api/v1/sessions/"+url.PathEscape(id), nil, s)
}

// Operations lists a session's operations, in order.
func (c *Client) Operations(ctx context.Context, id string) iter.Seq2[*store.Operation, error] {
	return pages[store.Operation](ctx, c, "/api/v1/sessions/"+url.PathEscape(id)+"/operations", nil, 0)
}

// Search lists the operations that match query["q"], newest first.
func (c *Client) Search(ctx context.Context, query url.Values, limit int) iter.Seq2[*store.Operation, error] {
	return pages[store.Operation](ctx, c, "/api/v1/search", query, limit)
}

// Replay gives a session with its answers; the session is on record as
// viewed.
func (c *Client) Replay(ctx context.Context, id string) iter.Seq2[*Line, error] {
	return c.lines(ctx, "/api/v1/sessions/"+url.PathEscape(id)+"/replay", nil)
}

// Tail follows an open session from now on, until it ends; the session is on
// record as viewed.
func (c *Client) Tail(ctx context.Context, id string) iter.Seq2[*Line, error] {
	return c.lines(ctx, "/api/v1/sessions/"+url.PathEscape(id)+"/tail", nil)
}

// Stop ends an open session.
func (c *Client) Stop(ctx context.Context, id string) error {
	resp, err := c.do(ctx, http.MethodPost, "/api/v1/sessions/"+url.PathEscape(id)+"/stop", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// errCutOff is what a stream without its end fails with.
var errCutOff = errors.New("read gateway's answer: it was cut off; run the command again")

// lines reads a stream of JSON lines to its end.
func (c *Client) lines(ctx context.Context, path string, query url.Values) iter.Seq2[*Line, error] {
	return func(yield func(*Line, error) bool) {
		resp, err := c.do(ctx, http.MethodGet, path, query)
		if err != nil {
			yield(nil, err)
			return
		}
		defer resp.Body.Close()
		scanner := bufio.NewScanner(resp.Body)
		scanner.Buffer(make([]byte, 64<<10), maxAnswer)
		for scanner.Scan() {
			l := new(Line)
			if err := json.Unmarshal(scanner.Bytes(), l); err != nil {
				yield(nil, fmt.Errorf("read gateway's answer: %w", err))
				return
			}
			if l.End != nil && l.End.Error != "" {
				yield(nil, fmt.Errorf("the gateway could not go on: %s", l.End.Error))
				return
			}
			if !yield(l, nil) || l.End != nil {
				return
			}
		}
		err = scanner.Err()
		if err == nil {
			err = errCutOff
		}
		yield(nil, err)
	}
}

// Raw fetches a path's bytes, such as a tile's or an evidence bundle's, into
// w.
func (c *Client) Raw(ctx context.Context, w io.Writer, path string, query url.Values) error {
	resp, err := c.do(ctx, http.MethodGet, path, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read gateway's answer: %w", err)
	}
	return nil
}

// Checkpoint returns the ledger's latest signed checkpoint with its
// cosignatures.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	var b strings.Builder
	err := c.Raw(ctx, &b, "/api/v1/ledger/checkpoint", nil)
	return []byte(b.String()), err
}

// Prove returns the proof that an entry is in the ledger.
func (c *Client) Prove(ctx context.Context, entry uint64) (*Proof, error) {
	p := new(Proof)
	return p, c.get(ctx, "/api/v1/ledger/prove", url.Values{"entry": {strconv.FormatUint(entry, 10)}}, p)
}
