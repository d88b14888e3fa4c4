package sql

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
)

// verbs names every statement of the grammar by its message in
// pg_query.proto; TestEveryStatementHasAVerb compares it with the grammar.
// Those whose form decides are completed in verb.
var verbs = map[string]string{
	"InsertStmt":                   "INSERT",
	"DeleteStmt":                   "DELETE",
	"UpdateStmt":                   "UPDATE",
	"MergeStmt":                    "MERGE",
	"SelectStmt":                   "SELECT",
	"SetOperationStmt":             "SELECT",
	"ReturnStmt":                   "RETURN",
	"PLAssignStmt":                 "ASSIGN",
	"CreateSchemaStmt":             "CREATE SCHEMA",
	"AlterTableStmt":               "ALTER TABLE",
	"ReplicaIdentityStmt":          "ALTER TABLE",
	"AlterCollationStmt":           "ALTER COLLATION",
	"AlterDomainStmt":              "ALTER DOMAIN",
	"GrantStmt":                    "GRANT",
	"GrantRoleStmt":                "GRANT",
	"AlterDefaultPrivilegesStmt":   "ALTER DEFAULT PRIVILEGES",
	"CopyStmt":                     "COPY",
	"VariableSetStmt":              "SET",
	"VariableShowStmt":             "SHOW",
	"CreateStmt":                   "CREATE TABLE",
	"CreateTableSpaceStmt":         "CREATE TABLESPACE",
	"DropTableSpaceStmt":           "DROP TABLESPACE",
	"AlterTableSpaceOptionsStmt":   "ALTER TABLESPACE",
	"AlterTableMoveAllStmt":        "ALTER TABLE",
	"CreateExtensionStmt":          "CREATE EXTENSION",
	"AlterExtensionStmt":           "ALTER EXTENSION",
	"AlterExtensionContentsStmt":   "ALTER EXTENSION",
	"CreateFdwStmt":                "CREATE FOREIGN DATA WRAPPER",
	"AlterFdwStmt":                 "ALTER FOREIGN DATA WRAPPER",
	"CreateForeignServerStmt":      "CREATE SERVER",
	"AlterForeignServerStmt":       "ALTER SERVER",
	"CreateForeignTableStmt":       "CREATE FOREIGN TABLE",
	"CreateUserMappingStmt":        "CREATE USER MAPPING",
	"AlterUserMappingStmt":         "ALTER USER MAPPING",
	"DropUserMappingStmt":          "DROP USER MAPPING",
	"ImportForeignSchemaStmt":      "IMPORT FOREIGN SCHEMA",
	"CreatePolicyStmt":             "CREATE POLICY",
	"AlterPolicyStmt":              "ALTER POLICY",
	"CreateAmStmt":                 "CREATE ACCESS METHOD",
	"CreateTrigStmt":               "CREATE TRIGGER",
	"CreateEventTrigStmt":          "CREATE EVENT TRIGGER",
	"AlterEventTrigStmt":           "ALTER EVENT TRIGGER",
	"CreatePLangStmt":              "CREATE LANGUAGE",
	"CreateRoleStmt":               "CREATE ROLE",
	"AlterRoleStmt":                "ALTER ROLE",
	"AlterRoleSetStmt":             "ALTER ROLE",
	"DropRoleStmt":                 "DROP ROLE",
	"CreateSeqStmt":                "CREATE SEQUENCE",
	"AlterSeqStmt":                 "ALTER SEQUENCE",
	"DefineStmt":                   "CREATE",
	"CreateDomainStmt":             "CREATE DOMAIN",
	"CreateOpClassStmt":            "CREATE OPERATOR CLASS",
	"CreateOpFamilyStmt":           "CREATE OPERATOR FAMILY",
	"AlterOpFamilyStmt":            "ALTER OPERATOR FAMILY",
	"DropStmt":                     "DROP",
	"TruncateStmt":                 "TRUNCATE",
	"CommentStmt":                  "COMMENT",
	"SecLabelStmt":                 "SECURITY LABEL",
	"DeclareCursorStmt":            "DECLARE",
	"ClosePortalStmt":              "CLOSE",
	"FetchStmt":                    "FETCH",
	"IndexStmt":                    "CREATE INDEX",
	"CreateStatsStmt":              "CREATE STATISTICS",
	"AlterStatsStmt":               "ALTER STATISTICS",
	"CreateFunctionStmt":           "CREATE FUNCTION",
	"AlterFunctionStmt":            "ALTER FUNCTION",
	"DoStmt":                       "DO",
	"CallStmt":                     "CALL",
	"RenameStmt":                   "ALTER",
	"AlterObjectDependsStmt":       "ALTER",
	"AlterObjectSchemaStmt":        "ALTER",
	"AlterOwnerStmt":               "ALTER",
	"AlterOperatorStmt":            "ALTER OPERATOR",
	"AlterTypeStmt":                "ALTER TYPE",
	"RuleStmt":                     "CREATE RULE",
	"NotifyStmt":                   "NOTIFY",
	"ListenStmt":                   "LISTEN",
	"UnlistenStmt":                 "UNLISTEN",
	"TransactionStmt":              "TRANSACTION",
	"CompositeTypeStmt":            "CREATE TYPE",
	"CreateEnumStmt":               "CREATE TYPE",
	"CreateRangeStmt":              "CREATE TYPE",
	"AlterEnumStmt":                "ALTER TYPE",
	"ViewStmt":                     "CREATE VIEW",
	"LoadStmt":                     "LOAD",
	"CreatedbStmt":                 "CREATE DATABASE",
	"AlterDatabaseStmt":            "ALTER DATABASE",
	"AlterDatabaseRefreshCollStmt": "ALTER DATABASE",
	"AlterDatabaseSetStmt":         "ALTER DATABASE",
	"DropdbStmt":                   "DROP DATABASE",
	"AlterSystemStmt":              "ALTER SYSTEM",
	"ClusterStmt":                  "CLUSTER",
	"VacuumStmt":                   "VACUUM",
	"ExplainStmt":                  "EXPLAIN",
	"CreateTableAsStmt":            "CREATE TABLE AS",
	"RefreshMatViewStmt":           "REFRESH MATERIALIZED VIEW",
	"CheckPointStmt":               "CHECKPOINT",
	"DiscardStmt":                  "DISCARD",
	"LockStmt":                     "LOCK",
	"ConstraintsSetStmt":           "SET CONSTRAINTS",
	"ReindexStmt":                  "REINDEX",
	"CreateConversionStmt":         "CREATE CONVERSION",
	"CreateCastStmt":               "CREATE CAST",
	"CreateTransformStmt":          "CREATE TRANSFORM",
	"PrepareStmt":                  "PREPARE",
	"ExecuteStmt":                  "EXECUTE",
	"DeallocateStmt":               "DEALLOCATE",
	"DropOwnedStmt":                "DROP OWNED",
	"ReassignOwnedStmt":            "REASSIGN OWNED",
	"AlterTSDictionaryStmt":        "ALTER TEXT SEARCH DICTIONARY",
	"AlterTSConfigurationStmt":     "ALTER TEXT SEARCH CONFIGURATION",
	"CreatePublicationStmt":        "CREATE PUBLICATION",
	"AlterPublicationStmt":         "ALTER PUBLICATION",
	"CreateSubscriptionStmt":       "CREATE SUBSCRIPTION",
	"AlterSubscriptionStmt":        "ALTER SUBSCRIPTION",
	"DropSubscriptionStmt":         "DROP SUBSCRIPTION",
}

