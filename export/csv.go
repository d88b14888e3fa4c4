package export

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/store"
)

// Writer renders one session, in order: the session, then each operation with
// the events of its answer, then the end. A Writer may ignore what its format
// has no place for.
type Writer interface {
	Session(*store.Session) error
	Operation(*store.Operation) error
	Event(*custos.Event) error
	End() error
}

// CSV renders a session as comma-separated values (RFC 4180), one line an
// operation; answers are left out. A cell that a spreadsheet would take for
// a formula gets an apostrophe before it.
type CSV struct {
	w       *csv.Writer
	session *store.Session
}

// NewCSV returns a Writer of CSV.
func NewCSV(w io.Writer) *CSV { return &CSV{w: csv.NewWriter(w)} }

var csvHead = []string{"session", "caller", "on_behalf_of", "connection", "protocol", "entry", "at", "text", "params",
	"verbs", "objects", "effect", "rule", "outcome", "code", "rows", "bytes", "masked"}

// Session writes the head.
func (c *CSV) Session(s *store.Session) error {
	c.session = s
	return c.w.Write(csvHead)
}

// Operation writes one line.
func (c *CSV) Operation(o *store.Operation) error {
	s := c.session
	line := []string{string(s.ID), s.Caller, s.OnBehalfOf, s.Connection, s.Protocol,
		strconv.FormatUint(o.Entry, 10), o.At.UTC().Format(time.RFC3339Nano), o.Text, strings.Join(o.Params, "; "),
		strings.Join(o.Verbs, " "), strings.Join(o.Objects, " "), o.Effect, o.Rule, o.Outcome, o.Code,
		strconv.FormatInt(o.Rows, 10), strconv.FormatInt(o.Bytes, 10), strconv.FormatInt(o.Masked, 10)}
	for i, cell := range line {
		if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			line[i] = "'" + cell
		}
	}
	return c.w.Write(line)
}

// Event leaves answers out.
func (c *CSV) Event(*custos.Event) error { return nil }

// End writes what is left.
func (c *CSV) End() error {
	c.w.Flush()
	return c.w.Error()
}
