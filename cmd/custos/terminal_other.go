//go:build !unix

package main

import "io"

// terminalWidth is 0: what is printed is taken for no terminal's.
func terminalWidth(io.Writer) int { return 0 }
