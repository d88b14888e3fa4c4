package tunnel

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// names is a resolver that knows some names, and counts.
type names struct {
	known map[string][]string
	asked int
}

func (n *names) LookupNetIP(_ context.Context, _, host string) (all []netip.Addr, err error) {
	n.asked++
	for _, text := range n.known[host] {
		all = append(all, netip.MustParseAddr(text))
	}
	if all == nil {
		return nil, errors.New("no such host")
	}
	return all, nil
}

func TestTargets(t *testing.T) {
	known := &names{known: map[string][]string{
		"db.internal": {"10.2.0.5", "10.3.0.5"}, "a.b.internal": {"10.2.0.6"}, "internal": {"10.2.0.7"},
		"public.example.com": {"93.184.215.14", "2606:2800:21f::1"}, "inner.example.com": {"192.168.1.1"}, "self.example.com": {"127.0.0.1", "::1"},
		"meta.example.com": {"169.254.169.254"}, "meta6.example.com": {"fd00:ec2::254"}, "mapped.example.com": {"::ffff:169.254.169.254"},
		"nat64.example.com": {"64:ff9b::a9fe:a9fe"}, "zone.example.com": {"fe80::1%eth0"}, "half.example.com": {"169.254.169.254", "93.184.215.14"},
		"azure.example.com": {"168.63.129.16"}, "alibaba.example.com": {"100.100.100.200"}, "any.example.com": {"0.0.0.0"}, "any6.example.com": {"::"},
		"6to4.example.com": {"2002:a9fe:a9fe::1"},
	}}
	closed, err := ParseTargets([]string{"db.internal:5432", "*.internal:6000-6002", "10.9.9.9:22", "[fd00::9]:22", "DB2.Internal.:1"}, []string{"10.2.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	open, err := ParseTargets([]string{"*.example.com:443", "10.9.9.9:22"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := ParseTargets([]string{"*.example.com:443"}, []string{"0.0.0.0/0", "::/0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		targets *Targets
		ask     string
		want    string // addresses, or a part of the refusal
	}{
		{"a name, and of its addresses those in the network", closed, "db.internal:5432", "10.2.0.5:5432"},
		{"letter case and a dot at the end", closed, "DB.Internal.:5432", "10.2.0.5:5432"},
		{"another port", closed, "db.internal:5433", "!not one of"},
		{"a name under one", closed, "a.b.internal:6001", "10.2.0.6:6001"},
		{"the end of the range", closed, "a.b.internal:6002", "10.2.0.6:6002"},
		{"past the range", closed, "a.b.internal:6003", "!not one of"},
		{"the name that the others are under", closed, "internal:6000", "!not one of"},
		{"a name that ends alike", closed, "xinternal:6000", "!not one of"},
		{"a name that nobody knows", closed, "gone.internal:6000", "!look up gone.internal"},
		{"an address of the list, in no network", closed, "10.9.9.9:22", "10.9.9.9:22"},
		{"the same, mapped", closed, "[::ffff:10.9.9.9]:22", "10.9.9.9:22"},
		{"IPv6", closed, "[fd00::9]:22", "[fd00::9]:22"},
		{"IPv6 with a zone", closed, "[fd00::9%1]:22", "!not one of"},
		{"the address of a name", closed, "10.2.0.5:5432", "!not one of"},
		{"public addresses", open, "public.example.com:443", "93.184.215.14:443 [2606:2800:21f::1]:443"},
		{"a private one", open, "inner.example.com:443", "!add its network to networks"},
		{"this host", open, "self.example.com:443", "!add its network to networks"},
		{"metadata", open, "meta.example.com:443", "!no agent dials"},
		{"metadata and another", open, "half.example.com:443", "93.184.215.14:443"},
		{"metadata, with every network", meta, "meta.example.com:443", "!no agent dials"},
		{"metadata over IPv6", meta, "meta6.example.com:443", "!no agent dials"},
		{"mapped", meta, "mapped.example.com:443", "!no agent dials"},
		{"through NAT64", meta, "nat64.example.com:443", "!no agent dials"},
		{"through 6to4", meta, "6to4.example.com:443", "!no agent dials"},
		{"link-local", meta, "zone.example.com:443", "!no agent dials"},
		{"Azure's", meta, "azure.example.com:443", "!no agent dials"},
		{"Alibaba's", meta, "alibaba.example.com:443", "!no agent dials"},
		{"no address", meta, "any.example.com:443", "!no agent dials"},
		{"no address of IPv6", meta, "any6.example.com:443", "!no agent dials"},
		{"this host, by its network", meta, "self.example.com:443", "127.0.0.1:443 [::1]:443"},
		{"a number for a name", open, "2130706433:443", "!not one of"},
		{"a short address", open, "127.1:443", "!not one of"},
		{"an empty host", open, ":443", "!not one of"},
		{"port 0", open, "public.example.com:0", "!is not host:port"},
		{"port 65536", open, "public.example.com:65536", "!is not host:port"},
		{"a service's name", open, "public.example.com:https", "!is not host:port"},
		{"nothing", new(Targets), "public.example.com:443", "!not one of"},
	} {
		c.targets.Resolver = known
		known.asked = 0
		got, err := c.targets.resolve(context.Background(), c.ask)
		if text, refused := strings.CutPrefix(c.want, "!"); refused {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: got %v, %v; want %q", c.name, got, err, text)
			}
		} else {
			var all []string
			for _, a := range got {
				all = append(all, a.String())
			}
			if s := strings.Join(all, " "); err != nil || s != c.want {
				t.Errorf("%s: got %s, %v; want %s", c.name, s, err, c.want)
			}
		}
		if known.asked > 1 || known.asked == 1 && strings.Contains(c.want, "not one of") {
			t.Errorf("%s: the resolver was asked %d times", c.name, known.asked)
		}
	}
}

