// Package export takes entries out of the ledger: to the search index, to
// files that people read, and to evidence that strangers verify.
//
// Everything here is derived. What a crash leaves half done is done again:
// the index is rebuilt, a recovery goes on where the ledger says it stopped,
// and a file that was not finished lacks its end, which its reader checks.
package export
