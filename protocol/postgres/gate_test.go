package postgres_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate/gatetest"
	"github.com/custos-gateway/custos/protocol/postgres"
)

func TestGate(t *testing.T) {
	gatetest.Run(t, gatetest.Case{
		Connection: custos.Connection{Name: "orders", Protocol: postgres.Name, Address: target.Address, Database: target.Database, TLS: custos.TargetTLS{Mode: "disable"}},
		Credential: custos.Credential{Username: target.User, Password: target.Password},
		Serve: func(ctx context.Context, w *gatetest.World, l net.Listener) error {
			return postgres.New(postgres.Options{Gate: w.Gate, Dialer: w, Parse: parse, Logger: w.Logger()}).Serve(ctx, l)
		},
		Dial:      dialClient,
		Statement: func(word string) string { return "select '" + word + "'" },
		Slow:      "select pg_sleep(300)",
		Unknown: map[string][]byte{
			"an unknown message":       []byte("y\x00\x00\x00\x08good"),
			"a password after login":   []byte("p\x00\x00\x00\x08pas\x00"),
			"a length of 4 GiB":        []byte("Q\xff\xff\xff\xffselect 'slip'"),
			"a length of 0":            []byte("Q\x00\x00\x00\x00"),
			"a query without its NUL":  []byte("Q\x00\x00\x00\x0cselect 1"),
			"two texts in a query":     []byte("Q\x00\x00\x00\x16select 1\x00select 2\x00"),
			"a Bind of nothing":        []byte("B\x00\x00\x00\x06\x00\x00"),
			"a Bind of 32,767 values":  []byte("B\x00\x00\x00\x0a\x00\x00\x00\x00\x7f\xff"),
			"a Describe of neither":    []byte("D\x00\x00\x00\x06X\x00"),
			"a function call":          []byte("F\x00\x00\x00\x0e\x00\x00\x04\xe3\x00\x00\x00\x00\x00\x00"),
			"what is no SQL":           must(encode(&pgproto3.Query{String: "selct 'slip'"})),
			"SQL in another encoding":  []byte("Q\x00\x00\x00\x0fselect '\xff'\x00"),
			"a Sync with a passenger":  []byte("S\x00\x00\x00\x0dselect 1\x00"),
			"a long Execute":           append([]byte("E\x00\x00\x40\x00"), strings.Repeat("x", 0x4000)...),
			"an unknown statement":     must(encode(&pgproto3.Bind{PreparedStatement: "nobody's"}, &pgproto3.Execute{}, &pgproto3.Sync{})),
			"a portal that SQL may do": must(encode(&pgproto3.Execute{Portal: "cursor"}, &pgproto3.Sync{})),
		},
		Oversized: []byte("Q\x10\x00\x00\x00select 'slip'"),
	})
}

// client is pgconn as gatetest sees it.
type client struct{ conn *pgconn.PgConn }

func dialClient(t testing.TB, addr, token string) (gatetest.Client, error) {
	host, port, _ := net.SplitHostPort(addr)
	conn, err := pgconn.Connect(t.Context(), "user=any dbname=orders sslmode=disable host="+host+" port="+port+" password="+token)
	return client{conn}, err
}

func (c client) Conn() net.Conn { return c.conn.Conn() }
func (c client) Close() error   { return c.conn.Close(context.Background()) }

func (c client) Do(statement string) error {
	_, err := c.conn.Exec(context.Background(), statement).ReadAll()
	if pg, ok := err.(*pgconn.PgError); ok {
		return &told{pg}
	}
	return err
}

// told is an error with all that it says.
type told struct{ *pgconn.PgError }

func (e *told) Error() string { return e.PgError.Error() + " " + e.Detail + " " + e.Hint }
