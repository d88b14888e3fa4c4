package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// agent starts and ends agents, each with a configuration file of its own:
//
//	agent FILE start  runs custos agent with the file, in which $NAMEs are
//	                  replaced by the script's variables; ! agent FILE start:
//	                  it must fail
//	agent FILE stop   tells it to end (SIGTERM), and waits
//	agent FILE kill   kills it (SIGKILL)
//	agent FILE log P  waits until its log has a line with P
func (w *world) agent(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: agent FILE start|stop|kill|log")
	}
	sc, file := of(ts), args[0]
	p := sc.agents[file]
	switch verb := args[1]; {
	case verb == "start" && p == nil:
		ts.Check(expand(ts, file))
		p, err := launch(ts.MkAbs("."), []string{"agent", "--config", file})
		ts.Check(err)
		if neg {
			if err := <-p.ended; err == nil {
				ts.Fatalf("it ended well, and should not")
			}
			io.WriteString(ts.Stderr(), p.log.String())
			return
		}
		sc.agents[file] = p
	case p == nil:
		ts.Fatalf("agent %s does not run", file)
	case verb == "log" && len(args) == 3:
		ts.Check(p.log.await(func(log string) bool { return strings.Contains(log, args[2]) }))
	case verb == "stop" || verb == "kill":
		err := p.end(map[string]os.Signal{"stop": os.Interrupt, "kill": os.Kill}[verb])
		if verb == "stop" && err != nil {
			ts.Fatalf("the agent ended with %v", err)
		}
		fmt.Fprint(ts.Stderr(), p.log.String())
		delete(sc.agents, file)
	default:
		ts.Fatalf("usage: agent FILE start|stop|kill|log")
	}
}
