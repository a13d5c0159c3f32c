package coalesce_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// TestCancelledBeforeDispatch: a request that was given up, or has expired, returns
// at once and never reaches the token; those around it are served.
func TestCancelledBeforeDispatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(quick)
		cancelled, cancel := context.WithCancel(t.Context())
		expiring, stop := context.WithTimeout(t.Context(), quick/4)
		defer stop()
		begin := time.Now()
		var pending [5]<-chan error
		for i, ctx := range []context.Context{t.Context(), t.Context(), cancelled, expiring, t.Context()} {
			pending[i] = w.start(ctx, hot, 16<<i)
			synctest.Wait()
		}
		cancel()
		if err := <-pending[2]; !errors.Is(err, context.Canceled) || time.Since(begin) != 0 {
			t.Errorf("cancelled: %v after %v", err, time.Since(begin))
		}
		if err := <-pending[3]; !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != quick/4 {
			t.Errorf("expired: %v after %v", err, time.Since(begin))
		}
		w.succeed(pending[0], pending[1], pending[4])
		w.wantSizes(16, 32+256)
		if s := w.stats(); s.Cancelled != 2 || s.Abandoned != 0 || s.QueueBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestWholeQueueCancelled: no call is made for nobody.
func TestWholeQueueCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(quick)
		ctx, cancel := context.WithCancel(t.Context())
		first := w.start(t.Context(), hot, 32)
		synctest.Wait()
		second, third := w.start(ctx, hot, 32), w.start(ctx, hot, 32)
		synctest.Wait()
		cancel()
		for _, done := range []<-chan error{second, third} {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		w.succeed(first)
		w.wantSizes(32)
		if err := w.request(ctx, hot, 32); !errors.Is(err, context.Canceled) {
			t.Errorf("a new request with a cancelled context: %v", err)
		}
		w.wantSizes(32)
	})
}

// TestExpiredAtDispatch: a context that ended is seen at dispatch, also if its
// caller has not yet noticed.
func TestExpiredAtDispatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		gate := w.token.Hold(hsmtest.MethodEncryptBlocks)
		first := w.start(t.Context(), hot, 32)
		synctest.Wait()
		ctx := &unnoticed{Context: t.Context()}
		done := w.start(ctx, hot, 32)
		synctest.Wait()
		ctx.err.Store(&context.Canceled)
		gate.Release()
		w.succeed(first)
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		w.wantSizes(32)
	})
}

// TestAbandonedInFlight: a caller that gives up during its merged call returns at
// once, its buffer is never written, and its neighbours are served.
func TestAbandonedInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		first := w.token.Hold(hsmtest.MethodEncryptBlocks)
		pending := []<-chan error{w.start(t.Context(), hot, 32)}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		blocks := bytes.Repeat([]byte{7}, 32)
		before := bytes.Clone(blocks)
		abandoned := make(chan error, 1)
		go func() { abandoned <- w.blocks.EncryptBlocks(ctx, hot, blocks, blocks) }()
		synctest.Wait()
		pending = append(pending, w.start(t.Context(), hot, 32), w.start(t.Context(), hot, 32))
		synctest.Wait()
		second := w.token.Hold(hsmtest.MethodEncryptBlocks)
		first.Release()
		if err := second.Await(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		cancel()
		if err := <-abandoned; !errors.Is(err, context.Canceled) || time.Since(begin) != 0 {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		for i := range blocks { // the caller's own again: the race detector sees who else touches it
			blocks[i]++
			before[i]++
		}
		second.Release()
		w.succeed(pending...)
		if !bytes.Equal(blocks, before) {
			t.Error("the buffer of a caller that had left was written")
		}
		w.wantSizes(32, 96)
		if s := w.stats(); s.Abandoned != 1 || s.Cancelled != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAllAbandoned: a merged call that nobody waits for any more is given up, where
// the token can; one that somebody waits for is not.
func TestAllAbandoned(t *testing.T) {
	for _, oneStays := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ended := make(chan error, 1)
			calls := 0
			blocks := coalesce.New(cipherFunc(func(ctx context.Context, _ hsm.UID, _, _ []byte) error {
				if calls++; calls == 1 {
					pass(quick)
					return nil
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Hour):
				}
				ended <- ctx.Err()
				return ctx.Err()
			}), coalesce.Config{})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 3)
			request := func(ctx context.Context) {
				go func() { done <- blocks.EncryptBlocks(ctx, hot, make([]byte, 16), make([]byte, 16)) }()
				synctest.Wait()
			}
			request(t.Context())
			request(ctx)
			if oneStays {
				request(t.Context())
			} else {
				request(ctx)
			}
			pass(2 * quick)
			cancel()
			begin := time.Now()
			err := <-ended
			if took := time.Since(begin); oneStays && (err != nil || took < time.Minute) {
				t.Errorf("a call that one waits for was given up after %v: %v", took, err)
			} else if !oneStays && (!errors.Is(err, context.Canceled) || took != 0) {
				t.Errorf("a call that nobody waits for took %v: %v", took, err)
			}
			if err := blocks.Close(); err != nil {
				t.Error(err)
			}
			for range cap(done) {
				if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
}