// reads are the verbs that by themselves change nothing that another session
// could see: their parts are looked at all the same. COMMIT is none of them,
// nor are EXECUTE and FETCH, which run what an earlier statement named.
var reads = map[string]bool{
	"SELECT": true, "VALUES": true, "EXPLAIN": true, "EXPLAIN ANALYZE": true, "SHOW": true, "COPY TO": true,
	"BEGIN": true, "SAVEPOINT": true, "RELEASE": true, "ROLLBACK": true, "ROLLBACK TO": true,
	"DECLARE": true, "CLOSE": true, "PREPARE": true, "DEALLOCATE": true, "LISTEN": true, "UNLISTEN": true,
}

var transactions = map[pg.TransactionStmtKind]string{
	pg.TransactionStmtKind_TRANS_STMT_BEGIN:             "BEGIN",
	pg.TransactionStmtKind_TRANS_STMT_START:             "BEGIN",
	pg.TransactionStmtKind_TRANS_STMT_COMMIT:            "COMMIT",
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:          "ROLLBACK",
	pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:         "SAVEPOINT",
	pg.TransactionStmtKind_TRANS_STMT_RELEASE:           "RELEASE",
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:       "ROLLBACK TO",
	pg.TransactionStmtKind_TRANS_STMT_PREPARE:           "PREPARE TRANSACTION",
	pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED:   "COMMIT PREPARED",
	pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED: "ROLLBACK PREPARED",
}

