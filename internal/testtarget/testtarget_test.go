package testtarget

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestStart(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		more    func(*Postgres) string
	}{
		"scram": {Options{}, func(*Postgres) string { return "require_auth=scram-sha-256" }},
		"md5":   {Options{Auth: "md5"}, func(*Postgres) string { return "require_auth=md5" }},
		"cert": {Options{Auth: "cert", TLS: true}, func(p *Postgres) string {
			return "sslcert=" + p.CertFile + " sslkey=" + p.KeyFile
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := StartPostgres(t, c.options)
			conn, err := pgconn.Connect(t.Context(), p.DSN(c.more(p)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if _, err := conn.Exec(t.Context(), "select 'heard'").ReadAll(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(p.Log(), "statement: select 'heard'") {
				t.Errorf("the log does not show the statement:\n%s", p.Log())
			}
		})
	}
}
