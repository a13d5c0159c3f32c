//go:build !linux

package prove

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads the clock by which kmsd records when it made a final check.
func bootTime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // POSIX requires it
	return time.Duration(now.Nano())
}

// dieWithParent: only Linux has that. A test that ends in order stops its processes itself.
func dieWithParent() *syscall.SysProcAttr { return nil }
