package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/mask"
	"github.com/custos-gateway/custos/sql"
)

// unit is one operation as it is put together from the client's messages: a
// Query; or a Parse, Bind, Describe and Execute that belong together.
type unit struct {
	op       custos.Operation
	refused  *custos.Decision
	unparsed error // why its text is not known
	gaveUp   error // why it was not waited for any longer
	at, end  int   // of its frames in the client's buffer
	steps    []step
	work     *work

	query     bool // it is answered up to ReadyForQuery
	synced    bool // a Sync is among its frames
	executed  bool
	copies    bool // it may ask for input
	statement *statement
	parsed    bool   // it holds a Parse, of name
	bound     bool   // it holds a Bind, of portal
	name      string // of the statement
	portal    string
}

// limits of a batch, after which it is submitted.
const (
	maxBatch = 256
	// maxSteps is how many messages may wait for the target's answer.
	maxSteps = 4096
	// maxUnconfirmed is how many bytes of definitions may wait for the
	// target to confirm them, so that the session's limit holds.
	maxUnconfirmed = 1 << 20
)

// next returns a fresh unit at the end of the batch. Its first frame has begun
// at the buffer's offset at.
func (s *served) next(class string, at int) *unit {
	s.settleBound()
	if len(s.batch) < cap(s.batch) {
		s.batch = s.batch[:len(s.batch)+1]
	} else {
		s.batch = append(s.batch, nil)
	}
	u := s.batch[len(s.batch)-1]
	if u == nil {
		u = new(unit)
		s.batch[len(s.batch)-1] = u
	}
	*u = unit{at: at, end: at, steps: u.steps[:0], work: new(work), op: custos.Operation{Params: u.op.Params[:0]}}
	u.op.Class = class
	return u
}

// last returns the unit that a frame at the buffer's offset at may join.
func (s *served) last(at int) *unit {
	if len(s.batch) == 0 {
		return nil
	}
	u := s.batch[len(s.batch)-1]
	if u.end != at || u.refused != nil {
		return nil
	}
	return u
}

func (u *unit) step(kind byte, def *definition) {
	u.steps = append(u.steps, step{kind: kind, work: u.work, def: def})
}

// understand asks the parser about a text. A text that names a relation which
// the catalogue lacks is asked about again once the catalogue is fresh: it may
// have been made a moment ago.
func (s *served) understand(text string) *statement {
	st := &statement{text: text, sql: &sql.Text{Statement: sql.Statement{Writes: true}}, shape: new(shape)}
	if !utf8.ValidString(text) {
		st.unparsed = errEncoding
		return st
	}
	var err error
	if st.catalog, err = s.catalog(); err != nil {
		s.server.Logger.Error("read the target's catalogue", "session", s.session.ID(), "cause", err)
		st.unparsed = errCatalog
		return st
	}
	t, err := s.server.Parse(text, st.catalog)
	if err != nil {
		st.unparsed = err
		return st
	}
	st.sql = s.resolve(t)
	return st
}

// catalog returns what the target's database has. Where there are rules to
// judge by, nothing goes without; else it is what is known so far, perhaps nil.
func (s *served) catalog() (*sql.Catalog, error) {
	switch {
	case s.keeper == nil:
		return nil, nil
	case s.server.Catalogs():
		return s.keeper.current(s.session.Context())
	}
	return s.keeper.known(), nil
}

// fresh is a statement as it is understood now: what the database has may have
// changed since it was parsed.
func (s *served) fresh(st *statement) *statement {
	if st.unparsed != nil {
		return st
	}
	if c, err := s.catalog(); err == nil && c == st.catalog {
		return st
	}
	now := s.understand(st.text)
	now.types, now.shape = st.types, st.shape
	return now
}

// errEncoding is that of a text that a target would read otherwise than the
// parser does.
var errEncoding = errors.New(`invalid byte sequence for encoding "UTF8"`)

// errCatalog is that of a text of which nobody can say what it touches.
var errCatalog = errors.New("the gateway cannot read the target's catalogue, and so cannot judge the statement")

// judge fills in what the operation is about.
func (u *unit) judge(st *statement) {
	u.statement, u.work.statement = st, st
	u.op.Text, u.op.Verbs, u.op.Objects, u.op.Writes, u.op.Facts = st.text, st.sql.Verbs, st.sql.Objects, st.sql.Writes, &st.sql.Facts
	if st.unparsed != nil {
		u.op.Writes = true
		u.unparsed = st.unparsed
		if errors.Is(st.unparsed, errCatalog) {
			u.refused = refuse(ruleCatalog, st.unparsed.Error(), "try again in a while; if it lasts, tell whoever runs the gateway")
			return
		}
		if errors.Is(st.unparsed, errEncoding) {
			u.refused = refuse(ruleEncoding, st.unparsed.Error(), "send it as UTF8")
			return
		}
		u.refused = refuse(ruleUnparsed, st.unparsed.Error(), "write the statement in SQL that PostgreSQL's own grammar takes")
	}
}

