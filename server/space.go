package server

import (
	"fmt"
	"sync/atomic"
	"syscall"
)

// space watches how much is free on the disk of data_dir. Below the first
// floor no session is opened; below the second no operation is let through,
// so that what is running can still be recorded and closed.
type space struct {
	dir   string
	floor func(total uint64) (sessions, operations uint64)
	short [2]atomic.Pointer[error] // of sessions, of operations
}

// look measures once. A disk that cannot be measured counts as full.
func (s *space) look() {
	var st syscall.Statfs_t
	var free, sessions, operations uint64
	err := syscall.Statfs(s.dir, &st)
	if err == nil {
		total := st.Blocks * uint64(st.Bsize)
		free = st.Bavail * uint64(st.Bsize)
		sessions, operations = s.floor(total)
	}
	for i, floor := range []uint64{sessions, operations} {
		switch {
		case err != nil:
			e := fmt.Errorf("the gateway cannot measure its disk: %w", err)
			s.short[i].Store(&e)
		case free < floor:
			e := fmt.Errorf("the gateway's disk has %d MiB free, under its floor of %d MiB", free>>20, floor>>20)
			s.short[i].Store(&e)
		default:
			s.short[i].Store(nil)
		}
	}
}

func (s *space) ForSession() error   { return s.load(0) }
func (s *space) ForOperation() error { return s.load(1) }

func (s *space) load(i int) error {
	if e := s.short[i].Load(); e != nil {
		return *e
	}
	return nil
}
