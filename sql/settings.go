package sql

import (
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// harmlessSettings change how a session sees things and nothing that others
// see or that bounds it.
var harmlessSettings = words2set("search_path timezone datestyle intervalstyle application_name extra_float_digits bytea_output xmlbinary xmloption " +
	"client_min_messages jit plan_cache_mode default_transaction_isolation default_transaction_deferrable transaction_isolation transaction_deferrable " +
	"enable_async_append enable_bitmapscan enable_gathermerge enable_hashagg enable_hashjoin enable_incremental_sort enable_indexonlyscan enable_indexscan " +
	"enable_material enable_memoize enable_mergejoin enable_nestloop enable_parallel_append enable_parallel_hash enable_partition_pruning " +
	"enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate enable_seqscan enable_sort enable_tidscan " +
	"from_collapse_limit join_collapse_limit geqo geqo_threshold random_page_cost seq_page_cost cpu_tuple_cost cpu_index_tuple_cost cpu_operator_cost " +
	"effective_cache_size constraint_exclusion cursor_tuple_fraction default_text_search_config lc_messages lc_monetary lc_numeric lc_time " +
	"synchronize_seqscans parallel_leader_participation quote_all_identifiers seed gin_fuzzy_search_limit")

// limitSettings bound what a session may take of the server.
var limitSettings = words2set("statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout transaction_timeout temp_file_limit " +
	"work_mem maintenance_work_mem hash_mem_multiplier temp_buffers logical_decoding_work_mem max_parallel_workers max_parallel_workers_per_gather " +
	"max_parallel_maintenance_workers tcp_keepalives_idle tcp_keepalives_interval tcp_keepalives_count tcp_user_timeout client_connection_check_interval " +
	"deadlock_timeout vacuum_cost_delay vacuum_cost_limit")

// timeouts are those that a value within bounds makes no laxer than is common.
var timeouts = words2set("statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout transaction_timeout")

// auditPrefixes begin the names of settings that say what the server records.
var auditPrefixes = []string{"log_", "pgaudit.", "auto_explain.", "track_", "pg_stat_statements.", "logging_", "syslog_", "event_source", "session_replication_role",
	"debug_print_", "stats_", "compute_query_id", "event_triggers"}

// extensionPrefixes begin the names of settings that are an extension's, and
// so are no placeholders of an application's own.
var extensionPrefixes = words2set("plpgsql plperl plpython pltcl pljava postgres_fdw dblink pg_cron cron pg_prewarm timescaledb citus pg_trgm auth_delay passwordcheck sepgsql " +
	"anon pgsodium vault supautils pg_net shared_preload supabase plrust hll postgis rds aws_s3 azure google")

// settingEffect says what a SET or RESET does.
func settingEffect(s *pg.VariableSetStmt) string {
	if s == nil {
		return effectConfig
	}
	if s.Kind == pg.VariableSetKind_VAR_RESET_ALL {
		return effectConfig
	}
	name := strings.ToLower(s.Name)
	if s.Kind == pg.VariableSetKind_VAR_SET_MULTI {
		if name == "transaction" || name == "transaction snapshot" {
			return effectTransaction
		}
		return effectConfig // SET SESSION CHARACTERISTICS
	}
	value, constant := "", false
	if len(s.Args) == 1 && s.Kind == pg.VariableSetKind_VAR_SET_VALUE {
		value, constant = constantText(s.Args[0])
	}
	return namedSetting(name, value, constant)
}

// namedSetting says what it does to set name. constant: to value; else to what
// is not known, or to its default.
func namedSetting(name, value string, constant bool) string {
	name, value = strings.ToLower(name), strings.ToLower(value)
	for _, prefix := range auditPrefixes {
		if strings.HasPrefix(name, prefix) {
			return effectAudit
		}
	}
	switch name {
	case "role", "session_authorization", "row_security":
		return effectRole
	case "client_encoding", "names":
		if constant && (value == "utf8" || value == "utf-8" || value == "unicode") {
			return effectSession
		}
		return effectConfig
	case "standard_conforming_strings", "default_transaction_read_only", "transaction_read_only":
		if constant && (value == "on" || value == "true" || value == "1" || value == "yes") {
			return effectSession
		}
		return effectConfig
	}
	prefix, _, dotted := strings.Cut(name, ".")
	switch {
	case timeouts[name] && constant && bounds(value):
		return effectSession
	case limitSettings[name]:
		return effectLimit
	case harmlessSettings[name], dotted && !extensionPrefixes[prefix]:
		return effectSession
	}
	return effectConfig
}

// units are those of durations, in milliseconds. Less than one is rounded, to
// none perhaps.
var units = map[string]float64{"": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}

// bounds reports a duration that bounds a session: a day at most.
func bounds(value string) bool {
	digits := strings.TrimRight(strings.TrimSpace(value), "abcdefghijklmnopqrstuvwxyz ")
	unit := units[strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(value), digits))]
	n, err := strconv.ParseFloat(digits, 64)
	return err == nil && n*unit >= 1 && n*unit <= 24*units["h"]
}

// constantText returns a constant as text.
func constantText(n *pg.Node) (string, bool) {
	if cast := n.GetTypeCast(); cast != nil {
		return constantText(cast.Arg)
	}
	c := n.GetAConst()
	if c == nil || c.Isnull {
		return "", false
	}
	switch v := c.Val.(type) {
	case *pg.A_Const_Sval:
		return v.Sval.Sval, true
	case *pg.A_Const_Ival:
		return strconv.Itoa(int(v.Ival.Ival)), true
	case *pg.A_Const_Fval:
		return v.Fval.Fval, true
	case *pg.A_Const_Boolval:
		return strconv.FormatBool(v.Boolval.Boolval), true
	case *pg.A_Const_Bsval:
		return v.Bsval.Bsval, true
	}
	return "", false
}