// verb returns what a statement is called, or "" for what is none.
func verb(m proto.Message) string {
	switch s := m.(type) {
	case *pg.TransactionStmt:
		return transactions[s.Kind]
	case *pg.CopyStmt:
		// A file or program is the server's own: writing one is no read.
		switch {
		case s.IsProgram && s.IsFrom:
			return "COPY FROM PROGRAM"
		case s.IsProgram:
			return "COPY TO PROGRAM"
		case s.IsFrom:
			return "COPY FROM"
		case s.Filename != "":
			return "COPY TO FILE"
		default:
			return "COPY TO"
		}
	case *pg.SelectStmt:
		if s.IntoClause != nil {
			return "SELECT INTO"
		}
		if len(s.ValuesLists) > 0 {
			return "VALUES"
		}
	case *pg.ExplainStmt:
		if analyzes(s) {
			return "EXPLAIN ANALYZE"
		}
	case *pg.GrantStmt:
		if !s.IsGrant {
			return "REVOKE"
		}
	case *pg.GrantRoleStmt:
		if !s.IsGrant {
			return "REVOKE"
		}
	case *pg.VacuumStmt:
		if !s.IsVacuumcmd {
			return "ANALYZE"
		}
	case *pg.VariableSetStmt:
		if s.Kind == pg.VariableSetKind_VAR_RESET || s.Kind == pg.VariableSetKind_VAR_RESET_ALL {
			return "RESET"
		}
	case *pg.CreateTableAsStmt:
		return "CREATE " + object(s.Objtype) + " AS"
	case *pg.DropStmt:
		return "DROP " + object(s.RemoveType)
	case *pg.DefineStmt:
		return "CREATE " + object(s.Kind)
	case *pg.AlterTableStmt:
		return "ALTER " + object(s.Objtype)
	case *pg.RenameStmt:
		return "ALTER " + object(s.RenameType)
	case *pg.AlterObjectSchemaStmt:
		return "ALTER " + object(s.ObjectType)
	case *pg.AlterObjectDependsStmt:
		return "ALTER " + object(s.ObjectType)
	case *pg.AlterOwnerStmt:
		return "ALTER " + object(s.ObjectType)
	case *pg.CreateFunctionStmt:
		if s.IsProcedure {
			return "CREATE PROCEDURE"
		}
	}
	return verbs[string(m.ProtoReflect().Descriptor().Name())]
}

// analyzes reports whether an EXPLAIN names the option ANALYZE. Its value is
// not looked at: ANALYZE false counts as ANALYZE.
func analyzes(s *pg.ExplainStmt) bool {
	for _, option := range s.Options {
		if e := option.GetDefElem(); e != nil && strings.EqualFold(e.Defname, "analyze") {
			return true
		}
	}
	return false
}

// object turns OBJECT_FOREIGN_TABLE into FOREIGN TABLE.
func object(t pg.ObjectType) string {
	name := strings.TrimPrefix(t.String(), "OBJECT_")
	switch name {
	case "MATVIEW":
		return "MATERIALIZED VIEW"
	case "FDW":
		return "FOREIGN DATA WRAPPER"
	case "FOREIGN_SERVER":
		return "SERVER"
	case "COLUMN", "TABCONSTRAINT":
		return "TABLE"
	case "ATTRIBUTE":
		return "TYPE"
	case "DOMCONSTRAINT":
		return "DOMAIN"
	}
	return strings.ReplaceAll(name, "_", " ")
}
