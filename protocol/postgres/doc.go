// Package postgres speaks PostgreSQL's frontend/backend protocol, versions 3.0
// and 3.2, to callers on one side and to a target on the other.
//
// The specification is chapter "Frontend/Backend Protocol" of PostgreSQL's
// manual, https://www.postgresql.org/docs/current/protocol.html.
//
// Spoken: TLS by SSLRequest and by direct negotiation; a token as cleartext
// password, or as OAUTHBEARER for the user name "oauth"; the simple query, the
// extended query with named statements, portals and pipelines; COPY in and
// out; asynchronous messages; cancel requests. To the target: TLS with
// verified certificates, client certificates, SCRAM-SHA-256 with and without
// channel binding, md5, and cleartext passwords inside TLS.
//
// Refused, by name: GSSAPI encryption (answered 'N', as the protocol has it),
// replication, function calls, COPY both ways, text encodings other than UTF8,
// startup parameters beyond a closed list, statements that do not parse, and
// statement and portal names that the session did not define by the protocol.
//
// # What a refusal does
//
// A refused operation fails as any statement fails: with an ErrorResponse in
// its place, and with the transaction it stands in. When nothing of the
// transaction is at the target, nothing is sent at all. Else the target is
// made to fail it as well, by executing a portal that is not there, whose name
// is this session's own; so a pipeline or a transaction is never done in half.
//
// # Two names for one thing
//
// An Execute names a portal, a Bind a statement. Which text they stand for is
// kept here, exactly as the target confirms it; where a pipeline refers to a
// name whose definition is still under way from an earlier Sync, the pipeline
// waits for the target. Names that SQL defines (PREPARE, DECLARE) are reached
// by SQL (EXECUTE, FETCH), and are refused in Bind and Execute.
package postgres
