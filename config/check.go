package config

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// connectionName is what a connection may be called, so that the name is safe
// in a URL, a file name and a shell.
var connectionName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// check reports what no single key can tell: settings that contradict each
// other, are unsafe, or name what is not there.
func (d *decoder) check(c *Config, opts Options) {
	d.checkListen(&c.Listen)
	issuers := make(map[string]string)
	for i := range c.Issuers {
		key := fmt.Sprintf("issuers[%d]", i)
		d.checkIssuer(&c.Issuers[i], key)
		d.once(issuers, c.Issuers[i].URL+" "+c.Issuers[i].Audience, key+".url", "this issuer and audience")
	}
	for _, role := range []struct {
		name   string
		groups []string
	}{{"admin", c.Roles.Admin}, {"reviewer", c.Roles.Reviewer}, {"auditor", c.Roles.Auditor}} {
		d.distinct(role.groups, "roles."+role.name)
	}
	names := make(map[string]string)
	for i := range c.Connections {
		key := fmt.Sprintf("connections[%d]", i)
		d.checkConnection(&c.Connections[i], key, opts)
		d.once(names, c.Connections[i].Name, key+".name", "a connection of this name")
	}
	d.checkAgents(c)
	d.checkSkills(c)
	d.checkSecrets(c)
	d.checkNotify(c)
	d.checkConsole(c)
	d.checkPolicies(c, opts)
	d.checkLimits(&c.Limits)
	d.checkLedger(&c.Ledger)
	if c.Listen.Postgres == "" && slices.ContainsFunc(c.Connections, func(n Connection) bool { return n.Protocol == "postgres" }) {
		d.warn("listen", "nobody can reach the connections that speak postgres: add listen.postgres")
	}
}

// once reports a value that an earlier key has already.
func (d *decoder) once(seen map[string]string, value, key, what string) {
	if strings.TrimSpace(value) == "" {
		return
	}
	if first, twice := seen[value]; twice {
		d.fail(key, "%s stands already in line %d: keep one", what, d.at[first].line)
		return
	}
	seen[value] = key
}

// distinct reports an item that a list has twice.
func (d *decoder) distinct(items []string, key string) {
	for i, item := range items {
		if item != "" && slices.Index(items, item) < i {
			d.fail(fmt.Sprintf("%s[%d]", key, i), "it stands twice: keep one")
		}
	}
}

func (d *decoder) checkListen(l *Listen) {
	if _, present := d.at["listen"]; present && l.HTTPS == "" && l.Postgres == "" {
		d.fail("listen", "the gateway listens nowhere: add https, postgres or both")
	}
	d.checkAddress(l.HTTPS, "listen.https", true)
	d.checkAddress(l.Postgres, "listen.postgres", true)
	if l.HTTPS != "" && l.HTTPS == l.Postgres && !strings.HasSuffix(l.HTTPS, ":0") {
		d.fail("listen.postgres", "it is the address of listen.https: give each its own")
	}
}

// checkAddress reports what is not host:port. To listen, the host may be
// absent, for all interfaces, and the port 0, for any.
func (d *decoder) checkAddress(address, key string, listen bool) {
	if address == "" {
		return
	}
	host, port, ok := splitAddress(address)
	n, err := strconv.ParseUint(port, 10, 16)
	if !ok || err != nil || (host == "" || n == 0) && !listen {
		d.fail(key, "want host:port, such as 127.0.0.1:5432, db.internal:5432 or [::1]:5432")
	}
}

// splitAddress cuts host:port, and says whether the host can be one.
func splitAddress(address string) (host, port string, ok bool) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = address[:i], address[i+1:]
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, found = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return inner, port, found && err == nil && ip.Is6()
	}
	return host, port, !strings.ContainsAny(host, ":/@[]?# ")
}

// loopback reports whether what is sent to host cannot leave this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (d *decoder) checkURL(text, key string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		d.fail(key, "want a URL such as https://id.example.com")
	case u.User != nil:
		d.fail(key, "a URL here holds no user or password: remove them")
	case u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(text, "?") || strings.HasSuffix(text, "#"):
		d.fail(key, "a URL here has no ? and no #: remove them")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		d.fail(key, "http is taken on loopback only: use https")
	}
}

var kinds = []string{"person", "skill", "ci", "workload"}

func (d *decoder) checkIssuer(s *Issuer, key string) {
	d.checkURL(s.URL, key+".url")
	d.checkURL(s.JWKSURL, key+".jwks_url")
	d.checkURL(s.DiscoveryURL, key+".discovery_url")
	for _, value := range slices.Sorted(maps.Keys(s.Kinds)) {
		if kind := s.Kinds[value]; !slices.Contains(kinds, kind) {
			d.fail(key+".kinds."+value, "unknown kind %q: want one of %s", kind, strings.Join(kinds, ", "))
		}
	}
	if len(s.Kinds) > 0 && s.KindClaim == "" {
		d.fail(key+".kinds", "without kind_claim there is nothing to look up here: name the claim, or remove kinds")
	}
	d.distinct(s.Algorithms, key+".algorithms")
}

