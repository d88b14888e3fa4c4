package http

import (
	"path"
	"slices"
	"strings"
)

// readEffects are what a request does whose method reads.
func (q *asked) readEffects(e *effects) {
	e.add("read")
	own := q.address.own()
	for _, s := range own {
		w := words(s)
		switch name := strings.ToLower(s); {
		case has(w, wordsSecret) && !identifier(s), keys(w) && len(w) <= 3, kept(name):
			e.add("secret")
		}
	}
	if len(own) == 0 {
		return
	}
	w := words(own[len(own)-1])
	switch {
	case len(w) > 0 && (wordsDelete[w[0]] || wordsDestroy[w[0]] || wordsSystem[w[0]]) && w[0] != "clear":
		// A link that does something: whoever wrote it did not mean GET to be safe.
		e.action(w, false)
	case len(w) > 0 && (w[0] == "dump" || w[0] == "backup" || w[0] == "backups"):
		e.add("copy.out")
	case unreadable(own[len(own)-1]):
		e.add("opaque")
	}
}

// kept reports whether a name is of a file or an endpoint where secrets lie.
func kept(name string) bool {
	switch name {
	case ".env", ".git", ".aws", ".ssh", ".npmrc", ".netrc", ".htpasswd", "id_rsa", "id_ed25519", "wp-config.php", "web.config", "shadow", "environ", "heapdump", "threaddump":
		return true
	}
	switch path.Ext(name) {
	case ".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx":
		return true
	}
	return false
}

// unreadable reports whether a name is of what cannot be looked into: documents,
// archives, images of disks and databases.
func unreadable(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".pdf", ".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar", ".xlsx", ".xls", ".docx", ".doc", ".pptx", ".ppt", ".odt", ".ods",
		".parquet", ".avro", ".orc", ".sqlite", ".db", ".mdb", ".dump", ".bak", ".iso", ".img", ".bin", ".exe", ".jar", ".war", ".pst", ".eml", ".msg":
		return true
	}
	return false
}

// writeEffects are what a request does whose method may change something.
func (q *asked) writeEffects(e *effects) {
	own := q.address.own()
	switch {
	case q.search(own, e), q.cloud(e), q.rpc(e):
	case q.method == "DELETE":
		q.deletion(own, e)
	default:
		q.called(own, e)
	}
	if e.has("read") && len(e.list) == 1 {
		return
	}
	q.concerns(own, e)
	if len(e.list) == 0 {
		e.add("change")
	}
}

// called are the effects of POST, PUT and PATCH to what may be an action.
func (q *asked) called(own []string, e *effects) {
	if len(own) == 0 {
		return
	}
	last := own[len(own)-1]
	if i := strings.LastIndexByte(last, ':'); i >= 0 {
		last = last[i+1:] // a custom method (google.aip.dev/136)
	}
	w := words(last)
	switch {
	case identifier(last):
	case q.method == "POST" && len(w) > 0 && len(w) <= 2 && (w[len(w)-1] == "search" || w[len(w)-1] == "count" || w[len(w)-1] == "lookup"):
		e.add("read")
	case has(w, wordsDestroy), has(w, wordsDelete), has(w, wordsSystem), len(w) > 0 && w[0] == "reset":
		e.action(w, false)
		if len(w) == 1 && w[0] == "reset" {
			e.add("destroy")
		}
	case has(w, wordsExec):
		e.add("exec")
	case q.sql():
		e.add("code.dynamic")
	}
}

// sql reports whether the body hands the target a statement to run.
func (q *asked) sql() bool {
	o := q.body.object()
	if o == nil {
		return q.body.media == "application/sql"
	}
	for _, name := range []string{"sql", "statement", "stmt", "cypher", "q", "query"} {
		text := strings.ToUpper(strings.TrimSpace(o.text(name)))
		for _, word := range []string{"SELECT ", "INSERT ", "UPDATE ", "DELETE ", "DROP ", "TRUNCATE ", "ALTER ", "CREATE ", "GRANT ", "MERGE ", "MATCH ", "WITH ", "CALL ", "COPY "} {
			if strings.HasPrefix(text, word) {
				return true
			}
		}
	}
	return false
}

