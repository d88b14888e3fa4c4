package postgres

import (
	"github.com/custos-gateway/custos/gate"
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
	done    bool
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
