package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/custos-gateway/custos/internal/gittest"
)

// startForge starts a git server with a repository that has a page in it.
func (d *demo) startForge() error {
	d.say("starting a git server with a repository")
	dir := filepath.Join(d.dir, "forge")
	bare := filepath.Join(dir, "app.git")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	var err error
	if d.forge, err = gittest.Open(dir); err != nil {
		return err
	}
	d.stop = append(d.stop, d.forge.Close)
	first := filepath.Join(d.dir, "first")
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", bare}, {"-C", bare, "config", "http.receivepack", "true"}, {"-C", bare, "config", "uploadpack.allowFilter", "true"},
		{"init", "-q", "-b", "main", first}, {"-C", first, "commit", "-q", "--allow-empty", "-m", "begin"}, {"-C", first, "push", "-q", bare, "main"},
	} {
		cmd := exec.CommandContext(d.ctx, "git", args...)
		cmd.Env = gittest.Env(d.dir, "ana")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make repository: %w: %s", err, out)
		}
	}
	return os.WriteFile(filepath.Join(d.dir, "git.password"), []byte(d.forge.Password+"\n"), 0o600)
}

// git runs real git through the gateway as a caller, and shows it. A push that
// is refused is part of the show.
func (d *demo) git(who, token string, args ...string) error {
	fmt.Fprintf(d.g.stdout, "%s$ git %s\n", who, strings.Join(args, " "))
	cmd := exec.CommandContext(d.ctx, d.self, append([]string{"connect", "platform", "--", "git"}, args...)...)
	cmd.Dir = d.dir
	cmd.Env = append(gittest.Env(d.dir, "reporter"), "CUSTOS_URL=https://"+d.https, "CUSTOS_CA="+d.ca(), "CUSTOS_TOKEN="+token)
	cmd.Stdout, cmd.Stderr = d.g.stdout, d.g.stdout
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return nil
	}
	return err
}

// push has the skill push a commit with a key in it, and then one without.
func (d *demo) push(token string) error {
	d.say("git, by the same gateway: a branch of its own is the skill's, and a key does not reach the server, in whichever commit it stands")
	key := filepath.Join(d.dir, "work", "deploy.env")
	write := func() error { return os.WriteFile(key, []byte("AWS_ACCESS_KEY_ID=AKIAQ4B7XJ2N5RWT6KZP\n"), 0o600) }
	git := func(args ...string) func() error {
		return func() error { return d.git("skill", token, args...) }
	}
	for _, step := range []func() error{
		git("clone", "-q", "custos:platform/app.git", "work"), git("-C", "work", "checkout", "-q", "-b", "agent/deploy"), write,
		git("-C", "work", "add", "deploy.env"), git("-C", "work", "commit", "-q", "-m", "deploy"), git("-C", "work", "push", "-q", "origin", "agent/deploy"),
		git("-C", "work", "rm", "-q", "--cached", "deploy.env"), git("-C", "work", "commit", "-q", "--amend", "--allow-empty", "-m", "deploy without the key"),
		git("-C", "work", "push", "origin", "agent/deploy"),
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
