package kms

import (
	"time"

	"golang.org/x/sys/windows"
)

// bootTime reads GetTickCount64: time since the machine was started, that in which it slept
// or hibernated included (Microsoft, "Windows Time"). QueryUnbiasedInterruptTime and Go's own
// monotonic clock leave that out. It is behind by one tick of the system timer at most,
// typically 10 to 16 ms, which the margin of a lease has room for.
func bootTime() time.Duration { return windows.DurationSinceBoot() }
