package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/custos-gateway/custos/internal/oidctest"
)

// show is the demonstration: real clients, and what is on record of them.
func (d *demo) show() error {
	ana := d.provider.Mint("ana")
	bob := d.provider.Mint("bob")
	skill := d.provider.Mint(oidctest.SkillSubject, oidctest.OnBehalfOf("ana"))

	fmt.Fprintln(d.g.stdout)
	d.say("ana is in group dba, which may use the connection orders; her OIDC token is her password")
	if err := d.psql("ana", ana, "SELECT id, name, city FROM customers ORDER BY id LIMIT 3",
		"UPDATE orders SET status = 'shipped' WHERE id = 42"); err != nil {
		return err
	}
	d.say("a Claude skill acts for ana, with a token that says so")
	if err := d.psql("skill:reporter", skill, "SELECT status, count(*) FROM orders GROUP BY status ORDER BY status"); err != nil {
		return err
	}
	d.say("bob is in group support, which may not use it: refused, and on record")
	if err := d.psql("bob", bob, "SELECT * FROM payments"); err != nil {
		return err
	}
	d.say("what is on record: ana sees her own sessions and those on her behalf; as an admin, everybody's")
	if _, err := d.custos("ana", ana, "session", "list"); err != nil {
		return err
	}
	out, err := d.custos("ana", ana, "search", "table:orders verb:update")
	if err != nil {
		return err
	}
	if !strings.Contains(out, "UPDATE orders") {
		return errors.New("the search did not find what ana ran")
	}
	id, err := d.firstSession(ana)
	if err != nil {
		return err
	}
	d.say("replay: exactly what ana saw")
	if _, err := d.custos("ana", ana, "session", "replay", "--no-wait", id); err != nil {
		return err
	}
	return d.prove(ana, id)
}

// firstSession is the oldest session that is on record.
func (d *demo) firstSession(token string) (string, error) {
	cmd := exec.CommandContext(d.ctx, d.self, "session", "list", "--json", "--caller", "ana", "--limit", "0")
	cmd.Env = append(os.Environ(), "CUSTOS_URL=https://"+d.https, "CUSTOS_CA="+d.ca(), "CUSTOS_TOKEN="+token)
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	var sessions []struct{ ID string }
	if err := json.Unmarshal(out, &sessions); err != nil {
		return "", err
	}
	if len(sessions) == 0 {
		return "", errors.New("no session is on record")
	}
	return sessions[len(sessions)-1].ID, nil
}

// prove verifies the ledger, then a copy of it in which one byte was changed.
func (d *demo) prove(token, id string) error {
	data := filepath.Join(d.dir, "custos-data")
	d.say("the ledger verifies, with its public key only")
	if _, err := d.custos("anyone", "", "ledger", "verify", "--data-dir", data); err != nil {
		return err
	}
	d.say("a copy of it, in which somebody made one statement look different")
	forged := filepath.Join(d.dir, "forged")
	if err := os.CopyFS(forged, os.DirFS(data)); err != nil {
		return err
	}
	if err := forge(forged); err != nil {
		return err
	}
	_, err := d.custos("anyone", "", "ledger", "verify", "--data-dir", forged)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != exitDamage {
		return fmt.Errorf("the forged ledger was not found out: %v", err)
	}
	d.say("evidence for an auditor: a bundle that verifies on another machine, without custos running")
	bundle := filepath.Join(d.dir, "evidence.tar.gz")
	if _, err := d.custos("ana", token, "evidence", "export", "--session", id, "--out", bundle); err != nil {
		return err
	}
	_, err = d.custos("auditor", "", "evidence", "verify", bundle, "--key", filepath.Join(data, "keys", "ledger.pub"))
	return err
}

// forge changes one letter of the newest segment's record of an UPDATE.
func forge(dir string) error {
	segments, err := filepath.Glob(filepath.Join(dir, "ledger", "log", "*.wal"))
	if err != nil {
		return err
	}
	for _, path := range segments {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if i := strings.Index(string(b), `"verbs":["UPDATE"]`); i >= 0 {
			copy(b[i:], `"verbs":["SELECT"]`)
			return os.WriteFile(path, b, 0o600)
		}
	}
	return fmt.Errorf("find the record of the UPDATE: %w", fs.ErrNotExist)
}

// invite says how to go on by hand.
func (d *demo) invite() {
	tokens := filepath.Join(d.dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return
	}
	for name, token := range map[string]string{"ana": d.provider.Mint("ana"), "bob": d.provider.Mint("bob"), "carol": d.provider.Mint("carol"),
		"reporter": d.provider.Mint(oidctest.SkillSubject, oidctest.OnBehalfOf("ana"))} {
		if err := os.WriteFile(filepath.Join(tokens, name), []byte(token), 0o600); err != nil {
			return
		}
	}
	host, port, _ := strings.Cut(d.postgres, ":")
	fmt.Fprintf(d.g.stdout, `
It stays up until you press Ctrl-C. In another terminal, as ana, bob, carol or reporter (tokens last an hour):

    export CUSTOS_URL=https://%s CUSTOS_CA=%s CUSTOS_TOKEN=$(cat %s/ana)
    PGPASSWORD=$CUSTOS_TOKEN psql "host=%s port=%s dbname=orders user=any sslmode=verify-full sslrootcert=$CUSTOS_CA"
    %s session list
    %s ledger verify --data-dir %s
    %s login && %[6]s whoami        (log in by a browser, as anybody, instead of CUSTOS_TOKEN)

API: https://%[1]s
`, d.https, d.ca(), tokens, host, port, d.self, d.self, filepath.Join(d.dir, "custos-data"), d.self)
}
