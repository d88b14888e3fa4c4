package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/custos-gateway/custos/internal/vaulttest"
)

// vault starts the script's vault, and asks what it made: `vault start` sets
// $VAULT and $VAULT_ROLE_ID, and writes vault.pem and secret-id;
// `vault users N` checks that there are N users that it made.
func (w *world) vault(ts *testscript.TestScript, neg bool, args []string) {
	sc := of(ts)
	switch verb := strings.Join(args, " "); {
	case verb == "start" && sc.vault == nil:
		sc.vault = vaulttest.Start()
		ts.Defer(sc.vault.Close)
		role, database := ts.Getenv("ROLE"), ts.Getenv("DATABASE")
		sc.vault.Create = func(user, password string) error {
			return w.run(database, fmt.Sprintf(`CREATE ROLE "%s" LOGIN PASSWORD '%s' IN ROLE %s`, user, password, role))
		}
		sc.vault.Drop = func(user string) error { return w.run(database, fmt.Sprintf(`DROP ROLE "%s"`, user)) }
		sc.vault.Put("prod/orders", map[string]string{"password": sc.password})
		ts.Setenv("VAULT", sc.vault.URL)
		ts.Setenv("VAULT_ROLE_ID", sc.vault.RoleID)
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sc.vault.Certificate().Raw})
		ts.Check(errors.Join(os.WriteFile(ts.MkAbs("vault.pem"), ca, 0o600),
			os.WriteFile(ts.MkAbs("secret-id"), []byte(sc.vault.SecretID+"\n"), 0o600)))
	case len(args) == 2 && args[0] == "users" && sc.vault != nil:
		if users := sc.vault.Users(); fmt.Sprint(len(users)) != args[1] {
			ts.Fatalf("the vault has made %v", users)
		}
	default:
		ts.Fatalf("usage: vault start; vault users N")
	}
}
