package postgres

import (
	"slices"

	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/sql"
)

// poisonStep is the kind of a step that the target fails in place of an
// operation that was refused.
const poisonStep = '!'

// work is one operation at the target, or a refusal in the place of one.
type work struct {
	permit  *gate.Permit
	refusal *fatal // what the client is told
	rows    int64  // of tags
	counted int64  // DataRows since the last tag
	code    string
	forget  *forget
	portals bool // it may end portals
	several bool // statements
	changes bool // what the database has
	done    bool

	// What is hidden of its answer.
	veil      *veil
	statement *statement
	formats   []byte      // of the answer's columns, as Bind has them
	current   int         // which of the text's statements is being answered
	columns   []described // of the answer, as the target has described them
	plan      *plan
	planned   bool
	touched   bool // it has to do with what is hidden, for messages
	copied    *copyPlan
	masked    int64
}

// described takes a RowDescription.
func (w *work) described(body []byte) {
	w.columns, w.planned, w.plan = readDescription(body), false, nil
	if w.statement != nil {
		w.statement.shape.columns = w.columns
	}
}

// nextStatement goes on to the answer of the text's next statement.
func (w *work) nextStatement() {
	w.current++
	w.columns, w.planned, w.plan, w.copied = nil, false, nil, nil
}

// answering returns what is known of the statement that is being answered;
// nil: nothing.
func (w *work) answering() *sql.Statement {
	if w.statement == nil || w.statement.sql == nil || w.current >= len(w.statement.sql.Statements) {
		return nil
	}
	return &w.statement.sql.Statements[w.current]
}

// hides reports whether rows, or lines of a copy, have to be looked at. A plan
// is made when the first of them comes.
func (w *work) hides(t byte) bool {
	switch {
	case w.veil == nil:
		return false
	case t == 'd':
		return true
	case t != 'D':
		return false
	}
	if !w.planned {
		w.plan, w.planned = w.newPlan(), true
	}
	return w.plan != nil
}

func (w *work) newPlan() *plan {
	var results []sql.Result
	known := false
	var catalog *sql.Catalog
	if st := w.answering(); st != nil {
		results, known = st.Results, st.Results != nil
		catalog = w.statement.catalog
	}
	columns := w.columns
	if columns == nil && w.statement != nil {
		// Described before it was run, or not at all.
		columns = slices.Clone(w.statement.shape.columns)
		if columns == nil {
			columns = make([]described, len(results))
			for i := range results {
				columns[i].name = results[i].Name
				if results[i].Plain && len(results[i].Sources) == 1 {
					columns[i].typ = catalog.TypeOf(results[i].Sources[0])
				}
			}
		}
		for i := range columns {
			columns[i].binary = binaryResult(w.formats, i)
		}
	}
	return newPlan(w.veil, columns, results, known, catalog)
}

// binaryResult reads a Bind's format codes: none is text, one is that of all.
func binaryResult(formats []byte, i int) bool {
	switch {
	case len(formats) == 2:
		return formats[1] != 0
	case 2*i+1 < len(formats):
		return formats[2*i+1] != 0
	}
	return false
}

// counts reports that the work may change names, so that look-ups wait for it.
func (w *work) counts() bool { return w.forget != nil || w.portals }

// step is one message of the client's that the target has to answer.
type step struct {
	kind byte // the message's type; poisonStep
	last bool // with its answer the work is done
	work *work
	def  *definition
}

// queue holds the steps that are not answered, in order: a ring.
type queue struct {
	ring  []step
	first int
	n     int
}

// quietQueue is how many steps an empty queue keeps room for.
const quietQueue = 32

func (q *queue) push(s step) {
	if q.n == len(q.ring) {
		ring := make([]step, max(8, 2*len(q.ring)))
		for i := range q.n {
			ring[i] = *q.at(i)
		}
		q.ring, q.first = ring, 0
	}
	q.n++
	*q.at(q.n - 1) = s
}

func (q *queue) at(i int) *step { return &q.ring[(q.first+i)%len(q.ring)] }

// head returns the step that is being answered; nil: none.
func (q *queue) head() *step {
	if q.n == 0 {
		return nil
	}
	return &q.ring[q.first]
}

func (q *queue) pop() step {
	s := q.ring[q.first]
	q.ring[q.first] = step{}
	q.first = (q.first + 1) % len(q.ring)
	q.n--
	if q.n == 0 && len(q.ring) > quietQueue {
		q.ring, q.first = nil, 0
	}
	return s
}