func (d *decoder) checkConnection(n *Connection, key string, opts Options) {
	if n.Name != "" && !connectionName.MatchString(n.Name) {
		d.fail(key+".name", "want lower-case letters, digits, - and _, at most 63, the first a letter or digit")
	}
	if n.Protocol != "" && !slices.Contains(opts.Protocols, n.Protocol) {
		d.fail(key+".protocol", "unknown protocol %q: want one of %s", n.Protocol, strings.Join(opts.Protocols, ", "))
	}
	d.checkPlace(n, key+".address", opts)
	d.checkTargetTLS(n, key+".tls")
	groups := 0
	for i, a := range n.Access {
		groups += len(a.Groups)
		d.distinct(a.Groups, fmt.Sprintf("%s.access[%d].groups", key, i))
	}
	if groups == 0 {
		d.warn(key, "nobody can use connection %s: add access: [{groups: [...]}]", n.Name)
	}
	if _, present := d.at[key+".retention"]; present && n.Retention == 0 {
		d.fail(key+".retention", "a recording cannot be kept for no time: give a time span, or remove the key to keep it for ever")
	}
}

// place is where a target is: host:port, the path below which callers reach it,
// and whether it is spoken to in the clear, as a URL says.
func (n *Connection) place() (address, path string, clear bool) {
	scheme, _, isURL := strings.Cut(n.Address, "://")
	u, err := url.Parse(n.Address)
	if !isURL || err != nil {
		return n.Address, "", false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), strings.TrimSuffix(u.EscapedPath(), "/"), scheme == "http"
}

func (d *decoder) checkPlace(n *Connection, key string, opts Options) {
	if !strings.Contains(n.Address, "://") {
		d.checkAddress(n.Address, key, false)
		return
	}
	_, secure := d.at[strings.TrimSuffix(key, "address")+"tls"]
	switch {
	case !slices.Contains(opts.Addressed, n.Protocol):
		d.fail(key, "a target that speaks %s has no URL: want host:port, such as db.internal:5432", n.Protocol)
		return
	case secure && n.TLS.Mode != "disable" && strings.HasPrefix(n.Address, "http://"):
		d.fail(key, "http goes without TLS, and tls asks for it: use https")
	case n.TLS.Mode == "disable" && strings.HasPrefix(n.Address, "https://"):
		d.fail(key, "https goes over TLS, and tls is disabled: use http, or remove tls")
	}
	d.checkURL(n.Address, key)
}

func (d *decoder) checkTargetTLS(n *Connection, key string) {
	t := &n.TLS
	if (t.Certificate == "") != (t.Key == "") {
		d.fail(key, "certificate and key go together: give both or neither")
	}
	if t.Mode != "disable" {
		return
	}
	address, _, _ := n.place()
	if host, _, ok := splitAddress(address); ok && !loopback(host) {
		d.fail(key, "disable would send the credential and the data in the clear to %s: "+
			"use verify-full, with ca_file where the target has a private CA", host)
	}
	if t.CAFile != "" || t.Certificate != "" {
		d.fail(key, "with mode disable no certificate is used: remove ca_file, certificate and key, or the mode")
	}
}

func (d *decoder) checkLimits(l *Limits) {
	if l.PreAuthTimeout == 0 {
		d.fail("limits.pre_auth_timeout", "a client cannot take for ever to authenticate: give a time span such as 10s")
	}
	if l.TicketLife < Duration(time.Second) || l.TicketLife > Duration(time.Hour) {
		d.fail("limits.ticket_life", "a ticket is a short secret, and lives as shortly: give a time span from 1s to 1h")
	}
	if l.SessionsPerCaller > l.Sessions {
		if _, present := d.at["limits.sessions_per_caller"]; present {
			d.warn("limits.sessions_per_caller", "it is more than limits.sessions, which bounds it")
		}
	}
	if l.FreeSpace.Operations.Of(1<<40) == 0 {
		d.fail("limits.free_space.operations", "without a floor the disk could fill up: give it some space, such as 1GiB")
	}
}

func (d *decoder) checkLedger(l *Ledger) {
	if strings.ContainsAny(l.Origin, " +") || strings.Contains(l.Origin, "://") {
		d.fail("ledger.origin", "want a host name and path of yours without a scheme, a space or a +, such as custos.example.com/ledger")
	}
	if len(l.Witnesses) > 0 && l.Origin == "custos" {
		d.fail("ledger.origin", "a witness tells logs apart by it: give this log a name of its own, such as custos.example.com/ledger")
	}
	if l.WitnessQuorum > len(l.Witnesses) {
		d.fail("ledger.witness_quorum", "it is more than the %d witnesses listed", len(l.Witnesses))
	}
	if l.Heartbeat == 0 {
		d.fail("ledger.heartbeat", "silence must be proven: give a time span such as 1h")
	}
	keys := make(map[string]string)
	for i, w := range l.Witnesses {
		key := fmt.Sprintf("ledger.witnesses[%d]", i)
		d.checkURL(w.URL, key+".url")
		if w.Key != "" && !isCosigner(w.Key) {
			d.fail(key+".key", "want the witness's verifier key for cosignatures: name+hash+key, on one line")
		}
		d.once(keys, w.Key, key+".key", "a witness with this key")
	}
}

// isCosigner reports whether vkey is the verifier key of Ed25519 cosignatures
// (C2SP signed-note and tlog-cosignature: type 0x04), with the right hash.
func isCosigner(vkey string) bool {
	name, rest, ok := strings.Cut(vkey, "+")
	hash, encoded, ok2 := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || !ok2 || err != nil || len(key) != 33 || key[0] != 0x04 || name == "" || strings.ContainsAny(name, " \t") {
		return false
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return hash == hex.EncodeToString(sum[:4])
}
