package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/internal/oidctest"
	"github.com/custos-gateway/custos/internal/testtarget"
)

// agent is custos agent as a process of its own.
type agent struct {
	t       *testing.T
	s       *site
	within  []string // what runs it where it is; nil: here
	file    string
	process *exec.Cmd
	log     *tail
	ended   chan error
}

// newAgent gives the site an agent vpc-a, which has joined.
func newAgent(s *site, gateway, target string, within []string) *agent {
	s.t.Helper()
	a := &agent{t: s.t.(*testing.T), s: s, within: within, file: filepath.Join(s.dir, "agent.yaml")}
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.command(path, "agent", "token", "vpc-a", "--url", "https://"+s.https, "--ca", filepath.Join(s.data(), "tls", "ca.pem"))
	cmd.Env = append(os.Environ(), "CUSTOS_TOKEN="+s.provider.Mint("ana"))
	token, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("custos agent token: %v", err)
	}
	s.write("join-token", string(token))
	s.write("agent.yaml", "gateway: https://"+gateway+`
name: vpc-a
ca_file: data/tls/ca.pem
join: {file: join-token}
targets: ["`+target+`"]
drain: 1s
`)
	a.start()
	s.t.Cleanup(func() {
		if a.process != nil {
			a.stop(syscall.SIGTERM)
		}
	})
	a.connected(1)
	return a
}

func (a *agent) start() {
	a.t.Helper()
	path, err := binary()
	if err != nil {
		a.t.Fatal(err)
	}
	args := append(append([]string{}, a.within...), path, "agent", "--config", a.file)
	a.process = exec.Command(args[0], args[1:]...)
	stderr, err := a.process.StderrPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := a.process.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.log, a.ended = &tail{more: make(chan struct{})}, make(chan error, 1)
	log, ended, process := a.log, a.ended, a.process
	go func() {
		log.follow(stderr)
		ended <- process.Wait()
	}()
}

func (a *agent) stop(signal syscall.Signal) {
	a.t.Helper()
	a.process.Process.Signal(signal)
	if err := <-a.ended; signal != syscall.SIGKILL && err != nil {
		a.t.Errorf("the agent ended with %v\n%s", err, a.log)
	}
	a.process = nil
}

// connected waits until the gateway that runs has said n times that an agent
// connected.
func (a *agent) connected(n int) {
	a.t.Helper()
	late := time.After(time.Minute)
	for {
		a.s.log.mu.Lock()
		more := a.s.log.more
		a.s.log.mu.Unlock()
		if a.connections() >= n {
			return
		}
		select {
		case <-more:
		case <-late:
			a.t.Fatalf("the agent did not connect:\n%s\n%s", a.s.log, a.log)
		}
	}
}

func (a *agent) connections() int { return strings.Count(a.s.log.String(), `msg="agent connected"`) }

// cable stands between agent and gateway: it delays what it carries by up to
// a while that is another for each piece, and can be cut.
type cable struct {
	l     net.Listener
	delay time.Duration
	mu    sync.Mutex
	open  []net.Conn
}

func newCable(t *testing.T, to string, delay time.Duration) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{l: l, delay: delay}
	t.Cleanup(func() { l.Close(); c.cut() })
	go c.join(func() (net.Conn, error) { return net.Dial("tcp", to) })
	return c
}

// join carries every line that is accepted to what dial reaches.
func (c *cable) join(dial func() (net.Conn, error)) {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return
		}
		out, err := dial()
		if err != nil {
			in.Close()
			continue
		}
		c.mu.Lock()
		c.open = append(c.open, in, out)
		c.mu.Unlock()
		go c.carry(in, out)
		go c.carry(out, in)
	}
}

