package identity

import (
	"errors"
	"fmt"
)

// Code names the check that a token failed.
type Code string

// The codes. The same token may do better a little later after UnknownKey (the
// issuer has just changed its keys), NotYetValid and Unavailable; after the
// others it never does.
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
// do next. It holds no byte of the token, and not the cause, which may name
// addresses of the gateway's network: it may go to whoever sent the token.
type Error struct {
	Code   Code
	Reason string // what was found, without a full stop
	Hint   string // what to do next; empty where nothing can be said
	Cause  error  // of Unavailable; it is logged once for each failed fetch
}

// Error returns the reason and the hint as one line.
func (e *Error) Error() string {
	s := "verify token: " + e.Reason
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the cause, or nil.
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
