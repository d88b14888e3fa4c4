package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/custos-gateway/custos/config"
)

// configCommand runs `custos config` with args.
func configCommand(t *testing.T, asJSON bool, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, progress bytes.Buffer
	g := &globals{json: asJSON, stdin: strings.NewReader(""), stdout: &out, stderr: &progress}
	c := newConfigCommand(g, config.Options{Protocols: []string{"postgres"}})
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetArgs(args)
	err = c.Execute()
	return out.String(), progress.String(), err
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "custos.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	validConfig = "listen: {postgres: \"127.0.0.1:0\"}\nissuers: [{url: https://id.example.com, audience: custos}]\n" +
		"connections:\n  - {name: a, protocol: postgres, address: \"db:5432\", credential: {username: app}}\n"
	wrongConfig = "listen: {htps: x}\nissuers: [{url: ftp://x}]\n"
)

func TestConfigCheck(t *testing.T) {
	path := configFile(t, validConfig)
	stdout, stderr, err := configCommand(t, false, "check", "--config", path)
	if err != nil || !strings.Contains(stdout, "is valid: 1 connections, 1 issuers") ||
		!strings.Contains(stderr, path+":4:5: connections[0]: warning: nobody can use connection a") {
		t.Errorf("%q, %q, %v", stdout, stderr, err)
	}
	path = configFile(t, wrongConfig)
	stdout, stderr, err = configCommand(t, false, "check", "--config", path)
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != exitFailed || stdout != "" {
		t.Errorf("%q, %v", stdout, err)
	}
	for _, want := range []string{path + ":1:10: listen.htps: unknown key: did you mean https?", path + ":2:17: issuers[0].url: want a URL"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestConfigCheckJSON(t *testing.T) {
	type report struct {
		OK       bool
		Errors   []struct{ Line, Column int }
		Warnings []struct{ Key, Message string }
	}
	var good, bad report
	stdout, _, err := configCommand(t, true, "check", "--config", configFile(t, validConfig))
	if err := errors.Join(err, json.Unmarshal([]byte(stdout), &good)); err != nil {
		t.Fatal(err)
	}
	if !good.OK || good.Errors == nil || len(good.Errors) > 0 || len(good.Warnings) != 1 || good.Warnings[0].Key != "connections[0]" {
		t.Errorf("%s", stdout)
	}
	stdout, _, err = configCommand(t, true, "check", "--config", configFile(t, wrongConfig))
	if err == nil {
		t.Error("a wrong file passes")
	}
	if err := json.Unmarshal([]byte(stdout), &bad); err != nil || bad.OK || len(bad.Errors) < 2 || bad.Errors[0].Line != 1 {
		t.Errorf("%s: %v", stdout, err)
	}
}

func TestConfigExplainAndSchema(t *testing.T) {
	stdout, _, err := configCommand(t, false, "explain", "limits.sessions")
	if err != nil || !strings.Contains(stdout, "default 10000") {
		t.Errorf("%q, %v", stdout, err)
	}
	if stdout, _, err = configCommand(t, false, "explain"); err != nil || !strings.Contains(stdout, "listen") {
		t.Errorf("%q, %v", stdout, err)
	}
	var exit *exitError
	if _, _, err = configCommand(t, false, "explain", "limit"); !errors.As(err, &exit) || exit.code != exitUsage || !strings.Contains(err.Error(), "did you mean limits?") {
		t.Errorf("%v", err)
	}
	if stdout, _, err = configCommand(t, false, "schema"); err != nil || !json.Valid([]byte(stdout)) {
		t.Errorf("%.40q, %v", stdout, err)
	}
}
