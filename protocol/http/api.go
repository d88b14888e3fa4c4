package http

import (
	"path"
	"regexp"
	"slices"
	"strconv"
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
	if len(own) > 1 && strings.EqualFold(own[0], "actuator") && (strings.EqualFold(own[1], "env") || strings.EqualFold(own[1], "configprops")) {
		e.add("secret")
	}
	w := words(own[len(own)-1])
	switch {
	case len(w) > 0 && (wordsDelete[w[0]] || wordsDestroy[w[0]] || wordsSystem[w[0]]) && w[0] != "clear":
		// A link that does something: whoever wrote it did not mean GET to be safe.
		e.action(w, false)
	case len(w) > 0 && set("dump backup backups export exports")[w[0]], q.bulky():
		e.add("copy.out")
	case unreadable(own[len(own)-1]):
		e.add("opaque")
	}
}

// maxPage is how many things a request may ask for at once before it counts as
// bulk.
const maxPage = 5000

// bulky reports whether a request asks for very many things at once.
func (q *asked) bulky() bool {
	for name, values := range q.address.query {
		w := words(name)
		if !has(w, set("limit size top take first rows count pagesize perpage maxresults")) && !(len(w) == 2 && w[0] == "per") {
			continue
		}
		for _, v := range values {
			if n, err := strconv.Atoi(v); err == nil && (n > maxPage || n < 0) {
				return true
			}
		}
	}
	return slices.ContainsFunc(q.body.fields, func(f field) bool {
		n, err := strconv.Atoi(f.value)
		return (f.path == "size" || f.path == "limit") && err == nil && (n > maxPage || n < 0)
	})
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
		if q.bulky() {
			e.add("copy.out")
		}
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
	if store, inPath := q.store(); store {
		// Of an object store: a bucket, or one object of it.
		if n := len(own); n == 0 || n == 1 && inPath {
			e.add("destroy")
		} else {
			e.add("delete")
		}
		return
	}
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
	q.forge(own, e)
	for _, f := range q.body.fields {
		name := f.path[strings.LastIndexByte(f.path, '.')+1:]
		w := words(name)
		switch {
		case strings.HasPrefix(f.value, "ssh-"), strings.HasPrefix(f.value, "ecdsa-sha2-"):
			e.add("role") // a public key: it lets somebody in
		case f.value == "false" || f.value == "null" || f.value == "0":
			if name == "private" {
				e.add("role") // everybody may see it then
			}
		case has(w, set("admin superuser sudo role roles permissions privileges scopes")) && len(w) <= 2, name == "visibility" && f.value == "public":
			e.add("role")
		}
	}
}

// forge adds what a change at a forge of git is about (docs.github.com/rest,
// docs.gitlab.com/api): its paths begin with repos or projects.
func (q *asked) forge(own []string, e *effects) {
	if len(own) == 0 || !slices.Contains([]string{"repos", "projects", "user", "orgs", "groups"}, strings.ToLower(own[0])) {
		return
	}
	for _, s := range own[1:] {
		switch strings.ToLower(s) {
		case "keys", "transfer", "teams":
			e.add("role")
		case "workflows", "dispatches":
			e.add("workflow")
		case "refs":
			if slices.Contains(q.body.fields, field{"force", "true"}) {
				e.add("ref.force")
			}
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

// store reports whether the target keeps objects in buckets as S3 does, and
// whether the bucket's name stands in the path.
func (q *asked) store() (is, inPath bool) {
	labels := strings.Split(q.host, ".")
	for i, l := range labels {
		if l == "s3" || strings.HasPrefix(l, "s3-") || l == "minio" || strings.HasSuffix(q.host, "storage.googleapis.com") && l == "storage" {
			return true, i == 0
		}
	}
	return false, false
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

// actionName is how AWS names what is to be done.
var actionName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{2,80}$`)

// cloud adds what a request to a cloud's own interface does: object stores by
// their query, and AWS by the action that is named.
func (q *asked) cloud(e *effects) bool {
	action := q.header.Get("X-Amz-Target")
	if i := strings.LastIndexByte(action, '.'); i >= 0 {
		action = action[i+1:]
	}
	if action == "" {
		if action = q.body.pairs.Get("Action"); action == "" {
			action = q.address.query.Get("Action")
		}
		if !actionName.MatchString(action) {
			action = ""
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
