package policy

import "slices"

// Effect is one thing that an operation may do, of a closed list.
type Effect struct {
	// Name is what rules and custos.Facts.Effects write.
	Name string
	// Means says what counts as it.
	Means string
}

// effects is the closed list. A protocol names no other, and a rule that does
// is an error.
var effects = []Effect{
	{"read", "It reads tables or values: SELECT, VALUES, TABLE, SHOW, EXPLAIN without ANALYZE."},
	{"write.values", "It inserts rows that it spells out: INSERT of VALUES, also with ON CONFLICT."},
	{"write.keyed", "It updates or deletes rows that it names by a key, by equality or IN with constants or parameters."},
	{"write.wide", "It updates or deletes rows by another filter (a range, a join, a subquery, a column that is no key), or inserts what a query finds; MERGE."},
	{"write.unfiltered", "It updates or deletes without WHERE, or with one that may hold for every row: true, 1=1, id=id, length(x) >= 0, `$1`."},
	{"ddl", "It creates or changes objects, or drops what can be made again, such as an index or a view; CREATE TABLE AS, SELECT INTO."},
	{"ddl.destroy", "It drops what holds data or empties it: DROP TABLE, SCHEMA, DATABASE, TRUNCATE, DROP COLUMN."},
	{"role", "It changes who may do what, or who it runs as: GRANT, REVOKE, roles, SET ROLE, owners, row security."},
	{"config", "It changes how the target works: ALTER SYSTEM, settings of a database or role, SET of what is not known to be harmless, RESET ALL, DISCARD ALL."},
	{"session", "It sets what is known to be harmless for this session, such as search_path; DEALLOCATE, LISTEN."},
	{"session.limit", "It sets what bounds a session, such as statement_timeout."},
	{"audit", "It could blind or falsify the target's own record: logging and audit settings, statistics reset, triggers off."},
	{"file", "It reaches files on the server: COPY of a file, pg_read_file, large object import and export, LOAD, tablespaces."},
	{"os", "It runs programs on the server: COPY PROGRAM, untrusted languages, C functions."},
	{"network", "It makes the server reach others: dblink, foreign servers and tables."},
	{"replication", "Slots, publications, subscriptions, promotion, backups, the write-ahead log."},
	{"extension", "It creates, changes or drops an extension."},
	{"secret", "It reads where the target keeps secrets: password hashes, user mappings, connection strings of subscriptions."},
	{"statistics", "It reads what the planner keeps of columns, which holds values of theirs: pg_stats and its like."},
	{"code", "It calls code that cannot be seen through: user functions that are unknown or volatile, CALL, DO, EXECUTE of a name that is not known."},
	{"code.dynamic", "It runs a statement that is made while it runs, so that nobody can know it before."},
	{"code.define", "It defines code that others will run: functions, triggers, rules, casts, operators. What the body does counts too."},
	{"code.shadow", "It defines a function, operator or cast that hides one of the target's own."},
	{"lock", "LOCK TABLE, row locks, advisory locks."},
	{"sleep", "It only passes time: pg_sleep and its like."},
	{"kill", "It ends or interrupts other sessions."},
	{"maintenance", "VACUUM, ANALYZE, CLUSTER, REINDEX, CHECKPOINT, REFRESH."},
	{"copy.in", "Rows in bulk from the caller: COPY FROM STDIN."},
	{"copy.out", "Rows in bulk to the caller: COPY TO STDOUT."},
	{"notify", "It sends a message to other sessions."},
	{"transaction", "BEGIN, COMMIT, ROLLBACK, SAVEPOINT."},
	{"transaction.prepared", "A transaction that outlives its session: PREPARE TRANSACTION, COMMIT PREPARED."},
	{"explain", "EXPLAIN without ANALYZE: what it explains does not run."},
	{"change", "A request that creates or changes one thing: POST, PUT and PATCH over HTTP, a GraphQL mutation, create, update, patch and apply in Kubernetes."},
	{"delete", "A request that deletes or evicts one thing, which it names."},
	{"destroy", "It deletes many things at once, or one that holds others: a collection, a wildcard, a namespace, a bucket, an index, a node, a protected branch."},
	{"dry-run", "It is only tried: the target changes nothing."},
	{"settings", "It reads settings that often hold secrets, such as a ConfigMap."},
	{"introspection", "It asks an API what it can do beyond what its documentation says: a GraphQL schema, by __schema or __type."},
	{"system", "It changes, or enters, what the target itself runs on, such as the namespace kube-system."},
	{"escape", "It leaves what confines it: privileged containers, paths and namespaces of the host, added capabilities."},
	{"exec", "It runs a program where a workload runs, or attaches to one: exec, attach, cp, ephemeral containers."},
	{"tunnel", "It opens a line of which what goes through is recorded, and not judged: port-forward, a WebSocket, a service reached through another's API."},
	{"opaque", "Its body or its answer is in a form that cannot be looked into, such as PDF, an archive, or an object of LFS."},
	{"ref.create", "A push that creates a branch or tag."},
	{"ref.forward", "A push that adds commits to a branch."},
	{"ref.force", "A push that takes commits away from a branch, or moves a tag."},
	{"ref.delete", "A push that deletes a branch or tag."},
	{"ref.protected", "A push to a branch that others build on: the default one, main, master, release branches."},
	{"ref.reserved", "A push to refs that change what others mean: refs/replace, a name that differs from another in case only."},
	{"secret.added", "It adds what looks like a key, token or password, in a file or a message."},
	{"workflow", "It changes what runs by itself or who must agree: CI workflows, CODEOWNERS, addresses of submodules."},
	{"author", "It carries commits by others than the caller."},
	{"unsigned", "It carries commits without a signature."},
	{"large", "It carries a file that is unusually large."},
	{"masked.sentinel", "It holds a constant that looks like what a mask puts in a value's place, such as ***MASKED***. The shipped sets refuse it where the operation writes."},
	{"unknown", "What it does could not be known."},
}

