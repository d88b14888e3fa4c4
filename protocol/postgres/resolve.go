package postgres

import (
	"maps"
	"slices"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/sql"
)

// maxNamed bounds the names that a session's PREPARE and DECLARE are known by.
// What runs by a name beyond them is judged as what is not known.
const maxNamed = 1000

// resolve says what a text does that runs what others gave a name to, by
// EXECUTE and FETCH, and remembers the names that it gives itself. A name is
// never forgotten: where it was given twice, it may stand for either.
func (s *served) resolve(t *sql.Text) *sql.Text {
	runs := false
	for i := range t.Statements {
		st := &t.Statements[i]
		if st.Gives != "" {
			s.name(st)
		}
		runs = runs || st.Runs != ""
	}
	if !runs {
		return t
	}
	out := *t
	out.Statements = slices.Clone(t.Statements)
	out.Facts = custos.Facts{}
	for i := range out.Statements {
		st := &out.Statements[i]
		if st.Runs != "" {
			s.runs(st)
		}
		merge(&out.Facts, &st.Facts)
	}
	if len(out.Statements) == 1 {
		out.Statement = out.Statements[0]
	}
	return &out
}

// name remembers what a PREPARE or DECLARE gives a name to.
func (s *served) name(st *sql.Statement) {
	if s.given == nil {
		s.given = map[string]*sql.Statement{}
	}
	old := s.given[st.Gives]
	if old == nil {
		if len(s.given) < maxNamed {
			s.given[st.Gives] = st
		}
		return
	}
	both := *old
	merge(&both.Facts, &st.Facts)
	both.Verbs, both.Writes = add(both.Verbs, st.Verbs), both.Writes || st.Writes
	if !slices.EqualFunc(both.Results, st.Results, func(a, b sql.Result) bool {
		return a.Opaque == b.Opaque && slices.Equal(a.Sources, b.Sources)
	}) {
		both.Results = nil
	}
	s.given[st.Gives] = &both
}

// runs fills in what an EXECUTE or FETCH does.
func (s *served) runs(st *sql.Statement) {
	of := s.given[st.Runs]
	if of == nil {
		return // it is judged as code that is not known
	}
	st.Facts = of.Facts
	st.Writes, st.Results = of.Writes, of.Results
	st.Objects = add(st.Objects, of.Objects)
}

// merge adds what other says to f, which nobody else holds.
func merge(f, other *custos.Facts) {
	f.Effects = add(f.Effects, other.Effects)
	f.Columns = add(f.Columns, other.Columns)
	f.Predicates = add(f.Predicates, other.Predicates)
	f.Changed = add(f.Changed, other.Changed)
	f.Copied = add(f.Copied, other.Copied)
	f.Unknown = add(f.Unknown, other.Unknown)
	f.Fingerprint += other.Fingerprint
	if len(other.Tags) > 0 {
		tags := maps.Clone(other.Tags)
		maps.Copy(tags, f.Tags)
		f.Tags = tags
	}
}

// add returns list with what it lacks of more.
func add(list, more []string) []string {
	list = slices.Clip(list)
	for _, word := range more {
		if !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list
}
