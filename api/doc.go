// Package api is the gateway's JSON over HTTPS: its types, its handlers and
// the client that the command line uses.
//
// Every request but those of /healthz, /readyz and /.well-known/custos
// carries an OIDC token as its bearer. Everyone sees their own sessions:
// those they opened and those that were opened on their behalf. Auditors and
// admins, by the roles of the configuration, see all. What a caller may not
// see looks as if it were not there.
//
// Whoever reads a recording is on record himself: the entry is durable before
// the first byte of the recording leaves.
//
// Errors are application/problem+json (RFC 9457). Long answers are streams
// of JSON lines, whose last line is {"end":…}: a stream without it was cut
// off.
package api
