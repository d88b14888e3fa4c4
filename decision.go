package custos

import (
	"slices"
	"time"
)

// Effect is what a decision lets happen. The zero value refuses.
type Effect uint8

// The effects, from the strictest.
const (
	Refuse Effect = iota
	Approve
	Allow
)

// String returns the word used in policies, entries and messages.
func (e Effect) String() string {
	switch e {
	case Allow:
		return "allow"
	case Approve:
		return "approve"
	default:
		return "refuse"
	}
}

// Decision is policy's answer to an Operation. The zero value refuses.
type Decision struct {
	Effect Effect
	// Rule names the rule that decided.
	Rule string
	// Reason says why, to the caller, in a sentence without a full stop.
	Reason string
	// Hint says what the caller can do next.
	Hint string
	// Policy is the version of the policy that judged.
	Policy string
	// Masks are what the caller may not see in the clear of the answer. They
	// never change once made.
	Masks []Mask
	// DryRun names the rules in dry-run that would have decided otherwise.
	DryRun []string
	// Approvers are who may let it through, where Effect is Approve and the
	// rule names them; nil: whoever is a reviewer.
	Approvers *Approvers
}

// Approvers are the people whom a rule asks.
type Approvers struct {
	// Groups are those of whom any member may answer. Empty: any reviewer.
	Groups []string
	// Count is how many of them must agree; 0 stands for 1.
	Count int
	// Within is how long the operation is held for them; 0 leaves it to the
	// gateway.
	Within time.Duration
	// Exact: what the operation would change may be counted at the target, for
	// them to know.
	Exact bool
	// Statement: messages to them may hold the operation's text.
	Statement bool
	// BreakGlass: in an emergency nobody needs to be asked.
	BreakGlass bool
}

// Mask says what is hidden in answers, and how. Columns, Results, Tags and
// Detect add up.
type Mask struct {
	// Rule names the rule that it is of.
	Rule string
	// Columns are patterns of stored columns, schema.table.column, where *
	// stands for any run of characters but a full stop.
	Columns []string
	// Results are patterns of the names of the answer's columns or fields.
	Results []string
	// Tags hide the columns that have one of them.
	Tags []string
	// Detect are the kinds of value, such as "email", that are looked for in
	// all of the answer.
	Detect []string
	// With is how: redact, partial, hash, format or null; or Clear.
	With string
}

// Clear is the way of a mask that hides nothing: it lets be seen what a protocol
// hides where no rule says anything, such as the values of Secrets. A mask that
// hides the same wins.
const Clear = "clear"

// Hiding returns those of masks that hide something.
func Hiding(masks []Mask) []Mask {
	clear := func(m Mask) bool { return m.With == Clear }
	if !slices.ContainsFunc(masks, clear) {
		return masks
	}
	return slices.DeleteFunc(slices.Clone(masks), clear)
}

// Usage is what a caller has taken so far, for rules that set a budget.
type Usage struct {
	// Session counts since the session was opened, Hour and Day over the last
	// hour and day of the caller on the connection, across sessions.
	Session, Hour, Day Counts
	// Repeats is how often the same operation is among the session's last 64,
	// this one included.
	Repeats int64
	// Granted: access that was approved covers the operation.
	Granted bool
}

// Counts are sums over operations.
type Counts struct {
	Operations, Writes, Refused int64
	// Rows and Bytes are of the answers.
	Rows, Bytes int64
}

// Refusal is the error of an operation, or a session, that was not let
// through. Each protocol renders it in its own words.
type Refusal struct {
	Decision
	// Session and Entry are where it is recorded. Entry is meaningful only
	// when Recorded is true.
	Session  SessionID
	Entry    uint64
	Recorded bool
	// Approval names the approval that it waits for, or was denied; "": none.
	Approval string
	// Retry reports that the same operation may succeed later.
	Retry bool
}

// Error returns the refusal as one line.
func (r *Refusal) Error() string {
	switch {
	case r.Rule == "":
		return "refused: " + r.Reason
	case r.Effect == Approve:
		return "held by rule " + r.Rule + ": " + r.Reason
	}
	return "refused by rule " + r.Rule + ": " + r.Reason
}
