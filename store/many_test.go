//go:build !race

package store

const manySessions = 200_000
