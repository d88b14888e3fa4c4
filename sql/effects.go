package sql

import (
	"cmp"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// The effects of a statement, as custos.Facts.Effects has them. docs/policy.md
// says what counts as each.
const (
	effectRead        = "read"
	effectValues      = "write.values"
	effectKeyed       = "write.keyed"
	effectWide        = "write.wide"
	effectUnfiltered  = "write.unfiltered"
	effectDDL         = "ddl"
	effectDestroy     = "ddl.destroy"
	effectRole        = "role"
	effectConfig      = "config"
	effectSession     = "session"
	effectLimit       = "session.limit"
	effectAudit       = "audit"
	effectFile        = "file"
	effectOS          = "os"
	effectNetwork     = "network"
	effectReplication = "replication"
	effectExtension   = "extension"
	effectSecret      = "secret"
	effectStatistics  = "statistics"
	effectCode        = "code"
	effectDynamic     = "code.dynamic"
	effectDefine      = "code.define"
	effectShadow      = "code.shadow"
	effectLock        = "lock"
	effectSleep       = "sleep"
	effectKill        = "kill"
	effectMaintenance = "maintenance"
	effectCopyIn      = "copy.in"
	effectCopyOut     = "copy.out"
	effectNotify      = "notify"
	effectTransaction = "transaction"
	effectPrepared    = "transaction.prepared"
	effectExplain     = "explain"
	effectUnknown     = "unknown"

	// MaskedSentinel is that of a statement that holds what a mask puts in a
	// value's place.
	MaskedSentinel = "masked.sentinel"
)

// byVerb are the effects of the statements of which the verb alone says what
// they do. Those of the others are found in statementEffects. A statement that
// is in neither is unknown.
var byVerb = map[string]string{
	"SELECT": effectRead, "VALUES": effectRead, "SHOW": effectRead, "SELECT INTO": effectDDL,
	"RETURN": effectRead, "ASSIGN": effectRead, "MERGE": effectWide,
	"CREATE SCHEMA": effectDDL, "CREATE TABLE": effectDDL, "CREATE SEQUENCE": effectDDL, "ALTER SEQUENCE": effectDDL, "CREATE DOMAIN": effectDDL,
	"ALTER DOMAIN": effectDDL, "COMMENT": effectDDL, "CREATE INDEX": effectDDL, "CREATE STATISTICS": effectDDL, "ALTER STATISTICS": effectDDL,
	"CREATE TYPE": effectDDL, "ALTER TYPE": effectDDL, "CREATE VIEW": effectDDL, "CREATE DATABASE": effectDDL, "CREATE COLLATION": effectDDL,
	"ALTER COLLATION": effectDDL, "ALTER TEXT SEARCH DICTIONARY": effectDDL, "ALTER TEXT SEARCH CONFIGURATION": effectDDL,
	"TRUNCATE": effectDestroy, "DROP DATABASE": effectDestroy, "DROP OWNED": effectDestroy,
	"GRANT": effectRole, "REVOKE": effectRole, "ALTER DEFAULT PRIVILEGES": effectRole, "CREATE ROLE": effectRole, "ALTER ROLE": effectRole,
	"DROP ROLE": effectRole, "SECURITY LABEL": effectRole, "REASSIGN OWNED": effectRole, "CREATE POLICY": effectRole, "ALTER POLICY": effectRole,
	"ALTER SYSTEM": effectConfig, "ALTER DATABASE": effectConfig,
	"CREATE TABLESPACE": effectFile, "DROP TABLESPACE": effectFile, "ALTER TABLESPACE": effectFile, "LOAD": effectFile,
	"COPY FROM": effectCopyIn, "COPY TO": effectCopyOut, "COPY TO FILE": effectFile, "COPY FROM PROGRAM": effectOS, "COPY TO PROGRAM": effectOS,
	"CREATE LANGUAGE": effectOS, "CREATE ACCESS METHOD": effectOS,
	"CREATE FOREIGN DATA WRAPPER": effectNetwork, "ALTER FOREIGN DATA WRAPPER": effectNetwork, "CREATE SERVER": effectNetwork, "ALTER SERVER": effectNetwork,
	"CREATE FOREIGN TABLE": effectNetwork, "CREATE USER MAPPING": effectNetwork, "ALTER USER MAPPING": effectNetwork, "DROP USER MAPPING": effectNetwork,
	"IMPORT FOREIGN SCHEMA": effectNetwork,
	"CREATE PUBLICATION":    effectReplication, "ALTER PUBLICATION": effectReplication, "CREATE SUBSCRIPTION": effectReplication,
	"ALTER SUBSCRIPTION": effectReplication, "DROP SUBSCRIPTION": effectReplication,
	"CREATE EXTENSION": effectExtension, "ALTER EXTENSION": effectExtension,
	"CREATE EVENT TRIGGER": effectAudit, "ALTER EVENT TRIGGER": effectAudit,
	"CREATE FUNCTION": effectDefine, "CREATE PROCEDURE": effectDefine, "ALTER FUNCTION": effectDefine, "CREATE TRIGGER": effectDefine,
	"CREATE RULE": effectDefine, "CREATE CAST": effectDefine, "CREATE TRANSFORM": effectDefine, "CREATE CONVERSION": effectDefine,
	"CREATE OPERATOR CLASS": effectDefine, "CREATE OPERATOR FAMILY": effectDefine, "ALTER OPERATOR FAMILY": effectDefine, "ALTER OPERATOR": effectDefine,
	"ALTER PROCEDURE": effectDefine, "ALTER ROUTINE": effectDefine, "ALTER AGGREGATE": effectDefine, "ALTER LANGUAGE": effectOS,
	"CREATE OPERATOR": effectDefine, "CREATE AGGREGATE": effectDefine, "DO": effectCode, "CALL": effectCode,
	"EXECUTE": effectCode, "FETCH": effectCode,
	"VACUUM": effectMaintenance, "ANALYZE": effectMaintenance, "CLUSTER": effectMaintenance, "REINDEX": effectMaintenance, "CHECKPOINT": effectMaintenance,
	"REFRESH MATERIALIZED VIEW": effectMaintenance,
	"LOCK":                      effectLock, "NOTIFY": effectNotify,
	"LISTEN": effectSession, "UNLISTEN": effectSession, "DEALLOCATE": effectSession, "CLOSE": effectSession, "DECLARE": effectSession, "PREPARE": effectSession,
	"SET CONSTRAINTS": effectSession,
	"BEGIN":           effectTransaction, "COMMIT": effectTransaction, "ROLLBACK": effectTransaction, "SAVEPOINT": effectTransaction, "RELEASE": effectTransaction,
	"ROLLBACK TO": effectTransaction, "PREPARE TRANSACTION": effectPrepared, "COMMIT PREPARED": effectPrepared, "ROLLBACK PREPARED": effectPrepared,
	"EXPLAIN": effectExplain, "EXPLAIN ANALYZE": effectExplain,
}

// dropped are the effects of DROP by what is dropped: what holds data, or what
// is told to keep watch, is not made again as easily as an index.
var droppedEffects = map[pg.ObjectType]string{
	pg.ObjectType_OBJECT_TABLE: effectDestroy, pg.ObjectType_OBJECT_SCHEMA: effectDestroy, pg.ObjectType_OBJECT_MATVIEW: effectDestroy,
	pg.ObjectType_OBJECT_SEQUENCE: effectDestroy, pg.ObjectType_OBJECT_TYPE: effectDestroy, pg.ObjectType_OBJECT_DOMAIN: effectDestroy,
	pg.ObjectType_OBJECT_FOREIGN_TABLE: effectNetwork, pg.ObjectType_OBJECT_FOREIGN_SERVER: effectNetwork, pg.ObjectType_OBJECT_FDW: effectNetwork,
	pg.ObjectType_OBJECT_EXTENSION: effectExtension, pg.ObjectType_OBJECT_PUBLICATION: effectReplication, pg.ObjectType_OBJECT_SUBSCRIPTION: effectReplication,
	pg.ObjectType_OBJECT_TRIGGER: effectAudit, pg.ObjectType_OBJECT_RULE: effectAudit, pg.ObjectType_OBJECT_EVENT_TRIGGER: effectAudit,
	pg.ObjectType_OBJECT_POLICY: effectRole, pg.ObjectType_OBJECT_LANGUAGE: effectOS, pg.ObjectType_OBJECT_ACCESS_METHOD: effectOS,
	pg.ObjectType_OBJECT_DATABASE: effectDestroy,
}

// altered are the effects of what ALTER TABLE may do that is more than DDL.
var alteredEffects = map[pg.AlterTableType]string{
	pg.AlterTableType_AT_DropColumn: effectDestroy,
	pg.AlterTableType_AT_EnableTrig: effectAudit, pg.AlterTableType_AT_EnableAlwaysTrig: effectAudit, pg.AlterTableType_AT_EnableReplicaTrig: effectAudit,
	pg.AlterTableType_AT_DisableTrig: effectAudit, pg.AlterTableType_AT_EnableTrigAll: effectAudit, pg.AlterTableType_AT_DisableTrigAll: effectAudit,
	pg.AlterTableType_AT_EnableTrigUser: effectAudit, pg.AlterTableType_AT_DisableTrigUser: effectAudit, pg.AlterTableType_AT_EnableRule: effectAudit,
	pg.AlterTableType_AT_EnableAlwaysRule: effectAudit, pg.AlterTableType_AT_EnableReplicaRule: effectAudit, pg.AlterTableType_AT_DisableRule: effectAudit,
	pg.AlterTableType_AT_ChangeOwner: effectRole, pg.AlterTableType_AT_EnableRowSecurity: effectRole, pg.AlterTableType_AT_DisableRowSecurity: effectRole,
	pg.AlterTableType_AT_ForceRowSecurity: effectRole, pg.AlterTableType_AT_NoForceRowSecurity: effectRole,
	pg.AlterTableType_AT_ReplicaIdentity: effectReplication, pg.AlterTableType_AT_SetTableSpace: effectFile,
}

// secretRelations and statisticsRelations are catalogues of the server's own.
// A table of pg_toast holds columns' values as they are.
var (
	secretRelations = words2set("pg_authid pg_shadow pg_user_mapping pg_user_mappings pg_foreign_server pg_foreign_data_wrapper pg_foreign_table pg_subscription " +
		"pg_hba_file_rules pg_ident_file_mappings pg_file_settings pg_largeobject pg_db_role_setting _pg_foreign_servers _pg_user_mappings _pg_foreign_tables " +
		"_pg_foreign_data_wrappers _pg_foreign_table_columns user_mapping_options foreign_server_options foreign_table_options foreign_data_wrapper_options " +
		"column_options pg_stat_wal_receiver")
	statisticsRelations = words2set("pg_stats pg_statistic pg_stats_ext pg_stats_ext_exprs pg_statistic_ext_data")
)

func words2set(list string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

func (w *walker) effect(name string) {
	if name != "" && !slices.Contains(w.effects, name) {
		w.effects = append(w.effects, name)
	}
}

// statementEffects notes what a statement does by itself: what is in it has
// effects of its own.
func (w *walker) statementEffects(m proto.Message, v string) {
	switch s := m.(type) {
	case *pg.InsertStmt:
		w.writesTo(s.Relation)
		w.effect(insertEffect(s))
	case *pg.UpdateStmt:
		w.writesTo(s.Relation)
		w.effect(w.filtered(s.Relation, s.WhereClause, s.FromClause, s.WithClause))
	case *pg.DeleteStmt:
		w.writesTo(s.Relation)
		w.effect(w.filtered(s.Relation, s.WhereClause, s.UsingClause, s.WithClause))
	case *pg.MergeStmt:
		w.writesTo(s.Relation)
		w.effect(w.merged(s))
	case *pg.DropStmt:
		w.effect(cmp.Or(droppedEffects[s.RemoveType], effectDDL))
		if s.Behavior == pg.DropBehavior_DROP_CASCADE && s.RemoveType != pg.ObjectType_OBJECT_INDEX && s.RemoveType != pg.ObjectType_OBJECT_VIEW {
			w.effect(effectDestroy) // columns and tables that depend on it go too
		}
	case *pg.RenameStmt:
		w.effect(w.plainEffect(v))
		if routine(s.RenameType) && builtin["functions"][s.Newname] {
			w.effect(effectShadow)
		}
	case *pg.AlterObjectSchemaStmt:
		w.effect(w.plainEffect(v))
		if routine(s.ObjectType) {
			w.shadows("functions", s.Object.GetObjectWithArgs().GetObjname())
		}
		if s.ObjectType == pg.ObjectType_OBJECT_OPERATOR {
			w.shadows("operators", s.Object.GetObjectWithArgs().GetObjname())
		}
	case *pg.AlterDatabaseSetStmt:
		w.effect(effectConfig)
		w.silences(s.Setstmt)
	case *pg.AlterRoleSetStmt:
		w.effect(effectRole)
		w.silences(s.Setstmt)
	case *pg.DropOwnedStmt:
		w.effect(effectDestroy)
		w.effect(effectRole)
	case *pg.AlterTableMoveAllStmt:
		w.effect(effectFile)
	case *pg.AlterTableStmt:
		w.effect(w.plainEffect(v))
		for _, c := range s.Cmds {
			w.effect(alteredEffects[c.GetAlterTableCmd().GetSubtype()])
		}
	case *pg.AlterOwnerStmt:
		w.effect(effectRole)
	case *pg.VariableSetStmt:
		w.effect(settingEffect(s))
	case *pg.AlterSystemStmt:
		w.effect(effectConfig)
		w.silences(s.Setstmt)
	case *pg.DiscardStmt:
		if s.Target == pg.DiscardMode_DISCARD_ALL {
			w.effect(effectConfig)
		} else {
			w.effect(effectSession)
		}
	case *pg.LoadStmt:
		w.effect(effectFile)
		w.effect(effectOS)
	case *pg.CopyStmt:
		w.effect(byVerb[v])
		if s.IsFrom {
			w.writesTo(s.Relation)
		}
		if s.Filename != "" && !s.IsProgram {
			w.effect(effectFile)
		}
	case *pg.DefineStmt:
		w.effect(effectDefine)
		if s.Kind == pg.ObjectType_OBJECT_OPERATOR || s.Kind == pg.ObjectType_OBJECT_AGGREGATE {
			w.shadows(map[bool]string{true: "operators", false: "functions"}[s.Kind == pg.ObjectType_OBJECT_OPERATOR], s.Defnames)
		}
	case *pg.CreateCastStmt:
		w.effect(effectDefine)
		if builtin["types"][last(words(s.Sourcetype.GetNames()))] && builtin["types"][last(words(s.Targettype.GetNames()))] {
			w.effect(effectShadow)
		}
	case *pg.CreateFunctionStmt:
		w.effect(effectDefine)
		w.shadows("functions", s.Funcname)
		w.definer(s.Options)
		w.function(s)
	case *pg.AlterFunctionStmt:
		w.effect(effectDefine)
		w.definer(s.Actions)
	case *pg.DoStmt:
		w.effect(effectCode)
		w.does(s)
	default:
		w.effect(w.plainEffect(v))
	}
}

// routine reports what is called by a name as functions are.
func routine(t pg.ObjectType) bool {
	return t == pg.ObjectType_OBJECT_FUNCTION || t == pg.ObjectType_OBJECT_PROCEDURE || t == pg.ObjectType_OBJECT_ROUTINE || t == pg.ObjectType_OBJECT_AGGREGATE
}

// silences notes a setting of what the server records, for sessions to come.
func (w *walker) silences(s *pg.VariableSetStmt) {
	if settingEffect(s) == effectAudit {
		w.effect(effectAudit)
	}
}

// definer notes a function that runs with its owner's rights.
func (w *walker) definer(options []*pg.Node) {
	for _, option := range options {
		o := option.GetDefElem()
		if o.GetDefname() == "security" && (o.GetArg().GetBoolean().GetBoolval() || o.GetArg().GetInteger().GetIval() != 0) {
			w.effect(effectRole)
		}
	}
}

// plainEffect is that of a statement of which the verb says all.
func (w *walker) plainEffect(v string) string {
	if e := byVerb[v]; e != "" {
		return e
	}
	if strings.Contains(v, " FOREIGN ") {
		return effectNetwork
	}
	if strings.HasPrefix(v, "ALTER ") || strings.HasPrefix(v, "CREATE ") {
		return effectDDL
	}
	return effectUnknown
}

// shadows notes a definition under the name of one of the server's own.
func (w *walker) shadows(list string, name []*pg.Node) {
	if parts := words(name); builtin[list][last(parts)] {
		w.effect(effectShadow)
	}
}

// insertEffect tells an INSERT that spells out its rows from one of what a
// query finds.
func insertEffect(s *pg.InsertStmt) string {
	query := s.SelectStmt.GetSelectStmt()
	switch {
	case query == nil || len(query.ValuesLists) > 0:
		return effectValues
	case len(query.FromClause) == 0 && query.Larg == nil && query.WithClause == nil && !slices.ContainsFunc(query.TargetList, computes):
		return effectValues // of a SELECT of constants
	}
	return effectWide
}

// single are functions, common in inserts, that never give several rows.
var single = words2set("now clock_timestamp statement_timestamp timezone lower upper initcap trim btrim md5 concat format to_date to_timestamp to_char " +
	"date_trunc gen_random_uuid uuid_generate_v4 nextval currval lastval random round crypt gen_salt encode decode json_build_object jsonb_build_object " +
	"json_build_array jsonb_build_array to_json to_jsonb set_config current_setting")

// computes reports a target that may give several rows.
func computes(n *pg.Node) bool {
	found := false
	eachMessage(n.ProtoReflect(), func(m proto.Message) bool {
		switch e := m.(type) {
		case *pg.SubLink, *pg.A_Indirection:
			found = true
		case *pg.FuncCall:
			found = found || !single[last(words(e.Funcname))]
		}
		return !found
	})
	return found
}

// readsRelation notes what is special about a relation that is named.
func (w *walker) readsRelation(r *pg.RangeVar) {
	if r.Schemaname == "pg_toast" || r.Schemaname == "vault" { // the latter is of an extension
		w.calledEffect(effectSecret)
	}
	if r.Schemaname == "" && slices.Contains(w.ctes, r.Relname) {
		return
	}
	w.named(r)
	w.looksThrough(r)
	w.unsure = w.unsure || slices.ContainsFunc(w.catalog.Named(r.Schemaname, r.Relname), func(of *Relation) bool { return !w.catalog.plain(of, maxShown) })
}

// looksThrough notes what a view does that is read, which its owner may and its
// reader perhaps not. That it compares by an extension's operators is no
// matter.
func (w *walker) looksThrough(r *pg.RangeVar) {
	for _, of := range w.catalog.Named(r.Schemaname, r.Relname) {
		if of.Kind != 'v' || of.Definition == "" {
			continue
		}
		in, ok := w.inner(of.Definition)
		if !ok {
			w.calls, w.unseen = true, true
			w.calledEffect(effectCode)
			continue
		}
		for _, e := range in.effects {
			if e != effectRead && (e != effectCode || in.unseen) {
				w.calledEffect(e)
			}
		}
		w.calls, w.unseen = w.calls || in.unseen, w.unseen || in.unseen
	}
}

// named notes a relation that holds what the server keeps to itself.
func (w *walker) named(r *pg.RangeVar) {
	switch {
	case r.Schemaname != "" && !ownSchema(r.Schemaname):
	case secretRelations[r.Relname]:
		w.calledEffect(effectSecret)
	case statisticsRelations[r.Relname]:
		w.calledEffect(effectStatistics)
	}
}

func ownSchema(name string) bool { return name == "pg_catalog" || name == "information_schema" }

// writesTo notes a relation that is written: what the server keeps about itself
// says how it works, and pg_settings what it records. A name in WITH never
// stands for it.
func (w *walker) writesTo(r *pg.RangeVar) {
	if r == nil {
		return
	}
	w.named(r)
	unnamed := r.Schemaname == "" && strings.HasPrefix(r.Relname, "pg_") && !slices.ContainsFunc(w.catalog.Named("", r.Relname), func(of *Relation) bool {
		return !ownSchema(of.Schema)
	})
	switch {
	case r.Schemaname == "cron":
		w.effect(effectDynamic) // jobs of pg_cron
	case ownSchema(r.Schemaname) || r.Schemaname == "pg_toast" || unnamed:
		w.effect(effectConfig)
		if r.Relname == "pg_settings" || r.Relname == "pg_trigger" || r.Relname == "pg_event_trigger" || r.Relname == "pg_rewrite" {
			w.effect(effectAudit)
		}
	}
}
