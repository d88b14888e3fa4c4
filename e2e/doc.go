// Package e2e holds the tests that use custos from outside: the built binary,
// real servers, clients that others wrote, and faults.
package e2e