// deletion are the effects of DELETE: of one thing that it names, or of many.
func (q *asked) deletion(own []string, e *effects) {
	many := len(own) <= 1
	for i, s := range own {
		lower := strings.ToLower(s)
		last := i == len(own)-1
		switch {
		case strings.ContainsAny(s, "*,"), lower == "_all", lower == "all" && last:
			many = true
		case last && i > 0 && identifier(own[i-1]) && !identifier(s) && strings.HasSuffix(lower, "s") && !strings.HasSuffix(lower, "ss"):
			many = true // all of what one thing has
		case last && i > 0 && containers[strings.ToLower(own[i-1])]:
			many = true
		case last && has(words(s), wordsAll) && has(words(s), set("delete remove")):
			many = true
		}
	}
	if len(own) == 3 && strings.EqualFold(own[0], "repos") {
		many = true // a repository of a forge: owner and name
	}
	for name, values := range q.address.query {
		switch strings.ToLower(name) {
		case "all", "recursive", "cascade", "purge", "truncate", "force_all", "propagationpolicy":
			many = many || !slices.Contains(values, "false") && !slices.Contains(values, "0")
		}
	}
	if o := q.body.object(); o != nil {
		for _, name := range o.names {
			if list, ok := o.values[name].([]any); ok && len(list) > 1 {
				many = true
			}
			if name == "query" || name == "filter" || name == "where" {
				many = true
			}
		}
	} else if len(q.body.values) > 1 || len(q.body.values) == 1 && q.body.form == formJSON {
		many = true
	}
	if many {
		e.add("destroy")
	} else {
		e.add("delete")
	}
}

// concerns adds what a change is about, by the names on its path: who may do
// what, settings, secrets, records.
func (q *asked) concerns(own []string, e *effects) {
	from := max(0, len(own)-4)
	for i, s := range own[from:] {
		if identifier(s) {
			continue
		}
		w := words(s)
		switch {
		case has(w, wordsSecret):
			e.add("secret")
		case keys(w), has(w, wordsRole):
			e.add("role")
		case has(w, wordsAudit):
			e.add("audit")
		case has(w, wordsConfig):
			e.add("config")
		case len(w) == 1 && w[0] == "admin" && i == 0:
			e.add("system")
		}
	}
	// A forge's keys of a repository or a person: who has one gets in.
	if n := len(own); n > 0 && slices.ContainsFunc(own[from:], func(s string) bool { return strings.EqualFold(s, "keys") }) && (strings.EqualFold(own[0], "repos") || strings.EqualFold(own[0], "user") || strings.EqualFold(own[0], "projects")) {
		e.add("role")
	}
	for _, f := range q.body.fields {
		if strings.HasPrefix(f.value, "ssh-") || strings.HasPrefix(f.value, "ecdsa-sha2-") {
			e.add("role") // a public key: it lets somebody in
		}
	}
}

// What endpoints of Elasticsearch and OpenSearch do
// (elastic.co/docs/api/doc/elasticsearch). They are known by their underscore.
var searchEndpoints = map[string]string{
	"_search": "read", "_msearch": "read", "_count": "read", "_mget": "read", "_field_caps": "read", "_validate": "read", "_explain": "read", "_analyze": "read",
	"_termvectors": "read", "_mtermvectors": "read", "_rank_eval": "read", "_search_shards": "read", "_terms_enum": "read", "_knn_search": "read", "_async_search": "read", "_eql": "read",
	"_delete_by_query": "destroy", "_update_by_query": "write.wide", "_reindex": "write.wide", "_bulk": "bulk",
	"_doc": "document", "_create": "document", "_update": "document",
	"_security": "role", "_xpack": "config", "_cluster": "config", "_settings": "config", "_snapshot": "replication", "_slm": "replication", "_ccr": "replication",
	"_ilm": "config", "_template": "config", "_index_template": "config", "_component_template": "config", "_ingest": "code.define", "_scripts": "code.define", "_nodes": "system",
	"_mapping": "ddl", "_mappings": "ddl", "_alias": "ddl", "_aliases": "ddl", "_open": "ddl", "_close": "config", "_rollover": "ddl", "_shrink": "ddl", "_split": "ddl", "_clone": "ddl", "_block": "config",
	"_forcemerge": "maintenance", "_flush": "maintenance", "_refresh": "maintenance", "_cache": "maintenance", "_tasks": "kill", "_sql": "code.dynamic", "_esql": "code.dynamic",
}

