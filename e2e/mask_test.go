package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// veiled is a connection on which nothing is refused, and much is hidden.
const veiled = `  - name: veiled
    protocol: postgres
    address: TARGET
    database: veiled
    tls: disable
    labels: {env: prod}
    columns: [{match: ["*.people.nickname"], tags: [pii]}]
    credential: {username: USER, password: {file: orders.password}}
    access: [{groups: [dba]}]
policies:
  - rule: hide
    connections: {name: veiled}
    mask:
      - {columns: ["*.people.email"], with: partial}
      - {columns: ["*.people.ssn"], with: redact}
      - {columns: ["*.people.phone"], with: "null"}
      - {columns: ["*.people.token"], with: hash}
      - {columns: ["*.people.tags", "*.people.doc", "*.people.home", "*.people.salary"], with: redact}
      - {tags: [pii], with: redact}
      - {results: ["secret*"], with: redact}
      - {detect: [credit_card, email], with: redact}
`

const people = `
CREATE TYPE address AS (street text, zip text);
CREATE TABLE people (id int PRIMARY KEY, name text, email text UNIQUE, ssn text CHECK (length(ssn) = 11), phone text, token text, tags text[], doc jsonb,
  home address, salary int, nickname text, hobby text, free text, data jsonb, blob bytea, number bigint, amount numeric);
COMMENT ON COLUMN people.hobby IS E'What they do.\ntags: pii';
INSERT INTO people SELECT i, 'Name' || i, 'hidden' || i || '@mail.example', '987-65-' || lpad(i::text, 4, '0'), '+4930' || (1000000 + i), 'HIDDENTOKEN' || i,
  ARRAY['HIDDENTAG' || i], jsonb_build_object('k', 'HIDDENDOC' || i), ROW('HIDDENSTREET' || i, '1')::address, 770000 + i, 'HIDDENNICK' || i, 'HIDDENHOBBY' || i,
  'call hidden' || i || '@free.example or pay 4111 1111 1111 1111', jsonb_build_object('card', '5500005555555559', 'n', 5500005555555559, 'ok', 'visible'),
  convert_to('x hidden' || i || '@blob.example', 'UTF8'), 4111111111111111, 4111111111111111
FROM generate_series(1, 5) i;
CREATE VIEW contacts AS SELECT id, email, upper(ssn) AS number FROM people;
CREATE VIEW mirrored AS SELECT id, reverse(email) AS email, email AS plain FROM people;
CREATE MATERIALIZED VIEW saved AS SELECT id, email FROM people;
CREATE TABLE events (id int, at date, email text) PARTITION BY RANGE (at);
CREATE FUNCTION loud(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'heard %', $1; RETURN $1; END $$;
`

// leaks are what must not come back in any form.
var leaks = []string{"hidden1@", "hidden2@", "987-65-", "+4930100", "HIDDEN", "770001", "4111 1111", "4111111111111111", "5500005555555559", "hidden1@free", "@blob.example",
	"78696464656e31", "6869646465", "1neddih", "2neddih"}

// TestMasks asks for what is hidden by everything that PostgreSQL has to bring
// it out, in each of a client's ways, and reads every byte that comes back.
func TestMasks(t *testing.T) {
	s := newSiteOf(t, veiled, func(s *site) {
		s.direct("postgres", "CREATE DATABASE veiled")
		s.direct("veiled", people)
	})
	for _, mode := range modes {
		t.Run(strings.ReplaceAll(mode.String(), " ", "-"), func(t *testing.T) { s.ask(t, mode) })
	}
	t.Run("undescribed", s.undescribed)
	t.Run("copy", s.copies)
	t.Run("visible", s.visible)
	s.verify()
}

// overhear connects to veiled and keeps every byte that comes back.
func (s *site) overhear(t *testing.T, mode pgx.QueryExecMode) (*pgx.Conn, *bytes.Buffer) {
	t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%s user=any dbname=veiled sslmode=verify-full sslrootcert=%s password=%s",
		s.port, filepath.Join(s.data(), "tls", "ca.pem"), s.provider.Mint("ana")))
	if err != nil {
		t.Fatal(err)
	}
	heard := new(bytes.Buffer)
	config.DefaultQueryExecMode = mode
	config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, c net.Conn) (net.Conn, error) {
		return &listener{c, heard}, nil
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn, heard
}

