package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// chat is a service that people are told over.
type chat struct {
	*httptest.Server
	log *logged
}

// service starts a service on loopback that takes what it is posted, and
// answers with a status, or with the one that the path /status/N asks for; its
// URL is a variable: `service CHAT 200`.
func (w *world) service(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: service VARIABLE STATUS")
	}
	status, err := strconv.Atoi(args[1])
	ts.Check(err)
	posted, into := io.Pipe()
	c := &chat{log: newLogged()}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		answer := status
		if n, asked := strings.CutPrefix(r.URL.Path, "/status/"); asked && err == nil {
			answer, err = strconv.Atoi(n)
		} else if err == nil {
			_, err = into.Write(append(body, '\n'))
		}
		if err != nil {
			answer = http.StatusBadRequest
		}
		w.WriteHeader(answer)
	}))
	go c.log.follow(posted)
	ts.Defer(func() {
		c.Close()
		into.Close()
	})
	of(ts).chats[args[0]] = c
	ts.Setenv(args[0], c.URL)
}

// told waits until a service was posted what a pattern finds; with ! it checks
// that it was not: `told CHAT 'bob asks'`.
func (w *world) told(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || of(ts).chats[args[0]] == nil {
		ts.Fatalf("usage: told VARIABLE PATTERN, of a service")
	}
	pattern := regexp.MustCompile(args[1])
	log := of(ts).chats[args[0]].log
	if !neg {
		ts.Check(log.await(pattern.MatchString))
	} else if pattern.MatchString(log.String()) {
		ts.Fatalf("it was told %s", args[1])
	}
}
