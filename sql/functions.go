package sql

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// functionEffects are those of the server's own functions that do more than
// compute. A name that ends in * stands for all that begin so.
var functionEffects = map[string]string{
	"pg_read_file*": effectFile, "pg_read_binary_file*": effectFile, "pg_ls_*": effectFile, "pg_stat_file*": effectFile, "pg_file_*": effectFile,
	"pg_logdir_ls": effectFile, "lo_import*": effectFile, "lo_export": effectFile, "pg_hba_file_rules": effectSecret, "pg_show_all_file_settings": effectSecret,
	"pg_current_logfile": effectRead, "pg_relation_filepath": effectRead,
	"lo_unlink": effectDestroy, "lo_*": effectCode, "loread": effectSecret, "lowrite": effectCode, "lo_get": effectSecret,
	"dblink*": effectNetwork, "postgres_fdw_*": effectNetwork, "pg_get_userbyid": effectRead,
	"pg_promote": effectReplication, "pg_create_physical_replication_slot": effectReplication, "pg_create_logical_replication_slot": effectReplication,
	"pg_drop_replication_slot": effectReplication, "pg_copy_*": effectReplication, "pg_logical_*": effectReplication, "pg_replication_*": effectReplication,
	"pg_switch_wal": effectReplication, "pg_switch_xlog": effectReplication, "pg_create_restore_point": effectReplication, "pg_backup_*": effectReplication,
	"pg_start_backup": effectReplication, "pg_stop_backup": effectReplication, "pg_wal_replay_*": effectReplication, "pg_xlog_*": effectReplication,
	"pg_get_wal_*": effectReplication, "pg_walfile_*": effectReplication, "pg_sync_replication_slots": effectReplication, "pg_export_snapshot": effectReplication,
	"pg_get_replication_slots": effectReplication, "pg_show_replication_origin_status": effectReplication,
	"pg_reload_conf": effectConfig, "binary_upgrade_*": effectConfig, "pg_log_backend_memory_contexts": effectConfig, "pg_set_*": effectConfig,
	"pg_stat_reset*": effectAudit, "pg_stat_statements_reset": effectAudit, "pg_rotate_logfile*": effectAudit, "pg_stat_force_next_flush": effectAudit,
	"pgaudit*": effectAudit, "pg_event_trigger_*": effectAudit,
	"pg_advisory_*": effectLock, "pg_try_advisory_*": effectLock,
	"pg_sleep*": effectSleep, "pg_terminate_backend": effectKill, "pg_cancel_backend": effectKill, "pg_notify": effectNotify,
	"pg_prewarm": effectMaintenance, "brin_*": effectMaintenance, "gin_clean_pending_list": effectMaintenance, "pg_import_system_collations": effectConfig,
	"nextval": effectValues, "setval": effectWide,
	"pg_extension_config_dump": effectExtension, "pg_available_extension*": effectRead,
	"ts_debug": effectRead, "pg_stat_get_progress_info": effectRead,
}

// runsText are functions that run a text as SQL: the position of the text
// among their arguments.
var runsText = map[string]int{
	"query_to_xml": 0, "query_to_xmlschema": 0, "query_to_xml_and_xmlschema": 0, "ts_stat": 0, "ts_rewrite": 1,
	"crosstab": 0, "crosstab2": 0, "crosstab3": 0, "crosstab4": 0, "dblink": 1, "dblink_exec": 1, "dblink_open": 1, "dblink_send_query": 1,
	"xpath_table": 0, "pg_prepare_statement": 0, "run_command_on_workers": 0, "plv8": 0, "cron": 1,
}

// readsNamed are functions that read what an argument names: a table, a
// schema, a cursor.
var readsNamed = words2set("schema_to_xml schema_to_xmlschema schema_to_xml_and_xmlschema " +
	"database_to_xml database_to_xmlschema database_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema connectby")

// functionEffect looks a name up.
func functionEffect(name string) string {
	if e := functionEffects[name]; e != "" {
		return e
	}
	for i := len(name); i > 1; i-- {
		if e := functionEffects[name[:i]+"*"]; e != "" {
			return e
		}
	}
	return ""
}

// calledEffect notes what a function does, which EXPLAIN without ANALYZE may
// also run.
func (w *walker) calledEffect(name string) {
	w.effect(name)
	w.called = append(w.called, name)
}

// call notes what a call does.
func (w *walker) call(n *pg.FuncCall) {
	parts := words(n.Funcname)
	name := last(parts)
	if len(parts) == 0 {
		return
	}
	schema := ""
	if len(parts) > 1 {
		schema = parts[len(parts)-2]
	}
	if schema == "" || schema == "pg_catalog" {
		switch at, runs := runsText[name]; {
		case runs:
			w.runsText(n, at)
		case strings.HasPrefix(name, "table_to_xml") && len(n.Args) > 0:
			w.sensitive = true
			table, constant := constantText(n.Args[0])
			w.run("SELECT * FROM "+table, constant)
			return
		case readsNamed[name]:
			w.calledEffect(effectDynamic)
			return
		case name == "set_config":
			w.sensitive = true
			setting, constant := "", false
			value, known := "", false
			if len(n.Args) > 1 {
				setting, constant = constantText(n.Args[0])
				value, known = constantText(n.Args[1])
			}
			if !constant {
				w.calledEffect(effectConfig)
				return
			}
			w.calledEffect(namedSetting(setting, value, known))
			return
		}
		if e := functionEffect(name); e != "" {
			w.calledEffect(e)
			return
		}
		if _, runs := runsText[name]; runs {
			return
		}
	}
	users := w.catalog.Functions(schema, name)
	if builtin["functions"][name] && (schema == "pg_catalog" || schema == "" && len(users) == 0) {
		return
	}
	if len(users) > 0 && schema != "pg_catalog" && w.seenThrough(users) {
		return
	}
	w.calledEffect(effectCode)
}

// maxNested bounds how deeply what statements, functions and blocks run in
// turn is followed.
const maxNested = 5

// seenThrough follows the bodies of functions, any of which may be meant. It
// reports whether all could be read and only compute or read.
func (w *walker) seenThrough(functions []*Function) bool {
	if w.nested >= maxNested || len(functions) > 20 {
		return false
	}
	for _, f := range functions {
		if f.Volatility == 'v' || f.Body == "" || f.Language != "sql" {
			return false
		}
		inner, ok := w.inner(f.Body)
		if !ok || inner.commands || inner.calls {
			return false
		}
		w.take(inner)
	}
	return true
}

// unknownName notes an operator that is not the server's own.
func (w *walker) unknownName(list string, name []*pg.Node) {
	parts := words(name)
	if len(parts) > 0 && !builtin[list][last(parts)] || len(parts) > 1 && parts[0] != "pg_catalog" {
		w.calledEffect(effectCode)
	}
}
