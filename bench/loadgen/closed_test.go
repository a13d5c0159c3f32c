package loadgen

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// takes is an operation that needs d for a number of items.
func takes(d time.Duration, items int) Operation {
	return func(ctx context.Context, _ int, _ int64) (int, error) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return items, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance {
		t.Errorf("%s is %v, want %v ± %v", what, got, want, tolerance)
	}
}

func TestClosedMeasuresThroughputAndLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := Closed{Callers: 4, WarmUp: time.Second, Window: 10 * time.Second}
		result, err := run.Run(t.Context(), takes(20*time.Millisecond, 16))
		if err != nil {
			t.Fatal(err)
		}
		within(t, "requests/s", result.RequestsPerSecond(), 200, 1e-6)
		within(t, "items/s", result.ItemsPerSecond(), 3200, 1e-6)
		if p50, p100 := result.Percentile(50), result.Percentile(100); p50 < 20*time.Millisecond ||
			p100 > 20*time.Millisecond+20*time.Microsecond {
			t.Errorf("p50 is %v and the maximum %v, want 20 ms", p50, p100)
		}
		if result.Errors != 0 || result.FirstError != nil {
			t.Errorf("%d errors, the first %v", result.Errors, result.FirstError)
		}
	})
}

// Three requests of 0.7 s fit into no window of 2 s evenly: those at the edges count in part.
func TestClosedCountsSharesAtTheEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := Closed{Callers: 1, WarmUp: time.Second, Window: 2 * time.Second}
		result, err := run.Run(t.Context(), takes(700*time.Millisecond, 1))
		if err != nil {
			t.Fatal(err)
		}
		within(t, "requests in 2 s", result.Requests, 2/0.7, 1e-6)
		if n := result.Latency.TotalCount(); n != 3 { // that end at 1.4, 2.1 and 2.8 s
			t.Errorf("%d latencies, want 3", n)
		}
	})
}

func TestClosedIsBounded(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		result, err := Closed{Callers: 3, Window: time.Hour, MaxRequests: 10}.Run(t.Context(),
			func(ctx context.Context, caller int, n int64) (int, error) {
				calls.Add(1)
				return takes(time.Second, 1)(ctx, caller, n)
			})
		if err != nil || calls.Load() != 10 {
			t.Fatalf("%d calls and error %v, want 10 and none", calls.Load(), err)
		}
		within(t, "seconds", result.Seconds, 4, 1e-6) // three at a time
		within(t, "requests", result.Requests, 10, 1e-6)
	})
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		result, err := Closed{Callers: 2, Window: time.Hour, MaxErrors: 5}.Run(t.Context(),
			func(ctx context.Context, caller int, n int64) (int, error) {
				_, _ = takes(time.Millisecond, 1)(ctx, caller, n)
				calls.Add(1)
				return 0, broken
			})
		if err != nil {
			t.Fatal(err)
		}
		if result.Errors < 5 || result.Errors > 6 || !errors.Is(result.FirstError, broken) || result.Requests != 0 {
			t.Errorf("%d errors (%v), %v requests", result.Errors, result.FirstError, result.Requests)
		}
	})
}

func TestClosedGivesUpOnWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		result, err := Closed{Callers: 2, Window: time.Second, Grace: 3 * time.Second}.Run(t.Context(), takes(time.Hour, 1))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("gave up after %v, want 4 s", took)
		}
		if result.Errors != 2 || !errors.Is(result.FirstError, context.DeadlineExceeded) {
			t.Errorf("%d errors, the first %v", result.Errors, result.FirstError)
		}
	})
}

func TestClosedEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := (Closed{Callers: 2, Window: time.Hour}).Run(ctx, takes(time.Millisecond, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}

func TestRunsRefuseWhatMeansNothing(t *testing.T) {
	op := takes(0, 1)
	for _, run := range []interface {
		Run(context.Context, Operation) (*Result, error)
	}{
		Closed{Window: time.Second},
		Closed{Callers: 1},
		Closed{Callers: 1, Window: time.Second, WarmUp: -1},
		Open{Callers: 1, Window: time.Second},
		Open{Rate: 1, Window: time.Second},
		Open{Rate: 1, Callers: 1},
		Open{Rate: 1000, Callers: 1, Window: time.Second, MaxRequests: 999},
	} {
		if _, err := run.Run(t.Context(), op); err == nil {
			t.Errorf("%+v ran", run)
		}
	}
}