// search adds what a request to a search engine does, if it is one.
func (q *asked) search(own []string, e *effects) bool {
	for _, s := range own {
		what, known := searchEndpoints[strings.ToLower(s)]
		switch {
		case !known:
			continue
		case what == "bulk":
			q.bulk(e)
		case what == "document":
			if q.method == "DELETE" {
				e.add("delete")
			} else {
				e.add("change")
			}
		case q.method == "DELETE" && what != "role" && what != "kill" && what != "read":
			e.add("destroy")
		default:
			e.add(what)
		}
		if o := q.body.object(); o != nil && what != "bulk" && slices.ContainsFunc(q.body.fields, func(f field) bool {
			return strings.HasPrefix(f.path, "script.") || strings.Contains(f.path, ".script.") || f.path == "script"
		}) {
			e.add("code")
		}
		if what == "write.wide" && unfiltered(q.body.object()) {
			e.add("write.unfiltered")
		}
		return true
	}
	return false
}

// unfiltered reports whether a query by which documents are chosen holds for all.
func unfiltered(o *object) bool {
	if o == nil {
		return true
	}
	query, ok := o.values["query"].(*object)
	return !ok || len(query.names) == 0 || query.values["match_all"] != nil
}

// bulk adds what the actions of a bulk request do: a line says what is done, and
// the next with what, but for deletions.
func (q *asked) bulk(e *effects) {
	if q.body.form != formLines && q.body.form != formJSON {
		e.cannot("a bulk request whose lines cannot be read")
		return
	}
	deletes, next := 0, false
	for _, v := range q.body.values {
		if next {
			next = false
			continue
		}
		o, ok := v.(*object)
		if !ok || len(o.names) != 1 {
			e.cannot("an action of the bulk request cannot be read")
			return
		}
		switch o.names[0] {
		case "delete":
			deletes++
		case "index", "create", "update":
			next = true
			e.add("change")
		default:
			e.cannot("an action of the bulk request is not known")
			return
		}
	}
	switch {
	case deletes > 1:
		e.add("destroy")
	case deletes == 1:
		e.add("delete")
	}
}

// cloud adds what a request to a cloud's own interface does: object stores by
// their query, and AWS by the action that is named.
func (q *asked) cloud(e *effects) bool {
	action := q.header.Get("X-Amz-Target")
	if i := strings.LastIndexByte(action, '.'); i >= 0 {
		action = action[i+1:]
	}
	if action == "" && (q.body.pairs.Has("Version") || q.address.query.Has("Version")) {
		if action = q.body.pairs.Get("Action"); action == "" {
			action = q.address.query.Get("Action")
		}
	}
	if action != "" {
		e.action(words(action), true)
		return true
	}
	for name := range q.address.query {
		switch strings.ToLower(name) {
		case "acl", "policy", "publicaccessblock", "ownershipcontrols", "cors":
			e.add("role")
		case "logging":
			e.add("audit")
		case "versioning", "lifecycle", "replication", "encryption", "website", "notification", "object-lock", "inventory":
			e.add("config")
		case "delete":
			if q.method == "POST" {
				e.add("destroy")
			}
		}
	}
	return len(e.list) > 0
}

// rpc adds what a call does that names its method: JSON-RPC, SOAP, gRPC.
func (q *asked) rpc(e *effects) bool {
	if strings.HasPrefix(q.body.media, "application/grpc") || strings.HasPrefix(q.body.media, "application/connect") {
		e.action(words(q.address.last()), true)
		return true
	}
	if action := strings.Trim(q.header.Get("Soapaction"), `"`); action != "" {
		e.action(words(action[strings.LastIndexAny(action, "/#:")+1:]), true)
		return true
	}
	calls := q.body.values
	if len(calls) == 1 {
		if list, ok := calls[0].([]any); ok {
			calls = list
		}
	}
	found := false
	for _, v := range calls {
		o, ok := v.(*object)
		if !ok || o.text("jsonrpc") == "" {
			return false
		}
		found = true
		method := o.text("method")
		if i := strings.LastIndexAny(method, "/."); i >= 0 {
			method = method[i+1:]
		}
		e.action(words(method), true)
	}
	return found
}
