package postgres

import (
	"net"
	"net/url"
	"strconv"

	custos "github.com/custos-gateway/custos"
)

// Client points libpq, and whatever reads its variables or DATABASE_URL, at a
// connection (PostgreSQL documentation, "Environment Variables" of libpq).
func Client(r custos.Reach) custos.Setup {
	port := strconv.Itoa(r.Port)
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {r.CAFile}}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(anyUser, r.Token), Host: net.JoinHostPort(r.Host, port), Path: "/" + r.Connection, RawQuery: query.Encode()}
	return custos.Setup{
		Env: []string{
			"PGHOST=" + r.Host, "PGPORT=" + port, "PGDATABASE=" + r.Connection, "PGUSER=" + anyUser, "PGPASSWORD=" + r.Token,
			"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + r.CAFile, "PGGSSENCMODE=disable", "DATABASE_URL=" + u.String(),
		},
		Command: []string{"psql"},
	}
}

// anyUser stands where a client wants a user: who calls is in the token.
const anyUser = "any"
