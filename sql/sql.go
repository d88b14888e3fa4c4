// Package sql says what a statement does, from a real parse with the
// server's own grammar, never from a look at its words. It is pure: the same
// text gives the same answer.
//
// It judges names as they are written. What a search_path, a view, a trigger
// or a user's own operator of a built-in name hides takes the target's
// catalogue to know.
package sql

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
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
	// Reads reports that it changes nothing, whatever it comes upon: it reads
	// tables that the catalogue knows, by what the server itself brings. It
	// says more than that Writes is false.
	Reads bool
	// Facts are what more is known of it.
	Facts custos.Facts
	// Results are the columns of its answer, in order; nil: it has none, or
	// they are not known, which Facts.Unknown then says.
	Results []Result
	// Gives is the name that it gives to a statement or cursor, Runs the one
	// by which it runs what an earlier statement gave a name to.
	Gives, Runs string
	// Copy is the form of the lines of a COPY.
	Copy CopyForm
}

// Result is what is known of a column of an answer.
type Result struct {
	Name string
	// Sources are the stored columns that its values are made of, as
	// custos.Facts has them.
	Sources []string
	// Opaque reports that it may be made of more than Sources.
	Opaque bool
	// Plain reports that a value is that of its one source, unchanged.
	Plain bool
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
	return &Postgres{limits: limits, parser: parser, long: libpgquery.New(1), cache: newCache(limits.Cache)}
}

// Warm makes the parser's sandboxes, which takes about two seconds, so that no
// caller waits for it. Call it in a goroutine at start.
func (p *Postgres) Warm() error { return errors.Join(p.parser.Warm(), p.long.Warm()) }

// Parse says what text does to a database that has what c says; nil: nothing
// is known of it. An error means that it is not known: the text is
// to be taken for one that writes. Its errors are ErrTooLong, ErrTooDeep,
// ErrTooMany, and those of libpgquery.Parser.Parse. A text that was seen
// before, or that differs from one in constants only, costs no allocation.
func (p *Postgres) Parse(text string, c *Catalog) (*Text, error) {
	if len(text) > p.limits.Text {
		return nil, fmt.Errorf("parse statement: %w: %d bytes, want at most %d", ErrTooLong, len(text), p.limits.Text)
	}
	buf := keys.Get().(*[]byte)
	defer keys.Put(buf)
	s := read(text, binary.BigEndian.AppendUint64((*buf)[:0], c.Serial()))
	if *buf = s.key; cap(s.key) > maxKept {
		*buf = nil
	}
	// A text with a mark in it could be taken for the key of another.
	known := s.plain || strings.IndexByte(text, markInteger) < 0 && strings.IndexByte(text, markString) < 0
	if !s.plain {
		s.key = append(s.key[:serialSize], text...)
	}
	if known {
		if t := p.cache.get(s.key); t != nil {
			return t, nil
		}
	}
	if s.depth > maxDepth {
		return nil, fmt.Errorf("parse statement: %w", ErrTooDeep)
	}
	t, constants, err := p.parse(text, c)
	if err != nil {
		return nil, fmt.Errorf("parse statement: %w", err)
	}
	// What depends on a constant's value does not hold for the texts that have
	// another in its place.
	if known && !(constants && s.plain) {
		p.cache.put(string(s.key), t)
	}
	return t, nil
}

// serialSize is that of a catalogue's number in front of a key, in bytes.
const serialSize = 8

