package postgres

import (
	"regexp"
	"slices"
	"strings"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/sql"
)

// statement is a text that was parsed, under a name or none.
type statement struct {
	text     string
	sql      *sql.Text    // what it does, as far as that is known; never nil
	catalog  *sql.Catalog // by which it is known
	types    []uint32     // of its parameters, as far as the client gave them
	unparsed error
	// shape belongs to the target's side.
	shape *shape
}

// shape is what the target has said of a statement's answer.
type shape struct{ columns []described }

// portal is a statement with its parameters.
type portal struct {
	statement *statement
	params    []custos.Param
	formats   []byte // of the answer's columns
	name      string // of the statement
}

func (p *portal) size() int {
	n := 64
	for i := range p.params {
		n += 48 + len(p.params[i].Value)
	}
	return n
}

// definition is a change of names that counts when the target confirms it.
type definition struct {
	portals   bool // else statements
	name      string
	statement *statement // nil: closed
	portal    *portal    // nil: closed
}

func (d *definition) size() int {
	switch {
	case d.statement != nil:
		return 64 + len(d.name) + len(d.statement.text)
	case d.portal != nil:
		return len(d.name) + d.portal.size()
	}
	return 0
}

// names are the statements and portals that the target has confirmed.
type names struct {
	statements map[string]*definition
	portals    map[string]*definition
	bytes      int
}

func (n *names) apply(d *definition) {
	m := &n.statements
	if d.portals {
		m = &n.portals
	}
	if old := (*m)[d.name]; old != nil {
		n.bytes -= old.size()
		delete(*m, d.name)
	}
	if d.statement == nil && d.portal == nil {
		return
	}
	if *m == nil {
		*m = map[string]*definition{}
	}
	(*m)[d.name] = d
	n.bytes += d.size()
}

func (n *names) forgetPortals() {
	for _, d := range n.portals {
		n.bytes -= d.size()
	}
	clear(n.portals)
}

// forget is what a statement of SQL does to names of the protocol.
type forget struct {
	all  bool
	name string // of a statement; with all, none
}

// deallocate is a text that frees one statement by its name, and does nothing
// else.
var deallocate = regexp.MustCompile(`(?is)^\s*deallocate\s+(?:prepare\s+)?(?:"((?:[^"]|"")+)"|([a-z_\x80-\xff][a-z0-9_$\x80-\xff]*))\s*;?\s*$`)

// harmless is a text of DISCARD that leaves prepared statements alone.
var harmless = regexp.MustCompile(`(?is)^\s*discard\s+(plans|sequences|temp|temporary)\s*;?\s*$`)

// forgets says what names s frees; nil: none. What it cannot tell for sure it
// takes for all: a name that is unknown is refused, and never another's text.
func (s *statement) forgets() *forget {
	if !slices.ContainsFunc(s.sql.Verbs, func(v string) bool { return v == "DEALLOCATE" || v == "DISCARD" }) {
		return nil
	}
	if harmless.MatchString(s.text) {
		return nil
	}
	if m := deallocate.FindStringSubmatch(s.text); m != nil {
		switch {
		case m[1] != "":
			return &forget{name: strings.ReplaceAll(m[1], `""`, `"`)}
		case !strings.EqualFold(m[2], "all"):
			return &forget{name: strings.ToLower(m[2])}
		}
	}
	return &forget{all: true}
}

func (n *names) forget(f *forget) {
	if !f.all {
		n.apply(&definition{name: f.name})
		return
	}
	for _, d := range n.statements {
		n.bytes -= d.size()
	}
	clear(n.statements)
	n.forgetPortals()
}

// endsPortals reports verbs after which portals of the transaction are gone,
// or may be: procedures and blocks commit inside.
func endsPortals(verbs []string) bool {
	return slices.ContainsFunc(verbs, func(v string) bool {
		switch v {
		case "COMMIT", "ROLLBACK", "ROLLBACK TO", "PREPARE TRANSACTION", "CALL", "DO", "CLOSE", "DISCARD":
			return true
		}
		return false
	})
}
