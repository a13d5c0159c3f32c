package loadgen

import (
	"context"
	"time"
)

// coarse is how much earlier than asked a timer is set: an idle Go program wakes up to
// a millisecond late. sleepBriefly does the rest.
const coarse = 2 * time.Millisecond

// sleepUntil waits until a time, or until ctx ends.
func sleepUntil(ctx context.Context, until time.Time) {
	if d := time.Until(until); d > coarse {
		timer := time.NewTimer(d - coarse)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
	if d := time.Until(until); d > 0 {
		sleepBriefly(d)
	}
}
