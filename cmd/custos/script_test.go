package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/custos-gateway/custos/internal/apitest"
	"github.com/custos-gateway/custos/internal/gittest"
	"github.com/custos-gateway/custos/internal/oidctest"
	"github.com/custos-gateway/custos/internal/testtarget"
	"github.com/custos-gateway/custos/internal/vaulttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"custos": main})
}

// TestScripts runs testdata/script: custos as a process of its own, a real
// PostgreSQL, psql, and people. The scripts are the manual; what their verbs
// do stands at each below.
func TestScripts(t *testing.T) {
	w := &world{target: testtarget.StartPostgres(t, testtarget.Options{}), git: upstreams(t), http: apis(t)}
	w.provider, w.elsewhere = provider(t), provider(t)
	if err := errors.Join(w.run("postgres", "CREATE DATABASE shop"), w.run("shop", shop)); err != nil {
		t.Fatal(err)
	}
	commands := map[string]func(*testscript.TestScript, bool, []string){
		"gateway": w.gateway, "target": w.atTarget, "heard": w.heard, "mint": w.mint, "exited": exited, "capture": capture,
		"tamper": tamper, "secret-free": w.secretFree, "get": w.get, "speak": w.speak, "service": w.service, "told": w.told, "documented": w.documented, "vault": w.vault, "agent": w.agent, "upstream": w.upstream, "api": w.api,
	}
	for _, who := range []string{"ana", "bob", "carol", "dave", "mallory"} {
		commands[who] = func(ts *testscript.TestScript, neg bool, args []string) { w.as(ts, neg, who, args) }
	}
	// The subtests run in parallel, after this function: what they use must
	// outlive it, as what t.Cleanup ends does.
	t.Run("all", func(t *testing.T) {
		testscript.Run(t, testscript.Params{Dir: "../../testdata/script", Cmds: commands, Setup: w.setup, RequireExplicitExec: true, RequireUniqueNames: true})
	})
}

func provider(t *testing.T) *oidctest.Provider {
	t.Helper()
	p, err := oidctest.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// shop is what every script finds in its database.
const shop = `
CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, email text NOT NULL, city text NOT NULL);
INSERT INTO customers VALUES
	(1, 'Ada Moreno', 'ada@example.com', 'Lisbon'), (2, 'Ben Okafor', 'ben@example.com', 'Lagos'),
	(3, 'Chiara Russo', 'chiara@example.com', 'Turin'), (4, 'Dov Levi', 'dov@example.com', 'Haifa');
CREATE TABLE orders (id integer PRIMARY KEY, customer_id integer NOT NULL REFERENCES customers, cents integer NOT NULL);
INSERT INTO orders SELECT n, 1 + n % 4, 100 * n FROM generate_series(1, 20) n;
`

// world is what all scripts share: the target's server, and two identity
// providers, the one that gateways trust and one that they don't.
type world struct {
	target              *testtarget.Postgres
	provider, elsewhere *oidctest.Provider
	git                 func() *gittest.Server
	http                func() *apitest.Server
}

// run runs statements at the target itself, as its superuser.
func (w *world) run(database, sql string) error {
	cmd := exec.Command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1")
	cmd.Env = append(os.Environ(), w.direct(database)...)
	cmd.Stdin = strings.NewReader(sql)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("prepare target: %w: %s", err, out)
	}
	return nil
}

// direct is the environment of a client of the target itself.
func (w *world) direct(database string) []string {
	host, port, _ := net.SplitHostPort(w.target.Address)
	return []string{"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + w.target.User, "PGPASSWORD=" + w.target.Password,
		"PGDATABASE=" + database, "PGSSLMODE=disable"}
}

// scene is what one script has.
type scene struct {
	password string   // of the gateway's role at the target
	tokens   []string // all that were minted
	secrets  []string // of other targets
	vault    *vaulttest.Server
	seen     bytes.Buffer
	status   int // of the last command that a person ran
	server   *process
	agents   map[string]*process
	chats    map[string]*chat // by their variables
}

func of(ts *testscript.TestScript) *scene { return ts.Value("scene").(*scene) }

