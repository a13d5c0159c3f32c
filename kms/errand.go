package kms

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// errand is work that the service does by itself, again and again: each time the work
// says how long to rest. The zero value can be woken, and does nothing before start.
type errand struct {
	made   sync.Once
	nudged chan struct{} // something may be due sooner than was thought
	cancel context.CancelFunc
	done   chan struct{}
	until  atomic.Pointer[time.Time] // of an errand of set times: the end of the rest; nil: it works
}

// errandPause is the least time between two rounds: many changes in a row, each of which
// wakes, cost one round.
const errandPause = 20 * time.Millisecond

// start begins the rounds. work gets a context that ends with stop.
func (e *errand) start(work func(ctx context.Context) (rest time.Duration)) {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel, e.done = cancel, make(chan struct{})
	go func() {
		defer close(e.done)
		for ctx.Err() == nil {
			e.rest(ctx, work(ctx))
		}
	}()
}

// startTimed is start for work at set times by the clock now.
func (e *errand) startTimed(now func() time.Time, work func(ctx context.Context) (rest time.Duration)) {
	e.start(func(ctx context.Context) time.Duration {
		e.until.Store(nil)
		rest := work(ctx)
		until := now().Add(rest)
		e.until.Store(&until)
		return rest
	})
}

// restsUntil tells when the rest of an errand of set times ends. It is false while the
// errand works, having looked perhaps before what is asked about; before start; and when
// by the clock it should have ended, as when the clock was set.
func (e *errand) restsUntil(now time.Time) (until time.Time, resting bool) {
	end := e.until.Load()
	if end == nil || !now.Before(*end) {
		return time.Time{}, false
	}
	return *end, true
}

// stop ends the rounds and waits for the one under way. Without start it does nothing.
func (e *errand) stop() {
	if e.cancel == nil {
		return
	}
	e.cancel()
	<-e.done
}

// wake ends the rest.
func (e *errand) wake() {
	select {
	case e.nudge() <- struct{}{}:
	default:
	}
}

func (e *errand) nudge() chan struct{} {
	e.made.Do(func() { e.nudged = make(chan struct{}, 1) })
	return e.nudged
}

func (e *errand) rest(ctx context.Context, rest time.Duration) {
	pause := time.NewTimer(errandPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return
	}
	timer := time.NewTimer(max(0, rest-errandPause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.nudge():
	case <-ctx.Done():
	}
}

// retries spaces out the attempts at what failed: each failure doubles the time until the
// next attempt. The zero value is ready to use.
type retries[K comparable] struct{ failed map[K]retry }

type retry struct {
	failures int
	at       time.Time // of the next attempt
}

const (
	firstRetry  = 5 * time.Second
	longestWait = 15 * time.Minute
)

// wait is how long to wait with an attempt at k; 0: it may be made now.
func (r *retries[K]) wait(k K, now time.Time) time.Duration {
	wait := r.failed[k].at.Sub(now)
	if wait > longestWait { // the clock was set back
		return longestWait
	}
	return max(0, wait)
}

// note notes the outcome of an attempt at k.
func (r *retries[K]) note(k K, now time.Time, err error) {
	if err == nil {
		delete(r.failed, k)
		return
	}
	if r.failed == nil {
		r.failed = make(map[K]retry)
	}
	failures := r.failed[k].failures + 1
	wait := longestWait
	if doublings := failures - 1; doublings < 8 {
		wait = min(wait, firstRetry<<doublings)
	}
	r.failed[k] = retry{failures, now.Add(wait)}
}

// keep forgets all but what is still to be done.
func (r *retries[K]) keep(still func(K) bool) {
	for k := range r.failed {
		if !still(k) {
			delete(r.failed, k)
		}
	}
}
