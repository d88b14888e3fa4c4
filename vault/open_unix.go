//go:build unix

package vault

import "syscall"

const openFlags = syscall.O_NONBLOCK
