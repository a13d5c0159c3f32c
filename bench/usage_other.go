//go:build !linux

package bench

import "time"

// cpuTime is not known here.
func cpuTime(int) time.Duration { return 0 }

// busyTime is not known here.
func busyTime() (used, total time.Duration) { return 0, 0 }

// peakMemory is not known here.
func peakMemory(int) float64 { return 0 }
