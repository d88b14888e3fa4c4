package sql

import pg "github.com/pganalyze/pg_query_go/v6"

// names says which name a statement gives to another, by PREPARE or DECLARE,
// and which it runs by name, by EXECUTE, FETCH or MOVE. Names of statements and
// of cursors are kept apart by what stands before them.
func names(stmt *pg.Node) (gives, runs string) {
	switch n := stmt.GetNode().(type) {
	case *pg.Node_PrepareStmt:
		return "statement " + n.PrepareStmt.Name, ""
	case *pg.Node_DeclareCursorStmt:
		return "cursor " + n.DeclareCursorStmt.Portalname, ""
	case *pg.Node_ExecuteStmt:
		return "", "statement " + n.ExecuteStmt.Name
	case *pg.Node_FetchStmt:
		return "", "cursor " + n.FetchStmt.Portalname
	case *pg.Node_ExplainStmt:
		return names(n.ExplainStmt.Query)
	case *pg.Node_CreateTableAsStmt:
		return names(n.CreateTableAsStmt.Query)
	}
	return "", ""
}