// Effects returns the closed list of what an operation may do.
func Effects() []Effect { return slices.Clone(effects) }

func isEffect(name string) bool {
	return slices.ContainsFunc(effects, func(e Effect) bool { return e.Name == name })
}

// Attribute is something that a protocol says of an operation, by a name of a
// closed list.
type Attribute struct {
	// Name is what rules write after operation.attributes.
	Name string
	// Means says what its values are.
	Means string
}

// attributes is the closed list. A rule that asks of another is an error.
var attributes = []Attribute{
	{"method", "HTTP: the method, in capitals."},
	{"host", "HTTP: the upstream's host, in lower case."},
	{"path", "HTTP: the path, cleaned and without escapes."},
	{"template", "HTTP: the path with what looks like an identifier replaced by {id}."},
	{"query", "HTTP: the names and values of the query, as name=value."},
	{"body", "HTTP: the fields of a JSON object or form that is the body, as path=value, such as order.id=5. GraphQL: those of its variables."},
	{"type", "HTTP: the media type of the body."},
	{"graphql", "HTTP: the fields that a GraphQL request asks for, from the root, such as query.users.email."},
	{"verb", "Kubernetes: get, list, watch, create, update, patch, delete, deletecollection, or what else the API server calls it."},
	{"group", "Kubernetes: the API group; the core group is empty."},
	{"resource", "Kubernetes: the resource, such as pods."},
	{"subresource", "Kubernetes: the subresource, such as exec."},
	{"namespace", "Kubernetes: the namespace."},
	{"name", "Kubernetes: the name of the object."},
	{"image", "Kubernetes: the images that a body names."},
	{"command", "Kubernetes: what an exec runs, word by word."},
	{"repository", "git: the repository's path."},
	{"ref", "git: the full name of the ref, such as refs/heads/main."},
	{"file", "git: the paths that a push adds, changes or removes."},
	{"author", "git: the addresses of the commits' authors and committers."},
}

// Attributes returns the closed list of what else may be said of an operation.
func Attributes() []Attribute { return slices.Clone(attributes) }

func isAttribute(name string) bool {
	return slices.ContainsFunc(attributes, func(a Attribute) bool { return a.Name == name })
}
