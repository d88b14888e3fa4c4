// Package store is the search index over the ledger: sessions and operations,
// by time, by field and by full text. It is derived: delete its file, and it
// is built again from the ledger. Nothing is true because the index says so.
package store