func (s *site) ask(t *testing.T, mode pgx.QueryExecMode) {
	conn, heard := s.overhear(t, mode)
	for _, sql := range []string{
		"SELECT * FROM people", "TABLE people", "SELECT email, ssn, phone, token, tags, doc, home, salary, nickname, hobby FROM people",
		"SELECT p FROM people p", "SELECT (p).email FROM people p", "SELECT (home).street FROM people", "SELECT tags[1] FROM people", "SELECT doc->>'k' FROM people",
		"SELECT salary + 0 FROM people", "SELECT salary::text FROM people", "SELECT array_agg(email) FROM people", "SELECT json_agg(p) FROM people p",
		"SELECT to_jsonb(p) FROM people p", "SELECT * FROM contacts", "SELECT * FROM mirrored", "SELECT email FROM saved", "SELECT free, data, blob, number, amount FROM people",
		"SELECT name AS secret_name, 'HIDDEN' || 'X' AS secret FROM people", "SELECT max(email), min(ssn) FROM people", "SELECT reverse(email) FROM people",
		"WITH x AS (SELECT email FROM people) SELECT * FROM x", "SELECT * FROM people p1 JOIN people p2 USING (id)", "SELECT DISTINCT ON (id) email FROM people",
		"SELECT email FROM people UNION SELECT ssn FROM people", "SELECT unnest(tags) FROM people", "SELECT ARRAY['visible', '4111111111111111', 'hidden1@mail.example']", "SELECT ROW(1, 'hidden1@mail.example')", "SELECT x FROM people, jsonb_each_text(doc) x",
		"SELECT email::int FROM people", "SELECT 1 / (CASE WHEN email LIKE 'h%' THEN 0 ELSE 1 END) FROM people",
		"INSERT INTO people (id, email, ssn) VALUES (100, 'hidden1@mail.example', '987-65-0001')", "INSERT INTO people (id, ssn) VALUES (101, '987-65-000')",
		"UPDATE people SET name = 'x' WHERE id = 1 RETURNING email, ssn", "SELECT loud(email) FROM people", "SELECT loud('call hidden1@mail.example')",
		"SELECT email FROM people WHERE email = 'hidden1@mail.example' AND email::int = 1",
		"LISTEN c", "SELECT pg_notify('c', 'to hidden1@mail.example')", "SELECT 1", "UNLISTEN c",
		"EXPLAIN (ANALYZE, VERBOSE) SELECT email FROM people WHERE id = 1", "CREATE TABLE IF NOT EXISTS copied_people AS SELECT id FROM people",
		"CREATE OR REPLACE VIEW fresh AS SELECT email AS other FROM people", "SELECT other FROM fresh", "DROP VIEW fresh",
		"SELECT string_agg(email, ',') OVER () FROM people", "SELECT xmlforest(email) FROM people", "SELECT encode(email::bytea, 'hex') FROM people",
	} {
		heard.Reset()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		rows, err := conn.Query(ctx, sql)
		n := 0
		if err == nil {
			for rows.Next() {
				n++
			}
			rows.Close()
			err = rows.Err()
		}
		cancel()
		for _, leak := range leaks {
			if bytes.Contains(heard.Bytes(), []byte(leak)) {
				t.Errorf("%s: %q came back (%d rows, %v)", sql, leak, n, err)
				break
			}
		}
		if conn.IsClosed() {
			t.Fatalf("%s: the session ended: %v", sql, err)
		}
		if strings.HasPrefix(sql, "SELECT * FROM people") && n == 0 {
			t.Errorf("%s: no rows: %v", sql, err)
		}
	}
}

// copies copies what is hidden out in every form.
func (s *site) copies(t *testing.T) {
	conn, heard := s.overhear(t, pgx.QueryExecModeSimpleProtocol)
	for _, sql := range []string{
		"COPY people TO STDOUT", "COPY people TO STDOUT (FORMAT csv)", "COPY people TO STDOUT (FORMAT csv, HEADER, DELIMITER ';', QUOTE '''', FORCE_QUOTE *)",
		"COPY people TO STDOUT (FORMAT binary)", "COPY people (id, email) TO STDOUT (DELIMITER '|', NULL 'none')", "COPY (SELECT upper(email), id FROM people) TO STDOUT",
		"COPY (SELECT p FROM people p) TO STDOUT", "COPY (SELECT id, free FROM people) TO STDOUT (FORMAT binary)", "COPY people TO STDOUT (ENCODING 'LATIN1')",
		"COPY (SELECT json_agg(p) FROM people p) TO STDOUT (FORMAT csv)",
	} {
		heard.Reset()
		var out bytes.Buffer
		_, err := conn.PgConn().CopyTo(t.Context(), &out, sql)
		for _, leak := range leaks {
			if bytes.Contains(heard.Bytes(), []byte(leak)) {
				t.Errorf("%s: %q came back", sql, leak)
			}
		}
		if err != nil || out.Len() == 0 {
			t.Errorf("%s: %d bytes, %v", sql, out.Len(), err)
		}
	}
}

