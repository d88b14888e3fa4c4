package kubernetes

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	custos "github.com/custos-gateway/custos"
)

// The classes of requests: all that there are.
const (
	classResource = "Resource" // a verb on a resource
	classConnect  = "Connect"  // exec, attach, port-forward, proxy
	classPath     = "Path"     // a path that is no resource, such as /version
	classLine     = "Line"     // a line typed into a terminal
)

// effects collects what a request does, each once.
type effects struct {
	list    []string
	unknown []string
}

func (e *effects) add(names ...string) {
	for _, n := range names {
		if !slices.Contains(e.list, n) {
			e.list = append(e.list, n)
		}
	}
}

func (e *effects) drop(names ...string) {
	e.list = slices.DeleteFunc(e.list, func(n string) bool { return slices.Contains(names, n) })
}

// cannot notes what could not be known.
func (e *effects) cannot(why string) {
	e.add("unknown")
	e.unknown = append(e.unknown, why)
}

// operation is what a request does. key keys the digest that stands in the
// operation for a body whose text is not shown.
func operation(t *target, b *body, raw []byte, key *[32]byte) *custos.Operation {
	e := &effects{}
	found := &findings{effects: e}
	switch {
	case !t.resource:
		pathEffects(t, e)
	case t.connect():
		connectEffects(t, e)
	case t.reads():
		readEffects(t, e)
	default:
		writeEffects(t, b, e)
		found.walk(t, b)
		tried(t, b, e)
	}
	if slices.Contains(e.list, "read") && len(e.list) > 1 {
		e.drop("read")
	}
	text, shown := describe(t, b)
	op := &custos.Operation{
		Class: class(t), Text: text, Verbs: []string{t.verb}, Objects: []string{t.object()},
		Writes: !t.readsOnly(), Facts: &custos.Facts{Effects: e.list, Attributes: attributes(t, found), Unknown: e.unknown, Columns: columns(t)},
	}
	op.Facts.Fingerprint = strings.Join([]string{t.verb, t.group, t.kind, t.subresource, t.namespace}, " ")
	if !shown && len(raw) > 0 {
		mac := hmac.New(sha256.New, key[:])
		mac.Write(raw)
		op.Params = []custos.Param{{Value: []byte("hmac-sha256:" + hex.EncodeToString(mac.Sum(nil)))}}
	}
	return op
}

func class(t *target) string {
	switch {
	case !t.resource:
		return classPath
	case t.connect():
		return classConnect
	}
	return classResource
}

// readsOnly reports whether it can change nothing at the target.
func (t *target) readsOnly() bool {
	return t.reads() && !t.connect() || t.asks()
}

// asks reports whether it is a question that is put by POST, and that keeps
// nothing: may I, who am I.
func (t *target) asks() bool {
	return t.verb == "create" && (t.is("authorization.k8s.io", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "localsubjectaccessreviews", "subjectaccessreviews") ||
		t.is("authentication.k8s.io", "selfsubjectreviews"))
}

// columns name what an answer holds of what rules can mask: the values of
// Secrets, as NAMESPACE.secrets.data.
func columns(t *target) []string {
	if t.of("", "secrets") && t.resource {
		return []string{t.secretColumn()}
	}
	return nil
}

// secretColumn is the column that the values of the target's Secrets are.
func (t *target) secretColumn() string {
	namespace := t.namespace
	if namespace == "" {
		namespace = "all"
	}
	return namespace + ".secrets.data"
}

func attributes(t *target, f *findings) map[string][]string {
	a := map[string][]string{"method": {t.method}, "path": {t.path}, "verb": {t.verb}}
	if t.resource {
		a["group"], a["resource"] = []string{t.group}, []string{t.kind}
		for name, v := range map[string]string{"subresource": t.subresource, "namespace": t.namespace, "name": t.name} {
			if v != "" {
				a[name] = []string{v}
			}
		}
	}
	if t.subresource == "exec" {
		a["command"] = t.query["command"]
	}
	if len(f.images) > 0 {
		a["image"] = f.images
	}
	for _, name := range slices.Sorted(maps.Keys(t.query)) {
		for _, v := range t.query[name] {
			a["query"] = append(a["query"], name+"="+v)
		}
	}
	return a
}

// systemNamespaces are those that the cluster itself runs in.
var systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}