// defines reports that nothing runs yet by the unit: it parses or binds.
func (u *unit) defines() bool {
	return !u.query && !slices.ContainsFunc(u.steps, func(st step) bool { return st.kind == 'E' })
}

// reads reports that the unit changes nothing at the target, whatever it comes
// upon there.
func (u *unit) reads() bool {
	return u.statement != nil && u.statement.unparsed == nil && u.statement.sql.Reads
}

// sentinels notes parameters that a mask has put in a value's place.
func (u *unit) sentinels() {
	if u.statement == nil || !slices.ContainsFunc(u.op.Params, func(p custos.Param) bool { return mask.Sentinel(p.Value) }) {
		return
	}
	facts := *u.op.Facts
	facts.Effects = append(slices.Clip(facts.Effects), sql.MaskedSentinel)
	u.op.Facts = &facts
}

// changesCatalog reports whether running a text may change what the database
// has.
func changesCatalog(t *sql.Text) bool {
	return slices.ContainsFunc(t.Facts.Effects, func(e string) bool {
		return strings.HasPrefix(e, "ddl") || strings.HasPrefix(e, "code") || e == "extension" || e == "unknown"
	})
}

// does notes what running the statement does to the session's names.
func (u *unit) does(st *statement) {
	u.work.forget = st.forgets()
	u.work.portals = endsPortals(st.sql.Verbs)
	u.work.changes = changesCatalog(st.sql)
	u.copies = u.copies || slices.Contains(st.sql.Verbs, "COPY FROM")
}

func (s *served) onQuery(at int, body []byte) error {
	text, err := readQuery(body)
	if err != nil {
		return violation("invalid Query message: exactly one text is in it")
	}
	u := s.next("Query", at)
	st := s.understand(string(text))
	u.judge(st)
	u.does(st)
	u.query, u.work.several = true, len(st.sql.Verbs) != 1
	u.step('Q', nil)
	s.endGroup()
	return nil
}

func (s *served) onParse(at int, body []byte) error {
	m, err := readParse(body)
	if err != nil {
		return violation("invalid Parse message")
	}
	st := s.understand(string(m.text))
	for t := m.types; len(t) > 0; t = t[4:] {
		st.types = append(st.types, binary.BigEndian.Uint32(t))
	}
	u := s.next("Parse", at)
	u.judge(st)
	u.parsed, u.name = true, string(m.name)
	def := &definition{name: u.name, statement: st}
	if u.name != "" && u.refused == nil {
		u.refused = s.spare(def)
	}
	u.step('P', def)
	s.define(def)
	return nil
}

func (s *served) onBind(at int, body []byte) error {
	f := fields{b: body}
	portalName, statementName := f.text(), string(f.text())
	// A Bind joins the Parse of its unnamed statement, with a Describe between.
	u := s.last(at)
	if u == nil || !u.parsed || u.bound || u.executed || u.synced || u.name != "" || statementName != "" {
		st, err := s.statement(statementName)
		if err != nil {
			return err
		}
		u = s.next("Bind", at)
		u.name = statementName
		if st == nil {
			u.op.Text, u.op.Writes = "Bind of statement "+strconv.Quote(u.name), true
			u.refused = refuse(ruleStatement, fmt.Sprintf("prepared statement %q does not exist", u.name),
				"prepare it by the protocol's Parse; a statement of SQL's PREPARE is run by SQL's EXECUTE")
		} else {
			u.judge(s.fresh(st))
		}
	}
	params, formats, err := readBind(body, u.op.Params)
	if err != nil {
		return violation("invalid Bind message")
	}
	for i := range params {
		if u.statement != nil && i < len(u.statement.types) {
			params[i].Type = u.statement.types[i]
		}
	}
	u.op.Class, u.op.Params = "Bind", params
	u.work.formats = bytes.Clone(formats)
	u.sentinels()
	u.bound, u.portal = true, string(portalName)
	u.step('B', nil)
	return nil
}

// keepPortal has the portal of u outlive its unit.
func (s *served) keepPortal(u *unit) {
	p := &portal{statement: u.statement, name: u.name, params: slices.Clone(u.op.Params), formats: u.work.formats}
	for i := range p.params {
		p.params[i].Value = bytes.Clone(p.params[i].Value)
	}
	def := &definition{portals: true, name: u.portal, portal: p}
	if u.refused == nil {
		u.refused = s.spare(def)
	}
	for i := range u.steps {
		if u.steps[i].kind == 'B' {
			u.steps[i].def = def
		}
	}
	s.define(def)
}

// settleBound ends the growth of the last unit: a portal that it has bound
// and not run to its end is kept, for what comes.
func (s *served) settleBound() {
	if n := len(s.batch); n > 0 {
		if u := s.batch[n-1]; u.bound && !u.executed && u.statement != nil {
			u.executed = true // nothing joins any more
			s.keepPortal(u)
		}
	}
}

