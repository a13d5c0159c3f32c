//go:build !linux && !windows

package kms

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads CLOCK_MONOTONIC, which on macOS counts the time in which the machine
// slept, as CLOCK_BOOTTIME does on Linux.
func bootTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic("kms: CLOCK_MONOTONIC cannot be read: " + err.Error()) //nolint:forbidigo // POSIX requires it
	}
	return time.Duration(now.Nano())
}