// database makes a name of PostgreSQL's of a script's.
var database = regexp.MustCompile(`[^a-z0-9_]+`)

// setup gives a script a database of its own at $TARGET, named $DATABASE,
// with a role for the gateway whose password lies in orders.password.
func (w *world) setup(env *testscript.Env) error {
	sc := &scene{agents: map[string]*process{}, chats: map[string]*chat{}, password: "the-target's-own-" + strconv.FormatInt(time.Now().UnixNano(), 36)}
	name := database.ReplaceAllString(filepath.Base(env.WorkDir), "_")
	role := "gateway_" + name
	if err := w.run("postgres", fmt.Sprintf(`CREATE ROLE %[1]s LOGIN PASSWORD '%[2]s'; CREATE DATABASE %[3]s TEMPLATE shop OWNER %[1]s`,
		role, strings.ReplaceAll(sc.password, "'", "''"), name)); err != nil {
		return err
	}
	if err := w.run(name, fmt.Sprintf("GRANT ALL ON customers, orders TO %s; GRANT CREATE ON SCHEMA public TO %s", role, role)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(env.WorkDir, "orders.password"), []byte(sc.password+"\n"), 0o600); err != nil {
		return err
	}
	formats, err := filepath.Abs("../../docs/formats")
	if err != nil {
		return err
	}
	if err := usual(env.WorkDir); err != nil {
		return err
	}
	for k, v := range map[string]string{
		"TARGET": w.target.Address, "DATABASE": name, "ROLE": role, "ISSUER": w.provider.URL, "ELSEWHERE": w.elsewhere.URL,
		"FORMATS": formats, "TZ": "UTC", "PSQLRC": "/dev/null", "PAGER": "cat",
	} {
		env.Setenv(k, v)
	}
	env.Values["scene"] = sc
	env.Defer(func() {
		if sc.server != nil {
			sc.server.end(os.Kill)
		}
		for _, a := range sc.agents {
			a.end(os.Kill)
		}
	})
	return nil
}

// usual gives a script that has no custos.yaml of its own that of
// first_session.txtar.
func usual(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "custos.yaml")); err == nil {
		return nil
	}
	first, err := txtar.ParseFile("../../testdata/script/first_session.txtar")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(first.Files, func(f txtar.File) bool { return f.Name == "custos.yaml" })
	return os.WriteFile(filepath.Join(dir, "custos.yaml"), first.Files[i].Data, 0o600)
}

// token mints a token for somebody. mallory's say that they are ana's, and
// are signed by a key that is not the provider's.
func (w *world) token(sc *scene, who string, options ...oidctest.MintOption) string {
	p := w.provider
	if who == "mallory" {
		p, who = w.elsewhere, "ana"
		options = append([]oidctest.MintOption{oidctest.Claim("iss", w.provider.URL)}, options...)
	}
	token := p.Mint(who, options...)
	sc.tokens = append(sc.tokens, token)
	return token
}

// as runs a command as a person: `ana psql -c 'SELECT 1'`. The person's token
// is psql's password and custos' CUSTOS_TOKEN; the gateway is where both look.
func (w *world) as(ts *testscript.TestScript, neg bool, who string, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: %s COMMAND ARGS...", who)
	}
	sc := of(ts)
	token := w.token(sc, who)
	ts.Setenv("PGPASSWORD", token)
	ts.Setenv("CUSTOS_TOKEN", token)
	err := ts.Exec(args[0], args[1:]...)
	ts.Setenv("CUSTOS_TOKEN", "")
	ts.Setenv("PGPASSWORD", "")
	sc.ran(ts, neg, err)
}

// ran judges how a command ended.
func (sc *scene) ran(ts *testscript.TestScript, neg bool, err error) {
	sc.seen.WriteString(ts.ReadFile("stdout") + ts.ReadFile("stderr"))
	sc.status = 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		sc.status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if neg && err == nil {
		ts.Fatalf("it succeeded, and should not")
	}
	if !neg && err != nil {
		ts.Fatalf("%v", err)
	}
}

