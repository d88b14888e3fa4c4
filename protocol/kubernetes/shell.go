package kubernetes

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// maxScript bounds, in bytes, what is parsed as a script.
const maxScript = 64 << 10

// commandEffects says what a command does besides running, as far as its words
// tell. What they do not tell is not guessed at: a program may do anything, and
// running one is an effect of its own.
func commandEffects(argv []string) []string {
	c := commands{}
	c.argv(argv, 0)
	return c.effects
}

// lineEffects is commandEffects for lines as they are typed into a shell;
// incomplete: it waits for more before it runs them.
func lineEffects(text string) (effects []string, incomplete bool) {
	if _, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), ""); err != nil && syntax.IsIncomplete(err) {
		return nil, true
	}
	c := commands{}
	c.script(text, 0)
	return c.effects, false
}

type commands struct{ effects []string }

func (c *commands) add(effects ...string) {
	for _, e := range effects {
		if !slices.Contains(c.effects, e) {
			c.effects = append(c.effects, e)
		}
	}
}

var shells = []string{"sh", "bash", "ash", "dash", "zsh", "ksh", "mksh", "busybox-sh", "fish", "rbash"}

// wrappers run the command that follows their own options.
var wrappers = map[string]int{
	"env": 0, "nohup": 0, "nice": 0, "ionice": 0, "setsid": 0, "stdbuf": 0, "time": 0, "exec": 0, "command": 0, "builtin": 0,
	"busybox": 0, "toybox": 0, "timeout": 1, "flock": 1, "xargs": 0, "watch": 0, "strace": 0, "tini": 0, "dumb-init": 0, "catchsegv": 0, "then": 0,
}

// maxNesting bounds scripts in scripts.
const maxNesting = 8

func (c *commands) argv(argv []string, depth int) {
	if depth > maxNesting {
		c.add("code.dynamic")
		return
	}
	for len(argv) > 0 && strings.Contains(argv[0], "=") && !strings.HasPrefix(argv[0], "=") && !strings.ContainsAny(argv[0][:strings.Index(argv[0], "=")], "/-") {
		argv = argv[1:] // an assignment before the command
	}
	if len(argv) == 0 {
		return
	}
	name, args := path.Base(argv[0]), argv[1:]
	c.paths(name, args)
	if skip, wraps := wrappers[name]; wraps {
		rest := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") && !strings.Contains(a, "=") })
		if rest < 0 || rest+skip >= len(args) {
			if name == "env" {
				c.add("secret")
			}
			return
		}
		c.argv(args[rest+skip:], depth+1)
		return
	}
	if slices.Contains(shells, name) {
		c.shell(args, depth)
		return
	}
	c.program(name, args, depth)
}

// shell is a shell with arguments: the script after -c, in any cluster of
// options.
func (c *commands) shell(args []string, depth int) {
	for i, a := range args {
		if !strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "+") {
			c.add("code") // a file of which nothing is known
			return
		}
		if !strings.HasPrefix(a, "--") && strings.Contains(a, "c") {
			for _, script := range args[i+1:] {
				if !strings.HasPrefix(script, "-") && !strings.HasPrefix(script, "+") {
					c.script(script, depth+1)
					return
				}
			}
			return
		}
	}
}

// script is the text of a shell's program.
func (c *commands) script(text string, depth int) {
	if strings.TrimSpace(text) == "" {
		return
	}
	if len(text) > maxScript || depth > maxNesting {
		c.add("code.dynamic")
		return
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		c.add("code")
		return
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CallExpr:
			c.call(n, depth)
		case *syntax.BinaryCmd:
			if n.Op == syntax.Pipe || n.Op == syntax.PipeAll {
				c.pipe(n)
			}
		case *syntax.Redirect:
			c.redirect(n)
		case *syntax.FuncDecl:
			c.add("code.define")
		case *syntax.DeclClause:
			if n.Variant.Value == "export" && len(n.Args) == 0 {
				c.add("secret")
			}
		}
		return true
	})
}

