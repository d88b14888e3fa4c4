package main

import (
	"os"
	"regexp"

	"github.com/rogpeppe/go-internal/testscript"
)

// documented runs a block of commands of a page under docs/, as it stands
// there: `documented PAGE NAME` runs what follows "```sh NAME".
func (w *world) documented(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: documented PAGE NAME")
	}
	page, err := os.ReadFile("../../docs/" + args[0] + ".md")
	ts.Check(err)
	block := regexp.MustCompile("(?s)```sh " + regexp.QuoteMeta(args[1]) + "\n(.*?)```").FindSubmatch(page)
	if block == nil {
		ts.Fatalf("docs/%s.md has no block %s", args[0], args[1])
	}
	of(ts).ran(ts, neg, ts.Exec("sh", "-euc", string(block[1])))
}
