package hsmbench

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// The range of call times, in nanoseconds, and how many digits of them are kept. A call
// that takes longer counts as the longest.
const (
	shortestCall  = int64(time.Microsecond / 100)
	longestCall   = int64(10 * time.Minute)
	latencyDigits = 3
)

// call is one call of the token. Each caller has its own, with its own buffers.
type call func(context.Context) error

// caller is one goroutine that calls, and what it measured.
type caller struct {
	latencies *hdrhistogram.Histogram
	elapsed   time.Duration // from the beginning of the first measured call to the end of the last
}

func newCaller() *caller {
	return &caller{latencies: hdrhistogram.New(shortestCall, longestCall, latencyDigits)}
}

// once makes one call and measures it.
func (c *caller) once(ctx context.Context, f call) error {
	begin := time.Now()
	if err := f(ctx); err != nil {
		return err
	}
	took := time.Since(begin)
	c.elapsed += took
	return c.latencies.RecordValue(min(int64(took), longestCall))
}

// run calls f for the time of warmUp without measuring, then for the time of duration; in
// both once at least.
func (c *caller) run(ctx context.Context, warmUp, duration time.Duration, f call) error {
	for begin := time.Now(); ; {
		if err := f(ctx); err != nil {
			return err
		}
		if time.Since(begin) >= warmUp {
			break
		}
	}
	begin := time.Now()
	for {
		if err := c.once(ctx, f); err != nil {
			return err
		}
		if c.elapsed = time.Since(begin); c.elapsed >= duration {
			return nil
		}
	}
}

// closedLoop lets n callers call for the duration, a tenth of which goes before as
// warm-up. prepare makes the call of one of them.
func closedLoop(ctx context.Context, n int, duration time.Duration, prepare func() (call, error)) ([]*caller, error) {
	callers, calls := make([]*caller, n), make([]call, n)
	for i := range callers {
		var err error
		if calls[i], err = prepare(); err != nil {
			return nil, err
		}
		callers[i] = newCaller()
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range callers {
		group.Go(func() error { return c.run(ctx, duration/10, duration, calls[i]) })
	}
	return callers, group.Wait()
}

// figure adds up what callers measured.
func figure(operation string, bytes, items int, callers []*caller) Figure {
	f := Figure{Operation: operation, Bytes: bytes, Items: items, Callers: len(callers)}
	all := newCaller().latencies
	for _, c := range callers {
		calls := c.latencies.TotalCount()
		f.Calls += calls
		f.Elapsed = max(f.Elapsed, c.elapsed)
		// Each over its own time: one that waits for its last call does not lower the
		// rate of the others.
		f.CallsPerSecond += float64(calls) / c.elapsed.Seconds()
		all.Merge(c.latencies)
	}
	f.ItemsPerSecond = f.CallsPerSecond * float64(items)
	f.P50 = time.Duration(all.ValueAtQuantile(50))
	f.P99 = time.Duration(all.ValueAtQuantile(99))
	return f
}
