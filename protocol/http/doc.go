// Package http lets clients of HTTP APIs through a gate, and holds what all
// protocols that are spoken over HTTP share: sessions by token (Sessions), the
// way to a target (Way), bytes that wait to be judged (Spool) and recorded
// answers (Records).
//
// A request passes through these files: protocol.go finds its caller's session,
// address.go reads its path and refuses tricks, body.go its body; operation.go
// says what it does, with api.go for what APIs have in common and graphql.go for
// GraphQL; serve.go leads it through the gate; answer.go passes the answer on,
// hidden by veil.go. credential.go is the half that holds the credential.
//
// What a crash leaves is as package gate says. A body that is too long for
// memory lies sealed in a file without a name.
package http
