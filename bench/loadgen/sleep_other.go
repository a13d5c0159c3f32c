//go:build !linux

package loadgen

import "time"

// sleepBriefly waits on a timer, which may be late by a millisecond.
func sleepBriefly(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
