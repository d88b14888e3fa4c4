package testtarget

import (
	"os/exec"
	"runtime"
	"syscall"
)

// run runs cmd until it ends. The server dies with
// the test: the signal is tied to the thread, which is held meanwhile.
func run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	err := cmd.Start()
	started <- err
	if err == nil {
		cmd.Wait()
	}
}