// visible shows that no more is hidden than should be, and in which ways.
func (s *site) visible(t *testing.T) {
	for _, mode := range modes {
		conn, _ := s.overhear(t, mode)
		for sql, want := range map[string]string{
			"SELECT id, name FROM people WHERE id = 2":                                                      "2 Name2",
			"SELECT email, ssn, phone, salary FROM people WHERE id = 2":                                     "h***@mail.example ***MASKED*** <nil> <nil>",
			"SELECT email, plain FROM mirrored WHERE id = 2":                                                "***MASKED*** h***@mail.example",
			"SELECT count(*), count(email) FROM people WHERE id < 6":                                        "5 5",
			"SELECT id::text || name FROM people WHERE id = 3":                                              "3Name3",
			"SELECT data->>'ok' FROM people WHERE id = 1":                                                   "visible",
			"SELECT relname FROM pg_class WHERE relname = 'people'":                                         "people",
			"SELECT token = token, (SELECT count(DISTINCT token) FROM people) > 4 FROM people WHERE id = 1": "<nil> true",
		} {
			rows, err := conn.Query(t.Context(), sql)
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			var got []string
			for rows.Next() {
				values, err := rows.Values()
				if err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
				for _, v := range values {
					got = append(got, fmt.Sprint(v))
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %s: got %q, want %q", mode, sql, got, want)
			}
		}
		// Equal values stay equal, others stay different.
		rows, err := conn.Query(t.Context(), "SELECT a.token, b.token FROM people a JOIN people b ON b.id IN (a.id, a.id + 1) WHERE a.id = 1 ORDER BY b.id")
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
			var a, b string
			err := r.Scan(&a, &b)
			return a + " " + b, err
		})
		if err != nil || len(tokens) != 2 {
			t.Fatalf("%q, %v", tokens, err)
		}
		if first, second := strings.Fields(tokens[0]), strings.Fields(tokens[1]); first[0] != first[1] || second[0] == second[1] || !slices.Equal(first[:1], second[:1]) || !strings.HasPrefix(first[0], "tok_") {
			t.Errorf("%s: tokens %q", mode, tokens)
		}
	}
}

// undescribed runs statements without ever asking what they answer with, in
// both formats, in pieces, by a name, and in pipelines.
func (s *site) undescribed(t *testing.T) {
	conn, heard := s.overhear(t, pgx.QueryExecModeExec)
	f := conn.PgConn().Frontend()
	for _, sql := range []string{
		"SELECT * FROM people", "SELECT email, ssn, salary, doc, tags FROM people", "SELECT p FROM people p", "SELECT to_jsonb(p) FROM people p",
		"SELECT free, data, blob, number, amount FROM people", "SELECT * FROM mirrored", "SELECT loud(email) FROM people", "TABLE contacts",
		"WITH x AS (UPDATE people SET name = name WHERE id < 4 RETURNING *) SELECT * FROM x", "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM people", "FETCH 3 FROM c", "CLOSE c",
	} {
		for _, formats := range [][]int16{nil, {0}, {1}} {
			heard.Reset()
			f.SendParse(&pgproto3.Parse{Name: "named", Query: sql})
			f.SendBind(&pgproto3.Bind{PreparedStatement: "named", DestinationPortal: "p", ResultFormatCodes: formats})
			f.SendExecute(&pgproto3.Execute{Portal: "p", MaxRows: 2})
			f.SendExecute(&pgproto3.Execute{Portal: "p", MaxRows: 1})
			f.SendExecute(&pgproto3.Execute{Portal: "p"})
			f.SendClose(&pgproto3.Close{ObjectType: 'S', Name: "named"})
			f.SendParse(&pgproto3.Parse{Query: "SELECT email FROM people"})
			f.SendBind(&pgproto3.Bind{ResultFormatCodes: formats})
			f.SendExecute(&pgproto3.Execute{})
			f.SendSync(&pgproto3.Sync{})
			if err := f.Flush(); err != nil {
				t.Fatal(err)
			}
			rows := 0
			for done := false; !done; {
				m, err := f.Receive()
				if err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
				switch m.(type) {
				case *pgproto3.DataRow:
					rows++
				case *pgproto3.ReadyForQuery:
					done = true
				}
			}
			for _, leak := range leaks {
				if bytes.Contains(heard.Bytes(), []byte(leak)) {
					t.Errorf("%s in formats %v: %q came back", sql, formats, leak)
					break
				}
			}
			if strings.HasPrefix(sql, "SELECT *") && rows < 10 {
				t.Errorf("%s in formats %v: %d rows", sql, formats, rows)
			}
		}
	}
}

// TestCatalogUnreadable has a target that lets the gateway in once only: where
// rules would have to judge without the catalogue, nothing is let through.
func TestCatalogUnreadable(t *testing.T) {
	s := newSiteOf(t, strings.ReplaceAll(veiled, "USER", "limited"), func(s *site) {
		s.direct("postgres", "CREATE DATABASE veiled; CREATE ROLE limited LOGIN CONNECTION LIMIT 1 PASSWORD '"+s.target.Password+"'")
		s.direct("veiled", people+"; GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited")
	})
	conn, heard := s.overhear(t, pgx.QueryExecModeSimpleProtocol)
	for _, sql := range []string{"SELECT email FROM people", "SELECT id FROM people WHERE email LIKE 'h%'", "SELECT 1"} {
		heard.Reset()
		_, err := conn.Exec(t.Context(), sql)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57P03" || !strings.Contains(e.Detail, "postgres/catalogue") {
			t.Errorf("%s: %v", sql, err)
		}
		if bytes.Contains(heard.Bytes(), []byte("hidden")) {
			t.Errorf("%s: something came back", sql)
		}
	}
}