// parse does the work, without the cache. constants: the answer depends on the
// value of a constant.
func (p *Postgres) parse(text string, c *Catalog) (t *Text, constants bool, err error) {
	result, err := p.tree(text)
	if err != nil {
		return nil, false, err
	}
	if len(result.Stmts) > p.limits.Statements {
		return nil, false, fmt.Errorf("%w: %d, want at most %d", ErrTooMany, len(result.Stmts), p.limits.Statements)
	}
	t = &Text{Statements: make([]Statement, len(result.Stmts))}
	for i, raw := range result.Stmts {
		w := walker{postgres: p, catalog: c, text: textOf(text, raw)}
		w.visit(raw.ProtoReflect())
		traced := c.trace(raw.Stmt)
		s := Statement{Verbs: w.verbs, Objects: w.objects, Writes: w.commands || w.calls || len(w.verbs) == 0, Facts: custos.Facts{
			Effects: w.effects, Columns: traced.columns, Predicates: traced.predicates, Changed: traced.changed, Copied: traced.copied,
			Unknown: append(traced.unknown[:len(traced.unknown):len(traced.unknown)], w.unknown...),
		}}
		for _, column := range slices.Concat(traced.columns, traced.predicates, traced.changed, traced.copied) {
			if tags := c.Tags(column); len(tags) > 0 {
				if s.Facts.Tags == nil {
					s.Facts.Tags = map[string][]string{}
				}
				s.Facts.Tags[column] = tags
			}
		}
		if traced.known {
			s.Results = append([]Result{}, traced.results...)
		}
		s.Gives, s.Runs = names(raw.Stmt)
		s.Reads = !s.Writes && !w.unsure && s.Runs == "" && len(s.Facts.Unknown) == 0 && slices.Equal(s.Facts.Effects, []string{effectRead}) && c.certain()
		if c := raw.Stmt.GetCopyStmt(); c != nil {
			s.Copy = copyForm(c)
		}
		t.Statements[i] = s
		t.Writes = t.Writes || s.Writes
		constants = constants || w.sensitive || traced.constants
	}
	mark := fingerprint(result.Stmts)
	if len(t.Statements) == 1 {
		t.Statements[0].Facts.Fingerprint = mark
		t.Statement = t.Statements[0]
		return t, constants, nil
	}
	t.Reads = !slices.ContainsFunc(t.Statements, func(s Statement) bool { return !s.Reads }) && len(t.Statements) > 0
	all := func(of func(*Statement) []string) []string { return union(t.Statements, of) }
	t.Verbs = all(func(s *Statement) []string { return s.Verbs })
	t.Objects = all(func(s *Statement) []string { return s.Objects })
	tags := map[string][]string{}
	for i := range t.Statements {
		maps.Copy(tags, t.Statements[i].Facts.Tags)
	}
	t.Facts = custos.Facts{
		Tags:       tags,
		Effects:    all(func(s *Statement) []string { return s.Facts.Effects }),
		Columns:    all(func(s *Statement) []string { return s.Facts.Columns }),
		Predicates: all(func(s *Statement) []string { return s.Facts.Predicates }),
		Changed:    all(func(s *Statement) []string { return s.Facts.Changed }),
		Copied:     all(func(s *Statement) []string { return s.Facts.Copied }),
		Unknown:    all(func(s *Statement) []string { return s.Facts.Unknown }),

		Fingerprint: mark,
	}
	return t, constants, nil
}

// tree parses a text.
func (p *Postgres) tree(text string) (*pg.ParseResult, error) {
	parser := p.parser
	if len(text) > longText {
		parser = p.long
	}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, err
	}
	result := new(pg.ParseResult)
	if err := proto.Unmarshal(tree, result); err != nil {
		return nil, fmt.Errorf("read parse tree: %w", err)
	}
	return result, nil
}

// textOf is the text of one statement.
func textOf(text string, raw *pg.RawStmt) string {
	from, size := int(raw.StmtLocation), int(raw.StmtLen)
	if from < 0 || from > len(text) || size < 0 || size > len(text)-from {
		return ""
	}
	if size == 0 {
		return text[from:]
	}
	return text[from : from+size]
}

func union(statements []Statement, of func(*Statement) []string) []string {
	seen := map[string]bool{}
	var all []string
	for i := range statements {
		for _, word := range of(&statements[i]) {
			if !seen[word] {
				seen[word] = true
				all = append(all, word)
			}
		}
	}
	return slices.Clip(all)
}