func (c *cable) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 1500)
	for i := 0; ; i++ {
		n, err := from.Read(b[:1+(i*7919)%len(b)]) // pieces of any size
		if c.delay > 0 {
			time.Sleep(time.Duration(i%4) * c.delay / 4) // the fault itself
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	c.open = nil
}

// agentConfig has the connection orders go by agents, to an address.
func agentConfig(s *site, https, postgres, address, tls string) {
	s.write("custos.yaml", `
listen: {https: "`+https+`", postgres: "`+postgres+`"}
data_dir: data
issuers: [{url: "`+s.provider.URL+`", audience: custos, groups_claim: groups, kind_claim: kind}]
roles: {admin: [dba]}
agents: [{name: vpc-a}]
connections:
  - name: orders
    protocol: postgres
    address: `+address+`
    agent: vpc-a
    database: orders
    tls: `+tls+`
    credential: {username: `+s.target.User+`, password: {file: orders.password}}
    access: [{groups: [dba]}]
limits: {free_space: {sessions: 200MiB, operations: 100MiB}}
`)
}

// What goes wrong between gateway and agent while clients work: the line is
// cut, slow, in other pieces than it was sent in; the agent is killed; the
// gateway is killed. Whatever the target heard has its record, whatever was
// answered has its outcome, nothing ran twice, and the agent comes back by
// itself.
func TestAgentFaultsUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("it breaks the line under load")
	}
	s := newSiteOf(t, "", func(s *site) {
		s.direct("orders", "CREATE TABLE heard (marker text)")
		agentConfig(s, s.https, "127.0.0.1:"+s.port, s.target.Address, "disable")
	}, "log_statement = 'all'")
	line := newCable(t, s.https, 4*time.Millisecond)
	a := newAgent(s, line.l.Addr().String(), s.target.Address, nil)
	l := &load{answered: map[string]bool{}}
	dsn := s.dsn("ana")
	n := rounds(t, 6)
	for round := range n {
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for range clients {
			group.Go(func() { l.run(ctx, dsn) })
		}
		before, had := l.next.Load(), a.connections()
		for l.next.Load() < before+40 && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // the load, not the clock, says when
		}
		switch round % 3 {
		case 0:
			line.cut()
		case 1:
			a.stop(syscall.SIGKILL)
			a.start()
		case 2:
			s.stop(syscall.SIGKILL)
			s.start()
			had = 0
		}
		cancel()
		group.Wait()
		a.connected(had + 1)
	}
	s.stop(syscall.SIGTERM)
	r := s.readRecord()
	s.check(r, l)
	for m, entries := range r.submitted {
		if len(entries) > 2 { // prepared, and run
			t.Errorf("%s is on record %d times", m, len(entries))
		}
		for _, i := range entries {
			if r.settled[i] == "" {
				t.Errorf("%s, entry %d, has no outcome, not even that it was interrupted", m, i)
			}
		}
	}
	s.once()
	s.verify()
	t.Logf("%d statements, %d answered, %d faults", l.next.Load(), len(l.answered), n)
	if len(l.answered) == 0 {
		t.Error("no statement was answered")
	}
	s.start()
}

// once checks that no statement took effect twice.
func (s *site) once() {
	s.t.Helper()
	cmd := exec.Command("psql", "-X", "-Atc", "SELECT marker FROM heard GROUP BY marker HAVING count(*) > 1")
	cmd.Env = append(os.Environ(), s.directEnv("orders")...)
	if out, err := cmd.Output(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		s.t.Errorf("ran twice: %s %v", out, err)
	}
}

// namespace is a network of its own, as on another host.
type namespace string

func newNamespace(t *testing.T, name string) namespace {
	t.Helper()
	n := namespace(fmt.Sprintf("custos-%s-%d", name, os.Getpid()))
	ip(t, "netns", "add", string(n))
	t.Cleanup(func() { ip(t, "netns", "del", string(n)) })
	ip(t, "-n", string(n), "link", "set", "lo", "up")
	return n
}

func (n namespace) within() []string { return []string{"ip", "netns", "exec", string(n)} }

