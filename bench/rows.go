package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// million is how many accounts the target has, at about 100 bytes each.
const million = 1_000_000

// answer is one way to ask for 1M rows.
type answer struct {
	name string
	ask  func(context.Context, *pgconn.PgConn) (rows int64, err error)
	// connection is custos's connection to the same database that is asked,
	// where it is another than the others'.
	connection string
	took       map[string][]time.Duration // by path, one a round
}

// ratios are how fast an answer came by a path, over direct, by round.
func (a *answer) ratios(name string) []float64 {
	var r []float64
	for i, d := range a.took[name] {
		r = append(r, float64(a.took["direct"][i])/float64(d))
	}
	return r
}

func copyOut(ctx context.Context, c *pgconn.PgConn) (int64, error) {
	tag, err := c.CopyTo(ctx, io.Discard, "COPY pgbench_accounts TO STDOUT")
	return tag.RowsAffected(), err
}

func selectAll(ctx context.Context, c *pgconn.PgConn) (int64, error) {
	return all(ctx, c, "SELECT * FROM pgbench_accounts")
}

func selectPeople(ctx context.Context, c *pgconn.PgConn) (int64, error) {
	return all(ctx, c, "SELECT * FROM people")
}

func all(ctx context.Context, c *pgconn.PgConn, sql string) (int64, error) {
	r := c.ExecParams(ctx, sql, nil, nil, nil, nil)
	var n int64
	for r.NextRow() {
		n++
	}
	_, err := r.Close()
	return n, err
}

// rows asks for 1M rows by every path, and drops them as they come.
func (b *bench) rows(ctx context.Context, w *world) error {
	b.out.answers = []*answer{
		{name: "1M rows by SELECT", ask: selectAll}, {name: "1M rows by COPY", ask: copyOut},
		{name: "1M rows, two columns masked", ask: selectPeople, connection: maskedConnection},
		{name: "1M rows, all values looked through", ask: selectPeople, connection: scannedConnection},
	}
	for _, a := range b.out.answers {
		a.took = map[string][]time.Duration{}
	}
	for range b.sweeps {
		for _, a := range b.out.answers {
			for _, p := range w.paths {
				took, err := a.time(ctx, p)
				if err != nil {
					return fmt.Errorf("%s by %s: %w", a.name, p.name, err)
				}
				a.took[p.name] = append(a.took[p.name], took)
			}
		}
	}
	return nil
}

func (a *answer) time(ctx context.Context, p *path) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	to := *p
	if a.connection != "" && p.name == "custos" {
		to.connection = a.connection
	}
	c, err := to.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close(ctx)
	begun := time.Now()
	n, err := a.ask(ctx, c)
	if err == nil && n != million {
		err = fmt.Errorf("%d rows came", n)
	}
	return time.Since(begun), err
}
