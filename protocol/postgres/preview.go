package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/sql"
)

// previewTimeout bounds how long a held statement waits for what it would
// change to be found out; previewsAtOnce is how many are found out at a time,
// on lines of the gateway's own, for one database.
const (
	previewTimeout = 2 * time.Second
	previewsAtOnce = 4
)

// previewBegin begins a transaction that can change nothing, and that neither
// works nor waits for locks for long.
const previewBegin = "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = '1500ms'; SET LOCAL lock_timeout = '300ms'"

// previewed are the verbs and effects of the statements that may be planned
// before anybody agreed to them. A planner runs what is declared to be stable
// or immutable; with one of these effects alone, nothing of that is unknown.
var (
	previewedVerbs   = []string{"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE"}
	previewedEffects = []string{"read", "write.values", "write.keyed", "write.wide", "write.unfiltered"}
)

var errNotPlanned = errors.New("it is not planned before it is agreed to, for what it may run")

// preview is how much a unit would change: what people are told who are asked.
func (s *served) preview(ctx context.Context, exact bool) *custos.Estimate {
	u := s.previewed
	if s.keeper == nil || u == nil || u.statement == nil || u.statement.unparsed != nil {
		return nil
	}
	return s.keeper.preview(ctx, s.server.Parse, u.statement, u.op.Params, exact)
}

// preview asks the target, and says what it could not find out.
func (k *keeper) preview(ctx context.Context, parse func(string, *sql.Catalog) (*sql.Text, error), st *statement, params []custos.Param, exact bool) *custos.Estimate {
	t := st.sql
	if len(t.Statements) != 1 || len(t.Verbs) == 0 || !slices.Contains(previewedVerbs, t.Verbs[0]) {
		return nil // it has no rows
	}
	if slices.ContainsFunc(t.Facts.Effects, func(e string) bool { return !slices.Contains(previewedEffects, e) }) || len(t.Facts.Unknown) > 0 {
		return &custos.Estimate{Unknown: errNotPlanned.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, previewTimeout)
	defer cancel()
	select {
	case k.previews <- struct{}{}:
		defer func() { <-k.previews }()
	case <-ctx.Done():
		return &custos.Estimate{Unknown: "too many are asked about at once"}
	}
	if exact {
		if count, ok := countOf(st.text, t.Verbs[0]); ok {
			// What is run before anybody agreed to it changes nothing, whatever it
			// comes upon: the very judgement by which reads overlap their record.
			if c, err := parse(count, st.catalog); err == nil && len(c.Statements) == 1 && c.Reads && !wavers(c.Objects) {
				if n, err := k.ask(ctx, count, st.types, params, countRows); err == nil {
					return &custos.Estimate{Rows: n, Exact: true}
				}
			}
		}
	}
	n, err := k.ask(ctx, "EXPLAIN (FORMAT JSON) "+st.text, st.types, params, planRows)
	if err != nil {
		return &custos.Estimate{Unknown: unknownRows(err)}
	}
	return &custos.Estimate{Rows: n}
}

// unknownRows says why the target did not answer, without what it says of
// itself: a reviewer is no administrator.
func unknownRows(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "the target does not plan it: " + e.Message
	}
	return "the target was not asked in time"
}

// ask asks one thing in a transaction that changes nothing. The extended
// protocol takes one statement only.
func (k *keeper) ask(ctx context.Context, text string, types []uint32, params []custos.Param, rows func([]byte) (int64, error)) (int64, error) {
	k.mu.Lock()
	connect := k.connect
	k.mu.Unlock()
	if connect == nil {
		return 0, errNoLogin
	}
	pg, err := connect(ctx)
	if err != nil {
		return 0, fmt.Errorf("preview: %w", err)
	}
	defer pg.Close(ctx)
	if _, err := pg.Exec(ctx, previewBegin).ReadAll(); err != nil {
		return 0, fmt.Errorf("preview: %w", err)
	}
	values, formats := make([][]byte, len(params)), make([]int16, len(params))
	for i := range params {
		if p := &params[i]; !p.Null {
			values[i] = p.Value
			if p.Value == nil {
				values[i] = []byte{}
			}
		}
		if params[i].Binary {
			formats[i] = 1
		}
	}
	answer := pg.ExecParams(ctx, text, values, types, formats, nil).Read()
	if answer.Err != nil {
		return 0, fmt.Errorf("preview: %w", answer.Err)
	}
	if len(answer.Rows) != 1 || len(answer.Rows[0]) != 1 {
		return 0, errors.New("preview: the answer is not one value")
	}
	return rows(answer.Rows[0][0])
}

