package telemetry

import (
	"math"
	"sync"
	"time"
)

const (
	windowLength = time.Minute
	windowStep   = time.Second // samples closer together are not kept
)

// window tells the ratio of two counters over the last minute, or since it was last
// asked if that is longer ago.
type window struct {
	now func() time.Time

	mu      sync.Mutex
	samples []sample // oldest first
}

// sample is the state of the counters at a time.
type sample struct {
	at                time.Time
	dividend, divisor uint64
}

// ratio takes the counters as they are and returns the ratio of what was added to them;
// NaN if the divisor did not grow.
func (w *window) ratio(dividend, divisor uint64) float64 {
	now := sample{w.now(), dividend, divisor}
	w.mu.Lock()
	defer w.mu.Unlock()
	// The oldest sample that is needed is the last one from before the window.
	for len(w.samples) > 1 && now.at.Sub(w.samples[1].at) >= windowLength {
		w.samples = w.samples[1:]
	}
	var base sample // both counters began at 0
	if len(w.samples) > 0 {
		base = w.samples[0]
	}
	if n := len(w.samples); n == 0 || now.at.Sub(w.samples[n-1].at) >= windowStep {
		w.samples = append(w.samples, now)
	}
	if now.divisor <= base.divisor || now.dividend < base.dividend {
		return math.NaN()
	}
	return float64(now.dividend-base.dividend) / float64(now.divisor-base.divisor)
}
