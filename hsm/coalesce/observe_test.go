package coalesce_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// TestEvents: the observer is told of each request once and of each token call.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []coalesce.Event
		w := newWorld(t, coalesce.Config{MaxCalls: 1, MaxQueueRequests: 4, Observe: func(e coalesce.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
		}})
		w.takes(quick)
		w.token.FailAfter(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable, 2)
		first, others := w.merged(2)                                       // the others fail
		refused := w.startIf(rare, 48, func() error { return errRevoked }) // waits for their call, too
		synctest.Wait()
		busy := w.start(t.Context(), hot, 64)
		if err := <-busy; !errors.Is(err, hsm.ErrBusy) {
			t.Fatalf("got %v", err)
		}
		w.succeed(first)
		for _, done := range append(others, refused) {
			if err := <-done; err == nil {
				t.Error("served")
			}
		}
		if err := <-w.startIf(rare, 16, func() error { return errRevoked }); !errors.Is(err, errRevoked) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()

		type key struct {
			kind            coalesce.EventKind
			requests, bytes int
			wait, call      time.Duration
		}
		want := map[key]error{
			{coalesce.EventRequest, 1, 32, 0, quick}:     nil,
			{coalesce.EventCall, 1, 32, 0, quick}:        nil,
			{coalesce.EventDropped, 1, 64, 0, 0}:         hsm.ErrBusy,
			{coalesce.EventRequest, 1, 32, quick, quick}: hsm.ErrUnavailable, // twice
			{coalesce.EventCall, 2, 64, 0, quick}:        hsm.ErrUnavailable,
			{coalesce.EventDropped, 1, 48, 2 * quick, 0}: errRevoked,
			{coalesce.EventDropped, 1, 16, 0, 0}:         errRevoked,
		}
		if len(events) != len(want)+1 {
			t.Errorf("%d events: %+v", len(events), events)
		}
		for _, e := range events {
			err, ok := want[key{e.Kind, e.Requests, e.Bytes, e.Wait, e.Call}]
			if !ok || !errors.Is(e.Err, err) || (e.Kind == coalesce.EventRequest) != (e.Context != nil) {
				t.Errorf("unexpected: %+v", e)
			}
		}
	})
}
