package loadgen

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Open is a run in which requests start at random moments with a set mean rate (a
// Poisson process, as independent callers make it), whatever becomes of those before.
type Open struct {
	Rate    float64       // requests a second
	Callers int           // requests under way at most; further ones wait for one to end, and their latency counts on
	WarmUp  time.Duration // before the window; not measured
	Window  time.Duration // measured
	// Seed of the random moments: runs with the same seed are offered the same load.
	Seed uint64
	// MaxRequests bounds the run: one that would need more is refused. 0: a million.
	MaxRequests int64
	// Grace is for how long requests may go on after the window. What is unanswered
	// then is counted in Result.Unserved. 0: [DefaultGrace].
	Grace time.Duration

	wait func(ctx context.Context, until time.Time) // nil: an alarm's
}

const defaultMaxRequests = 1_000_000

// arrival is a request that is to start.
type arrival struct {
	n     int64
	start time.Time // when it is meant to
}

// Run makes requests until the window is over and they are answered. The error is that
// of the configuration or of ctx; what requests failed of is in the result.
func (o Open) Run(ctx context.Context, op Operation) (*Result, error) {
	if o.MaxRequests == 0 {
		o.MaxRequests = defaultMaxRequests
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Rate <= 0 || o.Callers < 1 || o.WarmUp < 0 || o.Window <= 0 {
		return nil, errors.New("loadgen: an open run needs a rate, callers and a window")
	}
	expected := o.Rate * (o.WarmUp + o.Window).Seconds()
	if expected > float64(o.MaxRequests) {
		return nil, errors.New("loadgen: the rate and the length of the run exceed its bound on requests")
	}
	if o.wait == nil {
		precise, err := newAlarm()
		if err != nil {
			return nil, err
		}
		defer func() { _ = precise.close() }() // it holds nothing that could be lost
		o.wait = precise.until
	}
	most := int64(expected+10*math.Sqrt(expected)) + 100 // ten standard deviations: never reached
	start := time.Now()
	run := &openRun{
		Open: o, op: op, rec: newRecorder(),
		window: window{from: start.Add(o.WarmUp), to: start.Add(o.WarmUp + o.Window)},
	}
	run.giveUp = run.window.to.Add(o.Grace)
	opCtx, cancel := context.WithDeadline(ctx, run.giveUp)
	defer cancel()

	// Arrivals that no caller is free for wait here: as many as the run may have, so
	// that the schedule never waits for the service.
	arrivals := make(chan arrival, most)
	var callers sync.WaitGroup
	for caller := range o.Callers {
		callers.Go(func() { run.caller(opCtx, caller, arrivals) })
	}
	run.schedule(opCtx, start, most, arrivals)
	callers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	result := run.rec.result(run.window)
	result.Unserved = run.unserved.count
	return result, nil
}

type openRun struct {
	Open
	op       Operation
	rec      *recorder
	window   window
	giveUp   time.Time
	unserved counter
}

type counter struct {
	mu    sync.Mutex
	count int64
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
}

// schedule hands out arrivals at their times, and ends them with the window.
func (r *openRun) schedule(ctx context.Context, start time.Time, most int64, arrivals chan<- arrival) {
	defer close(arrivals)
	random := rand.New(rand.NewPCG(r.Seed, 0)) //nolint:gosec // a load that can be repeated, not a secret
	var after time.Duration
	for n := range most {
		after += time.Duration(random.ExpFloat64() / r.Rate * float64(time.Second))
		next := start.Add(after)
		if !next.Before(r.window.to) {
			return
		}
		r.wait(ctx, next)
		if ctx.Err() != nil {
			return
		}
		arrivals <- arrival{n, next} // never waits: the channel holds them all
	}
}

func (r *openRun) caller(ctx context.Context, caller int, arrivals <-chan arrival) {
	for a := range arrivals {
		measured := r.window.contains(a.start)
		if ctx.Err() != nil { // given up: what is left was never begun
			r.leave(caller, a, measured)
			continue
		}
		began := time.Now()
		items, err := r.op(ctx, caller, a.n)
		end := time.Now()
		switch {
		case err == nil:
			if share := r.window.share(began, end); share > 0 {
				r.rec.work(caller, items, share)
			}
			if measured {
				r.rec.latency(caller, end.Sub(a.start))
			}
		case ctx.Err() != nil:
			r.leave(caller, a, measured)
		default:
			r.rec.failure(caller, err)
		}
	}
}

// leave records a request without an answer with the time that it had waited for one.
func (r *openRun) leave(caller int, a arrival, measured bool) {
	if measured {
		r.unserved.add()
		r.rec.latency(caller, r.giveUp.Sub(a.start))
	}
}