// exited checks the exit status of the last command that a person ran:
// `exited 5`.
func exited(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: exited STATUS")
	}
	if got := strconv.Itoa(of(ts).status); got != args[0] {
		ts.Fatalf("it exited with %s, want %s", got, args[0])
	}
}

// capture keeps what a pattern finds in the last output as a variable:
// `capture SESSION '"id": "([^"]+)"'`.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VARIABLE PATTERN")
	}
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) != 2 {
		ts.Fatalf("%s is not in the output", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// atTarget runs a command at the target itself, past the gateway, as its
// superuser: `target psql -c 'SELECT 1'`.
func (w *world) atTarget(ts *testscript.TestScript, neg bool, args []string) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), append(w.direct(ts.Getenv("DATABASE")), "PSQLRC=/dev/null")...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	if err := cmd.Run(); (err == nil) == neg {
		ts.Fatalf("%v: %v", args, err)
	}
}

// heard waits until a text came to the target in any statement; with ! it
// checks that it did not: `heard 'DROP TABLE'`.
func (w *world) heard(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: heard TEXT")
	}
	if !neg {
		ts.Check(w.hears(args[0]))
	} else if strings.Contains(w.target.Log(), args[0]) {
		ts.Fatalf("the target heard %q", args[0])
	}
}

// hears waits until a text came to the target.
func (w *world) hears(text string) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for late := time.After(patience); !strings.Contains(w.target.Log(), text); {
		select {
		case <-look.C:
		case <-late:
			return fmt.Errorf("the target did not hear %q", text)
		}
	}
	return nil
}

// mint makes a token of a variable: `mint TOKEN ana lifetime=-1h aud=else`.
// What has a = is a claim; lifetime is how long from now the token is good,
// for is the person on whose behalf it is held, may_act who may act for its.
func (w *world) mint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mint VARIABLE WHO [CLAIM=VALUE...]")
	}
	var options []oidctest.MintOption
	for _, a := range args[2:] {
		name, value, _ := strings.Cut(a, "=")
		switch name {
		case "lifetime":
			d, err := time.ParseDuration(value)
			ts.Check(err)
			options = append(options, oidctest.Lifetime(d))
		case "for":
			options = append(options, oidctest.OnBehalfOf(value))
		case "may_act":
			options = append(options, oidctest.Claim(name, map[string]any{"sub": value}))
		default:
			options = append(options, oidctest.Claim(name, value))
		}
	}
	ts.Setenv(args[0], w.token(of(ts), args[1], options...))
}

// tamper changes the first occurrence of some bytes in a file by others, as
// many: `tamper FILE OLD NEW`.
func tamper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || len(args[1]) != len(args[2]) {
		ts.Fatalf("usage: tamper FILE OLD NEW, with as many bytes in NEW as in OLD")
	}
	file := ts.MkAbs(args[0])
	b, err := os.ReadFile(file)
	ts.Check(err)
	if !bytes.Contains(b, []byte(args[1])) {
		ts.Fatalf("%s is not in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(file, bytes.Replace(b, []byte(args[1]), []byte(args[2]), 1), 0o600))
}

// secretFree checks that neither the target's password nor anybody's token is
// in the files and folders named, in anything that was printed so far, or in
// the gateway's process list entry and log.
func (w *world) secretFree(ts *testscript.TestScript, neg bool, args []string) {
	sc := of(ts)
	secrets := slices.Concat([]string{sc.password}, sc.tokens, sc.secrets)
	if sc.vault != nil {
		secrets = append(secrets, sc.vault.Secrets()...)
	}
	check := func(where string, b []byte) {
		for _, s := range secrets {
			// Of a token the signature is the secret part.
			if bytes.Contains(b, []byte(s[strings.LastIndex(s, ".")+1:])) {
				ts.Fatalf("a secret is in %s", where)
			}
		}
	}
	check("what was printed", sc.seen.Bytes())
	if sc.server != nil {
		check("the gateway's log", []byte(sc.server.log.String()))
		for _, name := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", sc.server.cmd.Process.Pid, name))
			ts.Check(err)
			check(name, b)
		}
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", sc.server.cmd.Process.Pid))
		ts.Check(err)
		if !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
			ts.Fatalf("the gateway leaves core files")
		}
	}
	files := 0
	for _, a := range args {
		ts.Check(filepath.WalkDir(ts.MkAbs(a), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			check(path, b)
			return err
		}))
	}
	if neg || len(args) > 0 && files == 0 {
		ts.Fatalf("usage: secret-free PATH..., where there is something")
	}
}

