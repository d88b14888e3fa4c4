package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/custos-gateway/custos/internal/oidctest"
)

// show is the demonstration: real clients, what rules make of them, and what
// is on record of them.
func (d *demo) show() error {
	ana := d.provider.Mint("ana")
	bob := d.provider.Mint("bob")
	skill := d.provider.Mint(oidctest.SkillSubject, oidctest.OnBehalfOf("bob"))

	fmt.Fprintln(d.g.stdout)
	d.say("the rules, in its configuration")
	_, rules, _ := strings.Cut(sampleConfig, "\npolicies:\n")
	fmt.Fprintln(d.g.stdout, rules)
	const people = "SELECT id, name, email, phone FROM customers ORDER BY id LIMIT 3"
	d.say("ana is in group dba, which may use the connection orders; her OIDC token is her password")
	if err := d.psql("ana", ana, people,
		`UPDATE customers SET notes = '{"call": "pays by 4111 1111 1111 1111"}' WHERE id = 2`); err != nil {
		return err
	}
	d.say("bob is in group support, which may not use it: refused, and on record")
	if err := d.psql("bob", bob, "SELECT * FROM payments"); err != nil {
		return err
	}
	d.say("a Claude skill acts for bob, with a token that says so: it gets the same rows masked, and cannot ask around the mask")
	if err := d.psql("skill", skill, people, "SELECT id, notes FROM customers WHERE id = 2",
		"SELECT lower(email) AS x FROM customers LIMIT 1", "SELECT count(*) FROM customers WHERE email LIKE 'keiko%'"); err != nil {
		return err
	}
	masked, err := d.latest(ana)
	if err != nil {
		return err
	}
	d.say("it may write a row that it names, and never all; payments are in dry-run; and how much it reads is counted")
	if err := d.psql("skill", skill, "UPDATE orders SET status = 'shipped' WHERE id = 42", "DELETE FROM orders",
		"SELECT count(*), sum(cents) FROM payments", "SELECT id, cents FROM products ORDER BY id LIMIT 3",
		"SELECT count(*) FROM products"); err != nil {
		return err
	}
	judged, err := d.latest(ana)
	if err != nil {
		return err
	}
	if err := d.agree(ana, skill); err != nil {
		return err
	}
	if err := d.push(skill); err != nil {
		return err
	}
	if err := d.call(skill); err != nil {
		return err
	}
	if err := d.look(ana, masked, judged); err != nil {
		return err
	}
	return d.prove(ana, judged)
}

// call has the skill call an HTTP API: what it reads is masked, and what destroys
// refused.
func (d *demo) call(skill string) error {
	d.say("an HTTP API: the skill presents its token where the API's key would go, and sees a customer masked; to delete all of them is refused")
	for _, request := range [][]string{{"GET", "/v1/customers/2.json"}, {"DELETE", "/v1/customers"}} {
		fmt.Fprintf(d.g.stdout, "skill$ curl -X %s -H \"X-Api-Key: $TOKEN\" https://%s/http/billing%s\n", request[0], d.https, request[1])
		cmd := exec.CommandContext(d.ctx, "curl", "--config", "-", "-sS", "-X", request[0], "https://"+d.https+"/http/billing"+request[1])
		cmd.Stdin = strings.NewReader(fmt.Sprintf("header = \"X-Api-Key: %s\"\ncacert = \"%s\"\n", skill, d.ca()))
		cmd.Stdout, cmd.Stderr = d.g.stdout, d.g.stdout
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("call API: %w; install Debian's curl", err)
		}
	}
	return nil
}

// agree has the skill run what is held for a person, and ana approve it.
func (d *demo) agree(reviewer, skill string) error {
	d.say("a write that names no key waits on the wire until a person agrees; it can be neither the skill nor bob")
	w := &pausing{w: d.g.stdout, held: make(chan string, 1), resume: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		ended <- d.psqlTo(w, "skill", skill, "UPDATE orders SET status = 'returned' WHERE placed_at < '2025-01-08' AND status = 'shipped'")
	}()
	var err error
	select {
	case err = <-ended:
		return cmp.Or(err, errors.New("the write was not held"))
	case id := <-w.held:
		if _, err = d.custos("ana", reviewer, "approval", "list"); err == nil {
			_, err = d.custos("ana", reviewer, "approval", "approve", id, "--reason", "agreed on the phone")
		}
	}
	fmt.Fprintln(d.g.stdout, "and psql goes on:")
	close(w.resume)
	return cmp.Or(err, <-ended)
}

// pausing passes on what psql prints, and once that names an approval, nothing
// more until it may resume.
type pausing struct {
	w      io.Writer
	text   []byte
	held   chan string
	resume chan struct{}
}

var approvalAsked = regexp.MustCompile(`custos approval approve (\w+)\n`)

func (p *pausing) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if p.text = append(p.text, b...); p.held != nil {
		if m := approvalAsked.FindSubmatch(p.text); m != nil {
			p.held <- string(m[1])
			<-p.resume
			p.held = nil
		}
	}
	return n, err
}

// look shows what is on record: of all, of the session in which rows were
// masked, and of the one in which statements were refused.
func (d *demo) look(token, masked, judged string) error {
	d.say("what is on record: everybody sees their own sessions and those on their behalf; ana, as an admin, all")
	if _, err := d.custos("ana", token, "session", "list"); err != nil {
		return err
	}
	out, err := d.custos("ana", token, "session", "show", judged)
	if err != nil {
		return err
	}
	if !strings.Contains(out, "not by payments-are-for-people (dry-run)") {
		return errors.New("the record does not say what the rule in dry-run would have done")
	}
	d.say("every statement can be searched")
	out, err = d.custos("ana", token, "search", "table:orders verb:update")
	if err != nil {
		return err
	}
	if !strings.Contains(out, "UPDATE orders") {
		return errors.New("the search did not find what the skill ran")
	}
	d.say("replay: exactly what the skill saw, and so nothing that was hidden from it")
	out, err = d.custos("ana", token, "session", "replay", "--no-wait", masked)
	if err != nil {
		return err
	}
	if !strings.Contains(out, "k***@example.com") || strings.Contains(out, "keiko.weber") {
		return errors.New("the record does not hold what the skill saw")
	}
	return nil
}

// latest is the newest session on bob's behalf that is on record.
func (d *demo) latest(token string) (string, error) {
	cmd := exec.CommandContext(d.ctx, d.self, "session", "list", "--json", "--caller", "bob", "--limit", "1")
	cmd.Env = d.env(token)
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
	return sessions[0].ID, nil
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
		"reporter": d.provider.Mint(oidctest.SkillSubject, oidctest.OnBehalfOf("bob"))} {
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
