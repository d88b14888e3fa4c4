package http

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/mask"
)

// The classes of requests: all that there are.
const (
	classRequest = "Request"
	classGraphQL = "GraphQL"
	classUpgrade = "Upgrade"
)

// asked is a request that was taken apart.
type asked struct {
	method    string
	host      string // of the target, in lower case
	header    http.Header
	address   *address
	body      *body
	sum       string // of a body that is not in the operation's text
	upgrade   bool
	documents []*document
}

// methods are those that are let through at all (RFC 9110, section 9.3; RFC 5789).
var methods = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}

// reads reports whether the method is one that changes nothing (RFC 9110,
// section 9.2.1).
func (q *asked) reads() bool {
	return q.method == "GET" || q.method == "HEAD" || q.method == "OPTIONS"
}

// take takes a request apart, and refuses what nobody may ask. raw is the body,
// all of it, unless it is long.
func take(method, host, rest, query string, header http.Header, raw []byte, size int64, long bool) (*asked, error) {
	q := &asked{method: method, host: strings.ToLower(host), header: header}
	if !slices.Contains(methods, method) {
		return q, refuse(ruleMethod, "the method "+oneLine(method, 40)+" is not known here", "use "+strings.Join(methods, ", "))
	}
	if err := checkHeader(header); err != nil {
		return q, err
	}
	var err error
	if q.address, err = parseAddress(rest, query); err != nil {
		return q, err
	}
	if q.address.query.Has("_method") {
		return q, overridden
	}
	if q.body, err = readBody(header, raw, size, long); err != nil {
		return q, err
	}
	if q.body.pairs.Has("_method") {
		return q, overridden
	}
	if q.upgrade, err = upgrades(method, header); err != nil {
		return q, err
	}
	if q.documents, err = graphQL(method, q.address, q.body); err != nil {
		return q, err
	}
	return q, nil
}

var overridden = refuse(ruleMethod, "the request says that it is another than its method says", "send the method that is meant")

// overrides are fields by which some servers take a request for another one.
var overrides = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "X-Original-Method", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Original-Uri"}

// claims are fields in which some servers take the word of whoever stands
// before them on who is calling.
var claims = []string{"Proxy-Authorization", "X-Remote-User", "X-Remote-Group", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Access-Token",
	"X-Auth-Request-User", "X-Auth-Request-Email", "X-Authenticated-User", "X-Goog-Authenticated-User-Email", "X-Goog-Iap-Jwt-Assertion", "X-Amzn-Oidc-Data", "X-Amzn-Oidc-Identity",
	"X-Ms-Client-Principal", "X-Webauth-User", "Remote-User", "X-User", "X-Client-Cert", "X-Ssl-Client-Cert", "X-Forwarded-Client-Cert", "X-Upstream-Authorization", "X-Original-Authorization", "X-Forwarded-Authorization"}

// checkHeader refuses fields that would have the target take a request for
// another, or for somebody else's.
func checkHeader(header http.Header) error {
	for name := range header {
		plain := http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
		switch {
		case slices.Contains(overrides, plain):
			return overridden
		case slices.Contains(claims, plain), strings.HasPrefix(plain, "Impersonate-"), plain == "Authorization":
			return refuse(ruleHeader, "the field "+oneLine(name, 60)+" would tell the target who is calling: that is the gateway's to tell", "leave it out: Authorization holds your token, and nothing else is needed")
		case strings.Contains(name, "_") && (plain == "Host" || plain == "Content-Length" || plain == "Transfer-Encoding" || plain == "Connection"):
			return refuse(ruleHeader, "the field "+oneLine(name, 60)+" is written as none is", "leave it out")
		}
	}
	return nil
}

