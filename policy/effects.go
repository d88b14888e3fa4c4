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
	{"masked.sentinel", "It holds a constant that looks like what a mask puts in a value's place, such as ***MASKED***. The shipped sets refuse it where the operation writes."},
	{"unknown", "What it does could not be known."},
}

// Effects returns the closed list of what an operation may do.
func Effects() []Effect { return slices.Clone(effects) }

func isEffect(name string) bool {
	return slices.ContainsFunc(effects, func(e Effect) bool { return e.Name == name })
}