func (t *target) system() bool {
	return slices.Contains(systemNamespaces, t.namespace) || t.kind == "namespaces" && slices.Contains(systemNamespaces, t.name) ||
		t.namespace == "default" && t.of("", "services", "endpoints") && t.name == "kubernetes"
}

// pathEffects is of what is no resource. The list of paths is closed.
func pathEffects(t *target, e *effects) {
	first, _, _ := strings.Cut(strings.Trim(t.path, "/"), "/")
	switch {
	case !t.reads():
		e.cannot("what " + t.method + " does with " + t.path)
	case slices.Contains([]string{"", "api", "apis", "openapi", "version", "healthz", "livez", "readyz", "metrics", ".well-known", "swagger.json"}, first):
		e.add("read")
	case first == "openid": // /openid/v1/jwks: public keys
		e.add("read")
	case first == "configz" || first == "flagz" || first == "statusz":
		e.add("settings")
	case first == "logs":
		e.add("file")
	case first == "debug":
		e.add("system")
	default:
		e.cannot("what " + t.path + " is")
	}
}

// connectEffects is of lines to workloads and nodes, whatever the method: a
// WebSocket asks by GET, SPDY by POST.
func connectEffects(t *target, e *effects) {
	switch {
	case t.is("", "pods/exec"):
		e.add("exec")
		command := t.query["command"]
		if len(command) == 0 {
			e.cannot("what is run: there is no command")
		}
		e.add(commandEffects(command)...)
	case t.is("", "pods/attach"):
		e.add("exec")
	case t.is("", "pods/portforward"):
		e.add("tunnel")
	case t.is("", "nodes/proxy"):
		// The kubelet's own API runs programs in any container of the node.
		e.add("tunnel", "escape", "system")
	case t.is("", "pods/proxy", "services/proxy"):
		e.add("tunnel")
	default:
		e.add("tunnel")
		e.cannot("what " + t.subresource + " of " + t.kind + " is")
	}
	if t.system() {
		e.add("system")
	}
}

func readEffects(t *target, e *effects) {
	e.add("read")
	switch {
	case t.of("", "secrets"):
		e.add("secret")
	case t.of("", "configmaps"):
		e.add("settings")
	case t.of("", "nodes") && (t.subresource == "log" || t.subresource == "configz" || t.subresource == "metrics"):
		e.add("system")
	}
}

// writeEffects is of what changes, by what it names.
func writeEffects(t *target, b *body, e *effects) {
	if t.asks() {
		e.add("read")
		return
	}
	switch t.verb {
	case "delete":
		e.add("delete")
		if holdsOthers(t) {
			e.add("destroy")
		}
	case "deletecollection":
		e.add("destroy")
	default:
		e.add("change")
	}
	if t.system() {
		e.add("system")
	}
	guards(t, e)
	subresources(t, e)
	switch {
	case t.of("", "namespaces"):
		labels(t, b, e)
	case t.of("", "secrets") && b.moves:
		// Its answer would tell whether a value is what the caller thinks, or show it elsewhere.
		e.add("secret")
	}
}

// holdsOthers reports whether what is deleted takes other things, or data,
// with it.
func holdsOthers(t *target) bool {
	return t.is("", "namespaces", "nodes", "persistentvolumes", "persistentvolumeclaims") ||
		t.is("apiextensions.k8s.io", "customresourcedefinitions") || t.is("snapshot.storage.k8s.io", "volumesnapshots", "volumesnapshotcontents") ||
		t.is("apiregistration.k8s.io", "apiservices")
}

// guards is of what decides what others may do, or what is seen of it.
func guards(t *target, e *effects) {
	switch {
	case t.group == "rbac.authorization.k8s.io",
		t.group == "certificates.k8s.io":
		e.add("role")
	case t.is("", "serviceaccounts/token"):
		e.add("secret", "role")
	case t.group == "admissionregistration.k8s.io", t.group == "apiregistration.k8s.io", t.group == "flowcontrol.apiserver.k8s.io",
		t.group == "imagepolicy.k8s.io", t.of("policy", "podsecuritypolicies"),
		t.of("", "resourcequotas", "limitranges"), t.of("storage.k8s.io", "csidrivers", "csinodes"), t.of("node.k8s.io", "runtimeclasses"):
		e.add("config")
	case t.of("networking.k8s.io", "networkpolicies") && (t.verb == "delete" || t.verb == "deletecollection"):
		e.add("config")
	case t.group == "cilium.io" || t.group == "crd.projectcalico.org" || t.group == "kyverno.io" || t.group == "constraints.gatekeeper.sh" || t.group == "templates.gatekeeper.sh":
		e.add("config")
	case t.of("", "events"), t.of("events.k8s.io", "events"), t.of("auditregistration.k8s.io", "auditsinks"):
		e.add("audit")
	}
}