// upgrades reports whether a request asks for a WebSocket (RFC 6455).
func upgrades(method string, header http.Header) (bool, error) {
	to := header.Get("Upgrade")
	if to == "" {
		return false, nil
	}
	if !strings.EqualFold(to, "websocket") || method != http.MethodGet {
		return false, refuse(ruleHeader, "a change to the protocol "+oneLine(to, 40)+" is not known here", "use HTTP, or a WebSocket")
	}
	return true, nil
}

// operation is what a request does.
func (q *asked) operation() *custos.Operation {
	e := &effects{}
	class := classRequest
	switch {
	case q.upgrade:
		class = classUpgrade
		e.add("tunnel")
	case len(q.documents) > 0:
		class = classGraphQL
		for _, d := range q.documents {
			d.effects(e)
		}
	case q.reads():
		q.readEffects(e)
	default:
		q.writeEffects(e)
	}
	q.anywhere(e)
	if e.has("read") && len(e.list) > 1 {
		e.list = slices.DeleteFunc(e.list, func(s string) bool { return s == "read" })
	}
	schema, table := q.address.collection()
	return &custos.Operation{
		Class: class, Text: q.text(), Verbs: []string{q.verb()}, Objects: []string{q.object()},
		Writes: !q.harmless(e),
		Facts:  &custos.Facts{Effects: e.list, Unknown: e.unknown, Attributes: q.attributes(), Predicates: q.predicates(e, schema+"."+table+"."), Fingerprint: q.method + " " + q.address.template},
	}
}

// object is what a request is about, by its path.
func (q *asked) object() string {
	if o := strings.Trim(q.address.template, "/"); o != "" {
		return o
	}
	return "/"
}

// verb is what a request is called: of GraphQL the operation.
func (q *asked) verb() string {
	if len(q.documents) > 0 {
		return strings.ToUpper(q.documents[0].operation)
	}
	return q.method
}

// harmless reports whether nothing says that a request changes anything.
func (q *asked) harmless(e *effects) bool {
	if len(q.documents) > 0 {
		return !slices.ContainsFunc(q.documents, func(d *document) bool { return d.operation == "mutation" })
	}
	return q.reads() && !q.upgrade && !e.has("change") && !e.has("delete") && !e.has("destroy") || !q.reads() && len(e.list) == 1 && e.has("read")
}

// maxText bounds, in bytes, a body that is part of an operation's text. A longer
// one is named there by its digest, and is on record as input.
const maxText = 48 << 10

// text is a request in words, as Operation reads them.
func (q *asked) text() string {
	var b strings.Builder
	b.WriteString(q.method + " " + q.address.raw)
	if q.address.rawQuery != "" {
		b.WriteString("?" + q.address.rawQuery)
	}
	if q.body.size == 0 {
		return b.String()
	}
	if q.body.media != "" && q.body.media != "application/json" {
		fmt.Fprintf(&b, " (Content-Type %s)", strings.ReplaceAll(q.header.Get("Content-Type"), ")", "%29"))
	}
	if q.shown() {
		b.WriteString(" " + string(q.body.raw))
		return b.String()
	}
	fmt.Fprintf(&b, " (%d bytes, SHA-256 %s)", q.body.size, q.sum)
	return b.String()
}

// shown reports whether the body is part of the text.
func (q *asked) shown() bool {
	return q.body.form != formOpaque && len(q.body.raw) <= maxText && utf8.Valid(q.body.raw)
}

// digest is of a body as it goes to the target.
func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// attributes are what rules may ask.
func (q *asked) attributes() map[string][]string {
	a := map[string][]string{"method": {q.method}, "path": {q.address.path}, "template": {q.address.template}}
	if q.host != "" {
		a["host"] = []string{q.host}
	}
	var query []string
	for name, values := range q.address.query {
		for _, v := range values {
			query = append(query, oneLine(name+"="+v, maxField))
		}
	}
	slices.Sort(query)
	if len(query) > maxFields {
		query = query[:maxFields]
	}
	var fields []string
	for _, f := range q.body.fields {
		fields = append(fields, f.path+"="+f.value)
	}
	var asks []string
	for _, d := range q.documents {
		asks = append(asks, d.fields...)
	}
	for name, list := range map[string][]string{"query": query, "body": fields, "graphql": asks} {
		if len(list) > 0 {
			a[name] = list
		}
	}
	if q.body.media != "" && q.body.size > 0 {
		a["type"] = []string{q.body.media}
	}
	return a
}

