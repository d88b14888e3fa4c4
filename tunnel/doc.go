// Package tunnel is the line between a gateway and the agents in its targets'
// networks, both ends of it.
//
// An agent dials out to the gateway's HTTPS address and speaks the protocol
// ALPN there, over mutual TLS 1.3. On that one line the gateway opens a stream
// for each session and names a host and port; the agent dials it, if it is one
// of its own targets, and from then on carries bytes that it does not look at.
//
// What holds, each by a test:
//
//   - An agent dials what its own allowlist names and nothing else, whoever
//     asks. A name is looked up once, and the address that was checked is the
//     one that is dialled. Addresses at which clouds hand out credentials are
//     never dialled.
//   - An agent's name is that of its certificate. The certificate is short-lived,
//     issued by a CA of the gateway's own for a key that does not leave the agent,
//     and good only as long as the gateway's list has the agent.
//   - A one-time token joins one agent, once, under one name. The gateway keeps
//     its hash.
//   - The gateway sends nothing of a session to an agent but bytes for the
//     target: no caller, no token, no rule.
//   - A stream that nobody reads holds up no other, and holds at most Window
//     bytes at each end.
//   - A dial that failed is tried by another agent of that name; a line that is
//     cut ends its sessions. Nothing that was sent is ever sent again.
package tunnel