// call is one simple command. A word that is made while it runs stands for
// anything: as the command itself, nobody can know what that is.
func (c *commands) call(n *syntax.CallExpr, depth int) {
	var argv []string
	for i, w := range n.Args {
		text, ok := literal(w.Parts)
		if !ok && i == 0 {
			c.add("code.dynamic")
			return
		}
		argv = append(argv, text)
	}
	if len(argv) == 0 {
		return
	}
	c.argv(argv, depth)
}

// literal is a word as the shell will see it, as far as that is fixed; ok: all
// of it is.
func literal(parts []syntax.WordPart) (string, bool) {
	var b strings.Builder
	ok := true
	for _, p := range parts {
		switch p := p.(type) {
		case *syntax.Lit:
			b.WriteString(unescape(p.Value))
		case *syntax.SglQuoted:
			if p.Dollar {
				ok = false
			}
			b.WriteString(p.Value)
		case *syntax.DblQuoted:
			s, fixed := literal(p.Parts)
			b.WriteString(s)
			ok = ok && fixed
		default:
			b.WriteByte('$')
			ok = false
		}
	}
	return b.String(), ok
}

func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// pipe is a pipe into something that runs what it is given.
func (c *commands) pipe(n *syntax.BinaryCmd) {
	call, ok := n.Y.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Args) == 0 {
		return
	}
	name, _ := literal(call.Args[0].Parts)
	name = path.Base(name)
	if slices.Contains(shells, name) || slices.Contains(interpreters, name) {
		c.add("code.dynamic")
	}
}

func (c *commands) redirect(n *syntax.Redirect) {
	if n.Word == nil {
		return
	}
	file, _ := literal(n.Word.Parts)
	switch {
	case strings.HasPrefix(file, "/dev/tcp/"), strings.HasPrefix(file, "/dev/udp/"):
		c.add("network")
	case n.Op == syntax.RdrIn || n.Op == syntax.WordHdoc || n.Op == syntax.Hdoc || n.Op == syntax.DplIn || n.Op == syntax.DplOut:
		c.paths("", []string{file})
	case strings.HasPrefix(file, "/var/log"):
		c.add("audit")
	case strings.HasPrefix(file, "/dev/") && !slices.Contains([]string{"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"}, file):
		c.add("destroy")
	default:
		c.paths("", []string{file})
	}
}

var interpreters = []string{"python", "python2", "python3", "perl", "ruby", "node", "php", "lua", "awk", "gawk", "mawk", "tclsh", "java", "psql", "mysql", "mariadb", "mongo", "mongosh", "sqlite3", "redis-cli"}

// classes are programs known for what they do, by effect.
var classes = map[string][]string{
	"destroy": {"shred", "wipefs", "blkdiscard", "fdisk", "sfdisk", "parted", "dropdb", "dropuser", "srm", "wipe"},
	"kill":    {"kill", "pkill", "killall", "skill", "fuser"},
	"system":  {"shutdown", "reboot", "halt", "poweroff", "init", "telinit", "systemctl", "service", "iptables", "ip6tables", "nft", "kubeadm", "etcdctl", "sysctl"},
	"escape":  {"mount", "umount", "nsenter", "chroot", "unshare", "pivot_root", "insmod", "modprobe", "rmmod", "crictl", "docker", "ctr", "nerdctl", "podman", "runc", "mknod", "capsh", "setcap"},
	"role":    {"useradd", "adduser", "usermod", "userdel", "deluser", "passwd", "chpasswd", "visudo", "su", "sudo", "doas", "groupadd", "chage"},
	"network": {"nc", "ncat", "netcat", "socat", "telnet", "ssh", "scp", "sftp", "rsync", "ftp", "tftp", "nmap", "dig", "nslookup", "curl", "wget", "masscan", "ngrok", "frpc"},
	"secret":  {"printenv"},
	"code":    {"crontab", "at", "kubectl", "helm", "apt", "apt-get", "apk", "yum", "dnf", "pip", "pip3", "npm", "gem", "gdb"},
}

