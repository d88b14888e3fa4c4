package sql

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// The classes of PostgreSQL's own functions. A function that is in none, but
// is known to be harmless, passes on its arguments and tells of them: by
// comparing, by how many rows it answers, or by failing.
const (
	classTells   = iota
	classCarries // passes on its arguments, and never fails over their values
	classFirst   // the same, for its first argument; the others are as classTells has them
	classRest    // the same, for all but the first
	classCounts  // says how many rows there are, or which they are, and nothing of their values
	classOpaque  // reads what its arguments say in words
	classStores  // keeps its arguments where another statement finds them
)

var functionClass = func() map[string]int {
	classes := map[string]int{}
	for class, names := range map[int]string{
		classCarries: `lower upper initcap md5 sha224 sha256 sha384 sha512 concat length char_length character_length
			octet_length bit_length reverse ascii to_json to_jsonb row_to_json json_agg jsonb_agg json_build_object jsonb_build_object
			json_build_array jsonb_build_array array_agg string_agg xmlagg json_object_agg jsonb_object_agg array_to_json
			array_append array_prepend array_cat array_remove array_replace array_length cardinality quote_ident quote_literal
			quote_nullable btrim ltrim rtrim replace translate hashtext first_value last_value sum avg stddev stddev_pop stddev_samp
			variance var_pop var_samp any_value text bpchar varchar name unnest json_strip_nulls jsonb_strip_nulls jsonb_pretty
			array_to_tsvector to_tsvector age date_part extract xmlcomment xmlconcat xmltext json_typeof jsonb_typeof pg_typeof
			pg_column_size max min abs sign floor ceil ceiling trunc json_each jsonb_each json_each_text jsonb_each_text row hstore
			inet_client_addr pg_column_compression to_hex normalize concat_ws num_nulls num_nonnulls bool_and bool_or every`,
		classFirst: `substr substring left right lpad rpad overlay split_part encode convert_to convert_from to_char array_to_string
			regexp_replace lag lead nth_value round date_trunc timezone digest hmac json_extract_path json_extract_path_text
			jsonb_extract_path jsonb_extract_path_text trim_array`,
		classRest: `format`,
		classCounts: `count row_number rank dense_rank percent_rank cume_dist ntile now current_setting nextval currval lastval random
			clock_timestamp statement_timestamp transaction_timestamp timeofday gen_random_uuid txid_current pg_current_xact_id
			pg_backend_pid pg_sleep setseed version current_database current_schema current_schemas pg_try_advisory_lock
			pg_advisory_lock pg_advisory_unlock pg_advisory_xact_lock pg_try_advisory_xact_lock pg_cancel_backend pg_terminate_backend`,
		classOpaque: `query_to_xml query_to_xmlschema query_to_xml_and_xmlschema table_to_xml table_to_xml_and_xmlschema cursor_to_xml
			cursor_to_xmlschema schema_to_xml schema_to_xml_and_xmlschema database_to_xml database_to_xml_and_xmlschema ts_stat ts_rewrite`,
		classStores: `setval set_config pg_notify lo_from_bytea lo_put lowrite lo_import pg_logical_emit_message`,
	} {
		for name := range strings.FieldsSeq(names) {
			classes[name] = class
		}
	}
	return classes
}()

// mine reports whether a name may stand for a function that is not
// PostgreSQL's own.
func (t *tracer) mine(name string) bool { return t.c != nil && len(t.c.functions[name]) > 0 }

// transparent reports whether all functions of a user's that a name may stand
// for are made of their arguments alone: compiled ones that are declared to be
// so, which only a superuser can.
func (t *tracer) transparent(name string) bool {
	for _, f := range t.c.functions[name] {
		if f.Volatility != 'i' || f.Language != "c" && f.Language != "internal" {
			return false
		}
	}
	return true
}

// call is what a function makes of its arguments.
func (t *tracer) call(name []string, args []value) value {
	var all value
	for _, v := range args {
		all = all.with(v)
	}
	fn := last(name)
	own := len(name) == 2 && name[0] == "pg_catalog"
	if len(name) == 0 || len(name) > 1 && !own || !own && t.mine(fn) {
		t.tells(all)
		all.opaque = all.opaque || t.c == nil || !t.mine(fn) || !t.transparent(fn)
		return all
	}
	class, listed := functionClass[fn]
	if !listed && !builtin["functions"][fn] {
		t.tells(all)
		all.opaque = true
		return all
	}
	switch class {
	case classTells:
		t.tells(all)
	case classFirst, classRest:
		for i, v := range args {
			if (i == 0) != (class == classFirst) {
				t.tells(v)
			}
		}
	case classCounts:
		if fn != "count" {
			t.tells(all)
		}
		return value{}
	case classOpaque:
		t.tells(all)
		all.opaque = true
	case classStores:
		t.tells(all)
		t.copied = t.copied.with(all.set)
	}
	return all
}

func (t *tracer) funcCall(f *pg.FuncCall, sc *scope) value {
	args := make([]value, 0, len(f.Args)+1)
	for _, n := range f.Args {
		args = append(args, t.expr(n, sc))
	}
	for _, n := range f.AggOrder {
		v := t.expr(n.GetSortBy().GetNode(), sc)
		t.tells(v)
		if f.AggWithinGroup {
			args = append(args, v)
		}
	}
	if f.AggFilter != nil {
		t.condition(f.AggFilter, sc)
	}
	t.window(f.Over, sc)
	if f.AggDistinct {
		for _, v := range args {
			t.tells(v)
		}
	}
	name := words(f.Funcname)
	v := t.call(name, args)
	if last(name) == "unnest" && !elements(f.Args) {
		t.tells(v)
	}
	return v
}

// elements reports whether the arguments of unnest are arrays as they are, so
// that how many rows it answers tells no more than they do.
func elements(args []*pg.Node) bool {
	for _, n := range args {
		if n.GetColumnRef() == nil && n.GetAArrayExpr() == nil && n.GetSubLink() == nil {
			return false
		}
	}
	return true
}

// The columns that PostgreSQL's own functions answer in a FROM clause; those
// of one column are named as their alias, or as the function.
var (
	oneColumn = func() map[string]bool {
		names := map[string]bool{}
		for name := range strings.FieldsSeq(`generate_series generate_subscripts json_object_keys jsonb_object_keys
			regexp_split_to_table string_to_table regexp_matches jsonb_path_query current_database version now lower upper concat
			to_json to_jsonb row_to_json length array_agg`) {
			names[name] = true
		}
		return names
	}()
	columnsOf = map[string][]string{
		"json_each": {"key", "value"}, "jsonb_each": {"key", "value"},
		"json_each_text": {"key", "value"}, "jsonb_each_text": {"key", "value"},
		"json_array_elements": {"value"}, "jsonb_array_elements": {"value"},
		"json_array_elements_text": {"value"}, "jsonb_array_elements_text": {"value"},
	}
)

// answers returns the columns that a function answers in a FROM clause, or
// that there is one, where that is known.
func (t *tracer) answers(f *pg.FuncCall) (names []string, one bool) {
	name := words(f.GetFuncname())
	if len(name) == 0 || len(name) > 2 || len(name) == 2 && name[0] != "pg_catalog" || len(name) == 1 && t.mine(name[0]) {
		return nil, false
	}
	fn := last(name)
	if fn == "unnest" && len(f.Args) == 1 {
		// The elements of an array of rows have columns of their own.
		c := f.Args[0].GetTypeCast()
		return nil, builtin["types"][last(words(c.GetTypeName().GetNames()))]
	}
	return columnsOf[fn], oneColumn[fn]
}
