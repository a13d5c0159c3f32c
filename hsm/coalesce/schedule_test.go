package coalesce

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// TestLateTimer: a timer that fires when its line is idle already changes nothing,
// else two keys would share a line.
func TestLateTimer(t *testing.T) {
	c := New(nil, Config{})
	c.mu.Lock()
	idle := c.lineOf(hsm.UID{1})
	c.refresh(idle)
	c.mu.Unlock()
	c.wake(idle)
	if len(c.spare) != 1 || len(c.lines) != 0 {
		t.Fatalf("%d spare lines, %d in use", len(c.spare), len(c.lines))
	}
	c.mu.Lock()
	first, second := c.lineOf(hsm.UID{1}), c.lineOf(hsm.UID{2})
	c.mu.Unlock()
	if first == second {
		t.Error("two keys share a line")
	}
}

// TestGatheredGoTogether: what comes while a request gathers queues, and goes in one
// call.
func TestGatheredGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		c := New(cipherFunc(func(_ context.Context, _ hsm.UID, dst, src []byte) error {
			sizes = append(sizes, len(src))
			copy(dst, src)
			return nil
		}), Config{})
		// The line is as the first of the requests leaves it while it yields.
		c.mu.Lock()
		l := c.lineOf(hsm.UID{1})
		l.gathering = true
		c.mu.Unlock()
		done := make(chan error, 3)
		for range cap(done) {
			go func() { done <- c.EncryptBlocks(t.Context(), hsm.UID{1}, make([]byte, 32), make([]byte, 32)) }()
		}
		synctest.Wait()
		if s := c.Stats(); len(sizes) != 0 || s.QueueRequests != cap(done) {
			t.Fatalf("calls %v, %+v", sizes, s)
		}
		if *c.predictor.counter(l.key) != predictorMax {
			t.Error("requests that met are not remembered")
		}
		c.mu.Lock()
		l.gathering = false
		c.refresh(l)
		c.startReady(time.Now())
		c.mu.Unlock()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if len(sizes) != 1 || sizes[0] != 96 {
			t.Errorf("calls %v, want one of 96 bytes", sizes)
		}
	})
}

type cipherFunc func(ctx context.Context, key hsm.UID, dst, src []byte) error

func (f cipherFunc) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	return f(ctx, key, dst, src)
}
