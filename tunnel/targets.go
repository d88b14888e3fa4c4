package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Targets is what an agent may dial. The zero value allows nothing.
type Targets struct {
	targets  []target
	networks []netip.Prefix
	// Resolver looks names up: the system's, unless it is replaced.
	Resolver Resolver
}

// Resolver is what looks names up.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// target is one line of the list.
type target struct {
	host    string // a name, in lower case; of *.internal, .internal
	address netip.Addr
	low     uint16
	high    uint16
}

// ParseTargets reads an allowlist. A target is host:port: the host a name, an
// IP address, or *.name for all names under one; the port a number, or two
// with a - between for a range. A target's address must lie in one of
// networks, which are in CIDR notation (RFC 4632); where there are none, it
// must be public. An IP address that is itself a target needs no network.
func ParseTargets(targets, networks []string) (*Targets, error) {
	t := &Targets{Resolver: net.DefaultResolver}
	for _, text := range targets {
		one, err := parseTarget(text)
		if err != nil {
			return nil, fmt.Errorf("read target %q: %w", text, err)
		}
		t.targets = append(t.targets, one)
	}
	for _, text := range networks {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return nil, fmt.Errorf("read network %q: want an address and how many bits of it count, such as 10.2.0.0/16", text)
		}
		t.networks = append(t.networks, p)
	}
	return t, nil
}

func parseTarget(text string) (t target, err error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return t, errors.New("want host:port, such as db.internal:5432, *.internal:5432 or 10.2.3.4:5000-5010")
	}
	low, high, isRange := strings.Cut(port, "-")
	if !isRange {
		high = low
	}
	first, err1 := strconv.ParseUint(low, 10, 16)
	last, err2 := strconv.ParseUint(high, 10, 16)
	if err1 != nil || err2 != nil || first == 0 || first > last {
		return t, errors.New("want a port from 1 to 65535, or two with a - between, the lower first")
	}
	t.low, t.high = uint16(first), uint16(last)
	if t.address, err = netip.ParseAddr(host); err == nil {
		t.address = t.address.Unmap()
		if t.address.Zone() != "" || never(t.address) {
			return t, errors.New("no agent dials this address")
		}
		return t, nil
	}
	host = canonical(host)
	name, wild := strings.CutPrefix(host, "*.")
	if !isName(name) {
		return t, errors.New("want a name, an IP address, or *. and a name")
	}
	if t.host = name; wild {
		t.host = "." + name
	}
	return t, nil
}

func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// isName reports whether host is a name of letters, digits, - and _ in labels
// (RFC 1123, section 2.1), and not a number, which some resolvers take for an
// address.
func isName(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(host, ".") {
		last = label
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	_, err := strconv.ParseUint(last, 0, 64) // 127.1 and 0x7f.1
	return err != nil
}

// forbidden are addresses that no agent dials, whatever its list says: at the
// link's own, clouds hand out credentials to whoever asks.
var forbidden = prefixes(
	"0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", // this host, link-local, multicast and reserved
	"100.100.100.200/32", "168.63.129.16/32", "192.0.0.0/24", // metadata: Alibaba, Azure, Oracle
	"::/128", "fe80::/10", "ff00::/8",
	"fd00:ec2::/32", "fd20:ce::/32", // metadata: AWS, Google
	// An IPv4 address within an IPv6 one (RFC 6052, 3056, 4380) would pass
	// every check of IPv4 addresses.
	"64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "::ffff:0:0:0/96",
)

// private are addresses that mean another host in another network.
var private = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "198.18.0.0/15", "::1/128", "fc00::/7", "fec0::/10")

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func within(all []netip.Prefix, a netip.Addr) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func never(a netip.Addr) bool {
	return a != netip.IPv6Loopback() && within(forbidden, a)
}

// maxAddresses bounds how many addresses of a name are tried.
const maxAddresses = 8

// resolve returns the addresses that may be dialled for a target, in the
// order in which they are tried, or a refusal.
func (t *Targets) resolve(ctx context.Context, hostport string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(hostport)
	port, err2 := strconv.ParseUint(portText, 10, 16)
	if err != nil || err2 != nil || port == 0 {
		return nil, &refusal{codeForbidden, fmt.Sprintf("%.80q is not host:port", hostport)}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return t.literal(a, uint16(port), hostport)
	}
	name := canonical(host)
	if !isName(name) || !t.names(name, uint16(port)) {
		return nil, notListed(hostport)
	}
	addresses, err := t.Resolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, &refusal{codeUnreachable, fmt.Sprintf("look up %s: %v", name, err)}
	}
	var allowed []netip.AddrPort
	var reason error = &refusal{codeUnreachable, fmt.Sprintf("look up %s: it has no address", name)}
	for _, a := range addresses {
		a = a.Unmap()
		if err := t.place(a, name); err != nil {
			reason = err
		} else if len(allowed) < maxAddresses {
			allowed = append(allowed, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	if len(allowed) == 0 {
		return nil, reason
	}
	return allowed, nil
}

func (t *Targets) literal(a netip.Addr, port uint16, hostport string) ([]netip.AddrPort, error) {
	if a.Zone() != "" {
		return nil, notListed(hostport)
	}
	a = a.Unmap()
	for _, one := range t.targets {
		if one.address == a && one.low <= port && port <= one.high {
			return []netip.AddrPort{netip.AddrPortFrom(a, port)}, nil
		}
	}
	return nil, notListed(hostport)
}

func (t *Targets) names(name string, port uint16) bool {
	for _, one := range t.targets {
		if one.address.IsValid() || port < one.low || port > one.high {
			continue
		}
		if name == one.host || strings.HasPrefix(one.host, ".") && strings.HasSuffix(name, one.host) {
			return true
		}
	}
	return false
}

// place checks where a name led.
func (t *Targets) place(a netip.Addr, name string) error {
	switch {
	case a.Zone() != "" || never(a):
		return &refusal{codeForbidden, fmt.Sprintf("%s leads to %s, which no agent dials", name, a)}
	case within(t.networks, a):
		return nil
	case len(t.networks) > 0:
		return &refusal{codeForbidden, fmt.Sprintf("%s leads to %s, which is in none of the agent's networks: add its network to networks in agent.yaml", name, a)}
	case within(private, a):
		return &refusal{codeForbidden, fmt.Sprintf("%s leads to %s, a private address: add its network to networks in agent.yaml", name, a)}
	}
	return nil
}

func notListed(hostport string) error {
	return &refusal{codeForbidden, fmt.Sprintf("%.80q is not one of the agent's targets: add it to targets in agent.yaml", hostport)}
}

// dialTimeout bounds one attempt to reach one address.
const dialTimeout = 10 * time.Second

// Dial looks a target up, once, and dials what was checked.
func (t *Targets) Dial(ctx context.Context, hostport string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	addresses, err := t.resolve(ctx, hostport)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	for _, a := range addresses {
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "tcp", a.String()); err == nil {
			return conn, nil
		}
	}
	return nil, &refusal{codeUnreachable, clean(err)}
}