func countRows(value []byte) (n int64, err error) {
	_, err = fmt.Sscan(string(value), &n)
	return n, err
}

// planNode is a node of a plan, as EXPLAIN (FORMAT JSON) has it.
type planNode struct {
	Node         string  `json:"Node Type"`
	Relationship string  `json:"Parent Relationship"`
	Rows         float64 `json:"Plan Rows"`
	Plans        []planNode
}

// planRows is how many rows a plan changes or gives.
func planRows(value []byte) (int64, error) {
	var all []struct{ Plan planNode }
	if err := json.Unmarshal(value, &all); err != nil || len(all) != 1 {
		return 0, fmt.Errorf("read plan: it is not one: %w", err)
	}
	p := all[0].Plan
	if p.Node != "ModifyTable" {
		return int64(p.Rows), nil
	}
	sum := 0.0 // the rows that it gives are those of RETURNING only
	for _, child := range p.Plans {
		if child.Relationship == "Outer" || child.Relationship == "Member" {
			sum += child.Rows
		}
	}
	return int64(sum), nil
}

// wavers reports a function that gives something else each time, so that what
// it chooses cannot be counted beforehand.
func wavers(objects []string) bool {
	return slices.ContainsFunc(objects, func(o string) bool {
		name := o[strings.LastIndexByte(o, '.')+1:]
		return strings.HasPrefix(name, "random") || name == "clock_timestamp()" || name == "timeofday()" || strings.HasPrefix(name, "gen_random")
	})
}

// countOf returns the query that counts what a plain UPDATE or DELETE would
// change: one of one table, and of the text's own condition. What comes out is
// judged like anything else before it runs: this only has to be right for
// texts as people write them.
func countOf(text, verb string) (count string, ok bool) {
	if strings.ContainsRune(text, '\\') || dollarQuote.MatchString(text) {
		return "", false
	}
	words := topLevel(text)
	at := func(word string) int {
		return slices.IndexFunc(words, func(w span) bool { return strings.EqualFold(text[w.from:w.to], word) })
	}
	if len(words) == 0 || !strings.EqualFold(text[words[0].from:words[0].to], verb) {
		return "", false
	}
	where, returning, end := at("WHERE"), at("RETURNING"), len(text)
	if returning >= 0 {
		end = words[returning].from
	} else if semicolon := at(";"); semicolon >= 0 {
		end = words[semicolon].from
	}
	var table string
	switch from, set, using := at("FROM"), at("SET"), at("USING"); {
	case verb == "UPDATE" && set > 0 && from < 0:
		table = text[words[0].to:words[set].from]
	case verb == "DELETE" && from == 1 && using < 0:
		tableEnd := end
		if where >= 0 {
			tableEnd = words[where].from
		}
		table = text[words[1].to:tableEnd]
	default:
		return "", false
	}
	count = "SELECT pg_catalog.count(*) FROM " + table
	if where >= 0 {
		count += "\n" + text[words[where].from:end]
	}
	return count, true
}

// span is a word of a text.
type span struct{ from, to int }

// token is one of PostgreSQL's, as far as it matters here: what is quoted or
// commented is skipped whole.
var token = regexp.MustCompile(`(?s)'(?:[^'\\]|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*|[();]`)

var dollarQuote = regexp.MustCompile(`\$[A-Za-z_\x80-\xff]*\$`)

// topLevel returns the words and semicolons of a text that stand outside of
// brackets.
func topLevel(text string) []span {
	var words []span
	depth := 0
	for _, m := range token.FindAllStringIndex(text, -1) {
		switch c := text[m[0]]; {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '\'' || c == '"' || c == '-' || c == '/':
		case depth == 0:
			words = append(words, span{m[0], m[1]})
		}
	}
	return words
}
