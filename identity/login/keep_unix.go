//go:build unix

package login

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// private refuses what others could read or change: a file or folder that is a
// link, belongs to somebody else, or has a permission bit of mask.
func private(path string, mask fs.FileMode, want string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if t := info.Mode().Type(); t != 0 && t != fs.ModeDir {
		return fmt.Errorf("%s is not a plain file; remove it and run: custos login", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to another user; remove it, or set XDG_CONFIG_HOME to a folder of yours", path)
	}
	if info.Mode().Perm()&mask != 0 {
		return fmt.Errorf("%s is open to other users (mode %#o); if nobody else used it, run: chmod %s %s", path, info.Mode().Perm(), want, path)
	}
	return nil
}

// lock waits for the lock of a file, which ends with the process.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