// do runs f in it. What f opens stays there.
func (n namespace) do(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends with the goroutine
		file, err := os.Open("/var/run/netns/" + string(n))
		if err == nil {
			defer file.Close()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// cableBetween joins two networks, "" being that of the tests, by a cable of
// their own. Its ends are named after the networks' numbers.
func cableBetween(t *testing.T, a, b namespace, end1, end2, address1, address2 string) {
	t.Helper()
	ip(t, "link", "add", end1, "type", "veth", "peer", "name", end2)
	for _, e := range []struct {
		n            namespace
		end, address string
	}{{a, end1, address1}, {b, end2, address2}} {
		at := []string{}
		if e.n != "" {
			ip(t, "link", "set", e.end, "netns", string(e.n))
			at = []string{"-n", string(e.n)}
		}
		ip(t, append(at, "addr", "add", e.address+"/30", "dev", e.end)...)
		ip(t, append(at, "link", "set", e.end, "up")...)
	}
}

// Gateway, agent and target as hosts of their own, where only the agent has a
// cable to each of the others. The line is pulled out in the middle of a
// statement, so that nobody hears that it ended.
func TestAgentInNetworksOfTheirOwn(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits until a silent line is given up")
	}
	if os.Getuid() != 0 {
		t.Skip("making networks takes root")
	}
	if out, err := exec.Command("ip", "netns", "add", "custos-probe").CombinedOutput(); err != nil {
		t.Skipf("this machine makes no networks: %s", out)
	}
	ip(t, "netns", "del", "custos-probe")
	gateway, middle := newNamespace(t, "gw"), newNamespace(t, "ag")
	id := fmt.Sprint(os.Getpid() % 100000)
	const gatewayForCallers, gatewayForAgent, agentForGateway, targets = "10.213.3.2", "10.213.2.1", "10.213.2.2", "10.213.1.1"
	cableBetween(t, "", gateway, "cu-c1-"+id, "cu-c2-"+id, "10.213.3.1", gatewayForCallers)
	cableBetween(t, gateway, middle, "cu-g1-"+id, "cu-g2-"+id, gatewayForAgent, agentForGateway)
	cableBetween(t, "", middle, "cu-t1-"+id, "cu-t2-"+id, targets, "10.213.1.2")
	delayed := exec.Command("ip", "netns", "exec", string(middle), "tc", "qdisc", "add", "dev", "cu-g2-"+id, "root", "netem", "delay", "20ms", "10ms", "reorder", "25%")
	if out, err := delayed.CombinedOutput(); err != nil {
		t.Logf("this machine's kernel has no netem, so nothing is reordered below TCP here: %s", out)
	}

	s := newSiteOn(t, testtarget.Options{TLS: true, Settings: []string{"log_statement = 'all'"}}, "", func(s *site) {
		s.direct("orders", "CREATE TABLE heard (marker text)")
		// The target's server listens on its loopback: what comes over the cable
		// is handed on to it.
		front, err := net.Listen("tcp", targets+":0")
		if err != nil {
			t.Fatal(err)
		}
		c := &cable{l: front}
		t.Cleanup(func() { front.Close(); c.cut() })
		go c.join(func() (net.Conn, error) { return net.Dial("tcp", s.target.Address) })
		gateway.do(t, func() (err error) { // http is taken on the gateway's own loopback only
			s.provider, err = oidctest.Start("127.0.0.1:0")
			return err
		})
		t.Cleanup(func() { s.provider.Close() })
		s.host, s.within, s.https = gatewayForCallers, gateway.within(), gatewayForAgent+":8443"
		agentConfig(s, s.https, gatewayForCallers+":"+s.port, front.Addr().String(), "{mode: verify-ca, ca_file: "+s.target.CAFile+"}")
	})
	target := s.addressOf("orders")
	gateway.do(t, func() error {
		if conn, err := net.DialTimeout("tcp", target, time.Second); err == nil {
			conn.Close()
			return errors.New("the gateway reaches the target itself")
		}
		return nil
	})
	a := newAgent(s, s.https, target, middle.within())
	conn, err := pgx.Connect(t.Context(), s.dsn("ana"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "INSERT INTO heard VALUES ('marker-1-')"); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "INSERT INTO heard SELECT 'marker-2-' FROM pg_sleep(600)", pgx.QueryExecModeSimpleProtocol)
		failed <- err
	}()
	for !strings.Contains(s.target.Log(), "marker-2-") {
		time.Sleep(5 * time.Millisecond)
	}
	ip(t, "-n", string(middle), "link", "set", "cu-g2-"+id, "down")
	select {
	case err := <-failed:
		if err == nil {
			t.Error("the statement succeeded on a line that was pulled out")
		}
		t.Logf("the caller was told: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("a line that was pulled out is not given up")
	}
	ip(t, "-n", string(middle), "link", "set", "cu-g2-"+id, "up")
	a.connected(2)
	again, err := pgx.Connect(t.Context(), s.dsn("ana"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Exec(t.Context(), "INSERT INTO heard VALUES ('marker-3-')"); err != nil {
		t.Fatal(err)
	}
	again.Close(t.Context())
	a.stop(syscall.SIGTERM)
	s.stop(syscall.SIGTERM)
	r := s.readRecord()
	last := func(m string) custos.State {
		if e := r.submitted[m]; len(e) > 0 {
			return r.settled[e[len(e)-1]]
		}
		return "not on record"
	}
	if last("marker-1-") != custos.StateOK || last("marker-2-") != custos.StateInterrupted && last("marker-2-") != custos.StateError || last("marker-3-") != custos.StateOK {
		t.Errorf("the record: %v, %v", r.submitted, r.settled)
	}
	if len(r.submitted["marker-2-"]) != 1 || len(r.open) > 0 {
		t.Errorf("the record: %v, open %v", r.submitted, r.open)
	}
	s.once()
	s.verify()
}

// addressOf is the address of a connection in the configuration.
func (s *site) addressOf(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "custos.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "name: "+name+"\n")
	_, rest, _ = strings.Cut(rest, "address: ")
	address, _, _ := strings.Cut(rest, "\n")
	return address
}
