package loadgen

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Closed is a run in which each caller makes a request as soon as its last one is
// answered.
type Closed struct {
	Callers int           // goroutines, at least 1
	WarmUp  time.Duration // before the window; not measured
	Window  time.Duration // measured
	// MaxRequests ends the run early; 0: no bound but time. The window is then cut to
	// the end of the last request.
	MaxRequests int64
	// MaxErrors ends the run early: a service that refuses everything is not worth
	// measuring. 0: 100.
	MaxErrors int64
	// Grace is for how long requests may go on after the window; then their context
	// ends. 0: [DefaultGrace].
	Grace time.Duration
}

const defaultMaxErrors = 100

// Run makes requests until the window is over. The error is that of the configuration
// or of ctx; what requests failed of is in the result.
func (c Closed) Run(ctx context.Context, op Operation) (*Result, error) {
	if c.Callers < 1 || c.WarmUp < 0 || c.Window <= 0 || c.MaxRequests < 0 {
		return nil, errors.New("loadgen: a closed run needs callers and a window")
	}
	if c.MaxErrors == 0 {
		c.MaxErrors = defaultMaxErrors
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	start := time.Now()
	run := &closedRun{
		Closed: c, op: op, rec: newRecorder(),
		window: window{from: start.Add(c.WarmUp), to: start.Add(c.WarmUp + c.Window)},
	}
	opCtx, cancel := context.WithDeadline(ctx, run.window.to.Add(c.Grace))
	defer cancel()
	var callers sync.WaitGroup
	for caller := range c.Callers {
		callers.Go(func() { run.caller(opCtx, caller) })
	}
	callers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if now := time.Now(); now.Before(run.window.to) {
		run.window.to = now // ended early
		if !now.After(run.window.from) {
			return nil, errors.Join(errors.New("loadgen: the run ended before its window began"), run.rec.result(run.window).FirstError)
		}
	}
	return run.rec.result(run.window), nil
}

type closedRun struct {
	Closed
	op     Operation
	rec    *recorder
	window window
	begun  atomic.Int64
	failed atomic.Int64
}

func (r *closedRun) caller(ctx context.Context, caller int) {
	for {
		start := time.Now()
		if !start.Before(r.window.to) || ctx.Err() != nil || r.failed.Load() >= r.MaxErrors {
			return
		}
		n := r.begun.Add(1) - 1
		if r.MaxRequests > 0 && n >= r.MaxRequests {
			return
		}
		items, err := r.op(ctx, caller, n)
		end := time.Now()
		if err != nil {
			r.failed.Add(1)
			r.rec.failure(caller, err)
			continue
		}
		if share := r.window.share(start, end); share > 0 {
			r.rec.work(caller, items, share)
		}
		if r.window.contains(end) {
			r.rec.latency(caller, end.Sub(start))
		}
	}
}
