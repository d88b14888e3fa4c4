package identity

import (
	"errors"
	"fmt"
)

// Code names the check that a token failed.
type Code string

// The codes. Only Expired and Unavailable may turn out otherwise when the
// caller tries again, with a new token or a little later.
const (
	Malformed   Code = "malformed"          // not a compact JWS with a JSON payload, or too large
	WrongIssuer Code = "unknown-issuer"     // `iss` is no configured issuer
	Algorithm   Code = "algorithm"          // `alg` is not among the issuer's algorithms
	UnknownKey  Code = "unknown-key"        // the issuer has no such key
	Signature   Code = "signature"          // the signature does not verify
	Audience    Code = "audience"           // not meant for this gateway
	Expired     Code = "expired"            // `exp` has passed
	NotYetValid Code = "not-yet-valid"      // `nbf` or `iat` is in the future
	Claims      Code = "claims"             // a claim is missing or not what it must be
	Unavailable Code = "issuer-unavailable" // the issuer's keys can't be had
)

// Error is why a token was not accepted. Its text names the check and what to
// do next, and holds no byte of the token: it may go to the caller and to logs.
type Error struct {
	Code   Code
	Reason string // what was found, without a full stop
	Hint   string // what to do next; empty where nothing can be said
	Cause  error  // of Unavailable
}

// Error returns the reason and the hint as one line.
func (e *Error) Error() string {
	s := "verify token: " + e.Reason
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of an error that Verify gave, or "".
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

const (
	hintLogin = "get a new token, for example with: custos login"
	hintForm  = "pass the token exactly as the issuer gave it: three base64url parts with dots between"
)

func refuse(code Code, hint, format string, args ...any) *Error {
	return &Error{Code: code, Hint: hint, Reason: fmt.Sprintf(format, args...)}
}
