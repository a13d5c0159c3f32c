package kms

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime reads CLOCK_BOOTTIME: time since the machine was started, that in which it
// slept included. No one can set this clock.
func bootTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic("kms: CLOCK_BOOTTIME cannot be read: " + err.Error()) //nolint:forbidigo // Linux has it since 2.6.39
	}
	return time.Duration(now.Nano())
}