// predicates are the fields by which a read chooses, named as those of an answer
// are: by the query, and by the body of a search.
func (q *asked) predicates(e *effects, prefix string) []string {
	if !q.harmless(e) || len(q.documents) > 0 {
		return nil
	}
	var all []string
	add := func(name string) {
		name = strings.ToLower(name)
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			name = name[i+1:]
		}
		name, _, _ = strings.Cut(strings.TrimSuffix(name, "[]"), "[")
		if n := prefix + name; name != "" && !slices.Contains(all, n) && len(all) < maxFields {
			all = append(all, n)
		}
	}
	for name := range q.address.query {
		add(name)
	}
	for _, f := range q.body.fields {
		for part := range strings.SplitSeq(f.path, ".") {
			add(part)
		}
	}
	slices.Sort(all)
	return all
}

// anywhere adds what a request does whatever its method.
func (q *asked) anywhere(e *effects) {
	if q.body.opaque {
		e.add("opaque")
	}
	path := strings.ToLower(q.address.path)
	for _, place := range metadata {
		if strings.HasPrefix(path, place) {
			e.add("secret", "network")
		}
	}
	if metadataHost(q.host) {
		e.add("secret", "network")
	}
	values := slices.Clone(q.body.fields)
	for name, list := range q.address.query {
		for _, v := range list {
			values = append(values, field{name, v})
		}
	}
	if slices.ContainsFunc(values, func(f field) bool { return inward(f.value) }) {
		e.add("network")
	}
	sentinel := slices.ContainsFunc(q.body.fields, func(f field) bool { return mask.Sentinel([]byte(f.value)) }) ||
		q.body.form != formOpaque && len(q.body.raw) > 0 && mask.Sentinel(q.body.raw)
	for _, values := range q.address.query {
		sentinel = sentinel || slices.ContainsFunc(values, func(v string) bool { return mask.Sentinel([]byte(v)) })
	}
	if sentinel {
		e.add("masked.sentinel")
	}
}

// inward reports whether a value is an address that a target could be made to
// fetch from inside its own network (SSRF).
func inward(v string) bool {
	scheme, rest, ok := strings.Cut(strings.ToLower(strings.TrimSpace(v)), "://")
	switch {
	case !ok:
		return false
	case slices.Contains([]string{"file", "gopher", "dict", "ldap", "tftp", "jar", "netdoc"}, scheme):
		return true
	case scheme != "http" && scheme != "https" && scheme != "ftp":
		return false
	}
	u, err := url.Parse(scheme + "://" + rest)
	if err != nil {
		return strings.Contains(rest, "169.254.")
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() || host == "localhost" {
		return true
	}
	if n, err := strconv.ParseUint(host, 0, 32); err == nil { // an address as one number
		return metadataHost(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}).String())
	}
	return metadataHost(host)
}

// metadata is where clouds tell machines their credentials.
var metadata = []string{"/latest/meta-data", "/latest/user-data", "/latest/dynamic", "/latest/api/token", "/computemetadata", "/metadata/instance", "/metadata/identity",
	"/metadata/v1", "/opc/v1", "/opc/v2", "/openstack/latest", "/2009-04-04/meta-data"}

// metadataHost reports whether a host is one at which clouds do.
func metadataHost(host string) bool {
	name := strings.Trim(host, "[]")
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().IsLinkLocalUnicast() || slices.Contains(clouds, ip.Unmap())
	}
	return strings.HasPrefix(name, "metadata.") || name == "metadata" || name == "instance-data"
}
