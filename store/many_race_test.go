//go:build race

package store

// The race detector makes SQLite fifty times slower, and has nothing to find
// in many rows that it does not find in few.
const manySessions = 5_000
