package http

import (
	"slices"
	"strings"
	"unicode"
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

func (e *effects) has(name string) bool { return slices.Contains(e.list, name) }

// cannot notes what could not be known.
func (e *effects) cannot(why string) {
	e.add("unknown")
	e.unknown = append(e.unknown, why)
}

// words are the words of a name, in lower case: of deleteAll, delete-all and
// _delete_all alike.
func words(name string) []string {
	var all []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			all = append(all, strings.ToLower(string(word)))
			word = word[:0]
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
			continue
		case unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || unicode.IsDigit(runes[i-1]) || unicode.IsUpper(runes[i-1]) && i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			end()
		}
		word = append(word, r)
	}
	end()
	return all
}

func set(names string) map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(names) {
		m[n] = true
	}
	return m
}

// What words say of an action, whatever the API.
var (
	wordsDestroy = set("purge truncate wipe drop destroy erase nuke flush flushall flushdb obliterate deprovision")
	wordsDelete  = set("delete remove del unlink discard evict trash prune rm clear")
	wordsAll     = set("all bulk batch many multiple query everything mass")
	wordsRole    = set("grant impersonate assume sudo promote elevate permission permissions role roles acl acls iam collaborator collaborators rolebinding rolebindings sudoers saml sso mfa 2fa invite invitation invitations membership memberships")
	wordsSystem  = set("shutdown poweroff halt")
	wordsExec    = set("exec eval shell console script scripts command cmd")
	wordsSecret  = set("secret secrets credential credentials password passwords passwd kubeconfig heapdump")
	wordsAudit   = set("audit auditlog auditlogs")
	wordsConfig  = set("settings setting config configs configuration configurations protection ruleset rulesets hook hooks webhook webhooks firewall")
	wordsRead    = set("get list describe search find count query read fetch lookup head check exists scan show view batchget")
	wordsKey     = set("key keys token tokens")
	wordsKeyOf   = set("api access private ssh deploy gpg signing service account encryption personal refresh")
)

func has(all []string, in map[string]bool) bool {
	return slices.ContainsFunc(all, func(w string) bool { return in[w] })
}

// keys reports whether words name keys that open something.
func keys(all []string) bool {
	return has(all, wordsKey) && has(all, wordsKeyOf) ||
		slices.ContainsFunc(all, func(w string) bool { return w == "apikey" || w == "apikeys" || w == "accesskeys" || w == "sshkeys" })
}

// action adds what a name of something that is called says: of an RPC's method, a
// mutation, an AWS action. reads: a name may say that it only reads.
func (e *effects) action(w []string, reads bool) {
	before := len(e.list)
	switch {
	case len(w) > 0 && wordsRead[w[0]] && reads:
		if has(w, wordsSecret) || keys(w) {
			e.add("secret")
		} else {
			e.add("read")
		}
		return
	case has(w, wordsDestroy), len(w) > 0 && w[0] == "reset" && has(w, wordsAll):
		e.add("destroy")
	case has(w, wordsDelete) && (has(w, wordsAll) || has(w, containers)):
		e.add("destroy")
	case has(w, wordsDelete):
		e.add("delete")
	}
	switch {
	case has(w, wordsSystem):
		e.add("system")
	case has(w, wordsRole), has(w, set("policy policies")), keys(w), has(w, wordsSecret):
		e.add("role")
	case has(w, wordsAudit):
		e.add("audit")
	case has(w, wordsConfig):
		e.add("config")
	case has(w, wordsExec):
		e.add("exec")
	}
	if len(e.list) == before {
		e.add("change")
	}
}

// containers are things that hold others: to delete one is to delete those.
var containers = set(`bucket buckets database databases db dbs index indices indexes namespace namespaces project projects org orgs organization organizations
	organisation organisations tenant tenants repo repos repository repositories cluster clusters volume volumes table tables collection collections workspace workspaces
	vpc vpcs topic topics queue queues realm realms zone zones datastream datastreams schema schemas keyspace keyspaces stack stacks environment environments subscription_groups
	resourcegroups vault vaults disk disks snapshot snapshots backup backups instance instances branch_protection domain domains site sites`)
