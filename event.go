package custos

import "io"

// Event is one thing of an answer as a person reads it at replay: a table's
// head, a row, a piece of text, a message of the target's, or the end. One
// field besides At is set.
type Event struct {
	// At is when it came, in microseconds since the operation was submitted.
	At int64 `json:"at_us"`
	// Columns are the names at the head of a table.
	Columns []string `json:"columns,omitzero"`
	// Row holds one row's values in words; nil is null.
	Row []*string `json:"row,omitzero"`
	// Text is output as it is, such as rows of a COPY.
	Text string `json:"text,omitempty"`
	// Notice is a message beside the answer.
	Notice string `json:"notice,omitempty"`
	// Error is what the target answered instead, or with what it ended.
	Error string `json:"error,omitempty"`
	// Tag is what the target said when it was done, such as "SELECT 2".
	Tag string `json:"tag,omitempty"`
}

// Renderer turns the recorded answer of an operation into events. records is
// the answer's plaintext: docs/formats/ledger.md specifies it. It returns
// the first error of records or of emit, and after an error of emit it emits
// nothing more. What emit gets is its own until it returns.
type Renderer func(o *Operation, records io.Reader, emit func(*Event) error) error
