package custos

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
	// Retry reports that the same operation may succeed later.
	Retry bool
}

// Error returns the refusal as one line.
func (r *Refusal) Error() string {
	if r.Rule == "" {
		return "refused: " + r.Reason
	}
	return "refused by rule " + r.Rule + ": " + r.Reason
}
