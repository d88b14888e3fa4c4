package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps what is in the process's memory from who is not root: it
// leaves no core file, and another process of the same user may neither trace
// it nor read its /proc entry (prctl(2), PR_SET_DUMPABLE).
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core files off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("switch tracing off: %w", err)
	}
	return nil
}