func TestParseTargets(t *testing.T) {
	for _, bad := range []string{
		"", "db", "db:", ":1", "db:0", "db:65536", "db:x", "db:2-1", "db:1-", "db:-1", "*:1", "a.*.b:1", "**.b:1", "a b:1", "a..b:1", "127.1:1", "2130706433:1", "0x7f.1:1",
		"169.254.169.254:80", "[fe80::1]:1", "[fe80::1%eth0]:1", "[::ffff:169.254.1.1]:1", "0.0.0.0:1", "http://a:1", strings.Repeat("a", 64) + ":1",
	} {
		if _, err := ParseTargets([]string{bad}, nil); err == nil {
			t.Errorf("the target %q is taken", bad)
		}
	}
	for _, bad := range []string{"", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "internal"} {
		if _, err := ParseTargets(nil, []string{bad}); err == nil {
			t.Errorf("the network %q is taken", bad)
		}
	}
}

// Whatever is listed and asked for, no agent dials a forbidden address, nor one
// outside of its networks that is not listed itself.
func FuzzTargets(f *testing.F) {
	f.Add("*.a:1-9", "x.a:3", "169.254.169.254")
	f.Add("[fd00::1]:1", "[fd00::1]:1", "fd00:ec2::254")
	f.Add("10.0.0.1:1", "10.0.0.1:1", "::ffff:1.2.3.4")
	f.Fuzz(func(t *testing.T, target, ask, leads string) {
		a, err := netip.ParseAddr(leads)
		if err != nil {
			return
		}
		targets, err := ParseTargets([]string{target}, []string{"10.0.0.0/8"})
		if err != nil {
			return
		}
		targets.Resolver = fixed{a}
		got, err := targets.resolve(context.Background(), ask)
		if err != nil {
			return
		}
		for _, g := range got {
			if g.Addr().Is4In6() || g.Addr().Zone() != "" || slices.ContainsFunc(forbidden, func(p netip.Prefix) bool { return p.Contains(g.Addr()) }) && g.Addr() != netip.IPv6Loopback() {
				t.Fatalf("%q with %q leads to %s", target, ask, g)
			}
			if !strings.HasPrefix(g.String(), "10.") && targets.targets[0].address != g.Addr() {
				t.Fatalf("%q with %q leads to %s, outside of its networks", target, ask, g)
			}
		}
	})
}

type fixed struct{ netip.Addr }

func (f fixed) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{f.Addr}, nil
}
