package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// holdFor is how long a statement is held: a minute with CUSTOS_LONG, which is
// what proxies and drivers may lose their patience at; else as long as it takes.
func holdFor() time.Duration {
	if os.Getenv("CUSTOS_LONG") != "" {
		return time.Minute
	}
	return 0
}

// maxHolds is how often one client may be held. All of them for a minute each
// take longer than go test waits: with CUSTOS_LONG, give it -timeout 30m.
const maxHolds = 10

// reviewer has carol approve updates and deny deletions as they come, each
// after a hold, until the function that it returns is called. That returns how
// many she answered.
func (s *site) reviewer() (stop func() int) {
	done, ended := make(chan struct{}), make(chan int)
	go func() {
		answered := 0
		for {
			select {
			case <-done:
				ended <- answered
				return
			case <-time.After(20 * time.Millisecond):
			}
			var list []struct{ ID, Text string }
			if err := json.Unmarshal(s.custos("carol", "approval", "list", "--json"), &list); err != nil {
				s.t.Error(err)
			}
			for _, a := range list {
				time.Sleep(holdFor())
				if strings.HasPrefix(a.Text, "DELETE") {
					s.custos("carol", "approval", "deny", a.ID, "--reason", "no")
				} else {
					s.custos("carol", "approval", "approve", a.ID)
				}
				answered++
			}
		}
	}()
	return func() int {
		close(done)
		return <-ended
	}
}

const heldTable = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 9) i"

func (s *site) heldClient(t *testing.T, want string, answers int, name string, args ...string) {
	t.Helper()
	stop := s.reviewer()
	got := run(t, s.throughEnv(), name, args...)
	if n := stop(); n != answers {
		t.Errorf("%d were answered, want %d", n, answers)
	}
	if got != want {
		t.Errorf("it said:\n%s\nwant:\n%s", got, want)
	}
	s.stop(15)
	s.verify()
}

const denied = "42501 refused by rule ask-carol: a reviewer denied it: no"

// pgx is this test's own library: each of its ways is held, denied, and goes on.
func TestPgxIsHeld(t *testing.T) {
	s := newSiteOf(t, holding, func(s *site) { s.direct("orders", heldTable) })
	conn, err := pgx.Connect(t.Context(), s.dsn("ana"))
	if err != nil {
		t.Fatal(err)
	}
	stop := s.reviewer()
	tried := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol}
	for _, mode := range tried {
		if tag, err := conn.Exec(t.Context(), "UPDATE t SET n = n + $1 WHERE id = 1", mode, 1); err != nil || tag.String() != "UPDATE 1" {
			t.Errorf("%v: held and approved: %v, %v", mode, tag, err)
		}
		_, err := conn.Exec(t.Context(), "DELETE FROM t WHERE id = $1", mode, 2)
		if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code+" "+refused.Message != denied {
			t.Errorf("%v: held and denied: %v", mode, err)
		}
		var rows int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM t", mode).Scan(&rows); err != nil || rows != 9 {
			t.Errorf("%v: the connection after it: %d rows, %v", mode, rows, err)
		}
	}
	if n := stop(); n != 2*len(tried) {
		t.Errorf("%d were answered, want %d", n, 2*len(tried))
	}
	conn.Close(context.Background())
	s.stop(syscall.SIGTERM)
	s.verify()
}

func TestPsycopgIsHeld(t *testing.T) {
	need(t, "/usr/bin/python3", "-c", "import psycopg")
	s := newSiteOf(t, holding, func(s *site) { s.direct("orders", heldTable) })
	once := "UPDATE 1\n" + denied + "\n9\n"
	s.heldClient(t, once+once+"UPDATE 1 3\n", 5, "/usr/bin/python3", "testdata/held.py")
}

func TestJDBCIsHeld(t *testing.T) {
	const driver = "/usr/share/java/postgresql.jar"
	if _, err := os.Stat(driver); err != nil {
		t.Skip(driver + " is not there: .ci/install test installs it")
	}
	need(t, "javac", "-version")
	dir := t.TempDir()
	run(t, nil, "javac", "-cp", driver, "-d", dir, "testdata/Held.java")
	s := newSiteOf(t, holding, func(s *site) { s.direct("orders", heldTable) })
	once := "UPDATE 1\n" + denied + "\n9\n"
	// The driver's own SETs are held as well.
	s.heldClient(t, once+once+"UPDATE 1\n3\n", 7, "java", "-cp", dir+":"+driver, "Held")
}