func (c *commands) program(name string, args []string, depth int) {
	for effect, names := range classes {
		if slices.Contains(names, name) && (effect != "network" || !local(args)) {
			c.add(effect)
		}
	}
	switch {
	case strings.HasPrefix(name, "mkfs"):
		c.add("destroy")
	case slices.Contains(interpreters, name):
		c.add("code")
		c.client(args)
	}
	switch name {
	case "rm", "unlink", "rmdir":
		c.remove(args)
	case "find":
		c.find(args, depth)
	case "dd":
		if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "of=/dev/") }) {
			c.add("destroy")
		}
	case "truncate", "mv", "chmod", "chown":
		if recursive(args) || name == "truncate" {
			c.add("destroy")
		}
	case "eval", "source", ".":
		c.add("code.dynamic")
	case "set", "export", "declare":
		if len(args) == 0 {
			c.add("secret")
		}
	case "history", "unset":
		if slices.Contains(args, "-c") || slices.Contains(args, "HISTFILE") {
			c.add("audit")
		}
	}
}

func (c *commands) remove(args []string) {
	if recursive(args) || slices.ContainsFunc(args, func(a string) bool { return strings.ContainsAny(a, "*?[$") }) {
		c.add("destroy")
	}
	c.add("delete")
}

func recursive(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		return strings.HasPrefix(a, "--r") || strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && strings.ContainsAny(a, "rR")
	})
}

// find runs commands of its own, and deletes.
func (c *commands) find(args []string, depth int) {
	for i, a := range args {
		switch a {
		case "-delete":
			c.add("destroy")
		case "-exec", "-execdir", "-ok", "-okdir":
			before := len(c.effects)
			c.argv(args[i+1:], depth+1)
			if slices.Contains(c.effects[before:], "delete") {
				c.add("destroy")
			}
		}
	}
}

// client is the client of a database with a command that drops what is there.
func (c *commands) client(args []string) {
	for _, a := range args {
		a = strings.ToUpper(a)
		for _, word := range []string{"DROP ", "TRUNCATE ", "FLUSHALL", "FLUSHDB", ".DROP(", "DROPDATABASE"} {
			if strings.Contains(a, word) {
				c.add("destroy")
			}
		}
	}
}

// local reports whether what a program connects to is on the spot.
func local(args []string) bool {
	found := false
	for _, a := range args {
		host := a
		if _, after, ok := strings.Cut(a, "://"); ok {
			host = after
		} else if strings.HasPrefix(a, "-") || !strings.ContainsAny(a, ".:") && a != "localhost" {
			continue
		}
		host, _, _ = strings.Cut(host, "/")
		if strings.Contains(host, "@") {
			return false
		}
		host, _, _ = strings.Cut(host, ":")
		if host != "localhost" && host != "127.0.0.1" {
			return false
		}
		found = true
	}
	return found
}

// paths looks for files that hold secrets, or another process's world.
func (c *commands) paths(name string, args []string) {
	for _, a := range args {
		switch {
		case strings.Contains(a, "/run/secrets"), strings.Contains(a, "/etc/shadow"), strings.Contains(a, "/environ"),
			strings.Contains(a, "/.ssh/"), strings.Contains(a, "/.aws/"), strings.Contains(a, "/.kube/"), strings.Contains(a, "/etc/kubernetes/pki"), strings.Contains(a, "/root/.docker"):
			c.add("secret")
		case strings.Contains(a, "docker.sock"), strings.Contains(a, "containerd.sock"), strings.Contains(a, "crio.sock"), strings.Contains(a, "/proc/1/root"), strings.Contains(a, "core_pattern"):
			c.add("escape")
		case strings.Contains(a, "169.254.169.254"), strings.Contains(a, "metadata.google.internal"):
			c.add("secret", "network")
		case strings.HasPrefix(a, "/var/log/") && name != "cat" && name != "tail" && name != "head" && name != "grep" && name != "less" && name != "ls" && name != "zcat" && name != "":
			c.add("audit")
		}
	}
}
