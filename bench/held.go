package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// holding is what the world of held statements has besides: a table, and rules.
const (
	holdTable = "CREATE TABLE held (id int PRIMARY KEY, n int); INSERT INTO held SELECT i, 0 FROM generate_series(1, 10000) i"
	holdRule  = `  - rule: ask
    when: operation.writes
    then: approve
    approvers: {groups: [audit], within: 1h}
`
)

// holds is what statements cost that wait for people, and how long it takes
// from an answer to the statement's end.
type holds struct {
	statements int
	bytes      int64           // by statement, besides its session
	filed      time.Duration   // until all were asked for
	wakes      []time.Duration // from the reviewer's request to the client's answer
	all        time.Duration   // to answer all, by so many hands at once
}

const reviewers = 16

// held has as many sessions as there is room for, up to 1,000, each hold a
// statement, and then has all of them approved.
func (b *bench) held(ctx context.Context, _ *world) error {
	n, err := b.affordable()
	if err != nil {
		return err
	}
	n = min(n, 1000)
	w, err := b.start(ctx, worldOptions{sessions: n + warm, settings: append([]string{"max_connections = " + strconv.Itoa(n+100)}, crowded...), environ: []string{sparing}, rules: holdRule})
	if err != nil {
		return err
	}
	defer w.close()
	h, err := w.hold(ctx, n)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, w.logs())
	}
	b.out.holds = append(b.out.holds, *h)
	say("%d held: %.1f KiB each, asked for in %v, answered in %v", n, float64(h.bytes)/1024, h.filed.Round(time.Millisecond), h.all.Round(time.Millisecond))
	return nil
}

func (w *world) hold(ctx context.Context, n int) (*holds, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	direct, err := w.path("direct").connect(ctx)
	if err != nil {
		return nil, err
	}
	defer direct.Close(ctx)
	if _, err := direct.Exec(ctx, holdTable).ReadAll(); err != nil {
		return nil, err
	}
	p := w.path("custos")
	client, err := p.reviewer(w.https, filepath.Join(w.dir, "custos-data", "tls", "ca.pem"))
	if err != nil {
		return nil, err
	}
	conns, err := p.connectAll(ctx, n)
	defer func() {
		for _, c := range conns {
			c.Conn().Close()
		}
	}()
	if err != nil {
		return nil, err
	}
	h := &holds{statements: n}
	before, err := settledMemory(ctx, p)
	if err != nil {
		return nil, err
	}
	ended := make([]time.Time, n+1)
	failed := make([]error, n+1)
	var running sync.WaitGroup
	begun := time.Now()
	for i, c := range conns {
		running.Go(func() {
			_, failed[i+1] = c.Exec(ctx, fmt.Sprintf("UPDATE held SET n = 1 WHERE id = %d", i+1)).ReadAll()
			ended[i+1] = time.Now()
		})
	}
	pending, err := client.pending(ctx, n)
	if err != nil {
		return nil, err
	}
	h.filed = time.Since(begun)
	after, err := settledMemory(ctx, p)
	if err != nil {
		return nil, err
	}
	h.bytes = (after - before) / int64(n)
	asked, err := client.approveAll(ctx, pending)
	if err != nil {
		return nil, err
	}
	running.Wait()
	first := time.Now()
	var last time.Time
	for id, at := range asked {
		if failed[id] != nil {
			return nil, fmt.Errorf("statement %d, which was approved: %w", id, failed[id])
		}
		h.wakes = append(h.wakes, ended[id].Sub(at))
		if at.Before(first) {
			first = at
		}
		if ended[id].After(last) {
			last = ended[id]
		}
	}
	h.all = last.Sub(first)
	slices.Sort(h.wakes)
	return h, nil
}

// connectAll opens n lines, a few at a time.
func (p *path) connectAll(ctx context.Context, n int) (all []*pgconn.PgConn, err error) {
	slots := make(chan struct{}, 8)
	var mu sync.Mutex
	var opening sync.WaitGroup
	for range n {
		opening.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			c, e := p.connect(ctx)
			mu.Lock()
			defer mu.Unlock()
			if e != nil {
				err = e
				return
			}
			all = append(all, c)
		})
	}
	opening.Wait()
	return all, err
}

// asker speaks to the API as a reviewer.
type asker struct {
	http       *http.Client
	url, token string
}

func (p *path) reviewer(address, ca string) (*asker, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &asker{&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}, "https://" + address, p.review}, nil
}

func (a *asker) ask(ctx context.Context, method, path, body string, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	resp, err := a.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	return err
}

// pending waits until n approvals are pending, and returns their ids by the
// row that each is about.
func (a *asker) pending(ctx context.Context, n int) (map[int]string, error) {
	for {
		var page struct{ Items []struct{ ID, Text string } }
		if err := a.ask(ctx, "GET", "/api/v1/approvals?state=pending", "", &page); err != nil {
			return nil, err
		}
		if len(page.Items) == n {
			ids := map[int]string{}
			for _, i := range page.Items {
				row, err := strconv.Atoi(i.Text[strings.LastIndexByte(i.Text, ' ')+1:])
				if err != nil {
					return nil, fmt.Errorf("read approval of %q: %w", i.Text, err)
				}
				ids[row] = i.ID
			}
			return ids, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %d approvals: there are %d", n, len(page.Items))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// approveAll approves all, and returns when each was asked for.
func (a *asker) approveAll(ctx context.Context, ids map[int]string) (map[int]time.Time, error) {
	asked := map[int]time.Time{}
	var mu sync.Mutex
	var failed error
	var all sync.WaitGroup
	slots := make(chan struct{}, reviewers)
	for row, id := range ids {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			at := time.Now()
			err := a.ask(ctx, "POST", "/api/v1/approvals/"+id+"/approve", "{}", nil)
			mu.Lock()
			defer mu.Unlock()
			if asked[row] = at; err != nil {
				failed = err
			}
		})
	}
	all.Wait()
	return asked, failed
}

// holding reports what was held.
func (r *report) holding(s *strings.Builder) {
	fmt.Fprintf(s, "\nStatements that wait for people, approved by %d reviewers at once (custos with %s):\n", reviewers, sparing)
	s.WriteString("\n| held at once | KiB each, besides the session | until all were asked for | from a yes to the answer: median | of 99 in 100 | all answered in |\n|---|---|---|---|---|---|\n")
	for _, h := range r.holds {
		fmt.Fprintf(s, "| %d | %.1f | %v | %v | %v | %v |\n", h.statements, float64(h.bytes)/1024, h.filed.Round(time.Millisecond),
			median(h.wakes).Round(100*time.Microsecond), h.wakes[len(h.wakes)*99/100].Round(100*time.Microsecond), h.all.Round(time.Millisecond))
	}
}
