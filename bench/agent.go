package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// agentConnection is custos's connection to the same database by an agent.
const agentConnection = "by-agent"

// leastOfGateway is what of its own speed the gateway is to keep by an agent.
const leastOfGateway = 0.85

// byAgent asks for 1M rows by custos, which dials the target itself or by an
// agent in between, both on this machine. The answers' direct is custos itself.
func (b *bench) byAgent(ctx context.Context, w *world) error {
	if err := w.agent(ctx, b.custos); err != nil {
		return err
	}
	itself := w.path("custos")
	agent := *itself
	agent.connection = agentConnection
	b.out.agents = []*answer{{name: "1M rows by SELECT", ask: selectAll}, {name: "1M rows by COPY", ask: copyOut}}
	for _, a := range b.out.agents {
		a.took = map[string][]time.Duration{}
	}
	for i := range 2*b.sweeps + 1 {
		for _, a := range b.out.agents {
			for j := range 2 { // they take turns in going first
				name, p := "direct", itself
				if (i+j)%2 == 1 {
					name, p = "agent", &agent
				}
				before, err := cpuTime(itself.cmd.Process.Pid)
				if err != nil {
					return err
				}
				took, err := a.time(ctx, p)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", a.name, name, err)
				}
				after, err := cpuTime(itself.cmd.Process.Pid)
				if err != nil {
					return err
				}
				a.took[name] = append(a.took[name], took)
				a.took[name+" cpu"] = append(a.took[name+" cpu"], after-before)
			}
		}
	}
	return nil
}

// agent starts an agent of the gateway's, and returns when sessions go by it.
func (w *world) agent(ctx context.Context, bin string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	custos := w.path("custos")
	ca := filepath.Join(w.dir, "custos-data", "tls", "ca.pem")
	token := exec.CommandContext(ctx, bin, "agent", "token", "near", "--url", "https://"+w.https, "--ca", ca)
	token.Env = append(os.Environ(), "CUSTOS_TOKEN="+custos.password)
	said := new(bytes.Buffer)
	token.Stderr = said
	out, err := token.Output()
	if err != nil {
		return fmt.Errorf("custos agent token: %w: %s", err, said)
	}
	if _, err := w.file("join-token", string(out)); err != nil {
		return err
	}
	config, err := w.file("agent.yaml", fmt.Sprintf("gateway: https://%s\nname: near\nca_file: %s\njoin: {file: join-token}\ntargets: [\"%s\"]\n", w.https, ca, w.target.Address))
	if err != nil {
		return err
	}
	if err := w.run(ctx, exec.CommandContext(ctx, bin, "agent", "--config", config, "--log-level", "warn"), custos.address); err != nil {
		return err
	}
	p := *custos
	p.connection = agentConnection
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for late := time.After(startTimeout); ; {
		c, err := p.connect(ctx)
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-look.C:
		case <-late:
			return err
		}
	}
}

// cpuTime is the time that a process has had of the processors (proc_pid_stat(5)).
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is a name in parentheses, which may hold anything.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("read /proc/%d/stat: it has %d fields", pid, len(f))
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	const tick = time.Second / 100 // of Linux, to programs
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// agentsTable is what an agent leaves of the gateway's speed.
func (r *report) agentsTable(s *strings.Builder) {
	s.WriteString("\n| by an agent, the gateway itself = 1 | speed | processor time of the gateway | the gateway itself |\n|---|---|---|---|\n")
	for _, a := range r.agents {
		took, cpu := slices.Clone(a.took["direct"]), slices.Clone(a.took["direct cpu"])
		fmt.Fprintf(s, "| %s | %.2f | %.2f | %.2f s, %.2f s of a processor |\n", a.name, median(a.ratios("agent")),
			median(slices.Clone(a.took["agent cpu"])).Seconds()/max(median(cpu).Seconds(), 1e-9), median(took).Seconds(), median(cpu).Seconds())
	}
}
