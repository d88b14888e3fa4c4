// Package sql says what a statement does, from a real parse with the
// server's own grammar, never from a look at its words. It is pure: the same
// text gives the same answer.
//
// It judges names as they are written. What a search_path, a view, a trigger
// or a user's own operator of a built-in name hides takes the target's
// catalogue to know.
package sql

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/sql/libpgquery"
)

// Statement is what one statement does. It is shared: do not change it.
type Statement struct {
	// Verbs say what it does, such as "SELECT" or "CREATE TABLE", its own
	// first, then those of the statements in it.
	Verbs []string
	// Objects are the relations, as written, and the functions, as name(),
	// that it names. Names of common table expressions are not among them.
	Objects []string
	// Writes reports that it may change the target. It is false only for
	// reads that name nothing but what is known to be harmless.
	Writes bool
	// Facts are what more is known of it.
	Facts custos.Facts
	// Results are the columns of its answer, in order; nil: it has none, or
	// they are not known, which Facts.Unknown then says.
	Results []Result
}

// Result is what is known of a column of an answer.
type Result struct {
	Name string
	// Sources are the stored columns that its values are made of, as
	// custos.Facts has them.
	Sources []string
	// Opaque reports that it may be made of more than Sources.
	Opaque bool
}

// Text is what a text of any number of statements does: Verbs, Objects and
// Writes of all of them together, each once. It is shared: do not change it.
type Text struct {
	Statement
	Statements []Statement
}

// Errors of a text that is not parsed, besides what PostgreSQL says of it.
var (
	ErrTooLong = errors.New("the text is too long")
	ErrTooDeep = errors.New("it is nested too deeply")
	ErrTooMany = errors.New("it holds too many statements")
)

// Limits bounds a Postgres. Zero fields take the default.
type Limits struct {
	Instances  int // sandboxes at one time, besides one for long texts; 2
	Text       int // bytes of a text; 1 MiB
	Statements int // in one text; 10,000
	Cache      int // bytes of texts and answers kept; 32 MiB
}

// maxDepth is how deeply a parse tree may be nested, as scan.depth bounds it.
// The sandbox's stack holds 1,000 nested subqueries, of 2 each.
const maxDepth = 1500

// Postgres understands PostgreSQL. It is safe for concurrent use.
type Postgres struct {
	limits Limits
	parser *libpgquery.Parser
	// long parses what is longer than longText, one at a time, so that it
	// does not keep the others waiting.
	long  *libpgquery.Parser
	cache *cache
}

// longText is about a tenth of a second's parsing, in bytes.
const longText = 16 << 10

// NewPostgres returns a Postgres within limits.
func NewPostgres(limits Limits) *Postgres {
	set := func(v *int, standard int) {
		if *v <= 0 {
			*v = standard
		}
	}
	set(&limits.Instances, 2)
	set(&limits.Text, 1<<20)
	set(&limits.Statements, 10_000)
	set(&limits.Cache, 32<<20)
	parser := libpgquery.New(limits.Instances)
	return &Postgres{limits: limits, parser: parser, long: parser.Beside(1), cache: newCache(limits.Cache)}
}

// Warm makes the parser's sandboxes, which takes about two seconds, so that no
// caller waits for it. Call it in a goroutine at start.
func (p *Postgres) Warm() error { return errors.Join(p.parser.Warm(), p.long.Warm()) }

// Parse says what text does. An error means that it is not known: the text is
// to be taken for one that writes. Its errors are ErrTooLong, ErrTooDeep,
// ErrTooMany, and those of libpgquery.Parser.Parse. A text that was seen
// before, or that differs from one in constants only, costs no allocation.
func (p *Postgres) Parse(text string) (*Text, error) {
	if len(text) > p.limits.Text {
		return nil, fmt.Errorf("parse statement: %w: %d bytes, want at most %d", ErrTooLong, len(text), p.limits.Text)
	}
	buf := keys.Get().(*[]byte)
	defer keys.Put(buf)
	s := read(text, *buf)
	if *buf = s.key; cap(s.key) > maxKept {
		*buf = nil
	}
	if !s.plain {
		s.key = append(s.key[:0], text...)
	}
	// A text with a mark in it could be taken for the key of another.
	known := s.plain || strings.IndexByte(text, markInteger) < 0 && strings.IndexByte(text, markString) < 0
	if known {
		if t := p.cache.get(s.key); t != nil {
			return t, nil
		}
	}
	if s.depth > maxDepth {
		return nil, fmt.Errorf("parse statement: %w", ErrTooDeep)
	}
	t, err := p.parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	if known {
		p.cache.put(string(s.key), t)
	}
	return t, nil
}

// parse does the work, without the cache.
func (p *Postgres) parse(text string) (*Text, error) {
	parser := p.parser
	if len(text) > longText {
		parser = p.long
	}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, err
	}
	var result pg.ParseResult
	if err := proto.Unmarshal(tree, &result); err != nil {
		return nil, fmt.Errorf("read parse tree: %w", err)
	}
	if len(result.Stmts) > p.limits.Statements {
		return nil, fmt.Errorf("%w: %d, want at most %d", ErrTooMany, len(result.Stmts), p.limits.Statements)
	}
	t := &Text{Statements: make([]Statement, len(result.Stmts))}
	for i, raw := range result.Stmts {
		var w walker
		w.visit(raw.ProtoReflect())
		s := Statement{Verbs: w.verbs, Objects: w.objects, Writes: w.commands || w.calls || len(w.verbs) == 0}
		t.Statements[i] = s
		t.Writes = t.Writes || s.Writes
	}
	if len(t.Statements) == 1 {
		t.Statement = t.Statements[0]
		return t, nil
	}
	t.Verbs = union(t.Statements, func(s Statement) []string { return s.Verbs })
	t.Objects = union(t.Statements, func(s Statement) []string { return s.Objects })
	return t, nil
}

func union(statements []Statement, of func(Statement) []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, s := range statements {
		for _, word := range of(s) {
			if !seen[word] {
				seen[word] = true
				all = append(all, word)
			}
		}
	}
	return slices.Clip(all)
}
