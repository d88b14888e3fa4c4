package postgres

// handling says what becomes of a message.
type handling uint8

const (
	unknown    handling = iota // refused, and the session ends: the rest of the line is not to be trusted
	login                      // it belongs to the login, which the gateway leads with each side by itself
	submitted                  // it is an operation, or a part of one
	input                      // it is further input of an operation
	upkeep                     // it carries nothing of the caller's
	refused                    // by name; the session lives on
	ended                      // it ends the session
	answer                     // it is a part of an operation's answer
	unasked                    // the target sends it of its own accord
	impossible                 // a target that sends it is not spoken to any more
)

// class is a row of the closed table of messages.
type class struct {
	name     string
	handling handling
	small    bool // its body is bounded by smallLimit
	parsed   string
}

// frontend names every message that a client may send: the section "Message
// Formats" of the manual, of version 3.2 and before.
var frontend = [256]class{
	'Q': {name: "Query", handling: submitted, parsed: "the statements, by PostgreSQL's grammar"},
	'P': {name: "Parse", handling: submitted, parsed: "name, the statement, by PostgreSQL's grammar, types"},
	'B': {name: "Bind", handling: submitted, parsed: "names, parameters"},
	'D': {name: "Describe", handling: submitted, small: true, parsed: "name"},
	'E': {name: "Execute", handling: submitted, small: true, parsed: "name, row limit"},
	'C': {name: "Close", handling: submitted, small: true, parsed: "name"},
	'F': {name: "FunctionCall", handling: refused, parsed: "the function's number"},
	'd': {name: "CopyData", handling: input, parsed: "no: rows as they are"},
	'c': {name: "CopyDone", handling: input, small: true, parsed: "nothing is in it"},
	'f': {name: "CopyFail", handling: input, parsed: "no"},
	'S': {name: "Sync", handling: upkeep, small: true, parsed: "nothing is in it"},
	'H': {name: "Flush", handling: upkeep, small: true, parsed: "nothing is in it"},
	'X': {name: "Terminate", handling: ended, small: true, parsed: "nothing is in it"},
	'p': {name: "PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse", handling: login, parsed: "the token"},
}

// untyped are the messages of a client that have no type byte, by their
// number where a startup packet has its version.
var untyped = []class{
	{name: "StartupMessage", handling: login, parsed: "version, parameters"},
	{name: "SSLRequest", handling: login, parsed: "nothing is in it"},
	{name: "GSSENCRequest", handling: refused, parsed: "nothing is in it"},
	{name: "CancelRequest", handling: submitted, parsed: "the key"},
}

// backend names every message that a target may send.
var backend = [256]class{
	'1': {name: "ParseComplete", handling: answer, parsed: "nothing is in it"},
	'2': {name: "BindComplete", handling: answer, parsed: "nothing is in it"},
	'3': {name: "CloseComplete", handling: answer, parsed: "nothing is in it"},
	't': {name: "ParameterDescription", handling: answer, parsed: "at replay"},
	'T': {name: "RowDescription", handling: answer, parsed: "at replay"},
	'n': {name: "NoData", handling: answer, parsed: "nothing is in it"},
	'D': {name: "DataRow", handling: answer, parsed: "counted; at replay"},
	'C': {name: "CommandComplete", handling: answer, parsed: "the rows in its tag"},
	'I': {name: "EmptyQueryResponse", handling: answer, parsed: "nothing is in it"},
	's': {name: "PortalSuspended", handling: answer, parsed: "nothing is in it"},
	'E': {name: "ErrorResponse", handling: answer, parsed: "SQLSTATE"},
	'Z': {name: "ReadyForQuery", handling: answer, parsed: "the transaction's state"},
	'G': {name: "CopyInResponse", handling: answer, parsed: "at replay"},
	'H': {name: "CopyOutResponse", handling: answer, parsed: "at replay"},
	'd': {name: "CopyData", handling: answer, parsed: "at replay"},
	'c': {name: "CopyDone", handling: answer, parsed: "nothing is in it"},
	'A': {name: "NotificationResponse", handling: unasked, parsed: "at replay"},
	'N': {name: "NoticeResponse", handling: unasked, parsed: "at replay"},
	'S': {name: "ParameterStatus", handling: unasked, parsed: "name, value"},
	'R': {name: "Authentication", handling: login, parsed: "the method"},
	'K': {name: "BackendKeyData", handling: login, parsed: "the key, which stays inside"},
	'v': {name: "NegotiateProtocolVersion", handling: login, parsed: "version"},
	'V': {name: "FunctionCallResponse", handling: impossible, parsed: "no: no function is called"},
	'W': {name: "CopyBothResponse", handling: impossible, parsed: "no: it is replication's"},
}
