package kubernetes

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/custos-gateway/custos/mask"
)

// findings is what a body does, wherever in it: in a Pod, in the template of
// what makes Pods, in a patch of either, in an object of a kind that is not
// known. Names count without regard to case.
type findings struct {
	*effects
	images []string
}

// walk looks through a request's body.
func (f *findings) walk(t *target, b *body) {
	if t.verb == "delete" || t.verb == "deletecollection" {
		return // its body are options
	}
	for _, tree := range trees(b.tree) {
		f.object(t, tree)
	}
	if b.moves && !t.of("", "secrets") && !onlyMetadata(b.tree) {
		f.cannot("what the JSON patch moves or copies")
	}
}

func (f *findings) object(t *target, tree any) {
	m, _ := tree.(map[string]any)
	if t.of("", "secrets") {
		f.secret(m)
	} else if t.of("", "configmaps") {
		f.sentinels(tree)
		return // its values are text of others
	}
	if t.of("", "persistentvolumes") && lookup(m, "spec", "local") != nil {
		f.add("escape")
	}
	if t.of("", "services") && (given(lookup(m, "spec", "externalIPs")) || given(lookup(m, "spec", "externalName"))) {
		f.add("network")
	}
	if t.kind == "ephemeralcontainers" || lookup(m, "spec", "ephemeralContainers") != nil {
		f.add("exec")
	}
	if t.subresource == "scale" || !t.of("apiextensions.k8s.io", "customresourcedefinitions") {
		if n, ok := lookup(m, "spec", "replicas").(json.Number); ok && zero(n) {
			f.add("delete")
		}
		f.value("", tree, 0)
	}
	f.sentinels(tree)
}

// secret is of a Secret that will hold a token for a service account.
func (f *findings) secret(m map[string]any) {
	if kind, _ := m["type"].(string); kind == "kubernetes.io/service-account-token" || kind == "bootstrap.kubernetes.io/token" {
		f.add("role")
	}
	for _, v := range texts(m["data"]) {
		if mask.Sentinel(decoded(v)) {
			f.add("masked.sentinel")
		}
	}
}

// value looks at what stands under a name.
func (f *findings) value(name string, v any, depth int) {
	f.field(name, v)
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			f.value(k, inner, depth+1)
		}
	case []any:
		for _, inner := range v {
			f.value("", inner, depth+1)
		}
	}
}

// The lists of the Pod Security Standards, level baseline
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
var (
	plainCapabilities = []string{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
	plainSysctls      = []string{"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
		"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"}
	plainSELinux = []string{"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)

// field is one field of a Pod, wherever it stands.
func (f *findings) field(name string, v any) {
	if v == nil {
		return // taken away
	}
	m, _ := v.(map[string]any)
	_, moved := v.(taken)
	escapes := false
	switch strings.ToLower(name) {
	case "privileged", "hostnetwork", "hostpid", "hostipc", "hostprocess":
		escapes = v != false
	case "hostpath":
		escapes = true
	case "hostport":
		n, ok := v.(json.Number)
		escapes = !ok || !zero(n)
	case "procmount":
		escapes = v != "Default" && v != ""
	case "capabilities":
		escapes = moved || beyond(texts(child(m, "add")), plainCapabilities)
	case "seccompprofile", "apparmorprofile":
		escapes = moved || child(m, "type") == "Unconfined"
	case "selinuxoptions":
		kind, _ := child(m, "type").(string)
		escapes = moved || given(child(m, "user")) || given(child(m, "role")) || kind != "" && !slices.Contains(plainSELinux, kind)
	case "sysctls":
		escapes = moved || beyond(sysctls(v), plainSysctls)
	case "annotations":
		for k, profile := range m {
			escapes = escapes || strings.Contains(k, "apparmor.security.beta.kubernetes.io") && profile == "unconfined" ||
				strings.HasPrefix(k, "seccomp.security.alpha.kubernetes.io") && profile == "unconfined"
		}
	case "image":
		f.image(v)
	case "priorityclassname":
		if s, _ := v.(string); moved || strings.HasPrefix(s, "system-") {
			f.add("system")
		}
	case "tolerations", "nodeselector", "nodeaffinity":
		if mentions(v, "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master") {
			f.add("system")
		}
	}
	if escapes {
		f.add("escape")
	}
}

func (f *findings) image(v any) {
	if m, ok := v.(map[string]any); ok {
		v = m["reference"] // a volume that is an image
	}
	if s, _ := v.(string); s != "" && !slices.Contains(f.images, s) {
		f.images = append(f.images, s)
	}
}

// sentinels looks for what a mask puts in a value's place.
func (f *findings) sentinels(v any) {
	for _, s := range texts(v) {
		if mask.Sentinel([]byte(s)) {
			f.add("masked.sentinel")
			return
		}
	}
}

// beyond reports whether there is one that is not on a list. Names of
// capabilities may begin with CAP_.
func beyond(names, list []string) bool {
	return slices.ContainsFunc(names, func(s string) bool {
		return !slices.Contains(list, s) && !slices.Contains(list, strings.TrimPrefix(strings.ToUpper(s), "CAP_"))
	})
}

func sysctls(v any) []string {
	var names []string
	switch v := v.(type) {
	case []any:
		for _, inner := range v {
			names = append(names, sysctls(inner)...)
		}
	case map[string]any:
		if s, ok := v["name"].(string); ok {
			return []string{s}
		}
		for _, inner := range v {
			names = append(names, sysctls(inner)...)
		}
	}
	return names
}

// texts are all strings in v; what a patch takes from elsewhere counts as one
// that nobody knows.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case taken:
		return []string{"?"}
	case []any:
		var all []string
		for _, inner := range v {
			all = append(all, texts(inner)...)
		}
		return all
	case map[string]any:
		var all []string
		for _, inner := range v {
			all = append(all, texts(inner)...)
		}
		return all
	}
	return nil
}

func mentions(v any, words ...string) bool {
	if m, ok := v.(map[string]any); ok {
		for k, inner := range m {
			if slices.Contains(words, k) || mentions(inner, words...) {
				return true
			}
		}
		return false
	}
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(inner any) bool { return mentions(inner, words...) })
	}
	s, _ := v.(string)
	_, moved := v.(taken)
	return moved || slices.Contains(words, s)
}

// child is what m has under a name, without regard to case.
func child(m map[string]any, name string) any {
	if v, ok := m[name]; ok {
		return v
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}

func lookup(m map[string]any, names ...string) any {
	var v any = m
	for _, n := range names {
		inner, _ := v.(map[string]any)
		v = child(inner, n)
	}
	return v
}

// given reports whether there is anything in v.
func given(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

func zero(n json.Number) bool {
	f, err := n.Float64()
	return err != nil || f == 0
}

// onlyMetadata reports whether a JSON patch names nothing but labels and
// annotations.
func onlyMetadata(tree any) bool {
	return !slices.ContainsFunc(trees(tree), func(tree any) bool {
		m, ok := tree.(map[string]any)
		if !ok || len(m) != 1 {
			return true
		}
		meta, ok := m["metadata"].(map[string]any)
		if !ok {
			return true
		}
		for k := range meta {
			if k != "labels" && k != "annotations" {
				return true
			}
		}
		return false
	})
}
