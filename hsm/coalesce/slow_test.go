package coalesce_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

const slow = 5 * time.Millisecond // of a call of a slow token

// closedLoop has callers make one request after another for a while, with a pause
// after each, and returns how many were served.
func closedLoop(t *testing.T, blocks hsm.BlockCipher, callers int, pause, during time.Duration) (served int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(during)
	for range callers {
		wg.Go(func() {
			dst, src := make([]byte, 32), make([]byte, 32)
			for time.Now().Before(end) {
				if err := blocks.EncryptBlocks(t.Context(), hot, dst, src); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				served++
				mu.Unlock()
				pass(pause)
			}
		})
	}
	wg.Wait()
	return served
}

// behindSessions is a cipher that has a number of sessions and takes some time.
func behindSessions(sessions int, d time.Duration) hsm.BlockCipher {
	free := make(chan struct{}, sessions)
	return cipherFunc(func(context.Context, hsm.UID, []byte, []byte) error {
		free <- struct{}{}
		pass(d)
		<-free
		return nil
	})
}

// TestNoConvoys: on a slow token merging gives nearly what 64 callers in 4 sessions
// can at best give, 16 times one call each. With one call in flight it is 7.5 to 8.2
// times, with calls that keep their distance from starts only 12.8.
func TestNoConvoys(t *testing.T) {
	const callers, sessions, during = 64, 4, 5 * time.Second
	for _, pause := range []time.Duration{0, 200 * time.Microsecond} {
		synctest.Test(t, func(t *testing.T) {
			alone := closedLoop(t, behindSessions(sessions, slow), callers, pause, during)
			blocks := coalesce.New(behindSessions(sessions, slow), coalesce.Config{MaxCalls: sessions})
			merged := closedLoop(t, blocks, callers, pause, during)
			ratio := float64(merged) / float64(alone)
			t.Logf("pause %v: %d merged, %d one call each, ratio %.2f, %+v", pause, merged, alone, ratio, blocks.Stats())
			if ratio < 13 {
				t.Errorf("ratio %.2f, want at least 13", ratio)
			}
			if s := blocks.Stats(); !s.Slow || s.MeanCall != slow {
				t.Errorf("slow %v, mean call %v", s.Slow, s.MeanCall)
			}
		})
	}
}

// TestCallsOfSlowTokenKeepDistance: calls for one key beside each other are
// at most Dispatchers, and start some time apart.
func TestCallsOfSlowTokenKeepDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dispatchers = 3
		w := newWorld(t, coalesce.Config{MaxCalls: 8, Dispatchers: dispatchers})
		var mu sync.Mutex
		var starts []time.Time
		inFlight, most := 0, 0
		w.token.Hook(hsmtest.MethodEncryptBlocks, hookAround(slow, func(_ hsmtest.Call, step int) {
			mu.Lock()
			defer mu.Unlock()
			inFlight += step
			most = max(most, inFlight)
			if step > 0 && inFlight > 1 {
				starts = append(starts, time.Now())
			}
		}))
		if err := w.request(t.Context(), hot, 32); err != nil { // so that it is known to be slow
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				pass(time.Duration(i) * 300 * time.Microsecond)
				for range 20 {
					if err := w.request(t.Context(), hot, 32); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if most != dispatchers {
			t.Errorf("%d calls in flight at most, want %d", most, dispatchers)
		}
		if len(starts) < 20 {
			t.Fatalf("%d calls beside another", len(starts))
		}
		for i, start := range starts[1:] {
			if apart := start.Sub(starts[i]); apart < slow/(2*dispatchers) {
				t.Errorf("calls %d and %d start %v apart", i, i+1, apart)
			}
		}
	})
}

// TestFullCallsDoNotWait: a call that cannot grow keeps no distance.
func TestFullCallsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 4, MaxBytes: 64})
		w.takes(slow)
		w.succeed(w.start(t.Context(), hot, 32))
		begin := time.Now()
		var pending []<-chan error
		for range 4 {
			pending = append(pending, w.start(t.Context(), hot, 64))
		}
		w.succeed(pending...)
		if took := time.Since(begin); took != slow {
			t.Errorf("4 full calls beside each other took %v", took)
		}
	})
}

// TestFailuresAreNotFast: a token that is slow stays so when calls fail at once.
func TestFailuresAreNotFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(slow)
		w.succeed(w.start(t.Context(), hot, 32))
		w.token.Hook(hsmtest.MethodEncryptBlocks, nil)
		for range 100 {
			if err := w.blocks.EncryptBlocks(t.Context(), hsm.UID{9}, make([]byte, 16), make([]byte, 16)); err == nil {
				t.Fatal("an unknown key encrypts")
			}
		}
		if s := w.stats(); !s.Slow || s.MeanCall != slow || s.Failed != 100 {
			t.Errorf("%+v", s)
		}
		for range 200 {
			w.succeed(w.start(t.Context(), hot, 32))
		}
		if w.stats().Slow {
			t.Error("still slow after 200 quick calls")
		}
	})
}
