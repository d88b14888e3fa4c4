// Package recording keeps the bulky bytes of sessions: what was asked, and
// what came back. They are sealed with a key of the session's own, so that a
// session can be forgotten by destroying its key while the ledger, which cites
// the sealed bytes by digest, still verifies.
//
// Small pieces are sealed here and stored beside the ledger's entries. An
// answer that grows large goes, as it grows, to a file of its own.
// docs/formats/recording.md specifies both.
package recording
