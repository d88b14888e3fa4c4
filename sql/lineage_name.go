package sql

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// figure returns how PostgreSQL names a column of an answer that has no name
// of its own: FigureColname in its parse_target.c.
func figure(n *pg.Node) string {
	if name, _ := figured(n); name != "" {
		return name
	}
	return "?column?"
}

// figured returns also how strong the name is: 2 for one that a cast or CASE
// around it does not replace.
func figured(n *pg.Node) (name string, strength int) {
	switch e := n.GetNode().(type) {
	case *pg.Node_ColumnRef:
		if name := last(words(e.ColumnRef.Fields)); name != "" {
			return name, 2
		}
	case *pg.Node_AIndirection:
		if name := last(words(e.AIndirection.Indirection)); name != "" {
			return name, 2
		}
		return figured(e.AIndirection.Arg)
	case *pg.Node_FuncCall:
		return last(words(e.FuncCall.Funcname)), 2
	case *pg.Node_AExpr:
		if e.AExpr.Kind == pg.A_Expr_Kind_AEXPR_NULLIF {
			return "nullif", 2
		}
	case *pg.Node_TypeCast:
		if name, strength = figured(e.TypeCast.Arg); strength < 2 {
			if t := last(words(e.TypeCast.TypeName.GetNames())); t != "" {
				return t, 1
			}
		}
		return name, strength
	case *pg.Node_CollateClause:
		return figured(e.CollateClause.Arg)
	case *pg.Node_GroupingFunc:
		return "grouping", 2
	case *pg.Node_MergeSupportFunc:
		return "merge_action", 2
	case *pg.Node_SubLink:
		return figuredQuery(e.SubLink)
	case *pg.Node_CaseExpr:
		if name, strength = figured(e.CaseExpr.Defresult); strength < 2 {
			return "case", 1
		}
		return name, strength
	case *pg.Node_AArrayExpr:
		return "array", 2
	case *pg.Node_RowExpr:
		return "row", 2
	case *pg.Node_CoalesceExpr:
		return "coalesce", 2
	case *pg.Node_MinMaxExpr:
		if e.MinMaxExpr.Op == pg.MinMaxOp_IS_LEAST {
			return "least", 2
		}
		return "greatest", 2
	case *pg.Node_SqlvalueFunction:
		name := strings.ToLower(strings.TrimPrefix(e.SqlvalueFunction.Op.String(), "SVFOP_"))
		return strings.TrimSuffix(name, "_n"), 2
	case *pg.Node_XmlExpr:
		if e.XmlExpr.Op == pg.XmlExprOp_IS_DOCUMENT {
			return "", 0
		}
		return strings.ToLower(strings.TrimPrefix(e.XmlExpr.Op.String(), "IS_")), 2
	case *pg.Node_XmlSerialize:
		return "xmlserialize", 2
	case *pg.Node_JsonParseExpr:
		return "json", 2
	case *pg.Node_JsonScalarExpr:
		return "json_scalar", 2
	case *pg.Node_JsonSerializeExpr:
		return "json_serialize", 2
	case *pg.Node_JsonObjectConstructor:
		return "json_object", 2
	case *pg.Node_JsonArrayConstructor, *pg.Node_JsonArrayQueryConstructor:
		return "json_array", 2
	case *pg.Node_JsonObjectAgg:
		return "json_objectagg", 2
	case *pg.Node_JsonArrayAgg:
		return "json_arrayagg", 2
	case *pg.Node_JsonFuncExpr:
		switch e.JsonFuncExpr.Op {
		case pg.JsonExprOp_JSON_EXISTS_OP:
			return "json_exists", 2
		case pg.JsonExprOp_JSON_QUERY_OP:
			return "json_query", 2
		case pg.JsonExprOp_JSON_VALUE_OP:
			return "json_value", 2
		}
	}
	return "", 0
}

func figuredQuery(s *pg.SubLink) (string, int) {
	switch s.SubLinkType {
	case pg.SubLinkType_EXISTS_SUBLINK:
		return "exists", 2
	case pg.SubLinkType_ARRAY_SUBLINK:
		return "array", 2
	case pg.SubLinkType_EXPR_SUBLINK:
		// The name of the query's column.
		q := s.Subselect.GetSelectStmt()
		for q.GetLarg() != nil {
			q = q.Larg
		}
		if len(q.GetValuesLists()) > 0 {
			return "column1", 2
		}
		if len(q.GetTargetList()) > 0 {
			target := q.TargetList[0].GetResTarget()
			if target.GetName() != "" {
				return target.Name, 2
			}
			return figure(target.GetVal()), 2
		}
	}
	return "", 0
}