func (s *served) onDescribe(at int, body []byte) error {
	kind, name, err := readNamed(body)
	if err != nil {
		return violation("invalid Describe message")
	}
	if u := s.last(at); u != nil && !u.executed && !u.synced &&
		(kind == 'S' && u.parsed && u.name == string(name) || kind == 'P' && u.bound && u.portal == string(name)) {
		u.step('D', nil)
		return nil
	}
	u, err := s.named("Describe", "DESCRIBE", at, kind, string(name))
	if err != nil {
		return err
	}
	u.step('D', nil)
	return nil
}

func (s *served) onClose(at int, body []byte) error {
	kind, name, err := readNamed(body)
	if err != nil {
		return violation("invalid Close message")
	}
	u, err := s.named("Close", "CLOSE", at, kind, string(name))
	if err != nil {
		return err
	}
	def := &definition{portals: kind == 'P', name: string(name)}
	u.step('C', def)
	s.define(def)
	return nil
}

// named makes the unit of a message that is about a statement or portal. One
// that is not known here can be described and closed all the same: that
// reaches only what the session itself has at the target.
func (s *served) named(class, verb string, at int, kind byte, name string) (*unit, error) {
	what, text := "statement", ""
	var of *statement
	if kind == 'P' {
		what = "portal"
		p, err := s.portal(name)
		if err != nil {
			return nil, err
		}
		if p != nil {
			text, of = p.statement.text, p.statement
		}
	} else {
		st, err := s.statement(name)
		if err != nil {
			return nil, err
		}
		if st != nil {
			text, of = st.text, st
		}
	}
	u := s.next(class, at)
	u.work.statement = of
	u.executed = true // nothing joins it but a Sync
	u.op.Verbs = []string{verb}
	u.op.Text = class + " of " + what + " " + strconv.Quote(name)
	if text != "" {
		u.op.Text += ": " + text
	}
	return u, nil
}

func (s *served) onExecute(at int, body []byte) error {
	name, rows, err := readExecute(body)
	if err != nil {
		return violation("invalid Execute message")
	}
	u := s.last(at)
	if u != nil && u.bound && !u.executed && !u.synced && u.portal == string(name) {
		u.op.Class, u.executed = "Execute", true
		u.step('E', nil)
		if rows > 0 || u.portal != "" {
			s.keepPortal(u)
		}
		if u.statement != nil {
			u.does(u.statement)
			s.ran(u.statement)
		}
		return nil
	}
	p, err := s.portal(string(name))
	if err != nil {
		return err
	}
	u = s.next("Execute", at)
	u.executed = true
	u.step('E', nil)
	if p == nil {
		u.op.Text, u.op.Writes = fmt.Sprintf("Execute of portal %q", name), true
		u.refused = refuse(rulePortal, fmt.Sprintf("portal %q does not exist", name),
			"bind it first; a cursor of SQL's DECLARE is read by SQL's FETCH")
		return nil
	}
	u.judge(s.fresh(p.statement))
	u.op.Params = append(u.op.Params, p.params...)
	u.work.formats = p.formats
	u.sentinels()
	u.does(p.statement)
	s.ran(p.statement)
	return nil
}

// ran notes in the pipeline what running a statement may have done.
func (s *served) ran(st *statement) {
	if endsPortals(st.sql.Verbs) {
		s.group = slices.DeleteFunc(s.group, func(d *definition) bool { return d.portals })
	}
	if st.forgets() != nil {
		s.group = s.group[:0]
	}
}

// define adds a definition to those that the rest of the pipeline, up to its
// Sync, builds on: if it fails, the rest is skipped.
func (s *served) define(d *definition) {
	s.group = append(s.group, d)
	s.unconfirmed += d.size()
}

// endGroup ends what builds on definitions that are not confirmed.
func (s *served) endGroup() { s.group = s.group[:0] }

// find looks for a name in the pipeline since its last Sync.
func (s *served) find(portals bool, name string) *definition {
	for i := len(s.group) - 1; i >= 0; i-- {
		if d := s.group[i]; d.portals == portals && d.name == name {
			return d
		}
	}
	return nil
}

// statement returns what a name stands for; nil: nothing.
func (s *served) statement(name string) (*statement, error) {
	d := s.find(false, name)
	if d == nil {
		if err := s.barrier(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		d = s.names.statements[name]
		s.mu.Unlock()
	}
	if d == nil {
		return nil, nil
	}
	return d.statement, nil
}

// portal returns what a name stands for; nil: nothing.
func (s *served) portal(name string) (*portal, error) {
	s.settleBound()
	d := s.find(true, name)
	if d == nil {
		if err := s.barrier(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		d = s.names.portals[name]
		s.mu.Unlock()
	}
	if d == nil {
		return nil, nil
	}
	return d.portal, nil
}

// spare refuses a definition that there is no room for.
func (s *served) spare(d *definition) *custos.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.server.Limits
	if len(s.names.statements)+len(s.names.portals)+len(s.group) < l.Statements && s.names.bytes+d.size() <= l.StatementBytes {
		return nil
	}
	return refuse(ruleLimit, fmt.Sprintf("the session has %d statements and portals of %d bytes defined, want at most %d and %d",
		len(s.names.statements)+len(s.names.portals), s.names.bytes, l.Statements, l.StatementBytes), "close those that are not needed: DEALLOCATE ALL")
}
