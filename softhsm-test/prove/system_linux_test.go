package prove

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads the clock by which kmsd records when it made a final check.
func bootTime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // Linux has it since 2.6.39
	return time.Duration(now.Nano())
}

// dieWithParent makes a process die when this one does.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
