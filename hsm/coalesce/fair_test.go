package coalesce_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// TestFirstComeAcrossKeys: where sessions are short, the key whose request came
// first is next.
func TestFirstComeAcrossKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 1})
		keys := []hsm.UID{{11}, {12}, {13}, {14}}
		for _, key := range keys {
			w.addKey(key)
		}
		w.takes(quick)
		pending := []<-chan error{w.start(t.Context(), hot, 32)}
		synctest.Wait()
		// hot's own next request is the third to come, and the last but one merges
		// with the first.
		for _, key := range []hsm.UID{keys[2], keys[0], hot, keys[3], keys[2], keys[1]} {
			pending = append(pending, w.start(t.Context(), key, 32))
			synctest.Wait()
		}
		w.succeed(pending...)
		var order []hsm.UID
		for _, call := range w.token.Log()[6:] { // behind the imports
			order = append(order, call.Key)
		}
		want := []hsm.UID{hot, keys[2], keys[0], hot, keys[3], keys[1]}
		if len(order) != len(want) {
			t.Fatalf("%d calls, want %d", len(order), len(want))
		}
		for i := range want {
			if order[i] != want[i] {
				t.Errorf("call %d is for %s, want %s", i, order[i], want[i])
			}
		}
	})
}

// TestRareKeyIsNotStarved: beside keys that keep every session busy, the requests
// of another key wait no longer than for the calls in flight and one call of each
// key whose requests came before, on a fast and on a slow token.
func TestRareKeyIsNotStarved(t *testing.T) {
	for name, test := range map[string]struct {
		call     time.Duration
		sessions int
		busyKeys int
	}{
		"fast, one session": {quick, 1, 1},
		"fast, 8 busy keys": {quick, 2, 8},
		"slow, one session": {slow, 1, 1},
		"slow, 4 sessions":  {slow, 4, 1},
		"slow, 12 keys":     {slow, 4, 12},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, coalesce.Config{MaxCalls: test.sessions})
				w.takes(test.call)
				ctx, stop := context.WithCancel(t.Context())
				for i := range test.busyKeys {
					w.addKey(hsm.UID{100, byte(i)})
				}
				var wg sync.WaitGroup
				for i := range 96 {
					key := hsm.UID{100, byte(i % test.busyKeys)}
					wg.Go(func() {
						for ctx.Err() == nil {
							if err := w.request(ctx, key, 32); err != nil && ctx.Err() == nil {
								t.Error(err)
							}
						}
					})
				}
				before := (test.busyKeys + test.sessions - 1) / test.sessions
				for range 50 {
					pass(3*test.call + 777*time.Microsecond)
					begin := time.Now()
					w.succeed(w.start(t.Context(), rare, 32))
					most := time.Duration(1+before+1) * test.call // in flight, before, its own
					if took := time.Since(begin); took > most {
						t.Errorf("took %v, want at most %v", took, most)
					}
				}
				stop()
				wg.Wait()
			})
		})
	}
}

// TestCallersOfOneKeyAreServedAlike: no caller of a busy key gets much less than others.
func TestCallersOfOneKeyAreServedAlike(t *testing.T) {
	for _, d := range []time.Duration{quick, slow} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, coalesce.Config{MaxBytes: 256}) // 8 requests
			w.takes(d)
			served := make([]int, 40)
			end := time.Now().Add(500 * d)
			var wg sync.WaitGroup
			for i := range served {
				wg.Go(func() {
					for time.Now().Before(end) {
						if err := w.request(t.Context(), hot, 32); err != nil {
							t.Error(err)
						}
						served[i]++
					}
				})
			}
			wg.Wait()
			least, most := served[0], served[0]
			for _, n := range served {
				least, most = min(least, n), max(most, n)
			}
			if least < 50 || most-least > most/4 {
				t.Errorf("callers were served %d to %d times", least, most)
			}
		})
	}
}

// TestQueueBound: what exceeds the bounds is refused at once, and one key cannot
// have the requests of others refused.
func TestQueueBound(t *testing.T) {
	for name, cfg := range map[string]coalesce.Config{
		"requests": {MaxCalls: 1, MaxQueueRequests: 8},
		"bytes":    {MaxCalls: 1, MaxQueueBytes: 8 * 32},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, cfg)
				key := hsm.UID{5}
				w.addKey(key)
				gate := w.token.Hold(hsmtest.MethodEncryptBlocks)
				pending := []<-chan error{w.start(t.Context(), hot, 32)}
				synctest.Wait()
				busy := 0
				fill := func(key hsm.UID, n int) {
					for range n {
						done := w.start(t.Context(), key, 32)
						synctest.Wait()
						select {
						case err := <-done:
							if !errors.Is(err, hsm.ErrBusy) {
								t.Errorf("refused with %v", err)
							}
							busy++
						default:
							pending = append(pending, done)
						}
					}
				}
				fill(hot, 6) // 4 may wait
				if busy != 2 {
					t.Errorf("%d of 6 requests of one key were refused", busy)
				}
				fill(rare, 3)
				fill(key, 1)
				if busy != 2 {
					t.Errorf("%d requests of other keys were refused", busy-2)
				}
				fill(key, 1)
				if s := w.stats(); busy != 3 || s.Rejected != 3 || s.QueueRequests != 8 || s.QueueBytes != 8*32 {
					t.Errorf("%d refused, %+v", busy, s)
				}
				gate.Release()
				w.succeed(pending...)
			})
		})
	}
}

// TestQueueTakesOneOfAnySize: a request that is longer than the bound waits where
// nothing else does.
func TestQueueTakesOneOfAnySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxQueueBytes: 64})
		w.takes(quick)
		first := w.start(t.Context(), hot, 32)
		synctest.Wait()
		long := w.start(t.Context(), hot, 4096)
		synctest.Wait()
		if err := w.request(t.Context(), hot, 16); !errors.Is(err, hsm.ErrBusy) {
			t.Errorf("got %v", err)
		}
		w.succeed(first, long)
	})
}

// TestManyKeys: keys come and go without a trace.
func TestManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 2})
		w.takes(quick)
		keys := make([]hsm.UID, 300)
		for i := range keys {
			binary.BigEndian.PutUint16(keys[i][4:], uint16(1+i))
			w.addKey(keys[i])
		}
		var pending []<-chan error
		for i := range 600 {
			pending = append(pending, w.start(t.Context(), keys[i%300], 32))
		}
		w.succeed(pending...)
		if s := w.stats(); s.ActiveKeys != 0 || s.QueueRequests != 0 || s.Requests != 600 {
			t.Errorf("%+v", s)
		}
	})
}
