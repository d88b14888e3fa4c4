package postgres_test

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/protocol/postgres"
)

// shown renders the answers on record, one event a line.
func (g *gateway) shown(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, e := range g.Ledger.Entries() {
		if e.Settled == nil || len(e.Sealed) == 0 && e.Settled.Recording == nil {
			continue
		}
		var records io.Reader = bytes.NewReader(nil)
		if e.Settled.Recording == nil {
			records = bytes.NewReader(g.Open(t, e))
		} else {
			key, err := g.Recordings.Key(e.Session)
			if err != nil {
				t.Fatal(err)
			}
			file, err := key.OpenAnswer(e.Settled.Operation)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			records = file
		}
		err := postgres.Render(nil, records, func(e *custos.Event) error {
			e.At = 0
			b, err := json.Marshal(e)
			out.Write(append(bytes.TrimPrefix(b, []byte(`{"at_us":0,`)), '\n'))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestReplay(t *testing.T) {
	g := start(t)
	f := g.raw(t)
	f.send(&pgproto3.Query{String: "select 1 as a, null as b, 'ü' as c"})
	f.until('Z')
	f.send(&pgproto3.Parse{Query: "select true, 42::int8, 1.5::numeric, 'x'::text, '2024-02-29'::date, '2024-02-29 12:00:00+00'::timestamptz, " +
		"'{1,2}'::int[], '\\xbeef'::bytea, '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid, '{\"a\": 1}'::jsonb, null, point(1,2), '1 day'::interval"},
		&pgproto3.Bind{ResultFormatCodes: []int16{1}}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
	f.until('Z')
	f.send(&pgproto3.Query{String: "do $$begin raise notice 'heed'; end$$; copy (select 1, 'x') to stdout; select 1/0"})
	f.until('Z')
	f.close()
	g.Ledger.AwaitClosed(1)
	want := `"columns":["a","b","c"]}
"row":["1",null,"ü"]}
"tag":"SELECT 1"}
"columns":["?column?","int8","numeric","text","date","timestamptz","int4","bytea","uuid","jsonb","?column?","point","interval"]}
"row":["true","42","1.5","x","2024-02-29","2024-02-29 12:00:00Z","{1,2}","\\xbeef","6ba7b810-9dad-11d1-80b4-00c04fd430c8","{\"a\":1}",null,"(1,2)","1 day 00:00:00"]}
"tag":"SELECT 1"}
"notice":"NOTICE: heed"}
"tag":"DO"}
"text":"1\tx\n"}
"tag":"COPY 1"}
"error":"ERROR: division by zero (SQLSTATE 22012)"}
`
	if got := g.shown(t); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// A large answer is replayed from its file, row by row.
func TestReplayOfALargeAnswer(t *testing.T) {
	g := start(t)
	conn := g.connect(t, "default_query_exec_mode=simple_protocol")
	mustExec(t, conn, "select i, repeat('x', 100) from generate_series(1, 50000) i")
	e := g.Ledger.Await(func(e gatetest.Kept) bool { return e.Settled != nil })
	if e.Settled.Recording == nil || e.Settled.Rows != 50_000 {
		t.Fatalf("settled: %+v", e.Settled)
	}
	if got := g.shown(t); strings.Count(got, "\n") != 50_002 || !strings.HasSuffix(got, "\"tag\":\"SELECT 50000\"}\n") {
		t.Errorf("%d lines, the last ones %s", strings.Count(got, "\n"), got[len(got)-300:])
	}
}
