package postgres

import (
	"errors"
	"strconv"

	custos "github.com/custos-gateway/custos"
	"github.com/custos-gateway/custos/gate"
	"github.com/custos-gateway/custos/sql/libpgquery"
)

// The rules of this protocol itself.
const (
	ruleUnparsed  = "postgres/unparsed"
	ruleTooLong   = "postgres/message-limit"
	ruleFunction  = "postgres/function-call"
	ruleStatement = "postgres/unknown-statement"
	rulePortal    = "postgres/unknown-portal"
	ruleLimit     = "postgres/statement-limit"
	ruleEncoding  = "postgres/encoding"
	ruleCatalog   = "postgres/catalogue"
)

// codes are the SQLSTATEs of refusals that are not 42501, insufficient
// privilege (appendix "PostgreSQL Error Codes").
var codes = map[string]string{
	"token": "28P01", "sessions": "53300", "space": "53100", "session": "57P01",
	"target-unavailable": "57P03", "ledger-unavailable": "57P03", "recording-unavailable": "57P03",
	ruleUnparsed: "42601", ruleTooLong: "54000", ruleFunction: "0A000", ruleStatement: "26000", rulePortal: "34000",
	ruleLimit: "53400", ruleEncoding: "22021", ruleCatalog: "57P03",
}

func code(rule string) string {
	if c, ok := codes[rule]; ok {
		return c
	}
	return "42501"
}

// fatal is an error before or at the end of a session.
type fatal struct {
	code, message, detail, hint string
	position                    int // in the statement, in characters from 1; 0: none
}

func (f *fatal) Error() string { return f.message }

func violation(message string) *fatal { return &fatal{code: "08P01", message: message} }

// append appends an ErrorResponse (section "Error and Notice Message Fields").
func (f *fatal) append(dst []byte, severity string) []byte {
	dst, at := begin(dst, 'E')
	dst = appendText(append(dst, 'S'), severity)
	dst = appendText(append(dst, 'V'), severity)
	dst = appendText(append(dst, 'C'), f.code)
	dst = appendText(append(dst, 'M'), clean(f.message))
	if f.detail != "" {
		dst = appendText(append(dst, 'D'), clean(f.detail))
	}
	if f.hint != "" {
		dst = appendText(append(dst, 'H'), clean(f.hint))
	}
	if f.position > 0 {
		dst = appendText(append(dst, 'P'), strconv.Itoa(f.position))
	}
	return finish(append(dst, 0), at)
}

// clean ends a text where the message would end it.
func clean(s string) string {
	for i := range len(s) {
		if s[i] == 0 {
			return s[:i]
		}
	}
	return s
}

// turnedAway renders the refusal of a session.
func turnedAway(r *custos.Refusal) *fatal {
	f := rendered(r)
	if r.Rule == "token" {
		f.hint = r.Hint + "; " + tokenHint
	}
	return f
}

// rendered renders a refusal, by which a caller knows the rule, where it is
// recorded, and what to do next.
func rendered(r *custos.Refusal) *fatal {
	return &fatal{code: code(r.Rule), message: r.Error(), detail: detail(r), hint: r.Hint}
}

// rendered renders the refusal of u. What does not parse is told as the
// target itself would tell it, for clients to show the place.
func (u *unit) rendered(r *custos.Refusal) *fatal {
	f := rendered(r)
	if e, ok := errors.AsType[*libpgquery.SyntaxError](u.unparsed); ok && r.Rule == ruleUnparsed {
		f.message, f.position = e.Message, e.Position
	}
	if u.gaveUp != nil {
		f.code, f.message = "57014", u.gaveUp.Error()
	}
	return f
}

func detail(r *custos.Refusal) string {
	b := append([]byte(`{"rule":`), strconv.Quote(r.Rule)...)
	if r.Session != "" {
		b = append(b, `,"session":"`...)
		b = append(append(b, r.Session...), '"')
	}
	if r.Recorded {
		b = strconv.AppendUint(append(b, `,"entry":`...), r.Entry, 10)
	}
	if r.Approval != "" {
		b = strconv.AppendQuote(append(b, `,"approval":`...), r.Approval)
	}
	b = strconv.AppendBool(append(b, `,"retry":`...), r.Retry)
	return string(append(b, '}'))
}

// farewell is what a client is told when its session ends from here.
func farewell(cause error, id custos.SessionID) *fatal {
	f := &fatal{code: "57P01", message: "terminating connection: " + cause.Error(), detail: `{"session":"` + string(id) + `"}`, hint: "connect again"}
	var own *fatal
	switch {
	case errors.As(cause, &own):
		f.code, f.message, f.hint = own.code, own.message, own.hint
	case errors.Is(cause, gate.ErrExpired):
		f.code, f.hint = "28000", "connect again with a fresh token: custos token"
	case errors.Is(cause, errTarget):
		f.code, f.message, f.hint = "08006", cause.Error(), "what was under way may have been done or not: look before you repeat it"
	}
	return f
}

// refuse is a decision of this protocol's own.
func refuse(rule, reason, hint string) *custos.Decision {
	return &custos.Decision{Effect: custos.Refuse, Rule: rule, Reason: reason, Hint: hint}
}
