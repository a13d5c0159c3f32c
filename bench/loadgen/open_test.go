package loadgen

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestOpenKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run := Open{Rate: 1000, Callers: 64, WarmUp: time.Second, Window: 20 * time.Second, wait: timerUntil}
		result, err := run.Run(t.Context(), takes(5*time.Millisecond, 2))
		if err != nil {
			t.Fatal(err)
		}
		// 20,000 arrivals are expected; their standard deviation is 141.
		within(t, "requests/s", result.RequestsPerSecond(), 1000, 5*141/20)
		within(t, "items per request", result.Items/result.Requests, 2, 1e-6)
		if p := result.Percentile(99); p > 6*time.Millisecond {
			t.Errorf("p99 is %v, want the 5 ms of the service", p)
		}
		if result.Unserved != 0 || result.Errors != 0 {
			t.Errorf("%d unserved, %d errors", result.Unserved, result.Errors)
		}
	})
}

// A service that stalls for a second: a generator that waits for it would see one slow
// request, but everybody who came meanwhile had to wait.
func TestOpenCountsFromTheIntendedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stall sync.Mutex
		started := time.Now()
		op := func(context.Context, int, int64) (int, error) {
			stall.Lock()
			defer stall.Unlock()
			if at := time.Since(started); at >= 2*time.Second && at < 3*time.Second {
				timer := time.NewTimer(3*time.Second - at)
				<-timer.C
			}
			return 1, nil
		}
		result, err := Open{Rate: 100, Callers: 1, Window: 10 * time.Second, wait: timerUntil}.Run(t.Context(), op)
		if err != nil {
			t.Fatal(err)
		}
		// About a tenth of the requests came while it stalled, and waited half a second on average.
		var late int64
		for _, bar := range result.Latency.Distribution() {
			if bar.From >= 1000 { // µs
				late += bar.Count
			}
		}
		share := float64(late) / float64(result.Latency.TotalCount())
		within(t, "share of requests that waited", share, 0.1, 0.05)
		if p := result.Percentile(95); p < 200*time.Millisecond || p > 800*time.Millisecond {
			t.Errorf("p95 is %v, want about half a second", p)
		}
	})
}

func TestOpenReportsWhatItCannotServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Two callers of 100 ms serve 20 a second; 100 come.
		run := Open{Rate: 100, Callers: 2, Window: 10 * time.Second, Grace: 5 * time.Second, wait: timerUntil}
		start := time.Now()
		result, err := run.Run(t.Context(), takes(100*time.Millisecond, 1))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("the run took %v, want 15 s", took)
		}
		within(t, "requests/s", result.RequestsPerSecond(), 20, 0.5)
		// Of 1,000 ± 32 arrivals 300 are served in 15 s.
		within(t, "unserved", float64(result.Unserved), 700, 5*32)
		if p := result.Percentile(99); p < 7*time.Second {
			t.Errorf("p99 is %v: the requests that were never served are missing from it", p)
		}
	})
}

func TestOpenIsRepeatable(t *testing.T) {
	offered := func(seed uint64) []time.Duration {
		var starts []time.Duration
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			began := time.Now()
			run := Open{Rate: 50, Callers: 8, Window: 2 * time.Second, Seed: seed, wait: timerUntil}
			_, err := run.Run(t.Context(), func(context.Context, int, int64) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				starts = append(starts, time.Since(began))
				return 1, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
		return starts
	}
	if a, b := offered(7), offered(7); len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("two runs of one seed offered %v and %v", a, b)
	}
	if slices.Equal(offered(7), offered(8)) {
		t.Error("two seeds offered the same load")
	}
}

func TestOpenCountsFailures(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		run := Open{Rate: 100, Callers: 4, Window: time.Second, wait: timerUntil}
		result, err := run.Run(t.Context(), func(context.Context, int, int64) (int, error) { return 0, broken })
		if err != nil {
			t.Fatal(err)
		}
		if result.Errors == 0 || !errors.Is(result.FirstError, broken) || result.Requests != 0 || result.Latency.TotalCount() != 0 {
			t.Errorf("%d errors (%v), %v requests, %d latencies", result.Errors, result.FirstError,
				result.Requests, result.Latency.TotalCount())
		}
	})
}

func TestOpenEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	run := Open{Rate: 1000, Callers: 2, Window: 10 * time.Minute} // the real clock and the real alarm
	_, err := run.Run(ctx, func(context.Context, int, int64) (int, error) {
		cancel()
		return 1, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}
