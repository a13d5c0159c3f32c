package loadgen

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what a run measured within its window.
type Result struct {
	// Seconds is the length of the window.
	Seconds float64
	// Requests and Items were answered without an error within the window. Those that
	// cross its edges count in part.
	Requests, Items float64
	// Errors is how many requests of the whole run failed, the warm-up included;
	// FirstError is the error of one of the first, nil if there was none.
	Errors     int64
	FirstError error
	// Latency holds microseconds of the requests that ended without an error within the
	// window; of an open run, of all that were meant to start within it.
	Latency *hdrhistogram.Histogram
	// Unserved is, of an open run, how many requests that were meant to start within
	// the window had no answer when the run was given up. They are in Latency with the
	// time that they had waited by then.
	Unserved int64
}

// RequestsPerSecond is the throughput in requests.
func (r *Result) RequestsPerSecond() float64 { return r.Requests / r.Seconds }

// ItemsPerSecond is the throughput in items.
func (r *Result) ItemsPerSecond() float64 { return r.Items / r.Seconds }

// Percentile returns a latency; p is from 0 to 100. It is 0 if nothing was measured.
func (r *Result) Percentile(p float64) time.Duration {
	return time.Duration(r.Latency.ValueAtPercentile(p)) * time.Microsecond
}