// gateway starts and ends the script's gateway:
//
//	gateway start   runs custos serve with custos.yaml, in which $NAMEs are
//	                replaced by the script's variables, and waits until it
//	                listens; ! gateway start: it must fail
//	gateway reload  has it read custos.yaml again (SIGHUP)
//	gateway stop    tells it to end (SIGTERM), and waits
//	gateway kill    kills it (SIGKILL)
//	gateway log P   waits until its log has a line with P
func (w *world) gateway(ts *testscript.TestScript, neg bool, args []string) {
	sc := of(ts)
	switch verb := strings.Join(args[:min(1, len(args))], ""); {
	case verb == "start":
		ts.Check(expand(ts, "custos.yaml"))
		w.startGateway(ts, neg, args[1:])
	case sc.server == nil:
		ts.Fatalf("the gateway does not run")
	case verb == "reload":
		ts.Check(expand(ts, "custos.yaml"))
		was := strings.Count(sc.server.log.String(), "configuration")
		ts.Check(sc.server.cmd.Process.Signal(sighup))
		ts.Check(sc.server.log.await(func(log string) bool { return strings.Count(log, "configuration") > was }))
	case verb == "log" && len(args) == 2:
		ts.Check(sc.server.log.await(func(log string) bool { return strings.Contains(log, args[1]) }))
	case verb == "stop" || verb == "kill":
		signal := map[string]os.Signal{"stop": os.Interrupt, "kill": os.Kill}[verb]
		if err := sc.server.end(signal); verb == "stop" && err != nil {
			ts.Fatalf("the gateway ended with %v", err)
		}
		sc.server = nil
	default:
		ts.Fatalf("usage: gateway start|reload|stop|kill")
	}
}

// expand replaces $NAMEs in a file.
func expand(ts *testscript.TestScript, name string) error {
	b, err := os.ReadFile(ts.MkAbs(name))
	if err != nil {
		return err
	}
	return os.WriteFile(ts.MkAbs(name), []byte(os.Expand(string(b), ts.Getenv)), 0o600)
}

func (w *world) startGateway(ts *testscript.TestScript, neg bool, flags []string) {
	sc := of(ts)
	p, err := launch(ts.MkAbs("."), append([]string{"serve", "--config", "custos.yaml"}, flags...))
	ts.Check(err)
	err = p.log.await(func(log string) bool { return strings.Count(log, "msg=listening") == 2 })
	if neg {
		if err == nil {
			p.end(os.Kill)
			ts.Fatalf("it started, and should not")
		}
		io.WriteString(ts.Stderr(), p.log.String())
		return
	}
	ts.Check(err)
	sc.server = p
	at := regexp.MustCompile(`msg=listening address=(\S+)`).FindAllStringSubmatch(p.log.String(), -1)
	host, port, err := net.SplitHostPort(at[0][1])
	ts.Check(err)
	ca := ts.MkAbs("data/tls/ca.pem")
	for k, v := range map[string]string{
		"CUSTOS_URL": "https://" + at[1][1], "CUSTOS_CA": ca, "POSTGRES": at[0][1],
		"PGHOST": host, "PGPORT": port, "PGUSER": "any", "PGDATABASE": "orders", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": ca,
	} {
		ts.Setenv(k, v)
	}
}

// process is a gateway that runs.
type process struct {
	cmd   *exec.Cmd
	log   *logged
	ended chan error
}

func launch(dir string, args []string) (*process, error) {
	p := &process{cmd: exec.Command("custos", args...), log: newLogged(), ended: make(chan error, 1)}
	p.cmd.Dir = dir
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") })
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.log.follow(stderr)
		p.ended <- p.cmd.Wait()
	}()
	return p, nil
}

func (p *process) end(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return err
	}
	return <-p.ended
}
