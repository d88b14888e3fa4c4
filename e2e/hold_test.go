package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// holding holds what changes the target, for carol to answer.
const holding = `policies:
  - rule: ask-carol
    when: operation.writes && !("transaction" in operation.effects)
    then: approve
    approvers: {groups: [audit], count: 1, within: 5m}
`

// custos runs the program as a person, who must be let.
func (s *site) custos(who string, args ...string) []byte {
	s.t.Helper()
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "CUSTOS_URL=https://"+s.https, "CUSTOS_CA="+filepath.Join(s.data(), "tls", "ca.pem"), "CUSTOS_TOKEN="+s.provider.Mint(who))
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		s.t.Fatalf("custos %s: %v: %s", strings.Join(args, " "), err, exit.Stderr)
	} else if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// pending waits until n approvals are pending, and returns their ids.
func (s *site) pending(n int) []string {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var list []struct{ ID string }
		if err := json.Unmarshal(s.custos("carol", "approval", "list", "--json"), &list); err != nil {
			s.t.Fatal(err)
		}
		if len(list) == n {
			var ids []string
			for _, a := range list {
				ids = append(ids, a.ID)
			}
			return ids
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d approvals are pending, want %d", len(list), n)
		}
	}
}

// TestHeldByEveryMode has a client's statement held, approved and denied, in
// each of its ways to run one, inside and outside of a transaction: it is
// answered as if it had only taken long, and the connection goes on.
func TestHeldByEveryMode(t *testing.T) {
	s := newSiteOf(t, holding, func(s *site) {
		s.direct("orders", "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 9) i")
	})
	for i, mode := range modes {
		t.Run(strings.ReplaceAll(mode.String(), " ", "-"), func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), s.dsn("ana"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			run := func() (pgconn.CommandTag, error) {
				return conn.Exec(t.Context(), "UPDATE t SET n = n + $2 WHERE id = $1", mode, i+1, 10)
			}
			answered := make(chan error, 1)
			answer := func(word ...string) {
				go func() {
					s.custos("carol", append([]string{"approval", word[0], s.pending(1)[0]}, word[1:]...)...)
					answered <- nil
				}()
			}
			answer("approve")
			if tag, err := run(); err != nil || tag.RowsAffected() != 1 {
				t.Fatalf("approved: %v, %v", tag, err)
			}
			<-answered
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			answer("deny", "--reason", "no")
			_, err = run()
			<-answered
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42501" || !strings.Contains(e.Message, "a reviewer denied it: no") || conn.PgConn().TxStatus() != 'E' {
				t.Errorf("denied: %v, status %c", err, conn.PgConn().TxStatus())
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			// The client gives up.
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				s.pending(1)
				conn.PgConn().CancelRequest(t.Context())
				answered <- nil
			}()
			_, err = conn.Exec(ctx, "DELETE FROM t WHERE id = $1", mode, i+1)
			<-answered
			cancel()
			if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "57014" {
				t.Errorf("given up: %v", err)
			}
			var n int
			if err := conn.QueryRow(t.Context(), "SELECT n FROM t WHERE id = $1", mode, i+1).Scan(&n); err != nil || n != 10 {
				t.Errorf("%d, %v", n, err)
			}
		})
	}
	s.pending(0)
	s.verify()
}

// TestCrashWhileHeld kills the gateway while a statement waits: it never runs,
// the record says so, and who runs it again within the approval's life is let
// through by it, once.
func TestCrashWhileHeld(t *testing.T) {
	s := newSiteOf(t, holding, func(s *site) { s.direct("orders", "CREATE TABLE t (n int); INSERT INTO t VALUES (0)") })
	hold := func() chan error {
		conn, err := pgx.Connect(t.Context(), s.dsn("ana"))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), "UPDATE t SET n = n + 1", pgx.QueryExecModeSimpleProtocol)
			conn.Close(context.Background())
			ended <- err
		}()
		return ended
	}
	ended := hold()
	id := s.pending(1)[0]
	s.stop(syscall.SIGKILL)
	if err := <-ended; err == nil {
		t.Error("it ended well")
	}
	s.start()
	if got := s.pending(1)[0]; got != id {
		t.Errorf("pending is %s, want %s", got, id)
	}
	s.custos("carol", "approval", "approve", id)
	s.stop(syscall.SIGKILL)
	s.start()
	var operations []struct{ Outcome, Text, Approval string }
	if err := json.Unmarshal(s.custos("ana", "search", "verb:update", "--json"), &operations); err != nil || len(operations) != 1 || operations[0].Outcome != "not-sent" {
		t.Errorf("on record: %+v, %v", operations, err)
	}
	if err := <-hold(); err != nil {
		t.Errorf("run again, approved: %v", err)
	}
	ended = hold()
	s.custos("carol", "approval", "deny", s.pending(1)[0], "--reason", "once")
	if err := <-ended; err == nil {
		t.Error("the approval served twice")
	}
	conn, err := pgconn.Connect(t.Context(), s.target.DSN("dbname=orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	answer, err := conn.Exec(t.Context(), "SELECT n FROM t").ReadAll()
	if err != nil || string(answer[0].Rows[0][0]) != "1" {
		t.Errorf("n is %s, %v", answer[0].Rows[0][0], err)
	}
	s.stop(syscall.SIGTERM)
	s.verify()
}
