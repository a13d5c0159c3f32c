package loadgen

import (
	"context"
	"time"
)

// Operation makes one request and returns how many items it was answered for. caller is
// the number of the goroutine that makes it, from 0; n counts the requests of the run,
// from 0. An operation is called by many goroutines at once, and must return when ctx
// ends.
type Operation func(ctx context.Context, caller int, n int64) (items int, err error)

// DefaultGrace is for how long requests may go on after the end of a run.
const DefaultGrace = 30 * time.Second

// window is the part of a run that is measured.
type window struct{ from, to time.Time }

func (w window) contains(t time.Time) bool { return !t.Before(w.from) && t.Before(w.to) }

// share is the part of a request from start to end that lies within the window, from 0
// to 1. What crosses an edge counts by its share, so that the throughput of few long
// requests is not a matter of where the edges fall.
func (w window) share(start, end time.Time) float64 {
	if !end.After(start) {
		if w.contains(start) {
			return 1
		}
		return 0
	}
	from, to := start, end
	if from.Before(w.from) {
		from = w.from
	}
	if to.After(w.to) {
		to = w.to
	}
	if !to.After(from) {
		return 0
	}
	return float64(to.Sub(from)) / float64(end.Sub(start))
}
