package telemetry

import (
	"fmt"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// TestSpansOfMergedCalls: requests that shared a call of the token have its time, and that
// of their wait, each in its own trace.
func TestSpansOfMergedCalls(t *testing.T) {
	r := record(t, 1)
	w := newWorld(t, nil, r.Tracing)
	wrapped := w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 1)
	must(t, w.unwrap(t.Context(), wrapped...)) // what is fetched once is there
	r.settled(t, unwrapSpan)
	r.spans.Reset()

	gate := w.token.Hold(hsmtest.MethodEncryptBlocks)
	const callers = 3 // the first goes alone, the others share
	var running sync.WaitGroup
	running.Go(func() { must(t, w.unwrap(t.Context(), wrapped...)) })
	must(t, gate.Await(t.Context(), 1))
	for range callers - 1 {
		running.Go(func() { must(t, w.unwrap(t.Context(), wrapped...)) })
	}
	w.awaitQueue(t, callers-1)
	gate.Release()
	running.Wait()

	await(t, "the spans", func() bool {
		return r.count(unwrapSpan) == callers && r.count(spanQueueWait) == callers-1 && r.count(spanTokenCall) == callers
	})
	traces := make(map[string]bool)
	for _, s := range r.spans.GetSpans() {
		if s.Name != spanQueueWait {
			continue
		}
		traces[s.SpanContext.TraceID().String()] = true
		if !s.StartTime.Before(s.EndTime) {
			t.Errorf("a wait from %v to %v", s.StartTime, s.EndTime)
		}
	}
	if len(traces) != callers-1 {
		t.Errorf("the waits are in %d traces", len(traces))
	}
}

// awaitQueue waits until n requests wait for the token.
func (w *world) awaitQueue(t testing.TB, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d requests in the queue", n), func() bool { return w.queue.Stats().QueueRequests == n })
}
