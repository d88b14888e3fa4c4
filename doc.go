// Package custos is the vocabulary of the gateway: the words of its domain as
// plain data, each with one meaning.
//
// A caller (Principal) opens a Session on a Connection, and on it submits
// Operations. Policy answers each with a Decision. What happened is an Outcome.
// All of it is kept as Entries of the ledger. A Credential is lent to the half
// of a protocol that logs in to the target, and is seen by nothing else.
//
// The package holds data and the encoding of ledger entries, and imports the
// standard library only. Behaviour lives in the rooms above it; gate is the
// one to read first.
package custos
