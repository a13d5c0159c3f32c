package coalesce_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

const quick = 100 * time.Microsecond // of a call of a fast token

// TestIdleKeyWaitsForNothing: requests one after another take the time of their
// token calls and no more, on a fast and on a slow token.
func TestIdleKeyWaitsForNothing(t *testing.T) {
	for _, d := range []time.Duration{quick, 5 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, coalesce.Config{})
			w.takes(d)
			begin := time.Now()
			for range 20 {
				w.succeed(w.start(t.Context(), hot, 32))
			}
			if took := time.Since(begin); took != 20*d {
				t.Errorf("20 requests of %v took %v", d, took)
			}
			if s := w.stats(); s.Direct != 20 || s.Calls != 20 || s.Waits != 0 || s.WaitTime != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestDirectUsesOwnBuffers: what reaches the token is the caller's own memory.
func TestDirectUsesOwnBuffers(t *testing.T) {
	probe := &probe{}
	blocks := coalesce.New(probe, coalesce.Config{})
	dst, src := make([]byte, 32), make([]byte, 32)
	if err := blocks.EncryptBlocks(t.Context(), hot, dst, src); err != nil {
		t.Fatal(err)
	}
	if &probe.dst[0] != &dst[0] || &probe.src[0] != &src[0] || probe.ctx != t.Context() {
		t.Error("the token was given something else")
	}
	allocations := testing.AllocsPerRun(100, func() {
		if err := blocks.EncryptBlocks(t.Context(), hot, dst, src); err != nil {
			t.Error(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

// TestQueueBecomesNextCall: what comes during a call is one call.
func TestQueueBecomesNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(quick)
		begin := time.Now()
		pending := []<-chan error{w.start(t.Context(), hot, 32)}
		synctest.Wait()
		for i := range 9 {
			pending = append(pending, w.start(t.Context(), hot, 16*(1+i)))
		}
		w.succeed(pending...)
		if took := time.Since(begin); took != 2*quick {
			t.Errorf("took %v, want the time of two calls", took)
		}
		w.wantSizes(32, 720)
		s := w.stats()
		if s.Requests != 10 || s.Direct != 1 || s.Calls != 2 || s.Merged != 9 || s.Bytes != 752 || s.Waits != 9 ||
			s.WaitTime != 9*quick || s.MaxQueueRequests != 9 || s.MaxQueueBytes != 720 || s.QueueRequests != 0 ||
			s.QueueBytes != 0 || s.InFlight != 0 || s.ActiveKeys != 0 || s.CallTime != 2*quick {
			t.Errorf("%+v", s)
		}
	})
}

// TestBytesPerCall: calls are filled in order of arrival up to the bound, and a
// longer request goes alone and whole.
func TestBytesPerCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxBytes: 100}) // 96
		w.takes(quick)
		var pending []<-chan error
		for _, size := range []int{16, 32, 48, 32, 96, 16, 208, 64, 32, 16} {
			pending = append(pending, w.start(t.Context(), hot, size))
			synctest.Wait()
		}
		w.succeed(pending...)
		w.wantSizes(16, 80, 32, 96, 16, 208, 96, 16)
	})
}

// TestOneCallPerKeyOnFastToken: calls for one key follow each other, those for
// different keys do not wait for each other.
func TestOneCallPerKeyOnFastToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 8})
		var mu sync.Mutex
		inFlight, most := map[hsm.UID]int{}, map[hsm.UID]int{}
		all, mostAll := 0, 0
		w.token.Hook(hsmtest.MethodEncryptBlocks, hookAround(quick, func(call hsmtest.Call, step int) {
			mu.Lock()
			defer mu.Unlock()
			inFlight[call.Key] += step
			all += step
			most[call.Key], mostAll = max(most[call.Key], inFlight[call.Key]), max(mostAll, all)
		}))
		var wg sync.WaitGroup
		for i := range 20 {
			key := []hsm.UID{hot, rare}[i%2]
			wg.Go(func() {
				for range 10 {
					if err := w.request(t.Context(), key, 32); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if most[hot] != 1 || most[rare] != 1 || mostAll != 2 {
			t.Errorf("in flight at most %v, in all %d", most, mostAll)
		}
	})
}

// TestOthersFollowSingleCaller: a call that was made directly is followed by a call
// on another goroutine, so that its caller serves nobody.
func TestOthersFollowSingleCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(quick)
		first := w.start(t.Context(), hot, 32)
		synctest.Wait()
		begin := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 50 {
					if err := w.request(t.Context(), hot, 32); err != nil {
						t.Error(err)
					}
				}
			})
		}
		w.succeed(first)
		if took := time.Since(begin); took != quick {
			t.Errorf("the first caller was held for %v", took)
		}
		wg.Wait()
	})
}

// TestMergedBuffersAreWiped: nothing of a merged call stays in memory of the
// Coalescer.
func TestMergedBuffersAreWiped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen [][]byte
		blocks := coalesce.New(cipherFunc(func(_ context.Context, _ hsm.UID, dst, src []byte) error {
			pass(quick)
			copy(dst, src)
			seen = append(seen, dst, src)
			return nil
		}), coalesce.Config{})
		done := make(chan error, 3)
		for range cap(done) {
			go func() {
				buffer := bytes.Repeat([]byte{1}, 48)
				done <- blocks.EncryptBlocks(t.Context(), hot, buffer, buffer)
			}()
		}
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if len(seen) != 4 || len(seen[2]) != 96 {
			t.Fatalf("%d buffers", len(seen))
		}
		for _, buffer := range seen[2:] {
			if !bytes.Equal(buffer, make([]byte, 96)) {
				t.Error("not wiped")
			}
		}
	})
}