func subresources(t *target, e *effects) {
	switch {
	case t.is("", "pods/ephemeralcontainers"):
		e.add("exec")
	case t.is("", "pods/eviction"):
		e.drop("change")
		e.add("delete")
	case t.is("", "namespaces/finalize"):
		e.add("destroy")
	case t.of("", "nodes") && t.subresource == "status", t.is("", "pods/binding", "bindings"):
		e.add("system")
	}
}

// labels is of a namespace's labels, by which admission lets its pods do more
// or less (Pod Security Standards).
func labels(t *target, b *body, e *effects) {
	if t.verb == "update" && t.subresource == "" {
		e.add("config") // it replaces the labels that it does not name as well
	}
	for _, path := range b.paths {
		if path == "" || path == "/metadata" || path == "/metadata/labels" {
			e.add("config") // all labels at once
		}
	}
	for _, tree := range trees(b.tree) {
		object, ok := tree.(map[string]any)
		if !ok {
			if tree != nil || t.verb == "patch" {
				e.add("config")
			}
			continue
		}
		metadata, has := object["metadata"]
		if !has {
			continue
		}
		m, ok := metadata.(map[string]any)
		if !ok {
			e.add("config")
			continue
		}
		l, has := m["labels"]
		if !has {
			continue
		}
		named, ok := l.(map[string]any)
		if !ok {
			e.add("config")
			continue
		}
		for name := range named {
			if strings.HasPrefix(name, "pod-security.kubernetes.io/") && t.verb != "create" || strings.HasPrefix(name, "$") {
				e.add("config")
			}
			if v, _ := named[name].(string); strings.HasPrefix(name, "pod-security.kubernetes.io/") && v == "privileged" {
				e.add("config")
			}
		}
	}
}

// trees are the objects of a body: one, or what each operation of a JSON patch
// makes.
func trees(tree any) []any {
	if list, ok := tree.([]any); ok {
		return list
	}
	if tree == nil {
		return nil
	}
	return []any{tree}
}

// tried takes what a request does back where it is only tried. What tells
// something by its answer still does.
func tried(t *target, b *body, e *effects) {
	if !dryRun(t, b) {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(e.list), func(n string) bool { return n != "secret" && n != "settings" && n != "unknown" && n != "read" })
	e.list = append(kept, "dry-run")
}

// dryRun reports whether the API server will keep nothing of it: by its query,
// or for a deletion by the options in its body, which then count alone.
func dryRun(t *target, b *body) bool {
	if t.is("", "serviceaccounts/token") || t.asks() {
		return false
	}
	if (t.verb == "delete" || t.verb == "deletecollection") && b.tree != nil {
		options, _ := b.tree.(map[string]any)
		list, _ := options["dryRun"].([]any)
		return len(list) == 1 && list[0] == "All"
	}
	values := t.query["dryRun"]
	return len(values) == 1 && values[0] == "All"
}

// maxText bounds, in bytes, the text of an operation: what is longer is cut,
// and stands in full in the digest among its parameters.
const maxText = 256 << 10

// describe is the request in words. shown: they are all of it.
func describe(t *target, b *body) (text string, shown bool) {
	text = t.method + " " + t.path
	if len(t.query) > 0 {
		text += "?" + t.query.Encode()
	}
	if len(b.json) == 0 {
		return text, true
	}
	words, shown := b.json, b.media != typeProtobuf && b.media != typeYAML && b.media != typeApply
	if t.of("", "secrets") {
		hidden, _, err := hideSecrets(words, redactSecret)
		if err != nil {
			hidden = []byte("(a body that is not shown)")
		}
		words, shown = hidden, false
	}
	if b.media != "" && b.media != typeJSON {
		text += " (Content-Type " + b.media + ")"
	}
	if len(words) > maxText {
		words, shown = words[:maxText], false
	}
	return text + " " + strings.ToValidUTF8(string(words), "\uFFFD"), shown
}
