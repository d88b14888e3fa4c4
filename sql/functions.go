package sql

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// functionEffects are those of functions of the server's own, and of what
// comes with it, that do more than compute, whatever schema they are in. A
// name that ends in * stands for all that begin so.
var functionEffects = effectsOf(map[string]string{
	effectFile: `pg_read_file* pg_read_binary_file* pg_ls_* pg_stat_file* pg_file_* pg_logdir_ls lo_import* lo_export
		utl_file.* file_fdw_*`,
	effectSecret: `pg_hba_file_rules pg_ident_file_mappings pg_show_all_file_settings pg_stat_get_wal_receiver loread lo_get get_raw_page tuple_data_split
		heap_page_item* bt_page_* bt_metap gin_leafpage_items gin_page_* gist_page_* hash_page_* brin_page_* brin_revmap_data brin_metapage_info
		fsm_page_contents page_header vault.* pgsodium.*`,
	effectStatistics: `pg_mcv_list_items`,
	effectDestroy:    `lo_unlink heap_force_kill heap_force_freeze`,
	effectWide:       `setval lo_create lo_creat lo_put lowrite lo_from_bytea lo_truncate lo_truncate64 lo_open lo_manage`,
	effectValues:     `nextval`,
	effectNetwork: `dblink* postgres_fdw_* http http_get http_post http_put http_patch http_delete http_head net.http_*
		aws_s3.* aws_lambda.*`,
	effectReplication: `pg_promote pg_create_physical_replication_slot pg_create_logical_replication_slot pg_drop_replication_slot
		pg_copy_physical_replication_slot pg_copy_logical_replication_slot pg_logical_* pg_replication_* pg_switch_wal pg_switch_xlog
		pg_create_restore_point pg_backup_* pg_start_backup pg_stop_backup pg_wal_replay_* pg_xlog_* pg_get_wal_* pg_walfile_*
		pg_sync_replication_slots pg_export_snapshot pg_get_replication_slots pg_show_replication_origin_status pg_log_standby_snapshot
		pglogical.* pg_split_walfile_name`,
	effectConfig: `pg_reload_conf binary_upgrade_* pg_log_backend_memory_contexts pg_import_system_collations pg_nextoid
		pg_stop_making_pinned_objects pg_restore_relation_stats pg_restore_attribute_stats pg_clear_relation_stats
		pg_clear_attribute_stats`,
	effectAudit: `pg_stat_reset* pg_stat_statements_reset pg_rotate_logfile* pg_stat_force_next_flush pgaudit* pg_event_trigger_*
		pg_qualstats_reset pg_stat_kcache_reset`,
	effectDynamic: `schema_to_xml* database_to_xml* cursor_to_xml* connectby xpath_table cron.* dbms_sql.* pg_background_launch
		run_command_on_* master_run_on_worker add_job`,
	effectLock:   `pg_advisory_* pg_try_advisory_*`,
	effectSleep:  `pg_sleep* dbms_lock.sleep`,
	effectKill:   `pg_terminate_backend pg_cancel_backend`,
	effectNotify: `pg_notify`,
	effectMaintenance: `pg_prewarm autoprewarm_* brin_summarize_* brin_desummarize_range gin_clean_pending_list pg_truncate_visibility_map
		pgstattuple* pgstatindex pgstatginindex pgstathashindex pg_relpages pgrowlocks bt_index_check bt_index_parent_check verify_heapam
		pg_buffercache_* pg_freespace pg_visibility* pg_check_frozen pg_check_visible`,
	effectExtension: `pg_extension_config_dump`,
})

func effectsOf(lists map[string]string) map[string]string {
	effects := map[string]string{}
	for effect, names := range lists {
		for name := range strings.FieldsSeq(names) {
			effects[name] = effect
		}
	}
	return effects
}

// runsText are functions that run texts as SQL: how many of their first
// arguments may be one.
var runsText = map[string]int{
	"query_to_xml": 1, "query_to_xmlschema": 1, "query_to_xml_and_xmlschema": 1, "ts_stat": 1,
	"crosstab": 2, "crosstab2": 1, "crosstab3": 1, "crosstab4": 1, "crosstabn": 1,
}

// harmless are volatile functions of common extensions that only compute.
// Whoever may make compiled ones is the server's superuser.
var harmless = words2set("uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 gen_random_bytes gen_random_uuid gen_salt normal_rand show_limit " +
	"show_trgm pg_stat_statements pg_stat_statements_info")

