package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		ok   bool
		want []string
	}{
		"passed": {`{"Action":"pass","Package":"p","Test":"T"}` + "\n" + `{"Action":"pass","Package":"p","Elapsed":1}`, true, []string{"ok    p", "1 passed, 0 failed"}},
		"failed": {`{"Action":"output","Package":"p","Test":"T","Output":"why\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"T"}`, false, []string{"FAIL  p T", "why"}},
		"skipped": {`{"Action":"output","Package":"p","Test":"T","Output":"    x_test.go:9: no server\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"T"}` + "\n" + `{"Action":"pass","Package":"p","Test":"U"}`,
			true, []string{"skipped p T: no server"}},
		"does not build": {`{"Action":"build-output","ImportPath":"p","Output":"syntax error\n"}` + "\n" + `{"Action":"build-fail","ImportPath":"p"}`, false, []string{"syntax error"}},
		"nothing":        {"", false, []string{"0 passed"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if ok := report(strings.NewReader(c.in), &out); ok != c.ok {
				t.Errorf("reported %v", ok)
			}
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q in:\n%s", w, &out)
				}
			}
		})
	}
}
