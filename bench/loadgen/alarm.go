package loadgen

import (
	"context"
	"time"
)

// timerUntil waits on a Go timer until a time, or until ctx ends. An idle Go program
// wakes up to a millisecond late.
func timerUntil(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
