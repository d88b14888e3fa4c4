//go:build !linux

package testtarget

import "os/exec"

// run runs cmd until it ends.
func run(cmd *exec.Cmd, started chan<- error) {
	err := cmd.Start()
	started <- err
	if err == nil {
		cmd.Wait()
	}
}