// functionEffect returns what a function does besides computing, or "".
func functionEffect(schema, name string) string {
	if e := functionEffects[schema+"."+name]; e != "" {
		return e
	}
	if e := functionEffects[schema+".*"]; e != "" {
		return e
	}
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

// calledEffect notes what a function or relation does, which EXPLAIN without
// ANALYZE may do too.
func (w *walker) calledEffect(name string) {
	w.effect(name)
	if !slices.Contains(w.called, name) {
		w.called = append(w.called, name)
	}
}

// call notes what a call does.
func (w *walker) call(name []*pg.Node, args []*pg.Node) {
	parts := words(name)
	if len(parts) == 0 {
		return
	}
	w.object(strings.Join(parts, ".") + "()")
	fn, schema := last(parts), ""
	if len(parts) > 1 {
		schema = parts[len(parts)-2]
	}
	own := len(parts) == 1 || len(parts) == 2 && schema == "pg_catalog"
	special, quiet := w.special(schema, fn, args)
	var users []*Function
	if schema != "pg_catalog" {
		users = w.catalog.Functions(schema, fn)
	}
	w.unsure = w.unsure || len(users) > 0 || !builtin["functions"][fn]
	switch {
	case len(users) > 0 && w.seenThrough(users):
	case len(users) == 0 && (quiet || own && builtin["functions"][fn]):
	default:
		w.calls = true
		if !special || len(users) > 0 {
			w.unseen = true
			w.calledEffect(effectCode)
		}
	}
}

// special notes what a function does that is known by its name. known: it is.
// quiet: it does no more than what is noted.
func (w *walker) special(schema, fn string, args []*pg.Node) (known, quiet bool) {
	e := functionEffect(schema, fn)
	if e != "" {
		w.calledEffect(e)
		w.calls = w.calls || e != effectSecret && e != effectStatistics
	}
	texts, runs := runsText[fn]
	switch {
	case strings.HasPrefix(fn, "dblink") && e == effectNetwork:
		w.runsAny(args)
	case runs:
		w.runsText(args, texts)
		return true, true
	case fn == "ts_rewrite":
		if len(args) == 2 { // the form of three computes
			w.runsText(args[1:], 1)
		}
		return true, true
	case strings.HasPrefix(fn, "table_to_xml"):
		w.sensitive = true
		table, constant := "", false
		if len(args) > 0 {
			table, constant = constantText(args[0])
		}
		w.run("SELECT * FROM "+table, constant)
		return true, true
	case fn == "set_config":
		w.setsConfig(args)
	default:
		return e != "", false
	}
	return true, false
}

// setsConfig notes a SET in the form of a call.
func (w *walker) setsConfig(args []*pg.Node) {
	w.sensitive = true
	if len(args) > 1 {
		if setting, constant := constantText(args[0]); constant {
			value, known := constantText(args[1])
			w.calledEffect(namedSetting(setting, value, known))
			return
		}
	}
	w.calledEffect(effectConfig)
}

// ownPrefixes begin the names of the server's own functions that do more than
// compute. What extensions bring is in the catalogue.
var ownPrefixes = []string{"pg_", "lo_", "loread", "lowrite", "query_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml", "cursor_to_xml",
	"ts_stat", "ts_rewrite", "set_config", "nextval", "setval", "binary_upgrade_"}

// notation notes a name behind a full stop that may be a call: to PostgreSQL,
// t.f is f(t) where t has no column f, and ('x').f is f('x').
func (w *walker) notation(name string) {
	_, runs := runsText[name]
	w.unsure = w.unsure || len(w.catalog.Functions("", name)) > 0
	own := (runs || name == "ts_rewrite" || name == "set_config" || strings.HasPrefix(name, "table_to_xml") || functionEffect("", name) != "") &&
		slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	if own || len(w.catalog.Functions("", name)) > 0 && !w.catalog.hasColumn(name) {
		w.call([]*pg.Node{pg.MakeStrNode(name)}, nil)
	}
}

// hasColumn reports whether any relation has a column of a name.
func (c *Catalog) hasColumn(name string) bool {
	for _, r := range c.relations {
		if slices.ContainsFunc(r.Columns, func(col Column) bool { return col.Name == name }) {
			return true
		}
	}
	return false
}

// maxNested bounds how deeply what statements, functions and blocks run in
// turn is followed, and maxOverloads how many functions one name may stand for.
const (
	maxNested    = 5
	maxOverloads = 20
)

// seenThrough follows the bodies of functions, any of which may be meant. It
// reports whether all could be read and only compute or read. Compiled ones
// that are declared to change nothing are believed: only a superuser makes
// them.
func (w *walker) seenThrough(functions []*Function) bool {
	if len(functions) > maxOverloads {
		return false
	}
	for _, f := range functions {
		switch {
		case f.Language == "c" && (f.Volatility != 'v' || harmless[f.Name]):
			continue
		case f.Volatility == 'v' || f.Body == "":
			return false
		}
		in, ok := w.body(f)
		if !ok {
			return false
		}
		w.take(in)
		if in.commands || in.calls {
			return false
		}
	}
	return true
}

// body reads what a function runs.
func (w *walker) body(f *Function) (*walker, bool) {
	switch f.Language {
	case "sql":
		return w.inner(f.Body)
	case "plpgsql":
		in := w.deeper()
		// What it returns is of no matter to the parser, so long as it returns
		// something; one that returns rows is not read.
		in.text = "CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS " + quoted(f.Body)
		return in, in.mayRead(in.text) && in.plpgsqlBody()
	}
	return nil, false
}

// quoted returns s as a constant.
func quoted(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// unknownName notes an operator that is not the server's own.
func (w *walker) unknownName(list string, name []*pg.Node) {
	parts := words(name)
	if len(parts) > 0 && !builtin[list][last(parts)] || len(parts) > 1 && parts[0] != "pg_catalog" {
		w.calledEffect(effectCode)
	}
}
